"""score → learn → observe: the order in which every event is taken, written once, for live, replay and evaluation."""

from typing import NamedTuple

import numpy as np

from tgn.candidate_pool import Pool, add_catalogue, enter, gather
from tgn.config import CONTENT, CONTEXT, EMBEDDINGS, MEMORIES, RANKER, RETRIEVAL, TRAINED_VECTORS, KernelConfig
from tgn.context_embedding import Contexts, add_contexts, step_contexts
from tgn.features import REPEAT, complete_features, leave_out
from tgn.graph import F32, F64, I16, I32, I64, LISTED, REQUEST_SLOTS, U8, Graph, Users
from tgn.item_embedding import Embeddings, PopularityWeights, Taste, embed, embedding_features, learn_embedding
from tgn.kernel import kernel
from tgn.memory import Memories, memory_features, remember
from tgn.node_index import Names
from tgn.observe import note_context, observe
from tgn.outside_vectors import Trained, Vectors, Waiting, content_features, nearest_waiting, taste_of, trained_features
from tgn.ranker import Activations, Ranker, forward, learn, softmax, uniform
from tgn.reasons import Evidence, explain
from tgn.retrieval import Active, best, refresh_vector, scan, touch
from tgn.seen_pairs import has_pair
from tgn.top_k import top_k

CHANCE = np.float32(0.01)  # the share of chance in P(item): what the pool missed is no infinite surprise


class InteractionBatch(NamedTuple):
    """N interactions in the order in which they are taken."""

    user: I32  # [N] node index
    item: I32  # [N]
    t: I64  # [N] event time, epoch ms, not decreasing but for late events
    weight: F32  # [N] of the event type; ≤ 0 a dislike
    context: I16  # [N, SLOTS] rows of Contexts, −1: none
    score: U8  # [N] 1: make the test list
    learn: U8  # [N] 1: learn from it
    publish: U8  # [N] 1: make the published list after it
    block: I64  # [N] events of one block are all scored before the first of them is observed; TGB's batch


class Lists(NamedTuple):
    """Up to K items for each of N events; places past `size` hold −1."""

    item: I32  # [N, K]
    score: F32  # [N, K]
    size: I32  # [N]


class Outcome(NamedTuple):
    """What a batch gave."""

    test: Lists  # before the event was learned from and observed
    published: Lists  # right after
    evidence: Evidence  # of the published lists
    changed: U8  # [N] 1: the published ranking differs from the user's last one, or is the first
    rank: I32  # [N] place of the event's item in the test list from 1; 0: missed; −1: not measured
    popularity_rank: I32  # [N] the same for decayed popularity
    surprise: F32  # [N] −ln P(item), nats; where measured


class Parts(NamedTuple):
    """What the kernels work with: the state, the scratch space of one query, and the constants."""

    graph: Graph
    embeddings: Embeddings
    popularity: PopularityWeights
    contexts: Contexts
    memories: Memories
    content: Vectors
    waiting: Waiting
    trained: Trained
    active: Active
    ranker: Ranker
    names: Names
    pool: Pool
    taste: Taste
    act: Activations
    config: KernelConfig
    scales: F64  # [L] popularity time scales, ms
    row_scales: F64  # [S]


