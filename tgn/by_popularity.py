"""Items by decayed popularity alone: what fills a list past the pool, and the baseline that lists are held against."""

import numpy as np

from tgn.candidate_pool import Pool
from tgn.config import KernelConfig, Request
from tgn.graph import F32, I32, LISTED, Graph
from tgn.kernel import kernel
from tgn.node_index import Names
from tgn.seen_pairs import has_pair
from tgn.top_k import top_k


@kernel
def fill(
    graph: Graph, names: Names, pool: Pool, config: KernelConfig, request: Request, size: int, items: I32, scores: F32
) -> int:
    """Appends items outside the pool to a list [K] of `size`; their scores are below any score of the pool's.

    Returns the new size.
    """
    scale = config.baseline_scale
    chosen, keys, ordered = pool.rest_item, pool.rest_key, pool.rest_score
    room = len(items) - size
    n = 0
    for item in range(request.items):
        if graph.items.first_time[item] < 0 or graph.items.alive[item] != LISTED or pool.stamp[item] == pool.query[0]:
            continue
        if request.exclude_seen and has_pair(graph.pairs, request.user, item):
            continue
        chosen[n] = item
        keys[n] = (
            graph.items.log_popularity[item, scale] + graph.items.last_time[item] / config.scales.popularity[scale]
        )
        n += 1
    lowest = scores[size - 1] if size > 0 else np.float32(0)
    filled = top_k(chosen, keys, n, names, items[size:], ordered[:room])
    for place in range(filled):
        scores[size + place] = lowest - np.float32(place + 1)
    return size + filled


@kernel
def popularity_rank(graph: Graph, request: Request, item: int, scale: int, k: int) -> int:
    """The place of `item` among what the user may be shown by decayed popularity, from 1; 0: not in the first k.

    Ties count against the item.
    """
    heads = graph.heads
    key = -np.inf
    for h in range(heads.size[scale]):
        if heads.item[scale, h] == item and graph.items.alive[item] == LISTED:
            key = heads.key[scale, h]
    if key == -np.inf or (request.exclude_seen and has_pair(graph.pairs, request.user, item)):
        return 0
    rank = 1
    for h in range(heads.size[scale]):
        other = heads.item[scale, h]
        ahead = other != item and heads.key[scale, h] >= key and graph.items.alive[other] == LISTED
        if ahead and not (request.exclude_seen and has_pair(graph.pairs, request.user, other)):
            rank += 1
    return rank if rank <= k else 0
