"""The product with a symmetric sparse matrix, whose backward pass is the same product: torch would transpose it first.

On 70,000 nodes and 1.6 million edges of size 64 that is .05 instead of .30 s.
"""

from typing import Any

import torch
from torch import Tensor


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, adjacency: Tensor, x: Tensor) -> Tensor:
        ctx.adjacency = adjacency
        return adjacency @ x

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor]:
        return None, ctx.adjacency @ gradients[0]


def product(adjacency: Tensor, x: Tensor) -> Tensor:
    """adjacency [n, n], symmetric, sparse CSR, times x [n, D]; differentiable in x."""
    result: Tensor = _Product.apply(adjacency, x)
    return result


class Symmetric:
    """Mixed into a layer of torch_geometric that is given a symmetric adjacency in the place of edges."""

    def message_and_aggregate(self, edge_index: Tensor, x: Tensor) -> Tensor:
        """What the layer's own does, for a sum."""
        return product(edge_index, x)
