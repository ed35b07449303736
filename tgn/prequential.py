"""score → learn → observe: the order in which every event is taken, written once, for live, replay and evaluation."""

from typing import NamedTuple

import numpy as np

from tgn.candidate_pool import FROM_RING, TOGETHER, Pool, add_catalogue, enter, gather
from tgn.config import CONTENT, CONTEXT, EMBEDDINGS, MEMORIES, RANKER, RETRIEVAL, TRAINED_VECTORS, KernelConfig, Request
from tgn.context_embedding import Contexts, add_contexts, step_contexts
from tgn.features import REPEAT, complete_features, leave_out
from tgn.graph import F32, I16, I32, I64, LISTED, REQUEST_SLOTS, U8, Graph, Users
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


class ModelArrays(NamedTuple):
    """What is state: all of it is in the checkpoint, or follows from what is."""

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


class Scratch(NamedTuple):
    """What one query writes and the next one overwrites."""

    pool: Pool
    taste: Taste
    act: Activations


@kernel
def prequential(
    arrays: ModelArrays, scratch: Scratch, config: KernelConfig, items: int, batch: InteractionBatch,
    exclude_seen: bool, request_context: bool, out: Outcome,
) -> None:  # fmt: skip
    """Takes a batch: for each event score, then learn, then observe, then the published list where asked.

    `items`: how many item indices exist; `request_context`: an event's contexts are known when its list is asked for,
    so that it is scored with them. A block that goes on in the next batch is cut at the batch's end. Within a
    block the ranker learns at once, since its few weights cannot tell one user from another; embeddings, which could
    carry one event's answer to the next, learn when all of the block is scored.
    """
    graph, pool, act = arrays.graph, scratch.pool, scratch.act
    first = 0
    for n in range(len(batch.user)):
        user, item = batch.user[n], batch.item[n]
        request = Request(user, batch.t[n], exclude_seen, batch.learn[n] == 0, items)
        last = n + 1 == len(batch.user) or batch.block[n + 1] != batch.block[n]
        out.rank[n] = -1
        if request_context:
            note_context(graph.users, user, batch.context[n], REQUEST_SLOTS)
        if batch.score[n] or batch.learn[n]:
            size = query(arrays, scratch, config, request, out.test, n if batch.score[n] else -1)
            target = _place_of(pool, item, size)
            softmax(act.score, act.probability, size)
            if batch.score[n] and not (exclude_seen and has_pair(graph.pairs, user, item)):
                out.rank[n] = _rank(out.test, n, item)
                out.surprise[n] = _surprise(graph, act, target)
                out.popularity_rank[n] = popularity_rank(
                    graph, request, item, config.baseline_scale, out.test.item.shape[1]
                )
            if batch.learn[n] and batch.weight[n] > 0 and target >= 0:
                _learn_ranker(arrays, scratch, config, size, target)
                if last and first == n:
                    _learn_embedding(arrays, scratch, config, user, size, target)
        if last:
            if first < n:
                _learn_embeddings_of_block(arrays, scratch, config, items, batch, first, n + 1, exclude_seen)
            for m in range(first, n + 1):
                _observe(arrays, config, batch, m)
            first = n + 1
        if batch.publish[n]:
            _publish(arrays, scratch, config, request, out, n)


@kernel
def relist(
    arrays: ModelArrays, scratch: Scratch, config: KernelConfig, items: int, user: I32, t: int, exclude_seen: bool,
    out: Outcome,
) -> None:  # fmt: skip
    """The published lists of N users at time t, with no interaction."""
    for n in range(len(user)):
        _publish(arrays, scratch, config, Request(user[n], t, exclude_seen, False, items), out, n)


@kernel
def _publish(
    arrays: ModelArrays, scratch: Scratch, config: KernelConfig, request: Request, out: Outcome, n: int
) -> None:
    query(arrays, scratch, config, request, out.published, n)
    for place in range(out.published.size[n]):
        explain(arrays.graph, scratch.pool, request, out.published.item[n, place], config, out.evidence, n, place)
    out.changed[n] = _note_listed(arrays.graph.users, request.user, out.published.item[n])


