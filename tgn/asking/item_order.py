"""Items of a model in an order of one number each: by popularity, by when they became known; ties settled."""

from collections.abc import Callable, Sequence

import numpy as np

from tgn.asking.asked_lists import first_by_id
from tgn.graph import F64, I32, Items
from tgn.node_index import NodeIndex

Order = Callable[[I32, int, NodeIndex], Sequence[int]]
"""Nodes [N], and how many are wanted → the first of them in the order of ties."""


def by_id(nodes: I32, wanted: int, index: NodeIndex) -> list[int]:
    """By the UTF-8 bytes of their ids."""
    return first_by_id(nodes, wanted, index.names)


def by_node(nodes: I32, wanted: int, index: NodeIndex) -> list[int]:
    """The one that came last first."""
    return [int(node) for node in np.sort(nodes)[::-1][:wanted]]


def best(nodes: I32, keys: F64, k: int, index: NodeIndex, order: Order = by_id) -> list[tuple[int, float]]:
    """The k nodes with the highest keys, best first, and their keys; ties by `order`."""
    k = min(k, len(nodes))
    if k == 0:
        return []
    least = np.partition(keys, len(keys) - k)[len(keys) - k]
    above = np.flatnonzero(keys > least)
    tied = order(nodes[keys == least], k - len(above), index)
    found = [(int(node), float(key)) for node, key in zip(nodes[above], keys[above], strict=True)]
    found += [(node, float(least)) for node in tied]
    place = {node: n for n, node in enumerate(order(np.array([node for node, _ in found], np.int32), k, index))}
    return sorted(found, key=lambda one: (-one[1], place[one[0]]))


def log_popularity(items: Items, nodes: I32, at_ms: int, scale: int, tau: Sequence[int]) -> F64:
    """[N] logarithm of popularity decayed to a time."""
    idle_ms = np.maximum(at_ms - items.last_time[nodes], 0)
    found: F64 = items.log_popularity[nodes, scale] - idle_ms / tau[scale]
    return found


def known_since(items: Items, nodes: I32) -> F64:
    """[N] when each became known, epoch ms; 0: no event has said a time yet.

    What was known before the stream had a time became known when that began.
    """
    began = items.first_time[(items.events > 0) & (items.first_time > 0)].min(initial=np.iinfo(np.int64).max)
    since = items.first_time[nodes]
    before = (items.introduced[nodes] == 0) | (since == 0)
    return np.where(before, began if (items.events > 0).any() else 0, since).astype(np.float64)
