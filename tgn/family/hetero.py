"""From the log to a heterogeneous graph: users, items and context nodes, with four kinds of edges.

    (user, explicit, item)      ratings: weight, time, kind of event, value
    (user, implicit, item)      everything else that a user does: weight, time, kind of event
    (item, derived, item)       co-interaction: how often both are among W consecutive interactions of a user
    (user, contextual, KIND)    attributes of users, and contexts in which they act
    (item, contextual, KIND)    attributes of items (category, place, …), and contexts in which they are acted on

KIND is the name of a node type: category, device, season, …. Times are int64 epoch ms. Nothing at or after `until` is
in the graph, so what is trained on it knows nothing of what it is measured on.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch_geometric.data import HeteroData

from tgn.graph import F32, I64

USER, ITEM = "user", "item"
EXPLICIT, IMPLICIT, DERIVED, CONTEXTUAL = "explicit", "implicit", "derived", "contextual"
ALWAYS = 0  # the time of an attribute that no record dates


class Events(NamedTuple):
    """E interactions in time order."""

    user: I64  # [E] node index
    item: I64  # [E]
    t: I64  # [E] epoch ms
    weight: F32  # [E] of the event type, > 0
    value: F32  # [E] the rating; NaN where there is none
    kind: I64  # [E] index of the event type: what a user does is a task of its own

    def inside(self, since: int, until: int) -> NDArray[np.bool_]:
        """[E] whether since ≤ t < until."""
        return (self.t >= since) & (self.t < until)

    def between(self, since: int, until: int) -> "Events":
        """Those that are inside."""
        kept = self.inside(since, until)
        user, item, t, weight, value, kind = self
        return Events(user[kept], item[kept], t[kept], weight[kept], value[kept], kind[kept])


class Attribute(NamedTuple):
    """One kind of context node and who has which: pairs of a node, or an interaction, and a value."""

    kind: str  # name of the node type
    of: Literal["user", "item", "interaction"]
    owner: I64  # [A] index of the user, the item or the event
    value: I64  # [A] index of the context node
    names: list[str]  # of the context nodes


def hetero_graph(
    events: Events,
    users: int,
    items: int,
    attributes: Sequence[Attribute] = (),
    *,
    until: int,
    since: int = 0,
    window: int = 5,
    together: int = 20,
) -> HeteroData:
    """The graph of what happened in [since, until).

    Args:
        users, items: how many nodes there are.
        attributes: those of interactions count only in the window of time.
        window: W of the derived edges.
        together: how many of them an item keeps, the heaviest.

    Raises ValueError where nothing happened in that time.
    """
    inside = events.inside(since, until)
    if not inside.any():
        raise ValueError(f"there is no interaction from {since} on and before {until} (epoch ms)")
    kept = events.between(since, until)
    data = HeteroData()
    data[USER].num_nodes, data[ITEM].num_nodes = users, items
    rated = ~np.isnan(kept.value)
    for relation, mask in ((EXPLICIT, rated), (IMPLICIT, ~rated)):
        if mask.any():
            store = data[USER, relation, ITEM]
            store.edge_index = _pairs(kept.user[mask], kept.item[mask])
            store.weight, store.time = torch.from_numpy(kept.weight[mask]), torch.from_numpy(kept.t[mask])
            store.kind = torch.from_numpy(kept.kind[mask])
            if relation == EXPLICIT:
                store.value = torch.from_numpy(kept.value[mask])
    source, target, weight, last = _co_interactions(kept, items, window, together)
    store = data[ITEM, DERIVED, ITEM]
    store.edge_index = _pairs(source, target)
    store.weight, store.time = torch.from_numpy(weight), torch.from_numpy(last)
    for attribute in attributes:
        _add_attribute(data, attribute, events, inside)
    return data


def derive_season(events: Events) -> Attribute:
    """The quarter of the year of each interaction, as a kind of context node."""
    month = events.t.astype("datetime64[ms]").astype("datetime64[M]").astype(np.int64) % 12
    names = ["December to February", "March to May", "June to August", "September to November"]
    return Attribute("season", "interaction", np.arange(len(events.t)), (month + 1) % 12 // 3, names)


def _add_attribute(data: HeteroData, attribute: Attribute, events: Events, inside: NDArray[np.bool_]) -> None:
    data[attribute.kind].num_nodes = len(attribute.names)
    if attribute.of == "interaction":
        seen = inside[attribute.owner]
        owner, value = attribute.owner[seen], attribute.value[seen]
        for side, node in ((USER, events.user[owner]), (ITEM, events.item[owner])):
            _contextual(data, side, attribute.kind, node, value, events.t[owner])
    else:
        always = np.full(len(attribute.owner), ALWAYS, np.int64)
        _contextual(data, attribute.of, attribute.kind, attribute.owner, attribute.value, always)


def _contextual(data: HeteroData, side: str, kind: str, node: I64, value: I64, t: I64) -> None:
    """Edges of a side to context nodes; weight: how often, time: when last."""
    place, times, last = _grouped(node * (int(value.max(initial=0)) + 1) + value, t)
    store = data[side, CONTEXTUAL, kind]
    store.edge_index = _pairs(node[place], value[place])
    store.weight, store.time = torch.from_numpy(times.astype(np.float32)), torch.from_numpy(last)


def _co_interactions(events: Events, items: int, window: int, together: int) -> tuple[I64, I64, F32, I64]:
    """Directed both ways, the `together` heaviest of each item."""
    order = np.lexsort((events.t, events.user))
    user, item, t = events.user[order], events.item[order], events.t[order]
    pairs: list[tuple[I64, I64, I64]] = []
    for back in range(1, window):
        near = (user[back:] == user[:-back]) & (item[back:] != item[:-back])
        older, newer, when = item[:-back][near], item[back:][near], t[back:][near]
        pairs += [(older, newer, when), (newer, older, when)]
    source, target, when = (np.concatenate(columns) for columns in zip(*pairs, strict=True))
    place, times, last = _grouped(source * items + target, when)
    source, target = source[place], target[place]
    kept = heaviest(source, target, times, together)
    return source[kept], target[kept], times[kept].astype(np.float32), last[kept]


def heaviest(source: I64, target: I64, weight: I64 | F32, most: int) -> I64:
    """The places of each source's `most` heaviest edges, by source, then the heaviest first, ties by target."""
    order = np.lexsort((target, -weight, source))
    ordered = source[order]
    return order[np.arange(len(order)) - np.searchsorted(ordered, ordered) < most]


def _grouped(key: I64, t: I64) -> tuple[I64, I64, I64]:
    """Of each distinct key: where it is first, how often it is there, and the largest time."""
    _, place, code, times = np.unique(key, return_index=True, return_inverse=True, return_counts=True)
    last = np.zeros(len(place), np.int64)
    np.maximum.at(last, code, t)
    return place, times, last


def _pairs(source: I64, target: I64) -> torch.Tensor:
    return torch.from_numpy(np.stack([source, target]))
