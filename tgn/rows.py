"""Successor rows: bounded, time-decayed counts of what follows (transitions) or goes with (co-interaction) an item.

The counts are those of smoothed-count link prediction; a full row drops its least weight and the newcomer takes
over half of it (space-saving sketch), so that a rising successor is not evicted again and again.
"""

import numpy as np

from tgn.graph import F32, F64, I32, Rows
from tgn.kernel import decay, flushed, kernel


@kernel
def add_successor(rows: Rows, item: int, successor: int, t: int, weight: float, scales: F64) -> int:
    """Adds `weight` at time t to item → successor at every scale. Returns 1 if the successor is new in the row."""
    ids = rows.item[item]  # [M]
    weights = rows.weight[item]  # [S, M]
    place, free = -1, len(ids)
    for m in range(len(ids)):  # no early exit: the compiler makes this a vector compare
        if ids[m] == successor:
            place = m
    for m in range(len(ids) - 1, -1, -1):
        if ids[m] < 0:
            free = m
    new = 0
    late_ms = rows.time[item] - t
    if late_ms < 0:
        for s in range(len(scales)):
            factor = np.float32(decay(-late_ms, scales[s]))
            rows.total[item, s] = flushed(rows.total[item, s] * factor)
            for m in range(len(ids)):
                weights[s, m] = flushed(weights[s, m] * factor)
        rows.time[item] = t
    if place < 0:
        new = 1
        place = free if free < len(ids) else _evict(ids, weights)
        ids[place] = successor
    for s in range(len(scales)):
        amount = weight * decay(late_ms, scales[s])
        weights[s, place] += amount
        rows.total[item, s] += amount
    return new


@kernel
def _evict(ids: I32, weights: F32) -> int:
    """The place of the least weight at the longest scale; half of the evicted weight stays for the newcomer."""
    last = weights.shape[0] - 1
    place = 0
    for m in range(1, len(ids)):
        if weights[last, m] < weights[last, place]:
            place = m
    for s in range(last + 1):
        weights[s, place] *= 0.5
    return place
