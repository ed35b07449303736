"""Repair: part of the graph is built again from the interactions, as if they had come in this order from the start.

An interaction that is taken back, or that came late, touches its user, its item, and the rows of the items within W of
it in the user's sequence. `settle` makes the user's own ring anew. `rebuild` empties some of the items; then every
interaction of every user who ever touched one of them is observed again, and writes to the emptied items alone. So rows
come out to the last bit as they would have been, evictions included, and nothing has to be subtracted from a float sum.
Items can be built again together or one after the other, with interactions taken between: it comes to the same.

Embeddings, the ranker and what else was learned stay: to unlearn takes a replay of the log.
"""

from typing import NamedTuple

import numpy as np

from tgn.config import ModelConfig, scales_of
from tgn.graph import F32, F64, I16, I32, I64, LISTED, NOTHING, U8, Graph, Heads, Items, Newest, Pairs, Users, new_users
from tgn.kernel import kernel
from tgn.observe import observe_item, observe_user, popularity_key, relate
from tgn.seen_pairs import count_users, list_users, remove_pair, users_of

Pair = tuple[I32, I32]  # [P] users, [P] items


class History(NamedTuple):
    """Interactions in the order in which they count: every one of the users that a repair reads."""

    user: I32  # [E] node index
    item: I32  # [E]
    t: I64  # [E] epoch ms
    weight: F32  # [E]
    context: I16  # [E, SLOTS]


def settle(graph: Graph, config: ModelConfig, changed: I32, removed: Pair, wanted: U8, history: History) -> None:
    """Makes what users hold follow their interactions: rings, counts, contexts, pairs.

    Args: changed: [C] users whose sequence of interactions is another than was observed; removed: the users and items
    of interactions taken back; wanted: [I] gets a 1 for each item whose count in a ring only a rebuild of it can tell;
    history: all interactions of the changed users, as they should have been, and maybe of others.
    """
    place = np.full(len(graph.users.events), -1, np.int32)
    place[changed] = np.arange(len(changed), dtype=np.int32)
    again = new_users(config, max(len(changed), 1))
    _walk(again, place, history)
    _carry_counts(graph, again, changed, wanted)
    _write_rings(graph.users, again, changed)
    held = np.isin(_keys_of(*removed), _keys_of(history.user, history.item))
    _take_out(graph.pairs, removed[0][~held], removed[1][~held])


def rebuild(graph: Graph, config: ModelConfig, wanted: U8, history: History) -> Graph:
    """Builds rows and counts of items again.

    Args: wanted: [I] 1 for an item that is built again; history: all interactions of `readers(graph, wanted)`, whose
    rings follow them (`settle`), and maybe of others.
    """
    scales, row_scales = scales_of(config)
    read = np.unique(history.user).astype(np.int32)
    place = np.full(len(graph.users.events), -1, np.int32)
    place[read] = np.arange(len(read), dtype=np.int32)
    again = new_users(config, max(len(read), 1))
    _forget(graph, wanted)
    _observe_again(graph, again, place, history, wanted, config.window, scales, row_scales)
    _write_counts(graph.users, again, read, wanted)
    held = graph.transitions.item[np.flatnonzero(wanted)]
    graph.items.dirty[held[held >= 0]] = 1  # how many rows hold them may be another
    return graph._replace(heads=_heads(graph, scales), newest=_newest(graph))


def readers(graph: Graph, wanted: U8) -> I32:
    """The users whose interactions a rebuild of the `wanted` items has to read."""
    found = np.zeros(len(graph.users.events), np.uint8)
    users_of(graph.pairs, wanted, found)
    return np.flatnonzero(found).astype(np.int32)


def next_batch(graph: Graph, wanted: U8, first: int, cost: I64, most: int) -> tuple[I32, I32]:
    """The next items to build again together, and their readers.

    Items are taken in the order of their indices, from `first` on and round: as many as have readers who cost `most` in
    all, a reader of two items once; the first one whatever it costs. cost: [U] of reading a user.
    """
    count = np.zeros(len(wanted), np.int64)
    count_users(graph.pairs, wanted, count)
    order = np.flatnonzero(wanted).astype(np.int32)
    order = np.roll(order, -int(np.searchsorted(order, first)))
    order = order[: 1 + int(np.searchsorted(np.cumsum(count[order[1:]]), most))]  # of whose pairs a look is taken
    row = np.full(len(wanted), -1, np.int32)
    row[order] = np.arange(len(order), dtype=np.int32)
    end = np.cumsum(count[order])
    user = np.zeros(int(end[-1]) if len(end) else 0, np.int32)
    list_users(graph.pairs, row, end - count[order], user)
    found = np.zeros(len(graph.users.events), np.uint8)
    size = _as_many(user, end, cost, most, found)
    return order[:size], np.flatnonzero(found).astype(np.int32)


@kernel
def _as_many(user: I32, end: I64, cost: I64, most: int, found: U8) -> int:
    """How many of the rows of `user` that end at `end` cost at most `most` together; marks their users in `found`."""
    spent, begin = 0, 0
    for n in range(len(end)):
        more = 0
        for m in range(begin, end[n]):
            if found[user[m]] == 0:
                more += cost[user[m]]
        if n > 0 and spent + more > most:
            return n
        for m in range(begin, end[n]):
            found[user[m]] = 1
        spent += more
        begin = end[n]
    return len(end)


