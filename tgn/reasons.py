"""Why an item is listed: the strongest evidence that the pool held, and the item of the user's ring behind it."""

from typing import NamedTuple

import numpy as np

from tgn.candidate_pool import NOT_RETRIEVED, Pool
from tgn.config import KernelConfig, Request
from tgn.features import CO, CO_LAST_SHORT, EMBEDDING, REPEAT, TRANSITION, TRANSITION_SHORT
from tgn.graph import I32, U8, Graph, Rows, Users
from tgn.kernel import kernel
from tgn.successors import to_now

SOURCES = ("repeat", "transition", "co-interaction", "popular", "new", "taste")
BY_REPEAT, BY_TRANSITION, BY_CO, BY_POPULARITY, BY_NEWNESS, BY_TASTE = range(6)


class Evidence(NamedTuple):
    """Beside N lists of K items: the index into SOURCES and the item of the user's ring it came from, −1 for none."""

    source: U8  # [N, K]
    cause: I32  # [N, K]


@kernel
def explain(
    graph: Graph,
    pool: Pool,
    request: Request,
    item: int,
    config: KernelConfig,
    evidence: Evidence,
    row: int,
    column: int,
) -> None:
    """Writes the evidence for one listed item, from the pool that its list was made of. Pure otherwise."""
    source = source_of(graph, pool, item)
    evidence.source[row, column] = source
    rows = graph.transitions if source == BY_TRANSITION else graph.co
    if source in (BY_TRANSITION, BY_CO):
        evidence.cause[row, column] = _cause(graph.users, rows, request, item, config)


@kernel
def source_of(graph: Graph, pool: Pool, item: int) -> int:
    """The index into SOURCES of the strongest evidence for one listed item, in the pool that its list was made of."""
    source = BY_POPULARITY
    if pool.stamp[item] == pool.query[0] and pool.place[item] >= 0:
        place = pool.place[item]
        transition, co = np.float32(0), np.float32(0)
        for f in range(TRANSITION, TRANSITION_SHORT + 1):
            transition = max(transition, pool.x[f, place])
        for f in range(CO, CO_LAST_SHORT + 1):
            co = max(co, pool.x[f, place])
        if pool.x[REPEAT, place] > 0:
            source = BY_REPEAT
        elif max(transition, co) > np.float32(0.01):  # `squash` gives about 0 without evidence
            source = BY_TRANSITION if transition >= co else BY_CO
        elif graph.items.events[item] == 0:
            source = BY_NEWNESS
        elif place >= pool.sizes[NOT_RETRIEVED] and pool.x[EMBEDDING, place] > 0:
            source = BY_TASTE
    return source


@kernel
def _cause(users: Users, rows: Rows, request: Request, item: int, config: KernelConfig) -> int:
    """The item among the user's last ones whose row holds the most of `item`, nearer ones counting more."""
    ring, user, scales = users.ring_item.shape[1], request.user, config.scales.rows
    best, cause = np.float32(0), -1
    long = rows.weight.shape[1] - 1
    for back in range(min(users.events[user], ring, config.co_sources)):
        source = users.ring_item[user, (users.events[user] - 1 - back) % ring]
        successors, place = rows.item[source], -1
        for m in range(len(successors)):  # no early exit: a vector compare; unused places hold −1
            if successors[m] == item:
                place = m
        if place < 0:
            continue
        factor = to_now(rows.time, source, request.now, scales[long])
        total = rows.total[source, long] * factor + np.float32(1)
        share = rows.weight[source, long, place] * factor / total / np.float32(1 + back)
        if share > best:
            best, cause = share, source
    return cause
