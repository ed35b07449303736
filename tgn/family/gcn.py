"""GCN (Kipf & Welling 2017): x⁽ˡ⁺¹⁾ = σ(D^-½ (A + I) D^-½ x⁽ˡ⁾ W⁽ˡ⁾), over users, items and context nodes."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.nn import GCNConv

from tgn.family.encoder import Encoder
from tgn.family.symmetric import Symmetric
from tgn.family.view import GraphView


class SymmetricGCNConv(Symmetric, GCNConv):  # type: ignore[misc]
    """One layer, without the self-loop."""


class GCN(Encoder):
    """With `skip` a layer adds to what was there, and the embedding is the mean over the layers."""

    def __init__(self, nodes: int, size: int = 64, layers: int = 2, skip: bool = True) -> None:
        super().__init__(nodes, size, layers, skip)
        self.convs = nn.ModuleList(SymmetricGCNConv(size, size, normalize=False) for _ in range(layers))

    def forward(self, view: GraphView) -> Tensor:
        """See `Encoder.forward`."""
        x: Tensor = self.name(view.node)
        outputs = [x]
        for conv in self.convs:
            message = F.leaky_relu(conv(x, view.adjacency) + x)  # + x: the self-loop
            x = x + message if self.skip else message
            outputs.append(x)
        return torch.stack(outputs).mean(0) if self.skip else x
