"""PinSage (Ying et al. 2018): the neighbourhood of a node is what short random walks from it visit most.

Importance pooling weighs a neighbour by its share of the visits. A layer is

    n_u = Σ_v α_uv ReLU(Q x_v),        x_u ← ReLU(W [x_u ‖ n_u]) of length 1.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.nn import SimpleConv

from tgn.family.encoder import Encoder
from tgn.family.view import GraphView
from tgn.family.walks import visits

NEIGHBOURS = 25  # of a node, those visited most
WALKS, STEPS = 50, 4


class PinSage(Encoder):
    """With `skip` what a node was before a layer is added to what it is after it."""

    def __init__(self, nodes: int, size: int = 64, layers: int = 2, skip: bool = True) -> None:
        super().__init__(nodes, size, layers, skip)
        self.before = nn.ModuleList(nn.Linear(size, size) for _ in range(layers))
        self.after = nn.ModuleList(nn.Linear(2 * size, size) for _ in range(layers))
        self.pool = SimpleConv(aggr="sum")

    def prepare(self, view: GraphView, seed: int) -> GraphView:
        """The importance of each neighbour in the place of the adjacency: [n, n], rows sum to 1."""
        return view._replace(adjacency=visits(view, WALKS, STEPS, NEIGHBOURS, seed))

    def forward(self, view: GraphView) -> Tensor:
        """See `Encoder.forward`."""
        x: Tensor = self.name(view.node)
        for before, after in zip(self.before, self.after, strict=True):
            neighbours = self.pool(F.relu(before(x)), view.adjacency)
            message = after(torch.cat([x, neighbours], 1))
            x = F.normalize(x + F.relu(message) if self.skip else F.relu(message), dim=1)
        return x
