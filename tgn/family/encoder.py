"""What every model of the family is: it embeds the nodes of a view."""

from abc import ABC, abstractmethod

from torch import Tensor, nn
from torch.nn import functional as F

from tgn.family.view import GraphView

INITIAL_SCALE = 0.1


class Encoder(nn.Module, ABC):
    """Learned names of N nodes and what message passing makes of them.

    Args:
        nodes: N, of the whole graph.
        size: D.
        layers: how many steps a message goes.
        skip: whether what a node was before the last step takes part in its embedding.
    """

    def __init__(self, nodes: int, size: int = 64, layers: int = 3, skip: bool = True) -> None:
        super().__init__()
        self.layers, self.skip = layers, skip
        self.name = nn.Embedding(nodes, size)
        nn.init.normal_(self.name.weight, std=INITIAL_SCALE)

    def prepare(self, view: GraphView, seed: int) -> GraphView:
        """The view that `forward` is to be given in the place of this one; drawn anew at every pass of training."""
        return view

    def users(self, x: Tensor, user: Tensor, history: Tensor) -> Tensor:
        """The embeddings [B, D] of users: their rows of x, `forward`'s, unless they are made of what they chose last.

        user: [B] rows of x; history: [B, R] rows of items, newest first, −1 where there is none.
        """
        return rows(x, user)

    @abstractmethod
    def forward(self, view: GraphView) -> Tensor:
        """The embeddings [n, D] of a view's nodes."""


def rows(x: Tensor, index: Tensor) -> Tensor:
    """x[index], wherever x is. The gradient of x[index] adds up in whatever order threads come, other bits each run."""
    return F.embedding(index.to(x.device), x)
