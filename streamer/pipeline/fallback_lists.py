"""What is listed for whom next to nothing is known of, where rules name its sources.

See `streamer.lists.building.fallback`. Known is who has taken an item that others are tied to, by having been taken
along with it or after it.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from streamer.lists.building.fallback import FallbackSource, chained
from streamer.lists.building.filling import Ranking
from streamer.lists.listed_items import CODE_OF
from streamer.state.catalogue import Catalogue
from tgn.asking.item_order import Order, best, by_id, by_node, log_popularity
from tgn.asking.similar_items import cosines_with, mean_above_zero
from tgn.graph import F64, I16, I32, LISTED, U8, Graph
from tgn.model import Model

LAST = 5
"""Items that similar ones are looked for of: the last ones that somebody took."""
ALWAYS = ("popular", "new")
"""What fills the list where the sources that the rules name leave it short."""
NOTHING = np.zeros(0, np.int32)


class Beginner(NamedTuple):
    """Somebody of whom next to nothing is known."""

    items: I32  # [S] that similar ones are looked for of, the last one first
    in_cohort: bool  # whether anything was learned of those who share attributes or context
    has_taken: Callable[[int], bool] | None = None  # what is listed no more; None: nothing
    taken: int = 0  # at most so many items


class FallbackList(NamedTuple):
    """A ranking in the order of the sources."""

    ranking: Ranking
    source: U8  # [C] codes of `listed_items`


def is_known(graph: Graph, items: I32) -> bool:
    """Whether the model knows anything by the items [R] that somebody took."""
    return bool(len(items)) and bool((graph.co.size[items] > 0).any() or (graph.transitions.size[items] > 0).any())


def in_cohort(model: Model, rows: I16) -> bool:
    """Whether anything was learned of a context or an attribute, rows of Contexts."""
    return bool(model.contexts.vector[rows[rows >= 0]].any())


def sources_for(
    model: Model,
    catalogue: Catalogue,
    order: Sequence[str],
    beginner: Beginner,
    ranked: I32,
    alive: U8,
    now_ms: int,
    k: int,
) -> Iterator[FallbackSource]:
    """The sources in order, each with as many items as a list of k may take from it, made when it comes to it.

    Args:
        order: what the rules name; what is popular and what is new fill what is left.
        ranked: the model's own ranking, which is what suits a cohort.
        alive: [I] LISTED where an item may be listed.
    """
    items = model.graph.items
    nodes = np.flatnonzero((alive == LISTED) & (items.first_time >= 0)).astype(np.int32)
    wanted = k + beginner.taken
    for label in dict.fromkeys((*order, *ALWAYS)):
        match label:
            case "similar-items":
                found = _similar(model, beginner.items, nodes, now_ms, wanted)
            case "cohort":
                found = ranked if beginner.in_cohort else NOTHING
            case "popular":
                taken, scale = nodes[items.events[nodes] > 0], model.config.baseline_scale
                keys = log_popularity(items, taken, now_ms, scale, model.config.popularity_scales_ms)
                found = _best(taken, keys, wanted, model)
            case _:
                found = _best(nodes, catalogue.new_since(nodes, now_ms), wanted, model, by_node)
        if beginner.has_taken is not None:
            has_taken = beginner.has_taken
            found = np.array([item for item in found.tolist() if not has_taken(item)], np.int32)
        yield FallbackSource(label, found)


def fallback_list(sources: Iterable[FallbackSource], k: int) -> FallbackList:
    """The first k items of the sources. A place is half as likely as the one of half its number: score −ln(place)."""
    found = chained(sources, k)
    score = -np.log(np.arange(1, len(found.item) + 1, dtype=np.float32))
    return FallbackList(Ranking(found.item, score), np.array([CODE_OF[label] for label in found.label], np.uint8))


def _similar(model: Model, items: I32, nodes: I32, now_ms: int, k: int) -> I32:
    others = nodes[~np.isin(nodes, items)]
    if not len(items) or not len(others):
        return NOTHING
    total = np.zeros(len(others), np.float64)
    for item in items[:LAST].tolist():
        total += mean_above_zero(np.stack(list(cosines_with(model, item, now_ms, others).values())))
    return _best(others[total > 0], total[total > 0], k, model)


def _best(nodes: I32, keys: F64, k: int, model: Model, order: Order = by_id) -> I32:
    return np.array([node for node, _ in best(nodes, keys, k, model.items, order)], np.int32)
