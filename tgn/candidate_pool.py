"""The candidate pool: which items are worth scoring for a user now, with the evidence that brought each one in."""

from typing import NamedTuple

import numpy as np

from tgn.compiling.aligned import zeros
from tgn.config import (
    CO_INTERACTION,
    DAY_MS,
    NEWEST,
    POPULAR,
    RING,
    TRANSITIONS,
    KernelConfig,
    ModelConfig,
    Request,
    Scales,
)
from tgn.features import (
    AGE,
    AGES,
    CO,
    CO_COSINE,
    CO_LAST,
    CO_LAST_SHORT,
    CO_SITTING,
    FEATURES,
    HOUR,
    HOUR_WIDTH_MS,
    LAST,
    LOG_AGE,
    OTHERS_SINCE,
    RECENCY,
    REPEAT,
    RING_COUNT,
    RING_DECAYED,
    RING_FEATURES,
    RING_SHARE,
    TRANSITION,
    TRANSITION_SHORT,
    TRANSITIONS_APART,
    WEEK,
    WEEK_WIDTH_MS,
    near_phase,
    squash_decay,
)
from tgn.graph import F32, F64, I32, I64, LISTED, Graph, Rows
from tgn.kernel import decay, kernel
from tgn.seen_pairs import has_pair
from tgn.successors import to_now


class Pool(NamedTuple):
    """Scratch space of one query; never part of the state. C: room for candidates, I: items."""

    item: I32  # [C] the candidates
    x: F32  # [F, C] their features
    stamp: I64  # [I] the last query that considered the item
    place: I32  # [I] its place in `item`, −1: considered and left out
    query: I64  # [1]
    rest_item: I32  # [I] what a list is filled with past the pool
    rest_key: F32  # [I]
    rest_score: F32  # [I]
    sizes: I64  # [SIZES] of the last query: TOGETHER, NOT_RETRIEVED, FROM_RING


TOGETHER, NOT_RETRIEVED, FROM_RING = 0, 1, 2
"""Cells of `Pool.sizes`: all candidates; the first of them, which retrieval did not give; those of the user's ring."""
SIZES = 3
DRAWN_OUTSIDE = 12  # active items that are drawn beside an item which the pool missed


def new_pool(config: ModelConfig, items: int) -> Pool:
    """Room for every source at its largest, and for a whole small catalogue."""
    bound = config.ring + (config.transition_sources + config.co_sources) * config.row
    bound += len(config.popularity_scales_ms) * config.head + config.newest + config.retrieved
    bound += config.waiting_nearest
    room = (max(bound, config.every_item_below) + 1 + DRAWN_OUTSIDE + 15) // 16 * 16
    return Pool(
        np.zeros(room, np.int32),
        zeros((FEATURES, room), np.float32),
        np.zeros(items, np.int64),
        np.zeros(items, np.int32),
        np.zeros(1, np.int64),
        np.zeros(items, np.int32),
        np.zeros(items, np.float32),
        np.zeros(items, np.float32),
        np.zeros(SIZES, np.int64),
    )


@kernel
def enter(graph: Graph, pool: Pool, request: Request, n: int, item: int) -> tuple[int, int]:
    """The place of `item` in the pool and the pool's new size; place −1 if it may not be listed."""
    if pool.stamp[item] == pool.query[0]:
        return pool.place[item], n
    pool.stamp[item] = pool.query[0]
    pool.place[item] = -1
    if graph.items.alive[item] != LISTED or n >= len(pool.item):
        return -1, n
    if request.exclude_seen and has_pair(graph.pairs, request.user, item):
        return -1, n
    pool.place[item] = n
    pool.item[n] = item
    return n, n + 1


@kernel
def gather(graph: Graph, pool: Pool, request: Request, config: KernelConfig) -> int:
    """Fills the pool and returns its size; `add_catalogue`, or what is retrieved, comes after it.

    Pure but for the scratch space.
    """
    pool.query[0] += 1
    for f in range(RING_FEATURES):
        pool.x[f, : pool.sizes[FROM_RING]] = 0
    for f in range(TRANSITION, CO_LAST_SHORT + 1):
        pool.x[f, : pool.sizes[TOGETHER]] = 0
    pool.x[CO_SITTING, : pool.sizes[TOGETHER]] = 0
    n = 0
    if not config.off & RING:
        n = _from_ring(graph, pool, request, n, config.scales)
    pool.sizes[FROM_RING] = n
    n = _from_rows(graph, pool, request, n, config)
    if not config.off & POPULAR:
        for s in range(graph.heads.item.shape[0]):
            for h in range(graph.heads.size[s]):
                _, n = enter(graph, pool, request, n, graph.heads.item[s, h])
    if not config.off & NEWEST:
        for place in range(min(graph.newest.total[0], len(graph.newest.item))):
            _, n = enter(graph, pool, request, n, graph.newest.item[place])
    pool.sizes[NOT_RETRIEVED] = n
    return n


