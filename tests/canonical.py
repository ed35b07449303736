"""What undo and lateness promise to restore, by names, so that two models can be compared whatever their indices."""

from typing import Any

import numpy as np

from tgn.graph import Rows
from tgn.model import Model


def canonical(model: Model) -> dict[str, Any]:
    """The graph of a model: what is exact, and the float sums. What is learned is left out."""
    graph, users, items = model.graph, model.users.ids, model.items.ids
    known = [z for z in range(len(items)) if graph.items.first_time[z] >= 0]
    return {
        "users": {users[u]: _ring(model, u) for u in range(len(users)) if graph.users.events[u]},
        "items": {items[z]: _counts(model, z) for z in known},
        "transitions": {items[z]: _row(graph.transitions, z, items) for z in known},
        "co": {items[z]: _row(graph.co, z, items) for z in known},
        "heads": [_head(model, s) for s in range(len(graph.heads.size))],
        "newest": sorted(items[z] for z in graph.newest.item if z >= 0),
        "known": int(graph.newest.total[0]),
        "pairs": sorted((users[int(k >> np.uint64(32)) - 1], items[int(k) & 0xFFFFFFFF])
                        for k in graph.pairs.key if k),
    }  # fmt: skip


def _ring(model: Model, user: int) -> Any:
    users = model.graph.users
    size = users.ring_item.shape[1]
    count = int(users.events[user])
    places = [n % size for n in range(max(count - size, 0), count)]
    entries = [
        (model.items.ids[users.ring_item[user, p]], int(users.ring_time[user, p]), float(users.ring_weight[user, p]),
         int(users.ring_count[user, p]))
        for p in places
    ]  # fmt: skip
    return count, int(users.repeats[user]), users.context[user].tolist(), entries


def _counts(model: Model, item: int) -> dict[str, Any]:
    items = model.graph.items
    exact = ("events", "introduced", "first_time", "last_time", "predecessors", "alive")
    row = {name: int(getattr(items, name)[item]) for name in exact}
    return row | {"hours": items.hours[item].tolist(), "popularity": items.popularity[item].tolist()}


def _row(rows: Rows, item: int, ids: list[str]) -> Any:
    """Successors and weights as of the row's own time, and that time."""
    size = int(rows.size[item])
    weights = {ids[rows.item[item, m]]: rows.weight[item, :, m].tolist() for m in range(size)}
    return int(rows.time[item]) if size else 0, weights, rows.total[item].tolist()


def _head(model: Model, scale: int) -> dict[str, float]:
    heads = model.graph.heads
    return {model.items.ids[heads.item[scale, n]]: float(heads.key[scale, n]) for n in range(heads.size[scale])}
