"""`observe`: the one write to the temporal graph. O(R + W·M) per interaction, no allocation."""

import numpy as np

from tgn.graph import DELETED, F64, HIDDEN, I16, LISTED, SLOTS, Graph, Items, Users
from tgn.kernel import decay, hour_of_day, kernel
from tgn.popularity_heads import drop, lift
from tgn.seen_pairs import add_pair
from tgn.successors import add_successor, with_distance

LEAST = 1e-300  # popularity of an item all of whose interactions came so late that their weight has decayed to nothing


@kernel
def observe(
    graph: Graph, user: int, item: int, t: int, weight: float, context: I16, window: int, sitting_ms: int,
    popularity_scales: F64, row_scales: F64,
) -> None:  # fmt: skip
    """Takes one interaction into the graph.

    Args: user, item: indices; t: epoch ms; weight: the event type's weight, ≤ 0 a dislike, which is remembered
    as seen and in the ring but adds to no count; context: [SLOTS] rows of Contexts; window: W; sitting_ms: see
    ModelConfig; scales: τ in ms, [L] and [S].
    """
    if weight > 0:
        if graph.items.first_time[item] < 0:
            introduce(graph, item, t)
        observe_item(graph.items, item, t, weight, popularity_scales)
        if graph.items.alive[item] == LISTED:
            _lift(graph, item, popularity_scales)
        _relate(graph, user, item, t, weight, window, sitting_ms, row_scales)
    observe_user(graph.users, user, item, t, weight, context, graph.items.events[item])
    add_pair(graph.pairs, user, item)


@kernel
def observe_item(items: Items, item: int, t: int, weight: float, scales: F64) -> None:
    """Counts one interaction with a known item."""
    if items.events[item] == 0 and items.first_time[item] == 0:
        items.first_time[item] = t  # introduced before the stream had a time
    items.dirty[item] = 1
    elapsed_ms = t - items.last_time[item]
    for s in range(len(scales)):
        if elapsed_ms >= 0:
            p = items.popularity[item, s] * decay(elapsed_ms, scales[s]) + weight
        else:
            p = items.popularity[item, s] + weight * decay(-elapsed_ms, scales[s])
        items.popularity[item, s] = p
        items.log_popularity[item, s] = np.log(max(p, LEAST))
    items.last_time[item] = max(t, items.last_time[item])
    items.events[item] += 1
    items.hours[item, hour_of_day(t)] += 1


@kernel
def _lift(graph: Graph, item: int, scales: F64) -> None:
    for s in range(len(scales)):
        lift(graph.heads, s, item, popularity_key(graph.items, item, s, scales))


@kernel
def popularity_key(items: Items, item: int, scale: int, scales: F64) -> float:
    """What orders items by decayed popularity at any time: log p + t/τ, which changes only when an item is touched."""
    return np.log(max(items.popularity[item, scale], LEAST)) + items.last_time[item] / scales[scale]


@kernel
def _relate(
    graph: Graph, user: int, item: int, t: int, weight: float, window: int, sitting_ms: int, scales: F64
) -> None:
    """Adds what the interaction says of its item and the user's last ones to their rows."""
    users = graph.users
    ring = users.ring_item.shape[1]
    count = users.events[user]
    reach = min(count, ring, window)
    for back in range(reach):
        place = (count - 1 - back) % ring
        other = users.ring_item[user, place]
        if other == item or users.ring_weight[user, place] <= 0:
            continue
        sitting = t - users.ring_time[user, place] <= sitting_ms
        if back == 0:
            new, evicted = add_successor(graph.transitions, other, item, t, np.float64(weight), scales, sitting)
            graph.items.predecessors[item] += new
            if evicted >= 0:
                graph.items.predecessors[evicted] -= 1
                graph.items.dirty[evicted] = 1
        graph.items.dirty[other] = 1
        amount = with_distance(weight, back)
        add_successor(graph.co, other, item, t, amount, scales, sitting)
        add_successor(graph.co, item, other, t, amount, scales, sitting)


@kernel
def observe_user(users: Users, user: int, item: int, t: int, weight: float, context: I16, item_events: int) -> None:
    """Puts one interaction into the user's ring. `item_events`: interactions with the item, this one included."""
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
    note_context(users, user, context, SLOTS)


@kernel
def note_context(users: Users, user: int, context: I16, slots: int) -> None:
    """Makes the first `slots` rows of Contexts in context [SLOTS] those that the user is in."""
    for slot in range(slots):
        users.context[user, slot] = context[slot]
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
    _take_out(graph, item, DELETED)
    graph.items.introduced[item] = -1


@kernel
def hide_item(graph: Graph, item: int) -> None:
    """Takes an item out of every list to come; interactions with it count on."""
    _take_out(graph, item, HIDDEN)


@kernel
def _take_out(graph: Graph, item: int, why: int) -> None:
    graph.items.alive[item] = why
    graph.items.dirty[item] = 1
    for scale in range(len(graph.heads.size)):
        drop(graph.heads, scale, item)


@kernel
def show_item(graph: Graph, item: int, popularity_scales: F64) -> None:
    """Lists an item again, a hidden one with the popularity that it has meanwhile; a deleted one has none."""
    was_hidden = graph.items.alive[item] == HIDDEN
    graph.items.alive[item] = LISTED
    graph.items.dirty[item] = 1
    if was_hidden and graph.items.events[item] > 0:
        _lift(graph, item, popularity_scales)