@kernel
def prequential(
    parts: Parts, items: int, batch: InteractionBatch, exclude_seen: bool, request_context: bool, out: Outcome
) -> None:
    """Takes a batch: for each event score, then learn, then observe, then the published list where asked.

    `items`: how many item indices exist; `request_context`: an event's contexts are known when its list is asked for,
    so that it is scored with them. A block that goes on in the next batch is cut at the batch's end. Within a
    block the ranker learns at once, since its few weights cannot tell one user from another; embeddings, which could
    carry one event's answer to the next, learn when all of the block is scored.
    """
    graph, config = parts.graph, parts.config
    first = 0
    for n in range(len(batch.user)):
        user, item, t = batch.user[n], batch.item[n], batch.t[n]
        last = n + 1 == len(batch.user) or batch.block[n + 1] != batch.block[n]
        out.rank[n] = -1
        if request_context:
            note_context(graph.users, user, batch.context[n], REQUEST_SLOTS)
        if batch.score[n] or batch.learn[n]:
            size = query(
                parts, items, user, t, exclude_seen, batch.learn[n] == 0, out.test, n if batch.score[n] else -1
            )
            target = _place_of(parts.pool, item, size)
            softmax(parts.act.score, parts.act.probability, size)
            if batch.score[n] and not (exclude_seen and has_pair(graph.pairs, user, item)):
                out.rank[n] = _rank(out.test, n, item)
                out.surprise[n] = _surprise(parts, target)
                out.popularity_rank[n] = popularity_rank(
                    graph, user, item, exclude_seen, config.baseline_scale, out.test.item.shape[1]
                )
            if batch.learn[n] and batch.weight[n] > 0 and target >= 0:
                _learn_ranker(parts, size, target)
                if last and first == n:
                    _learn_embedding(parts, user, size, target)
        if last:
            if first < n:
                _learn_embeddings_of_block(parts, items, batch, first, n + 1, exclude_seen)
            for m in range(first, n + 1):
                _observe(parts, batch, m)
            first = n + 1
        if batch.publish[n]:
            _publish(parts, items, user, t, exclude_seen, batch.learn[n] == 0, out, n)


@kernel
def relist(parts: Parts, items: int, user: I32, t: int, exclude_seen: bool, out: Outcome) -> None:
    """The published lists of N users at time t, with no interaction."""
    for n in range(len(user)):
        _publish(parts, items, user[n], t, exclude_seen, False, out, n)


@kernel
def _publish(
    parts: Parts, items: int, user: int, t: int, exclude_seen: bool, frozen: bool, out: Outcome, n: int
) -> None:
    query(parts, items, user, t, exclude_seen, frozen, out.published, n)
    for place in range(out.published.size[n]):
        explain(
            parts.graph, parts.pool, user, out.published.item[n, place], t, parts.config, parts.row_scales,
            out.evidence, n, place,
        )  # fmt: skip
    out.changed[n] = _note_listed(parts.graph.users, user, out.published.item[n])


@kernel
def _surprise(parts: Parts, target: int) -> float:
    """−ln of what the pool's softmax gives the item, mixed with a share of chance over the catalogue."""
    pooled = parts.act.probability[target] if target >= 0 else np.float32(0)
    known = np.float32(parts.graph.newest.total[0] + 1)
    return -np.log((np.float32(1) - CHANCE) * pooled + CHANCE / known)


@kernel
def _observe(parts: Parts, batch: InteractionBatch, n: int) -> None:
    """The memories of both take the event, then the graph does."""
    user, item = batch.user[n], batch.item[n]
    longest = parts.scales[len(parts.scales) - 1]
    if batch.weight[n] > 0 and not parts.config.off & MEMORIES:
        remember(parts.memories, user, item, batch.t[n], parts.config.memory_scale_ms, parts.config.seed)
    observe(
        parts.graph, user, item, batch.t[n], batch.weight[n], batch.context[n], parts.config.window, parts.scales,
        parts.row_scales,
    )  # fmt: skip
    if batch.weight[n] > 0:
        touch(parts.active, parts.graph.items, parts.embeddings, item, longest)


@kernel
def _learn_ranker(parts: Parts, size: int, target: int) -> None:
    """Learns, after `query`, that `target` of the pool was right. Nothing is learned from an event the pool missed."""
    config = parts.config
    if not config.off & RANKER:
        learn(
            parts.ranker, parts.act, parts.pool.x, size, target,
            config.learning_rate, config.learning_draws, uniform(parts.ranker.steps),
        )  # fmt: skip


