"""SASRec (Kang, McAuley 2018): causal self-attention over the user's items, here with softmax cross-entropy."""

import torch
from torch import nn

from streamer.evaluation.peers.contract import World
from tests.benchmarks.peers.sequence import SequencePeer
from tests.benchmarks.peers.sequence_training import LENGTH, Encoder, Form


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x)): [B, L, D] → [B, L, D], no position sees a later one."""

    def __init__(self, size: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.norm_forward = nn.LayerNorm(size), nn.LayerNorm(size)
        self.qkv, self.out = nn.Linear(size, 3 * size), nn.Linear(size, size)
        self.forward_ = nn.Sequential(nn.Linear(size, size), nn.ReLU(), nn.Dropout(dropout), nn.Linear(size, size))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = self.qkv(self.norm(x)).chunk(3, dim=-1)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)  # [B, heads, L, D / heads]
        seen = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
        x = x + self.dropout(self.out(seen))
        out: torch.Tensor = x + self.dropout(self.forward_(self.norm_forward(x)))
        return out


class Attention(Encoder):
    """Embedding + position → dropout → blocks → norm."""

    def __init__(self, items: int, size: int, blocks: int, heads: int, dropout: float) -> None:
        super().__init__(items, size)
        self.positions = nn.Embedding(LENGTH, size)
        nn.init.normal_(self.positions.weight, std=size**-0.5)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.Sequential(*(Block(size, heads, dropout) for _ in range(blocks)))
        self.norm = nn.LayerNorm(size)

    def forward(self, taken: torch.Tensor) -> torch.Tensor:
        x = self.items(taken) + self.positions.weight[: taken.shape[1]]
        wanted: torch.Tensor = self.norm(self.blocks(self.dropout(x)))
        return wanted


class SASRec(SequencePeer):
    """Two blocks of two heads; windows are padded at their end, so position 0 is the oldest item read."""

    def __init__(self, world: World, size: int = 64, blocks: int = 2, heads: int = 2, **training: object) -> None:
        def make(form: Form) -> Attention:
            return Attention(world.items, size, blocks, heads, form.dropout)

        super().__init__(world, make, **training)  # type: ignore[arg-type]
