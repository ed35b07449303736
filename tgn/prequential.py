"""score → learn → observe: the order in which every event is taken, written once, for live, replay and evaluation."""

from typing import NamedTuple

import numpy as np

from tgn.by_popularity import fill, popularity_rank
from tgn.candidate_pool import DRAWN_OUTSIDE, FROM_RING, TOGETHER, Pool, add_catalogue, enter, gather
from tgn.compiling.addresses import by_address
from tgn.config import CONTENT, CONTEXT, EMBEDDINGS, MEMORIES, RANKER, RETRIEVAL, TRAINED_VECTORS, KernelConfig, Request
from tgn.context_embedding import Contexts, add_contexts, step_contexts
from tgn.features import REPEAT, complete_features, leave_out, popularity_features
from tgn.graph import F32, I16, I32, I64, REQUEST_SLOTS, U8, Graph, Users
from tgn.item_embedding import (
    Embeddings,
    PopularityWeights,
    Taste,
    embed,
    embedding_features,
    learn_embedding,
    share_with,
)
from tgn.kernel import kernel
from tgn.memory import Memories, memory_features, remember
from tgn.node_index import Names
from tgn.observe import note_context, observe
from tgn.outside_vectors import (
    Trained,
    Vectors,
    Waiting,
    content_features,
    nearest_waiting,
    sum_taste,
    trained_features,
)
from tgn.ranker import Activations, Ranker, forward, learn, softmax, uniform
from tgn.reasons import Evidence, explain, source_of
from tgn.retrieval import USED, Active, any_active, best, refresh_vector, scan, touch
from tgn.seen_pairs import has_pair
from tgn.top_k import top_k

CHANCE = np.float32(0.01)  # the share of chance in P(item): what the pool missed is no infinite surprise


@by_address
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


@by_address
class Outcome(NamedTuple):
    """What a batch gave."""

    test: Lists  # before the event was learned from and observed
    source: U8  # [N, K] of the test lists, index into tgn.reasons.SOURCES; [0, K] where nobody asks for it
    published: Lists  # right after
    evidence: Evidence  # of the published lists
    changed: U8  # [N] 1: the published ranking differs from the user's last one, or is the first
    rank: I32  # [N] place of the event's item in the test list from 1; 0: missed; −1: not measured
    popularity_rank: I32  # [N] the same for decayed popularity
    surprise: F32  # [N] −ln P(item), nats; where measured


@by_address
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


@by_address
class Scratch(NamedTuple):
    """What one query writes and the next one overwrites."""

    pool: Pool
    taste: Taste
    act: Activations


@kernel
def prequential(
    arrays: ModelArrays, listing: ModelArrays, scratch: Scratch, config: KernelConfig, items: int,
    batch: InteractionBatch, start: int, end: int, exclude_seen: bool, request_context: bool, out: Outcome,
) -> None:  # fmt: skip
    """Takes events [start, end): for each score, then learn, then observe, then the published list where asked.

    `listing`: the same arrays, but for which items may be listed: candidates are gathered from it.
    `items`: how many item indices exist; `request_context`: an event's contexts are known when its list is asked for,
    so that it is scored with them. A block that goes on in the next batch is cut at the batch's end. Within a
    block the ranker learns at once, since its few weights cannot tell one user from another; embeddings, which could
    carry one event's answer to the next, learn when all of the block is scored.
    """
    graph, pool, act = arrays.graph, scratch.pool, scratch.act
    first = start
    for n in range(start, end):
        user, item = batch.user[n], batch.item[n]
        request = Request(user, batch.t[n], exclude_seen, batch.learn[n] == 0, items)
        last = n + 1 == end or batch.block[n + 1] != batch.block[n]
        out.rank[n] = -1
        if request_context:
            note_context(graph.users, user, batch.context[n], REQUEST_SLOTS)
        if batch.score[n] or batch.learn[n]:
            size = query(listing, scratch, config, request, out.test, n if batch.score[n] else -1)
            if batch.score[n] and len(out.source) > 0:
                for place in range(out.test.size[n]):
                    out.source[n, place] = source_of(graph, pool, out.test.item[n, place])
            target = _find_in_pool(pool, item, size)
            softmax(act.score, act.probability, size)
            if batch.score[n] and not (exclude_seen and has_pair(graph.pairs, user, item)):
                out.rank[n] = _rank(out.test, n, item)
                out.surprise[n] = _surprise(graph, act, target)
                out.popularity_rank[n] = popularity_rank(
                    listing.graph, request, item, config.baseline_scale, out.test.item.shape[1]
                )
            if batch.learn[n] and batch.weight[n] > 0:
                if target >= 0:
                    _learn_ranker(arrays, scratch, config, size, target)
                if last and first == n:
                    _learn_embeddings(arrays, scratch, config, request, size, item)
        if last:
            if first < n:
                _learn_embeddings_of_block(listing, scratch, config, items, batch, first, n + 1, exclude_seen)
            for m in range(first, n + 1):
                _observe(arrays, config, batch, m)
            first = n + 1
        if batch.publish[n]:
            _publish(listing, scratch, config, request, out, n)


