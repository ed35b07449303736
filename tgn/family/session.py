"""Session graph convolution (SR-GNN, Wu et al. 2019): items as nodes of the graph of what follows what.

    a_i = [Σ_j A_out x_j ‖ Σ_j A_in x_j] W,        x_i ← GRU(a_i, x_i)

over the transitions of all sessions, and a user is what attention makes of the items of the last session, the last one
apart: e = W₃ [x_last ‖ Σ_k α_k x_k], α_k = qᵀ σ(W₁ x_last + W₂ x_k). Users have no names here, so a new one is embedded
from the first item on.
"""

import torch
from torch import Tensor, nn

from tgn.family.encoder import Encoder, rows
from tgn.family.view import GraphView


class SessionGraph(Encoder):
    """With `skip` the item's name is added to what the convolution made of it. It needs the view of a whole graph."""

    def __init__(self, nodes: int, size: int = 64, layers: int = 1, skip: bool = True) -> None:
        super().__init__(nodes, size, layers, skip)
        self.message = nn.Linear(2 * size, size)
        self.update = nn.GRUCell(size, size)
        self.last, self.other = nn.Linear(size, size), nn.Linear(size, size)
        self.query = nn.Linear(size, 1, bias=False)
        self.join = nn.Linear(2 * size, size)

    def forward(self, view: GraphView) -> Tensor:
        """See `Encoder.forward`."""
        if view.follows is None:
            raise ValueError("session graph convolution needs the whole graph: a part of it has no sessions")
        name: Tensor = self.name(view.node)
        first, end = view.users, view.users + view.items
        follows, followed = view.follows
        items = name[first:end]
        for _ in range(self.layers):
            around = self.message(torch.cat([follows @ items, followed @ items], 1))
            items = self.update(around, items)
        if self.skip:
            items = items + name[first:end]
        return torch.cat([name[:first], items, name[end:]])

    def users(self, x: Tensor, user: Tensor, history: Tensor) -> Tensor:
        """See `Encoder.users`: made of the last session alone; 0 where it is empty."""
        there = (history >= 0).unsqueeze(2)
        items = rows(x, history.clamp(min=0)) * there
        last = items[:, :1]
        share = self.query(torch.sigmoid(self.last(last) + self.other(items))) * there
        joined: Tensor = self.join(torch.cat([last.squeeze(1), (share * items).sum(1)], 1))
        return joined * there[:, 0]
