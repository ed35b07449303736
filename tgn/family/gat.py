"""GAT (Veličković et al. 2018, in the form of Brody et al. 2022): a node attends to its neighbours.

α_uv = softmax_v aᵀ LeakyReLU(W x_u + W' x_v),        x_u ← Σ_v α_uv W' x_v
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tgn.family.attention import Attention
from tgn.family.encoder import Encoder
from tgn.family.view import GraphView

HEADS = 2


class GAT(Encoder):
    """With `skip` a layer adds to what was there, and the embedding is the mean over the layers."""

    def __init__(self, nodes: int, size: int = 64, layers: int = 2, skip: bool = True) -> None:
        super().__init__(nodes, size, layers, skip)
        self.convs = nn.ModuleList(
            Attention(size, size // HEADS, heads=HEADS, add_self_loops=False) for _ in range(layers)
        )

    def forward(self, view: GraphView) -> Tensor:
        """See `Encoder.forward`."""
        x: Tensor = self.name(view.node)
        outputs = [x]
        for conv in self.convs:
            message = F.elu(conv(x, view.adjacency))
            x = x + message if self.skip else message
            outputs.append(x)
        return torch.stack(outputs).mean(0) if self.skip else x

    @torch.no_grad()
    def attention(self, view: GraphView) -> tuple[Tensor, Tensor]:
        """[2, E] edges, from a neighbour to a node, and the first layer's weight of each [E], the mean over the heads.

        Those of a node sum to 1.
        """
        first, neighbour = view.adjacency.crow_indices(), view.adjacency.col_indices()
        node = torch.repeat_interleave(first.diff())
        conv: Attention = self.convs[0]  # type: ignore[assignment]
        return torch.stack([neighbour, node]), conv.weights(self.name(view.node), view.adjacency).mean(1)