@kernel
def observe_batch(arrays: ModelArrays, config: KernelConfig, batch: InteractionBatch, end: int) -> None:
    """Takes events [0, end) with no list and nothing learned: as `prequential` does where nobody asks for either."""
    for n in range(end):
        _observe(arrays, config, batch, n)


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
    out.changed[n] = _note_list_change(arrays.graph.users, request.user, out.published.item[n])


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
    context, window, sitting_ms = batch.context[n], config.window, config.sitting_ms
    observe(arrays.graph, user, item, t, weight, context, window, sitting_ms, scales.popularity, scales.rows)
    if weight > 0:
        touch(arrays.active, arrays.graph.items, arrays.embeddings, item, scales.popularity[len(scales.popularity) - 1])


@kernel
def _learn_ranker(arrays: ModelArrays, scratch: Scratch, config: KernelConfig, size: int, target: int) -> None:
    """Learns, after `query`, that `target` of the pool was right; nothing from an event that the pool missed."""
    if not config.off & RANKER:
        learn(
            arrays.ranker, scratch.act, scratch.pool.x, size, target,
            config.learning_rate, config.learning_draws, uniform(arrays.ranker.steps),
        )  # fmt: skip


@kernel
def _learn_embeddings(
    arrays: ModelArrays, scratch: Scratch, config: KernelConfig, request: Request, size: int, item: int
) -> None:
    """The same for the embeddings, whether the pool held the item or missed it; not where the user's ring holds it."""
    pool, taste, users, user = scratch.pool, scratch.taste, arrays.graph.users, request.user
    if config.off & EMBEDDINGS:
        return
    target = _find_in_pool(pool, item, size)
    pooled = target >= 0
    if not pooled:
        target, size = _add_missed(arrays, scratch, config, request, size, item)
    if target < 0 or pool.x[REPEAT, target] > 0:
        return
    learn_embedding(
        arrays.embeddings, arrays.popularity, taste, users, pool.item, pool.x, size, user, target,
        np.float32(config.embedding_rate), config.learning_draws, uniform(arrays.ranker.steps), pooled,
    )  # fmt: skip
    if pooled and not config.off & CONTEXT:
        step_contexts(arrays.contexts, users, user, taste.gradient, np.float32(config.embedding_rate))
    for c in range(size):
        if taste.stepped[c]:
            refresh_vector(arrays.active, arrays.embeddings, pool.item[c])


