"""Content of items beside what was done with them: any encoder, and vectors of text, images or attributes.

    early:      x_i⁽⁰⁾ = name_i + W c_i, before messages go: neighbours hear of it
    late:       e_i = x_i + W c_i, after them
    attention:  e_i = α x_i + (1 − α) W c_i,  α = softmax(qᵀ tanh x_i, qᵀ tanh W c_i), an item at a time

An item that nobody has touched has a name that means nothing, and with content an embedding that does.
"""

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from tgn.family.encoder import Encoder
from tgn.family.view import GraphView

Fusion = Literal["early", "late", "attention"]
FUSIONS: tuple[Fusion, ...] = get_args(Fusion)


class Content(nn.Module):
    """W c of items; 0 of every other node.

    Args:
        content: [I, C].
        first: the number of the first item.
        size: D.
    """

    content: Tensor

    def __init__(self, content: Tensor, first: int, size: int) -> None:
        super().__init__()
        self.register_buffer("content", content.float(), persistent=False)
        self.first, self.projection = first, nn.Linear(content.shape[1], size, bias=False)

    def forward(self, node: Tensor) -> Tensor:
        """[n, D] of the nodes [n]."""
        item = (node - self.first).clamp(0, len(self.content) - 1)
        projected: Tensor = self.projection(self.content[item]) * self.has(node).unsqueeze(1)
        return projected

    def has(self, node: Tensor) -> Tensor:
        """[n] whether each node is an item."""
        return (node >= self.first) & (node < self.first + len(self.content))


class NamesWithContent(nn.Embedding):
    """Early fusion: a name is what was learned of it and W c."""

    def __init__(self, names: nn.Embedding, content: Content) -> None:
        super().__init__(names.num_embeddings, names.embedding_dim, _weight=names.weight.detach())
        self.content = content

    def forward(self, node: Tensor) -> Tensor:
        """[n, D] of the nodes [n]."""
        named: Tensor = super().forward(node) + self.content(node)
        return named


class Fused(Encoder):
    """Late fusion, or by attention, around another encoder."""

    def __init__(self, inner: Encoder, content: Content, how: Literal["late", "attention"]) -> None:
        nn.Module.__init__(self)
        self.inner, self.content, self.how = inner, content, how
        self.layers, self.skip = inner.layers, inner.skip
        self.query = nn.Parameter(torch.zeros(inner.name.embedding_dim))

    @property
    def name(self) -> nn.Embedding:  # type: ignore[override]
        """The inner encoder's."""
        return self.inner.name

    def prepare(self, view: GraphView, seed: int) -> GraphView:
        """See `Encoder.prepare`."""
        return self.inner.prepare(view, seed)

    def users(self, x: Tensor, user: Tensor, history: Tensor) -> Tensor:
        """See `Encoder.users`."""
        return self.inner.users(x, user, history)

    def forward(self, view: GraphView) -> Tensor:
        """See `Encoder.forward`."""
        x, content = self.inner(view), self.content(view.node)
        if self.how == "late":
            return torch.add(x, content)
        both = torch.stack([x, content])
        share = torch.softmax(torch.tanh(both) @ self.query, 0).unsqueeze(2)
        return torch.where(self.content.has(view.node).unsqueeze(1), (share * both).sum(0), x)


def fused(encoder: Encoder, content: Tensor, first: int, how: Fusion) -> Encoder:
    """The encoder with content [I, C] of the items, whose first has the number `first`."""
    of_items = Content(content, first, encoder.name.embedding_dim)
    if how != "early":
        return Fused(encoder, of_items, how)
    encoder.name = NamesWithContent(encoder.name, of_items)
    return encoder
