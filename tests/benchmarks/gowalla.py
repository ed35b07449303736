"""LightGCN against the literature: python -m tests.benchmarks.gowalla [PASSES] prints recall@20 and NDCG@20.

The published split of gowalla and its measure: every item that a user has not in the training part is ranked, and what
is in the test part counts (He et al. 2020, "LightGCN": .1830 / .1554). Item-kNN stands beside it. There are no times.
"""

import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq
import torch
from scipy.sparse import csr_matrix, diags

from tests.conftest import DATA
from tgn.family.hetero import IMPLICIT, Events, hetero_graph
from tgn.family.lightgcn import LightGCN
from tgn.family.training import Trainer, TrainingConfig
from tgn.family.view import whole

PASSES, EVERY, K, USERS_AT_ONCE, NEIGHBOURS = 14, 2, 20, 2_048, 50


class Split(NamedTuple):
    """Users by items, 1 where somebody chose something."""

    train: csr_matrix
    test: csr_matrix


def split() -> Split:
    """The published one."""
    parts = [pq.read_table(DATA / "gowalla-lightgcn" / f"{name}.parquet") for name in ("train", "test")]
    pairs = [(np.array(part["user"]), np.array(part["item"])) for part in parts]
    shape = tuple(1 + max(int(pair[side].max()) for pair in pairs) for side in (0, 1))
    return Split(*(csr_matrix((np.ones(len(user), np.float32), (user, item)), shape=shape) for user, item in pairs))


def measured(data: Split, scores: Callable[[np.ndarray], np.ndarray]) -> str:
    """Recall@K and NDCG@K, means over the users of the test part; scores: users [B] → [B, I]."""
    tested = np.flatnonzero(np.diff(data.test.indptr))
    discount = 1 / np.log2(np.arange(2, K + 2))
    recall, ndcg = [], []
    for first in range(0, len(tested), USERS_AT_ONCE):
        users = tested[first : first + USERS_AT_ONCE]
        score = torch.from_numpy(scores(users))
        known = data.train[users].tocoo()
        score[torch.from_numpy(known.row).long(), torch.from_numpy(known.col).long()] = -torch.inf
        top = score.topk(K).indices.numpy()
        hit = np.take_along_axis(data.test[users].toarray(), top, 1) > 0
        wanted = np.diff(data.test[users].indptr)
        recall.append(hit.sum(1) / wanted)
        ndcg.append((hit * discount).sum(1) / np.cumsum(discount)[np.minimum(wanted, K) - 1])
    return f"recall@{K} {np.concatenate(recall).mean():.4f}, NDCG@{K} {np.concatenate(ndcg).mean():.4f}"


def item_knn(data: Split) -> str:
    """Lists by what is alike to a user's items, by cosine, each with its NEIGHBOURS nearest."""
    unit = data.train @ diags(1 / np.sqrt(np.maximum(data.train.sum(0).A1, 1)))
    alike = (unit.T @ unit).tocsr()
    alike.setdiag(0)
    for z in range(alike.shape[0]):
        row = alike.data[alike.indptr[z] : alike.indptr[z + 1]]
        if len(row) > NEIGHBOURS:
            row[row < np.partition(row, -NEIGHBOURS)[-NEIGHBOURS]] = 0
    alike.eliminate_zeros()
    return measured(data, lambda users: (data.train[users] @ alike).toarray())


def main() -> int:
    data = split()
    print(f"item-kNN: {item_knn(data)}", flush=True)
    users, items = data.train.shape
    edges = data.train.tocoo()
    zero = np.zeros(len(edges.row), np.int64)
    ones = np.ones(len(zero), np.float32)
    events = Events(edges.row.astype(np.int64), edges.col.astype(np.int64), zero, ones, ones * np.nan, zero)
    graph = hetero_graph(events, users, items, [], until=1)
    torch.manual_seed(0)
    passes = int(sys.argv[1]) if len(sys.argv) > 1 else PASSES
    relations = (IMPLICIT,)  # what follows what is not known
    config = TrainingConfig(loss="infonce", passes=passes, patience=0, relations=relations)
    trainer = Trainer(LightGCN(whole(graph, relations).node.numel()), graph, config)
    started = time.monotonic()

    def report() -> None:
        user, item = (side.numpy() for side in trainer.embedded())
        found = measured(data, lambda users: user[users] @ item.T)
        print(f"LightGCN, {trainer.passes} passes, {time.monotonic() - started:,.0f} s: {found}", flush=True)

    report()
    trainer.fit(lambda _: report() if trainer.passes % EVERY == 0 else None)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
