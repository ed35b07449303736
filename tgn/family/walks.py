"""Random walks on a view, all of them at once: no loop over nodes."""

import numpy as np
import torch
from torch import Tensor

from tgn.family.hetero import heaviest
from tgn.family.view import GraphView
from tgn.graph import I64


def step(start: I64, rows: I64, columns: I64, random: np.random.Generator) -> I64:
    """One neighbour of each start [m], every edge as likely; where there is none, the start. CSR: rows, columns."""
    degree = rows[start + 1] - rows[start]
    chosen = rows[start] + (random.random(len(start)) * degree).astype(np.int64)
    return np.where(degree > 0, columns[np.minimum(chosen, len(columns) - 1)], start)


def visits(view: GraphView, walks: int, steps: int, most: int, seed: int) -> Tensor:
    """[n, n] sparse CSR: for each node the `most` visited of so many walks from it, with their shares of the visits.

    `steps` of each walk; a visit to where it began counts for nothing.
    """
    random = np.random.default_rng(seed)
    rows, columns = view.weight.crow_indices().numpy(), view.weight.col_indices().numpy()
    n = len(view.node)
    begin, keys = np.arange(n), []
    for _ in range(walks):
        at = begin
        for _ in range(steps):
            at = step(at, rows, columns, random)
            keys.append((begin * n + at)[at != begin])
    key, times = np.unique(np.concatenate(keys), return_counts=True)
    source, target = key // n, key % n
    kept = heaviest(source, target, times, most)
    source, target, times = source[kept], target[kept], times[kept]
    total = np.bincount(source, times, n)
    share = torch.from_numpy((times / total[source]).astype(np.float32))
    pairs = torch.from_numpy(np.stack([source, target]))
    return torch.sparse_coo_tensor(pairs, share, (n, n)).coalesce().to_sparse_csr()