@kernel
def _surprise(graph: Graph, act: Activations, target: int) -> float:
    """−ln of what the pool's softmax gives the item, mixed with a share of chance over the catalogue."""
    pooled = act.probability[target] if target >= 0 else np.float32(0)
    known = np.float32(graph.newest.total[0] + 1)
    return -np.log((np.float32(1) - CHANCE) * pooled + CHANCE / known)


@kernel
def _observe(arrays: ModelArrays, config: KernelConfig, batch: InteractionBatch, n: int) -> None:
    """The memories of both take the event, then the graph does."""
    user, item, t, weight, scales = batch.user[n], batch.item[n], batch.t[n], batch.weight[n], config.scales
    if weight > 0 and not config.off & MEMORIES:
        remember(arrays.memories, user, item, t, config.memory_scale_ms, config.seed)
    observe(arrays.graph, user, item, t, weight, batch.context[n], config.window, scales.popularity, scales.rows)
    if weight > 0:
        touch(arrays.active, arrays.graph.items, arrays.embeddings, item, scales.popularity[len(scales.popularity) - 1])


@kernel
def _learn_ranker(arrays: ModelArrays, scratch: Scratch, config: KernelConfig, size: int, target: int) -> None:
    """Learns, after `query`, that `target` of the pool was right. Nothing is learned from an event the pool missed."""
    if not config.off & RANKER:
        learn(
            arrays.ranker, scratch.act, scratch.pool.x, size, target,
            config.learning_rate, config.learning_draws, uniform(arrays.ranker.steps),
        )  # fmt: skip


@kernel
def _learn_embedding(
    arrays: ModelArrays, scratch: Scratch, config: KernelConfig, user: int, size: int, target: int
) -> None:
    """The same for the embeddings, unless the user's ring holds the target."""
    pool, taste, users = scratch.pool, scratch.taste, arrays.graph.users
    if pool.x[REPEAT, target] > 0 or config.off & EMBEDDINGS:
        return
    learn_embedding(
        arrays.embeddings, arrays.popularity, taste, users, pool.item, pool.x, size, user, target,
        np.float32(config.embedding_rate), config.learning_draws, uniform(arrays.ranker.steps),
    )  # fmt: skip
    if not config.off & CONTEXT:
        step_contexts(arrays.contexts, users, user, taste.gradient, np.float32(config.embedding_rate))
    for c in range(size):
        if taste.stepped[c]:
            refresh_vector(arrays.active, arrays.embeddings, pool.item[c])


@kernel
def _learn_embeddings_of_block(
    arrays: ModelArrays, scratch: Scratch, config: KernelConfig, items: int, batch: InteractionBatch, first: int,
    end: int, exclude_seen: bool,
) -> None:  # fmt: skip
    for n in range(first, end):
        if batch.learn[n] and batch.weight[n] > 0:
            request = Request(batch.user[n], batch.t[n], exclude_seen, False, items)
            size = _pool_of(arrays, scratch, config, request)
            target = _place_of(scratch.pool, batch.item[n], size)
            if target >= 0:
                _learn_embedding(arrays, scratch, config, batch.user[n], size, target)


@kernel
def query(arrays: ModelArrays, scratch: Scratch, config: KernelConfig, request: Request, lists: Lists, row: int) -> int:
    """Scores the pool; writes the list into `lists[row]` unless row is −1. Returns the pool's size.

    Pure: it reads the graph and the weights.
    """
    pool, act, ranker = scratch.pool, scratch.act, arrays.ranker
    n = _pool_of(arrays, scratch, config, request)
    forward(ranker.slow if request.frozen else ranker.weights, act, pool.x, n, pool.sizes[FROM_RING])
    if row >= 0:
        size = top_k(pool.item, act.score, n, arrays.names, lists.item[row], lists.score[row])
        if size < len(lists.item[row]) and size < arrays.graph.newest.total[0]:
            size = _fill(arrays, pool, config, request, size, lists, row)
        lists.size[row] = size
        lists.item[row, size:] = -1
    return n


