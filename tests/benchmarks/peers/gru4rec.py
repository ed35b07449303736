"""GRU4Rec (Hidasi et al. 2016, 2018): one GRU over the user's items, tied embeddings, softmax cross-entropy."""

import torch
from torch import nn

from streamer.evaluation.peers.contract import World
from tests.benchmarks.peers.sequence import SequencePeer
from tests.benchmarks.peers.sequence_training import Encoder


class GRU(Encoder):
    """Embedding → dropout → GRU → linear."""

    def __init__(self, items: int, size: int, dropout: float) -> None:
        super().__init__(items, size)
        self.dropout = nn.Dropout(dropout)
        self.gru = nn.GRU(size, size, batch_first=True)
        self.out = nn.Linear(size, size)

    def forward(self, taken: torch.Tensor) -> torch.Tensor:
        hidden, _ = self.gru(self.dropout(self.items(taken)))  # [B, L, D]
        wanted: torch.Tensor = self.out(hidden)
        return wanted


class GRU4Rec(SequencePeer):
    """The user's whole stream is one session; the last L items of it are read."""

    def __init__(self, world: World, size: int = 64, **training: object) -> None:
        super().__init__(world, lambda form: GRU(world.items, size, form.dropout), **training)  # type: ignore[arg-type]