@kernel
def _learn_embedding(parts: Parts, user: int, size: int, target: int) -> None:
    """The same for the embeddings, unless the user's ring holds the target."""
    config, pool = parts.config, parts.pool
    if pool.x[REPEAT, target] > 0 or config.off & EMBEDDINGS:
        return
    learn_embedding(
        parts.embeddings, parts.popularity, parts.taste, parts.graph.users, pool.item, pool.x, size, user, target,
        np.float32(config.embedding_rate), config.learning_draws, uniform(parts.ranker.steps),
    )  # fmt: skip
    if not config.off & CONTEXT:
        step_contexts(parts.contexts, parts.graph.users, user, parts.taste.gradient, np.float32(config.embedding_rate))
    for c in range(size):
        if parts.taste.stepped[c]:
            refresh_vector(parts.active, parts.embeddings, pool.item[c])


@kernel
def _learn_embeddings_of_block(
    parts: Parts, items: int, batch: InteractionBatch, first: int, end: int, exclude_seen: bool
) -> None:
    for n in range(first, end):
        if batch.learn[n] and batch.weight[n] > 0:
            size = _pool_of(parts, items, batch.user[n], batch.t[n], exclude_seen, False)
            target = _place_of(parts.pool, batch.item[n], size)
            if target >= 0:
                _learn_embedding(parts, batch.user[n], size, target)


@kernel
def query(
    parts: Parts, items: int, user: int, now: int, exclude_seen: bool, frozen: bool, lists: Lists, row: int
) -> int:
    """Scores the pool of `user` at `now`; writes the list into `lists[row]` unless row is −1. Returns the pool's size.

    frozen: nothing is learned any more; the ranker's mean scores, and contexts are not read. Pure: it reads the graph
    and the weights.
    """
    pool = parts.pool
    n = _pool_of(parts, items, user, now, exclude_seen, frozen)
    forward(parts.ranker.slow if frozen else parts.ranker.weights, parts.act, pool.x, n, pool.sizes[2])
    if row >= 0:
        size = top_k(pool.item, parts.act.score, n, parts.names, lists.item[row], lists.score[row])
        if size < len(lists.item[row]) and size < parts.graph.newest.total[0]:
            size = _fill(parts, size, user, exclude_seen, items, lists, row)
        lists.size[row] = size
        lists.item[row, size:] = -1
    return n


@kernel
def _pool_of(parts: Parts, items: int, user: int, now: int, exclude_seen: bool, frozen: bool) -> int:
    """Gathers the candidates of `user` at `now` with all of their features; returns how many."""
    graph, pool, taste, config = parts.graph, parts.pool, parts.taste, parts.config
    n = gather(graph, pool, user, now, exclude_seen, config, parts.scales, parts.row_scales)
    embed(parts.embeddings, graph.users, user, taste.user)
    if not (frozen or config.off & CONTEXT):
        add_contexts(parts.contexts, graph.users, user, taste.user)
    content = parts.content.known[0] and not config.off & CONTENT
    if content and taste_of(parts.content, graph.users, user, taste.vector):
        n = _add_waiting(parts, n, user, exclude_seen)
    known = graph.newest.total[0]  # not `items`: ids of events still to come must change nothing
    if known <= config.every_item_below:
        n = add_catalogue(graph, pool, n, user, exclude_seen, items)
    elif not config.off & (RETRIEVAL | EMBEDDINGS):
        n = _add_nearest(parts, n, user, exclude_seen)
    pool.sizes[0] = n
    complete_features(graph, pool.x, pool.item, n, pool.sizes[2], user, now, parts.scales, parts.row_scales, known)
    if not config.off & EMBEDDINGS:
        embedding_features(parts.embeddings, parts.popularity, taste, pool.item, pool.x, n)
    if not config.off & MEMORIES:
        memory_features(parts.memories, user, pool.item, pool.x, n, pool.sizes[2])
    if content:
        content_features(parts.content, graph.users, user, pool.item, pool.x, n, taste.vector)
    if parts.trained.item.known[0] and not config.off & TRAINED_VECTORS:
        taste_of(parts.trained.item, graph.users, user, taste.vector)
        trained_features(parts.trained, graph.users, user, pool.item, pool.x, n, taste.vector)
    leave_out(pool.x, config.off)
    return n


