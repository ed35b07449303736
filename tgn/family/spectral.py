"""Names to begin with: where a node lies in the graph, by the leading eigenvectors of its normalised adjacency.

Message passing begun from them starts where the linear filters of the graph end (Shen et al. 2021, "How Powerful is
Graph Convolution for Recommendation?"), which random names come near only after hundreds of steps.
"""

import numpy as np
import torch
from scipy.sparse import csr_matrix
from scipy.sparse.linalg import eigsh
from torch import Tensor

from tgn.family.view import GraphView


def spectral_names(view: GraphView, size: int, deviation: float) -> Tensor:
    """[n, size] eigenvectors times eigenvalues, of this standard deviation; what a small graph has not is 0."""
    n = len(view.node)
    crow, column, value = (
        part.numpy() for part in (view.adjacency.crow_indices(), view.adjacency.col_indices(), view.adjacency.values())
    )
    found = min(size, n - 1)
    matrix = csr_matrix((value.astype(np.float64), column, crow), shape=(n, n))
    eigenvalue, vector = eigsh(matrix, k=found, which="LA", v0=np.random.default_rng(0).normal(size=n))
    names = torch.zeros(n, size)
    names[:, :found] = torch.from_numpy(vector * eigenvalue).float()
    return names * (deviation / names.std().clamp(min=1e-12))
