"""Successor rows: bounded, time-decayed counts of what follows (transitions) or goes with (co-interaction) an item.

The counts are those of smoothed-count link prediction; a full row drops its least weight and the newcomer takes
over half of it (space-saving sketch), so that a rising successor is not evicted again and again.

Of several scales the first one counts only pairs of one sitting: what is taken together, apart from what is taken next.

A row's weights are inflated sums Σ w·exp((t − t₀)/τ) with the row's own t₀, so an interaction touches one place of a
row, and sums commute: a late one adds exp(−(t₀ − t)/τ) exactly. t₀ moves when the exponent grows large.
"""

import numpy as np

from tgn.graph import F32, F64, I64, Rows
from tgn.kernel import decay, flushed, kernel

LARGEST_EXPONENT = 16.0


@kernel
def add_successor(
    rows: Rows, item: int, successor: int, t: int, weight: float, scales: F64, sitting: bool
) -> tuple[int, int]:
    """Adds `weight` at time t to item → successor at every scale; at the first of several only within a sitting.

    Returns (1 if the successor is new in the row, the one that it drove out or −1).
    """
    ids, weights, size = rows.item[item], rows.weight[item], rows.size[item]  # [M], [S, M]
    if size == 0:
        rows.time[item] = t
    elif (t - rows.time[item]) / scales[0] > LARGEST_EXPONENT:
        _rebase(rows, item, t, scales)
    place, evicted = -1, -1
    for m in range(len(ids)):  # no early exit: the compiler makes this a vector compare; unused places hold −1
        if ids[m] == successor:
            place = m
    new = 0
    if place < 0:
        new = 1
        if size < len(ids):
            place = size
            rows.size[item] = size + 1
        else:
            place = _evict(weights)
            evicted = ids[place]
        ids[place] = successor
    first = 0 if sitting or len(scales) == 1 else 1
    for s in range(first, len(scales)):
        amount = weight * np.exp((t - rows.time[item]) / scales[s])
        weights[s, place] += amount
        rows.total[item, s] += amount
    return new, evicted


@kernel
def _rebase(rows: Rows, item: int, t: int, scales: F64) -> None:
    """Decays a row to t, its new t₀."""
    for s in range(len(scales)):
        factor = np.float32(decay(t - rows.time[item], scales[s]))
        rows.total[item, s] = flushed(rows.total[item, s] * factor)
        for m in range(rows.size[item]):
            rows.weight[item, s, m] = flushed(rows.weight[item, s, m] * factor)
    rows.time[item] = t


@kernel
def to_now(time: I64, item: int, now: int, scale_ms: float) -> float:
    """What brings a weight of the item's row to `now`; `time`: of the rows. Who asks before that time sees it whole."""
    return np.float32(np.exp(min(time[item] - now, 0) / scale_ms))


@kernel
def _evict(weights: F32) -> int:
    """The place of the least weight at the longest scale; half of the evicted weight stays for the newcomer.

    Positive floats are in the order of their bits, and a least integer is found in vectors, as a least float is not.
    """
    longest = weights[weights.shape[0] - 1]
    least = np.int32(0x7FFFFFFF)
    for m in range(len(longest)):
        bits = np.float32(longest[m]).view(np.int32)
        least = bits if bits < least else least
    place = 0
    for m in range(len(longest) - 1, -1, -1):
        if np.float32(longest[m]).view(np.int32) == least:
            place = m
    for s in range(weights.shape[0]):
        weights[s, place] *= 0.5
    return place


@kernel
def with_distance(weight: float, back: int) -> float:
    """What an interaction counts for a co-interaction with the one `back` places before the last one of its user."""
    return weight / np.sqrt(1.0 + back)