@kernel
def _add_waiting(parts: Parts, n: int, user: int, exclude_seen: bool) -> int:
    taste = parts.taste
    found = nearest_waiting(
        parts.waiting, parts.content, parts.graph.items, taste.vector, taste.waiting, taste.nearness
    )
    for place in range(found):
        _, n = enter(parts.graph, parts.pool, n, user, taste.waiting[place], exclude_seen)
    return n


@kernel
def _add_nearest(parts: Parts, n: int, user: int, exclude_seen: bool) -> int:
    pool, nearest = parts.pool, parts.config.retrieved
    scan(parts.active, parts.popularity, parts.taste.user)
    found = best(parts.active, pool.rest_item, nearest)
    for place in range(found):
        if parts.graph.items.first_time[pool.rest_item[place]] < 0:  # every interaction with it was taken back
            continue
        _, n = enter(parts.graph, pool, n, user, pool.rest_item[place], exclude_seen)
    return n


@kernel
def _note_listed(users: Users, user: int, ranking: I32) -> bool:
    """Remembers the ranking published last by its FNV-1a digest; 1 if it differs from the one before."""
    digest = np.uint64(0xCBF29CE484222325)
    for item in ranking:
        digest = (digest ^ np.uint64(item + 1)) * np.uint64(0x100000001B3)
    digest |= np.uint64(1)
    changed = np.uint64(users.listed[user]) != digest
    users.listed[user] = np.int64(digest)
    users.dirty[user] = 1
    return changed


@kernel
def _place_of(pool: Pool, item: int, n: int) -> int:
    """Where `item` stands in the pool, −1 if it does not."""
    if pool.stamp[item] != pool.query[0] or n == 0:
        return -1
    return pool.place[item]


@kernel
def _rank(lists: Lists, row: int, item: int) -> int:
    for place in range(lists.size[row]):
        if lists.item[row, place] == item:
            return place + 1
    return 0


@kernel
def _fill(parts: Parts, size: int, user: int, exclude_seen: bool, items: int, lists: Lists, row: int) -> int:
    """Appends items outside the pool by decayed popularity; their scores are below any score of the pool's."""
    graph, pool, scale = parts.graph, parts.pool, parts.config.baseline_scale
    chosen, keys, scores = pool.rest_item, pool.rest_key, pool.rest_score
    room = len(lists.item[row]) - size
    n = 0
    for item in range(items):
        if graph.items.first_time[item] < 0 or graph.items.alive[item] != LISTED or pool.stamp[item] == pool.query[0]:
            continue
        if exclude_seen and has_pair(graph.pairs, user, item):
            continue
        chosen[n] = item
        keys[n] = graph.items.log_popularity[item, scale] + graph.items.last_time[item] / parts.scales[scale]
        n += 1
    lowest = lists.score[row, size - 1] if size > 0 else np.float32(0)
    filled = top_k(chosen, keys, n, parts.names, lists.item[row, size:], scores[:room])
    for place in range(filled):
        lists.score[row, size + place] = lowest - np.float32(place + 1)
    return size + filled


@kernel
def popularity_rank(graph: Graph, user: int, item: int, exclude_seen: bool, scale: int, k: int) -> int:
    """The place of `item` among what the user may be shown by decayed popularity, from 1; 0: not in the first k.

    Ties count against the item.
    """
    heads = graph.heads
    key = -np.inf
    for h in range(heads.size[scale]):
        if heads.item[scale, h] == item:
            key = heads.key[scale, h]
    if key == -np.inf or (exclude_seen and has_pair(graph.pairs, user, item)):
        return 0
    rank = 1
    for h in range(heads.size[scale]):
        other = heads.item[scale, h]
        ahead = other != item and heads.key[scale, h] >= key
        if ahead and not (exclude_seen and has_pair(graph.pairs, user, other)):
            rank += 1
    return rank if rank <= k else 0
