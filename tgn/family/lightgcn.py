"""LightGCN (He et al. 2020): names, averaged over walks of 0 … L steps; nothing else is learned.

x⁽ˡ⁺¹⁾ = D^-½ A D^-½ x⁽ˡ⁾,        e = (x⁽⁰⁾ + … + x⁽ᴸ⁾) / (L + 1)
"""

from torch import Tensor
from torch_geometric.nn import LGConv

from tgn.family.encoder import Encoder
from tgn.family.symmetric import Symmetric
from tgn.family.view import GraphView


class SymmetricLGConv(Symmetric, LGConv):  # type: ignore[misc]
    """A step of all walks."""


class LightGCN(Encoder):
    """Without `skip` the embedding is x⁽ᴸ⁾ alone."""

    def __init__(self, nodes: int, size: int = 64, layers: int = 3, skip: bool = True) -> None:
        super().__init__(nodes, size, layers, skip)
        self.conv = SymmetricLGConv(normalize=False)  # the view's adjacency is normalised

    def forward(self, view: GraphView) -> Tensor:
        """See `Encoder.forward`."""
        x: Tensor = self.name(view.node)
        total = x
        for _ in range(self.layers):
            x = self.conv(x, view.adjacency)
            total = total + x
        return total / (self.layers + 1) if self.skip else x
