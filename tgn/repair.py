"""Repair: part of the graph is built again from the interactions, as if they had come in this order from the start.

An interaction that is taken back, or that came late, touches its user, its item, and the rows of the items within W of
it in the user's sequence. `settle` makes the user's own ring anew. `rebuild` builds some of the items again: of
everybody who ever touched one of them, what lies within W of that is observed again, and writes to these items alone.
So rows come out to the last bit as they would have been, evictions included, and nothing has to be subtracted from a
float sum. Items can be built again together or one after the other, with interactions taken between: it comes to the
same. So it does where what lies near them is observed a few at a time: the items lie apart (`Part`) until all of it is.

Embeddings, the ranker and what else was learned stay: to unlearn takes a replay of the log.
"""

from typing import NamedTuple

import numpy as np

from tgn.config import ModelConfig, scales_of
from tgn.graph import (
    F32,
    F64,
    I16,
    I32,
    I64,
    LISTED,
    U8,
    Graph,
    Heads,
    Items,
    Newest,
    Pairs,
    Rows,
    Users,
    new_items,
    new_rows,
    new_users,
)
from tgn.kernel import kernel, plain
from tgn.observe import observe_item, observe_user, popularity_key
from tgn.seen_pairs import add_pair, count_users, list_users, remove_pair, users_of
from tgn.successors import add_successor, with_distance

Pair = tuple[I32, I32]  # [P] users, [P] items


class History(NamedTuple):
    """Interactions of users, each user's in the order in which they count."""

    user: I32  # [E] node index
    item: I32  # [E]
    t: I64  # [E] epoch ms
    weight: F32  # [E]
    context: I16  # [E, SLOTS]


class Nearby(NamedTuple):
    """Interactions near items, user by user, each user's in order. Where `rank` leaves a gap, others lie between."""

    user: I32  # [E] node index
    rank: I32  # [E] which of the user's interactions it is, from 0 on
    item: I32  # [E]
    t: I64  # [E] epoch ms
    weight: F32  # [E]


class Part(NamedTuple):
    """Items that are built again, apart from the graph until every interaction near them has been observed."""

    item: I32  # [B] node index
    items: Items  # [B]
    transitions: Rows  # [B]
    co: Rows  # [B]


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
    held = _held(_keys_of(*removed), _keys_of(history.user, history.item))
    _take_out(graph.pairs, removed[0][~held], removed[1][~held])


def add_pairs(pairs: Pairs, user: I32, item: I32) -> None:
    """Notes that users [N] have touched items [N]. The caller has made room (`grown_pairs`)."""
    _put_in_pairs(pairs, *plain(user, item))


def rebuild_items(graph: Graph, config: ModelConfig, wanted: U8, history: History) -> Graph:
    """Builds rows and counts of items again.

    Args: wanted: [I] 1 for an item that is built again; history: all interactions of `readers(graph, wanted)`, whose
    rings follow them (`settle`), and maybe of others, in the order of all of them.
    """
    items = np.flatnonzero(wanted).astype(np.int32)
    part = new_part(config, items, graph.items.introduced[items])
    by_user = np.argsort(history.user, kind="stable")
    places, rank = near(history.user[by_user], history.item[by_user], wanted, config.window)
    places = by_user[places]
    nearby = Nearby(history.user[places], rank, history.item[places], history.t[places], history.weight[places])
    observe_again(graph, config, part, nearby, np.argsort(places))
    return put_in(graph, config, part)


def new_part(config: ModelConfig, items: I32, introduced: I64) -> Part:
    """Items [B] of which nothing is known but when the catalogue introduced them, [B] epoch ms or −1."""
    n = len(items)
    part = Part(items, new_items(config, n), new_rows(config, n), new_rows(config, n))
    for time in (part.items.introduced, part.items.first_time, part.items.last_time):
        time[:] = introduced
    return part


def near(user: I32, item: I32, wanted: U8, window: int) -> tuple[I64, I32]:
    """Which interactions [N] lie within `window` of their user's with a `wanted` item, and the rank of each of these.

    user, item: [N] user by user, each user's in order and from the first one on.
    """
    found, rank = np.zeros(len(user), np.uint8), np.zeros(len(user), np.int32)
    user, item = plain(user, item)
    _mark_near(user, item, wanted, window, found, rank)
    places = np.flatnonzero(found)
    return places, rank[places]


def observe_again(graph: Graph, config: ModelConfig, part: Part, nearby: Nearby, order: I64) -> None:
    """Observes interactions near a part's items in this order; writes to the part, and to the counts in rings.

    Args: nearby: everything near the items up to there; order: [N] places in it, to be observed now.
    """
    scales, row_scales = scales_of(config)
    slot = np.full(len(graph.items.events), -1, np.int32)
    slot[part.item] = np.arange(len(part.item), dtype=np.int32)
    _observe_again(
        graph.users, part, slot, Nearby(*plain(*nearby)), order, config.window, config.sitting_ms, scales, row_scales
    )