@kernel
def _pool_of(arrays: ModelArrays, scratch: Scratch, config: KernelConfig, request: Request) -> int:
    """Gathers the candidates with all of their features; returns how many."""
    graph, pool, taste, user = arrays.graph, scratch.pool, scratch.taste, request.user
    n = gather(graph, pool, request, config)
    embed(arrays.embeddings, graph.users, user, taste.user)
    if not (request.frozen or config.off & CONTEXT):
        add_contexts(arrays.contexts, graph.users, user, taste.user)
    content = arrays.content.known[0] and not config.off & CONTENT
    if content and taste_of(arrays.content, graph.users, user, taste.vector):
        n = _add_waiting(arrays, scratch, request, n)
    known = graph.newest.total[0]  # not `items`: ids of events still to come must change nothing
    if known <= config.every_item_below:
        n = add_catalogue(graph, pool, request, n)
    elif not config.off & (RETRIEVAL | EMBEDDINGS):
        n = _add_nearest(arrays, scratch, config, request, n)
    pool.sizes[TOGETHER] = n
    held = pool.sizes[FROM_RING]
    complete_features(graph, pool.x, pool.item, n, held, request, config.scales, known)
    if not config.off & EMBEDDINGS:
        embedding_features(arrays.embeddings, arrays.popularity, taste, pool.item, pool.x, n)
    if not config.off & MEMORIES:
        memory_features(arrays.memories, user, pool.item, pool.x, n, held)
    if content:
        content_features(arrays.content, graph.users, user, pool.item, pool.x, n, taste.vector)
    if arrays.trained.item.known[0] and not config.off & TRAINED_VECTORS:
        taste_of(arrays.trained.item, graph.users, user, taste.vector)
        trained_features(arrays.trained, graph.users, user, pool.item, pool.x, n, taste.vector)
    leave_out(pool.x, config.off)
    return n


@kernel
def _add_waiting(arrays: ModelArrays, scratch: Scratch, request: Request, n: int) -> int:
    graph, taste = arrays.graph, scratch.taste
    found = nearest_waiting(arrays.waiting, arrays.content, graph.items, taste.vector, taste.waiting, taste.nearness)
    for place in range(found):
        _, n = enter(graph, scratch.pool, request, n, taste.waiting[place])
    return n


@kernel
def _add_nearest(arrays: ModelArrays, scratch: Scratch, config: KernelConfig, request: Request, n: int) -> int:
    graph, pool = arrays.graph, scratch.pool
    scan(arrays.active, arrays.popularity, scratch.taste.user)
    found = best(arrays.active, pool.rest_item, config.retrieved)
    for place in range(found):
        if graph.items.first_time[pool.rest_item[place]] < 0:  # every interaction with it was taken back
            continue
        _, n = enter(graph, pool, request, n, pool.rest_item[place])
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
def _fill(
    arrays: ModelArrays, pool: Pool, config: KernelConfig, request: Request, size: int, lists: Lists, row: int
) -> int:
    """Appends items outside the pool by decayed popularity; their scores are below any score of the pool's."""
    graph, scale = arrays.graph, config.baseline_scale
    chosen, keys, scores = pool.rest_item, pool.rest_key, pool.rest_score
    room = len(lists.item[row]) - size
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
    lowest = lists.score[row, size - 1] if size > 0 else np.float32(0)
    filled = top_k(chosen, keys, n, arrays.names, lists.item[row, size:], scores[:room])
    for place in range(filled):
        lists.score[row, size + place] = lowest - np.float32(place + 1)
    return size + filled


@kernel
def popularity_rank(graph: Graph, request: Request, item: int, scale: int, k: int) -> int:
    """The place of `item` among what the user may be shown by decayed popularity, from 1; 0: not in the first k.

    Ties count against the item.
    """
    heads = graph.heads
    key = -np.inf
    for h in range(heads.size[scale]):
        if heads.item[scale, h] == item:
            key = heads.key[scale, h]
    if key == -np.inf or (request.exclude_seen and has_pair(graph.pairs, request.user, item)):
        return 0
    rank = 1
    for h in range(heads.size[scale]):
        other = heads.item[scale, h]
        ahead = other != item and heads.key[scale, h] >= key
        if ahead and not (request.exclude_seen and has_pair(graph.pairs, request.user, other)):
            rank += 1
    return rank if rank <= k else 0
