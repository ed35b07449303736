"""`observe`: the one write to the temporal graph. O(R + W·M) per interaction, no allocation."""

import numpy as np

from tgn.graph import F64, Graph, Users
from tgn.heads import drop, lift
from tgn.kernel import decay, hour_of_day, kernel
from tgn.pairs import add_pair
from tgn.rows import add_successor


@kernel
def observe(
    graph: Graph, user: int, item: int, t: int, weight: float, window: int, popularity_scales: F64, row_scales: F64
) -> None:
    """Takes one interaction into the graph.

    Args: user, item: indices; t: epoch ms; weight: the event type's weight, ≤ 0 a dislike, which is remembered
    as seen and in the ring but adds to no count; window: W; scales: τ in ms, [L] and [S].
    """
    if weight > 0:
        _observe_item(graph, item, t, weight, popularity_scales)
        _observe_relations(graph, user, item, t, weight, window, row_scales)
    _observe_user(graph.users, user, item, t, weight, graph.items.events[item])
    add_pair(graph.pairs, user, item)


@kernel
def _observe_item(graph: Graph, item: int, t: int, weight: float, scales: F64) -> None:
    items = graph.items
    if items.first_time[item] < 0:
        introduce(graph, item, t)
    elif items.events[item] == 0 and items.first_time[item] == 0:
        items.first_time[item] = t  # introduced before the stream had a time
    items.dirty[item] = 1
    elapsed_ms = t - items.last_time[item]
    for s in range(len(scales)):
        if elapsed_ms >= 0:
            p = items.popularity[item, s] * decay(elapsed_ms, scales[s]) + weight
        else:
            p = items.popularity[item, s] + weight * decay(-elapsed_ms, scales[s])
        items.popularity[item, s] = p
        items.log_popularity[item, s] = np.log(p)
        if items.alive[item]:
            lift(graph.heads, s, item, np.log(p) + max(t, items.last_time[item]) / scales[s])
    items.last_time[item] = max(t, items.last_time[item])
    items.events[item] += 1
    items.hours[item, hour_of_day(t)] += 1


@kernel
def _observe_relations(graph: Graph, user: int, item: int, t: int, weight: float, window: int, scales: F64) -> None:
    users = graph.users
    ring = users.ring_item.shape[1]
    count = users.events[user]
    reach = min(count, ring, window)
    for back in range(reach):
        place = (count - 1 - back) % ring
        other = users.ring_item[user, place]
        if other == item or users.ring_weight[user, place] <= 0:
            continue
        if back == 0:
            graph.items.predecessors[item] += add_successor(graph.transitions, other, item, t, weight, scales)
        graph.items.dirty[other] = 1
        add_successor(graph.co, other, item, t, weight, scales)
        add_successor(graph.co, item, other, t, weight, scales)


@kernel
def _observe_user(users: Users, user: int, item: int, t: int, weight: float, item_events: int) -> None:
    ring = users.ring_item.shape[1]
    count = users.events[user]
    for place in range(min(count, ring)):
        if users.ring_item[user, place] == item:
            users.repeats[user] += 1
            break
    place = count % ring
    users.ring_item[user, place] = item
    users.ring_time[user, place] = t
    users.ring_weight[user, place] = weight
    users.ring_count[user, place] = item_events
    users.events[user] = count + 1
    users.dirty[user] = 1


@kernel
def introduce(graph: Graph, item: int, t: int) -> None:
    """Makes an item known at time t: it may be listed from now on, before anyone has touched it."""
    graph.items.first_time[item] = t
    graph.items.last_time[item] = t
    graph.items.dirty[item] = 1
    graph.newest.item[graph.newest.total[0] % len(graph.newest.item)] = item
    graph.newest.total[0] += 1


@kernel
def delete_item(graph: Graph, item: int) -> None:
    """Takes an item out of every list to come, until it is introduced again."""
    graph.items.alive[item] = 0
    graph.items.dirty[item] = 1
    for scale in range(len(graph.heads.size)):
        drop(graph.heads, scale, item)