def put_in(graph: Graph, config: ModelConfig, part: Part) -> Graph:
    """The graph with a part in place of what it held of these items."""
    items, z = graph.items, part.item
    for successors, change in ((graph.transitions.item[z], -1), (part.transitions.item, 1)):
        held = successors[successors >= 0]
        np.add.at(items.predecessors, held, change)
        items.dirty[held] = 1
    for name in ("popularity", "log_popularity", "events", "hours", "first_time", "last_time"):
        getattr(items, name)[z] = getattr(part.items, name)
    for rows, anew in ((graph.transitions, part.transitions), (graph.co, part.co)):
        for name in Rows._fields:
            getattr(rows, name)[z] = getattr(anew, name)
    items.dirty[z] = 1
    scales, _ = scales_of(config)
    return graph._replace(heads=_heads(graph, scales), newest=_newest(graph))


def readers(graph: Graph, wanted: U8) -> I32:
    """The users whose interactions a rebuild of the `wanted` items has to read."""
    found = np.zeros(len(graph.users.events), np.uint8)
    users_of(graph.pairs, wanted, found)
    return np.flatnonzero(found).astype(np.int32)


def next_batch(graph: Graph, wanted: U8, first: int, cost: I64, most: int) -> tuple[I32, I32]:
    """The next items to build again together, and their readers.

    Items are taken in the order of their indices, from `first` on and round: as many as have readers who cost `most` in
    all, a reader of two items once. The first one is taken whatever it costs; where that is more, as many follow as
    have other readers who cost `most`. cost: [U] of reading a user.
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
        spent += more if n > 0 or more <= most else 0
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
def _put_in_pairs(pairs: Pairs, user: I32, item: I32) -> None:
    for n in range(len(user)):
        add_pair(pairs, user[n], item[n])


@kernel
def _take_out(pairs: Pairs, user: I32, item: I32) -> None:
    for n in range(len(user)):
        remove_pair(pairs, user[n], item[n])


@kernel
def _mark_near(user: I32, item: I32, wanted: U8, window: int, found: U8, rank: I32) -> None:
    begin, end = 0, 0  # of the user's; of what is near to the last wanted item
    for n in range(len(user)):
        if n == 0 or user[n] != user[n - 1]:
            begin, end = n, n
        rank[n] = n - begin
        if wanted[item[n]]:
            for m in range(n - 1, max(n - window, begin) - 1, -1):
                if found[m]:
                    break
                found[m] = 1
            end = n + window + 1
        if n < end:
            found[n] = 1


@kernel
def _observe_again(
    users: Users, part: Part, slot: I32, nearby: Nearby, order: I64, window: int, sitting_ms: int, scales: F64,
    row_scales: F64,
) -> None:  # fmt: skip
    """`observe`, for the items that have a slot [I]; a user's last interactions are those before it in `nearby`."""
    items, ring = part.items, users.ring_item.shape[1]
    reach = min(ring, window)
    for n in order:
        user, item, t, weight = nearby.user[n], nearby.item[n], nearby.t[n], nearby.weight[n]
        rank, mine = nearby.rank[n], slot[item]
        if weight > 0:
            if mine >= 0:
                if items.first_time[mine] < 0:
                    items.first_time[mine] = t
                    items.last_time[mine] = t
                observe_item(items, mine, t, weight, scales)
            for back in range(min(rank, reach)):
                m = n - 1 - back
                if m < 0 or nearby.user[m] != user or nearby.rank[m] != rank - 1 - back:
                    break  # what lies between is near to no item
                other = nearby.item[m]
                if other == item or nearby.weight[m] <= 0:
                    continue
                sitting, amount = t - nearby.t[m] <= sitting_ms, with_distance(weight, back)
                its = slot[other]
                if its >= 0:
                    if back == 0:
                        add_successor(part.transitions, its, item, t, weight, row_scales, sitting)
                    add_successor(part.co, its, item, t, amount, row_scales, sitting)
                if mine >= 0:
                    add_successor(part.co, mine, other, t, amount, row_scales, sitting)
        if mine >= 0 and rank >= users.events[user] - ring:
            place = rank % ring
            if users.ring_count[user, place] != items.events[mine]:
                users.ring_count[user, place] = items.events[mine]
                users.dirty[user] = 1


def _write_rings(users: Users, again: Users, changed: I32) -> None:
    """What the changed users hold, as it came out."""
    for name in ("ring_item", "ring_time", "ring_weight", "ring_count", "events", "repeats", "context"):
        getattr(users, name)[changed] = getattr(again, name)[: len(changed)]
    users.dirty[changed] = 1


def _keys_of(user: I32, item: I32) -> I64:
    return np.asarray(user.astype(np.int64) << 32 | item)


def _held(keys: I64, by: I64) -> U8:
    """[N] which of the keys are among those of very many others. Sorts the keys alone."""
    unique, inverse = np.unique(keys, return_inverse=True)
    found = np.zeros(len(unique) + 1, bool)
    places = np.searchsorted(unique, by)
    found[places[np.append(unique, -1)[places] == by]] = True
    return np.asarray(found[inverse])


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
