"""How alike an item and others are: by content, by trained vectors, by who takes them along with one another."""

from typing import Any

import numpy as np

from tgn.asking.asked_lists import cosines_to
from tgn.graph import F32, F64, I32
from tgn.model import Model
from tgn.successors import to_now

CONTENT, TRAINED, TOGETHER = "content", "trained", "co-interaction"


def cosines_with(model: Model, item: int, now_ms: int, nodes: I32) -> dict[str, F32]:
    """[N] the cosines of nodes with one item, by what they compare; only what the item has."""
    cosines = {TOGETHER: _co_cosines(model, item, now_ms)[nodes]}
    for source, vectors in ((CONTENT, model.content), (TRAINED, model.trained.item)):
        if item < len(vectors.vector) and vectors.vector[item].any():
            cosines[source] = cosines_to(model.config, vectors, item, nodes)
    return cosines


def mean_above_zero(of_source: F32) -> F32:
    """[N] how alike they are: the mean of the sources [S, N], where those below 0 count as 0."""
    found: F32 = np.maximum(of_source, 0).mean(axis=0)
    return found


def co_shares(model: Model, item: int, now_ms: int) -> tuple[I32, F64]:
    """The items that were taken along with one, and how likely each is among them; at the longest scale."""
    rows, config = model.graph.co, model.config
    size, long = int(rows.size[item]), len(config.row_scales_ms) - 1
    factor = to_now(rows.time, item, now_ms, float(config.row_scales_ms[long]))
    total = float(rows.total[item, long]) * factor + 1
    return rows.item[item, :size], rows.weight[item, long, :size].astype(np.float64) * factor / total


def _co_cosines(model: Model, item: int, now_ms: int) -> F32:
    """[I] weight of the pair over the root of the product of both items' weights."""
    rows, config = model.graph.co, model.config
    long = len(config.row_scales_ms) - 1
    nodes, share = co_shares(model, item, now_ms)
    scale_ms = float(config.row_scales_ms[long])

    def total(of: Any) -> Any:
        return rows.total[of, long] * np.exp(np.minimum(rows.time[of] - now_ms, 0) / scale_ms) + 1

    cosines = np.zeros(len(rows.size), np.float32)
    cosines[nodes] = share * np.sqrt(total(item) / total(nodes))
    return cosines