@kernel
def _add_missed(
    arrays: ModelArrays, scratch: Scratch, config: KernelConfig, request: Request, size: int, item: int
) -> tuple[int, int]:
    """Adds an item that the pool missed, and active ones drawn at random, with their shares: its place, the new size.

    Alone it would teach that an item without evidence is the right one. The place is −1 if it may not be listed.
    """
    graph, pool, active = arrays.graph, scratch.pool, arrays.active
    place, n = enter(graph, pool, request, size, item)
    if place < 0:
        return place, size
    key = config.seed + request.now + 7919 * item + request.user
    for nth in range(DRAWN_OUTSIDE if active.hand[USED] > 0 else 0):
        drawn = any_active(active, key, nth)
        if graph.items.first_time[drawn] >= 0:
            _, n = enter(graph, pool, request, n, drawn)
    for c in range(size, n):
        pool.x[REPEAT, c] = 0
    popularity_features(graph.items, pool.x, pool.item, size, n, request.now, config.scales)
    outside = max(np.float32(active.hand[USED] - size) / np.float32(DRAWN_OUTSIDE), np.float32(1))
    share_with(arrays.embeddings, arrays.popularity, scratch.taste, pool.item, pool.x, size, n, outside)
    return place, n


@kernel
def _learn_embeddings_of_block(
    arrays: ModelArrays, scratch: Scratch, config: KernelConfig, items: int, batch: InteractionBatch, first: int,
    end: int, exclude_seen: bool,
) -> None:  # fmt: skip
    for n in range(first, end):
        if batch.learn[n] and batch.weight[n] > 0:
            request = Request(batch.user[n], batch.t[n], exclude_seen, False, items)
            size = _gather_pool(arrays, scratch, config, request)
            _learn_embeddings(arrays, scratch, config, request, size, batch.item[n])


@kernel
def query(arrays: ModelArrays, scratch: Scratch, config: KernelConfig, request: Request, lists: Lists, row: int) -> int:
    """Scores the pool; writes the list into `lists[row]` unless row is −1. Returns the pool's size.

    Pure: it reads the graph and the weights.
    """
    pool, act, ranker = scratch.pool, scratch.act, arrays.ranker
    n = _gather_pool(arrays, scratch, config, request)
    forward(ranker.slow if request.frozen else ranker.weights, act, pool.x, n, pool.sizes[FROM_RING])
    if row >= 0:
        size = top_k(pool.item, act.score, n, arrays.names, lists.item[row], lists.score[row])
        if size < len(lists.item[row]) and size < arrays.graph.newest.total[0]:
            size = fill(arrays.graph, arrays.names, pool, config, request, size, lists.item[row], lists.score[row])
        lists.size[row] = size
        lists.item[row, size:] = -1
    return n


@kernel
def _gather_pool(arrays: ModelArrays, scratch: Scratch, config: KernelConfig, request: Request) -> int:
    """Gathers the candidates with all of their features; returns how many."""
    graph, pool, taste, user = arrays.graph, scratch.pool, scratch.taste, request.user
    n = gather(graph, pool, request, config)
    embed(arrays.embeddings, graph.users, user, taste.user)
    if not (request.frozen or config.off & CONTEXT):
        add_contexts(arrays.contexts, graph.users, user, taste.user)
    content = arrays.content.known[0] and not config.off & CONTENT
    if content and sum_taste(arrays.content, graph.users, user, taste.vector):
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
        sum_taste(arrays.trained.item, graph.users, user, taste.vector)
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
def _note_list_change(users: Users, user: int, ranking: I32) -> bool:
    """Whether a ranking differs from the one published last, by its FNV-1a digest, which is kept for the next one."""
    digest = np.uint64(0xCBF29CE484222325)
    for item in ranking:
        digest = (digest ^ np.uint64(item + 1)) * np.uint64(0x100000001B3)
    digest |= np.uint64(1)
    changed = np.uint64(users.list_digest[user]) != digest
    users.list_digest[user] = np.int64(digest)
    users.dirty[user] = 1
    return changed


@kernel
def _find_in_pool(pool: Pool, item: int, n: int) -> int:
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