@kernel
def add_catalogue(graph: Graph, pool: Pool, request: Request, n: int) -> int:
    """Adds every item that has been seen in the stream: for small catalogues."""
    for item in range(request.items):
        if graph.items.first_time[item] >= 0:
            _, n = enter(graph, pool, request, n, item)
    return n


@kernel
def _from_ring(graph: Graph, pool: Pool, request: Request, n: int, scales: Scales) -> int:
    users, x, user = graph.users, pool.x, request.user
    ring = users.ring_item.shape[1]
    held = min(users.events[user], ring)
    for back in range(held):
        place = (users.events[user] - 1 - back) % ring
        item = users.ring_item[user, place]
        if users.ring_weight[user, place] <= 0 and pool.stamp[item] != pool.query[0]:
            pool.stamp[item] = pool.query[0]  # what the user thought of it last was no: it stays out
            pool.place[item] = -1
        p, n = enter(graph, pool, request, n, item)
        if p < 0:
            continue
        age_ms = request.now - users.ring_time[user, place]
        if x[REPEAT, p] == 0:
            x[REPEAT, p] = 1
            x[LOG_AGE, p] = age_ms
            x[OTHERS_SINCE, p] = users.ring_count[user, place]
            x[RECENCY, p] = np.float32(1) / np.float32(1 + back)
            for s in range(AGES):
                x[AGE + s, p] = squash_decay(age_ms, scales.popularity[s])
        x[RING_COUNT, p] += 1
        x[RING_DECAYED, p] += decay(age_ms, scales.popularity[AGES - 1])
        x[RING_SHARE, p] += np.float32(1) / np.float32(held)
        x[HOUR, p] += near_phase(age_ms, DAY_MS, HOUR_WIDTH_MS) / np.float32(held)
        x[WEEK, p] += near_phase(age_ms, 7 * DAY_MS, WEEK_WIDTH_MS) / np.float32(held)
        if back == 0:
            x[LAST, p] = 1
    return n


@kernel
def _from_rows(graph: Graph, pool: Pool, request: Request, n: int, config: KernelConfig) -> int:
    users, user, scales = graph.users, request.user, config.scales.rows
    ring = users.ring_item.shape[1]
    for back in range(min(users.events[user], ring, max(config.transition_sources, config.co_sources))):
        place = (users.events[user] - 1 - back) % ring
        if users.ring_weight[user, place] <= 0:
            continue
        source = users.ring_item[user, place]
        if back < config.transition_sources and not config.off & TRANSITIONS:
            n = _from_transitions(graph, pool, request, n, source, back, scales)
        if back < config.co_sources and not config.off & CO_INTERACTION:
            n = _from_co(graph, pool, request, n, source, back, scales)
    return n


@kernel
def _from_transitions(graph: Graph, pool: Pool, request: Request, n: int, source: int, back: int, scales: F64) -> int:
    """P(next | source) = w / (total + 1), everything decayed to now, from the item `back` places ago."""
    rows, x, long, now = graph.transitions, pool.x, len(scales) - 1, request.now
    share, share_short = _per_weight(rows, source, long, now, scales), _per_weight(rows, source, 0, now, scales)
    feature = TRANSITION + min(back, TRANSITIONS_APART - 1)  # those further back share the last place
    for m in range(rows.size[source]):
        z = rows.item[source, m]
        p, n = enter(graph, pool, request, n, z)
        if p < 0:
            continue
        x[feature, p] = max(x[feature, p], rows.weight[source, long, m] * share)
        if back == 0:
            x[TRANSITION_SHORT, p] = rows.weight[source, 0, m] * share_short
    return n


@kernel
def _from_co(graph: Graph, pool: Pool, request: Request, n: int, source: int, back: int, scales: F64) -> int:
    """P(with | source) likewise, nearer sources counting more, and the cosine of source and candidate."""
    rows, x, long, now = graph.co, pool.x, len(scales) - 1, request.now
    share, share_short = _per_weight(rows, source, long, now, scales), _per_weight(rows, source, 0, now, scales)
    nearness = np.float32(1) / np.float32(1 + back)
    factor = to_now(rows.time, source, now, scales[long])
    cosine = factor / np.sqrt(rows.total[source, long] * factor + np.float32(1))
    for m in range(rows.size[source]):
        z = rows.item[source, m]
        p, n = enter(graph, pool, request, n, z)
        if p < 0:
            continue
        w = rows.weight[source, long, m]
        x[CO, p] += nearness * w * share
        x[CO_COSINE, p] += w * cosine
        x[CO_SITTING, p] += nearness * rows.weight[source, 0, m] * share_short
        if back == 0:
            x[CO_LAST, p] = w * share
            x[CO_LAST_SHORT, p] = rows.weight[source, 0, m] * share_short
    return n


@kernel
def _per_weight(rows: Rows, source: int, scale: int, now: int, scales: F64) -> float:
    """What a stored weight of the row is worth as a probability now."""
    factor = to_now(rows.time, source, now, scales[scale])
    return factor / (rows.total[source, scale] * factor + np.float32(1))