@kernel
def _walk(again: Users, place: I32, history: History) -> None:
    """Fills the rings of the users that have a place; their counts are those of nothing."""
    for n in range(len(history.user)):
        user = place[history.user[n]]
        if user >= 0:
            observe_user(again, user, history.item[n], history.t[n], history.weight[n], history.context[n], 0)


@kernel
def _carry_counts(graph: Graph, again: Users, changed: I32, wanted: U8) -> None:
    """Which interaction of its item each one in a new ring was, out of the old ring; what that lacks is wanted."""
    users, ring = graph.users, graph.users.ring_item.shape[1]
    for n in range(len(changed)):
        user, count = changed[n], again.events[n]
        before, back = min(users.events[user], ring), 0  # how many the old ring holds, and of them, how many are past
        for m in range(min(count, ring)):
            place = (count - 1 - m) % ring
            item, t = again.ring_item[n, place], again.ring_time[n, place]
            found = -1
            for b in range(back, before):
                old = (users.events[user] - 1 - b) % ring
                if users.ring_item[user, old] == item and users.ring_time[user, old] == t:
                    found, back = old, b + 1
                    break
            if found >= 0:
                again.ring_count[n, place] = users.ring_count[user, found]
            else:
                again.ring_count[n, place] = graph.items.events[item]
                wanted[item] = 1


@kernel
def _take_out(pairs: Pairs, user: I32, item: I32) -> None:
    for n in range(len(user)):
        remove_pair(pairs, user[n], item[n])


@kernel
def _forget(graph: Graph, wanted: U8) -> None:
    """Empties the rows and counts of the wanted items."""
    items, transitions, co = graph.items, graph.transitions, graph.co
    for z in range(len(wanted)):
        if wanted[z] == 0:
            continue
        for m in range(transitions.size[z]):
            items.predecessors[transitions.item[z, m]] -= 1
            items.dirty[transitions.item[z, m]] = 1
        for rows in (transitions, co):
            rows.item[z] = -1
            rows.weight[z] = 0
            rows.total[z] = 0
            rows.time[z] = 0
            rows.size[z] = 0
        items.popularity[z] = 0
        items.log_popularity[z] = NOTHING
        items.events[z] = 0
        items.hours[z] = 0
        items.first_time[z] = items.introduced[z]
        items.last_time[z] = items.introduced[z]
        items.dirty[z] = 1


@kernel
def _observe_again(
    graph: Graph, again: Users, place: I32, history: History, wanted: U8, window: int, scales: F64, row_scales: F64
) -> None:
    items = graph.items
    for n in range(len(history.user)):
        user, item, t, weight = place[history.user[n]], history.item[n], history.t[n], history.weight[n]
        if weight > 0:
            if wanted[item]:
                if items.first_time[item] < 0:
                    items.first_time[item] = t
                    items.last_time[item] = t
                observe_item(items, item, t, weight, scales)
            relate(graph, again, user, item, t, weight, window, row_scales, wanted)
        observe_user(again, user, item, t, weight, history.context[n], items.events[item])


def _write_rings(users: Users, again: Users, changed: I32) -> None:
    """What the changed users hold, as it came out."""
    for name in ("ring_item", "ring_time", "ring_weight", "ring_count", "events", "repeats", "context"):
        getattr(users, name)[changed] = getattr(again, name)[: len(changed)]
    users.dirty[changed] = 1


def _write_counts(users: Users, again: Users, read: I32, wanted: U8) -> None:
    """Which interaction of a wanted item it was, in every ring that was read; `again` is in the order of `read`."""
    items = users.ring_item[read]
    counts = users.ring_count[read]
    correct = np.where((items >= 0) & (wanted[items] == 1), again.ring_count[: len(read)], counts)
    users.dirty[read[(correct != counts).any(axis=1)]] = 1
    users.ring_count[read] = correct


def _keys_of(user: I32, item: I32) -> I64:
    return np.asarray(user.astype(np.int64) << 32 | item)


def _heads(graph: Graph, scales: F64) -> Heads:
    """The exact top N of every scale, from all items."""
    heads = Heads(np.full_like(graph.heads.item, -1), np.full_like(graph.heads.key, -np.inf), graph.heads.size.copy())
    items = np.flatnonzero((graph.items.events > 0) & (graph.items.alive == LISTED)).astype(np.int32)
    for s in range(len(scales)):
        key = np.zeros(len(items))
        _keys(graph.items, items, s, scales, key)
        best = _largest(key, heads.item.shape[1])
        heads.item[s, : len(best)], heads.key[s, : len(best)] = items[best], key[best]
        heads.size[s] = len(best)
    return heads


@kernel
def _keys(items: Items, wanted: I32, scale: int, scales: F64, key: F64) -> None:
    for n in range(len(wanted)):
        key[n] = popularity_key(items, wanted[n], scale, scales)


def _newest(graph: Graph) -> Newest:
    """The known items that became known last, in the order of their first times."""
    known = np.flatnonzero(graph.items.first_time >= 0).astype(np.int32)
    size = len(graph.newest.item)
    newest = known[::-1][_largest(graph.items.first_time[known][::-1], size)]
    item = np.full(size, -1, np.int32)
    item[(len(known) - 1 - np.arange(len(newest))) % size] = newest
    return Newest(item, np.array([len(known)], np.int64))


def _largest(key: F64 | I64, n: int) -> I64:
    """The places of the n largest, in falling order; of equal ones the first. Sorts those alone."""
    places = np.arange(len(key))
    if n < len(key):
        places = np.flatnonzero(key >= np.partition(key, len(key) - n)[len(key) - n])
    return np.asarray(places[np.argsort(-key[places], kind="stable")][:n])
