"""Repair: part of the graph is built again from the interactions, as if they had come in this order from the start.

An interaction that is taken back, or that came late, touches its user, its item, and the rows of the items within W of
it in the user's sequence. Those nodes are emptied; then every interaction of every user who ever touched one of the
items is observed again, and writes to the emptied nodes alone. So rows come out to the last bit as they would have
been, evictions included, and nothing has to be subtracted from a float sum.

Embeddings, the ranker and what else was learned stay: to unlearn takes a replay of the log.
"""

from typing import NamedTuple

import numpy as np

from tgn.config import ModelConfig
from tgn.graph import F32, F64, I16, I32, I64, LISTED, NOTHING, U8, Graph, Heads, Items, Newest, Users, new_users
from tgn.kernel import kernel
from tgn.observe import observe_item, observe_user, popularity_key, relate
from tgn.pairs import remove_pair, users_of

Pair = tuple[I32, I32]  # [P] users, [P] items


class History(NamedTuple):
    """Interactions in the order in which they count: every one of the users that a repair reads."""

    user: I32  # [E] node index
    item: I32  # [E]
    t: I64  # [E] epoch ms
    weight: F32  # [E]
    context: I16  # [E, SLOTS]


def repair(graph: Graph, config: ModelConfig, changed: I32, removed: Pair, wanted: U8, history: History) -> Graph:
    """Builds the nodes again whose interactions changed.

    Args: changed: [C] users whose sequence of interactions is another than was observed; removed: the users and items
    of interactions taken back; wanted: [I] 1 for every item of those, every item within `config.window` of a change,
    and every item in the last `config.ring` interactions of a changed user; history: all interactions, as they should
    have been, of the changed users and of `readers(graph, wanted)`.
    """
    scales = np.array(config.popularity_scales_ms, np.float64)
    row_scales = np.array(config.row_scales_ms, np.float64)
    read = np.unique(np.concatenate([history.user, changed])).astype(np.int32)
    place = np.full(len(graph.users.events), -1, np.int32)
    place[read] = np.arange(len(read), dtype=np.int32)
    again = new_users(config, max(len(read), 1))
    _forget(graph, wanted)
    _observe_again(graph, again, place, history, wanted, config.window, scales, row_scales)
    _write_rings(graph.users, again, changed, place[changed])
    _write_counts(graph.users, again, read, wanted)
    _remove_pairs(graph, removed, history)
    return graph._replace(heads=_heads(graph, scales), newest=_newest(graph))


def readers(graph: Graph, wanted: U8) -> I32:
    """The users whose interactions a repair of the `wanted` items has to read."""
    found = np.zeros(len(graph.users.events), np.uint8)
    users_of(graph.pairs, wanted, found)
    return np.flatnonzero(found).astype(np.int32)


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


def _write_rings(users: Users, again: Users, changed: I32, place: I32) -> None:
    """What the changed users hold, as it came out."""
    for name in ("ring_item", "ring_time", "ring_weight", "ring_count", "events", "repeats", "context"):
        getattr(users, name)[changed] = getattr(again, name)[place]
    users.dirty[changed] = 1


def _write_counts(users: Users, again: Users, read: I32, wanted: U8) -> None:
    """Which interaction of a wanted item it was, in every ring that was read; `again` is in the order of `read`."""
    items = users.ring_item[read]
    counts = users.ring_count[read]
    correct = np.where((items >= 0) & (wanted[items] == 1), again.ring_count[: len(read)], counts)
    users.dirty[read[(correct != counts).any(axis=1)]] = 1
    users.ring_count[read] = correct


def _remove_pairs(graph: Graph, removed: Pair, history: History) -> None:
    """Takes out the pairs of removed interactions that no other interaction holds."""
    held = np.isin(_keys_of(*removed), _keys_of(history.user, history.item))
    for user, item in zip(removed[0][~held], removed[1][~held], strict=True):
        remove_pair(graph.pairs, user, item)


def _keys_of(user: I32, item: I32) -> I64:
    return np.asarray(user.astype(np.int64) << 32 | item)


def _heads(graph: Graph, scales: F64) -> Heads:
    """The exact top N of every scale, from all items."""
    heads = Heads(np.full_like(graph.heads.item, -1), np.full_like(graph.heads.key, -np.inf), graph.heads.size.copy())
    items = np.flatnonzero((graph.items.events > 0) & (graph.items.alive == LISTED)).astype(np.int32)
    for s in range(len(scales)):
        key = np.zeros(len(items))
        _keys(graph.items, items, s, scales, key)
        best = np.argsort(-key, kind="stable")[: heads.item.shape[1]]
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
    order = known[np.argsort(graph.items.first_time[known], kind="stable")]
    item = np.full(size, -1, np.int32)
    last = np.arange(max(len(order) - size, 0), len(order))
    item[last % size] = order[last]
    return Newest(item, np.array([len(order)], np.int64))
