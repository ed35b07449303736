"""Lists against the interactions they were made for: every measure of `streamer.evaluation.measures`, and by group.

The protocol of the judges: a list is of one event, made from the events before it; every measured event counts, and one
without a list, or whose item is not in its list, is a miss.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from consumers.counted import counted
from consumers.errors import DataRefused
from consumers.schemas import Item
from streamer.evaluation import measures
from streamer.evaluation.segments import COUNTS, binned, earlier

REFUSED = "refused rows"
NAMELESS = "\0"  # the id of what a row or a list does not name
MEASURES = (
    "hr", "ndcg", "mrr", "map", "precision", "recall",
    "coverage", "gini", "novelty", "long-tail share", "diversity", "calibration",
)  # fmt: skip


class SegmentScores(NamedTuple):
    """Mean quality of the measured events that have something in common."""

    name: str
    events: int
    hr: float
    ndcg: float
    long_tail_share: float


class Evaluation(NamedTuple):
    """What a file of lists is worth."""

    events: int  # measured
    refused: int  # measured events whose rows were refused: a replay has no lists for them
    without_list: int
    with_empty_list: int
    unmatched: int  # lists of events that there are not
    with_seen_item: int  # lists of measured events that name what the user had taken before, where no repeats count
    measures: dict[str, float]  # by name, of MEASURES; diversity and calibration only where categories are known
    by_user_age: list[SegmentScores]  # interactions of the user before
    by_popularity: list[SegmentScores]  # interactions of the item before the measured part


class _Ids:
    """Item ids as indices: those of the interactions first, then what only lists name."""

    def __init__(self, interactions: pa.ChunkedArray, listed: pa.ChunkedArray) -> None:
        self.values = pa.chunked_array([*interactions.chunks, *listed.chunks]).unique()

    def index(self, column: pa.ChunkedArray) -> np.ndarray:
        """[N]"""
        found: np.ndarray = pc.index_in(column.combine_chunks(), self.values).to_numpy(zero_copy_only=False)
        return found.astype(np.int64)


def evaluate(
    interactions: pa.Table,
    lists: pa.Table,
    items: Iterable[Item] = (),
    after: float = 0.8,
    repeats: bool = True,
    k: int = 10,
) -> Evaluation:
    """Measures lists (columns event, items) of a table of `read_interactions`, the first K places of each, but MRR.

    Every row is an event, refused ones too; those that name no user, or no item, have one in common. But a refused row
    is no interaction: it adds no item to the catalogue and counts for no user and no popularity.

    Args:
        interactions: the events, in time order.
        lists: of events by number; a measured event without one counts as a miss.
        items: for diversity and calibration, by their categories.
        after: the share of the events before the measured ones.
        repeats: whether an event whose user had its item before is measured.
        k: places of a list that count.

    Raises DataRefused where the lists are not of these events, or a measured one names an item twice.

    >>> users, items = ["ann", "bob", "ann", "bob"], ["tea", "tea", "pot", "pot"]
    >>> events = pa.table({"user_id": users, "item_id": items, "reason": pa.nulls(4)})
    >>> lists = pa.table({"event": [2, 3], "items": [["pot", "cup"], ["cup", "pot"]]})
    >>> found = evaluate(events, lists, after=0.5)
    >>> found.events, found.measures["hr"], found.measures["mrr"]
    (2, 1.0, 0.75)
    """
    event, lengths, flat = _columns(lists)
    happened = pc.fill_null(interactions["item_id"], NAMELESS)
    ids = _Ids(happened, pa.chunked_array([flat]))
    user = _codes(pc.fill_null(interactions["user_id"], NAMELESS))
    item, named = ids.index(happened), ids.index(pa.chunked_array([flat]))
    first = int(len(item) * after)
    measured = np.arange(len(item)) >= first
    if not repeats:
        measured &= earlier(user << 32 | item) == 0
    at = np.flatnonzero(measured)
    if not len(at):
        raise DataRefused("no event is measured")
    there = (event >= 0) & (event < len(item))
    if len(event) and not there.any():
        raise DataRefused(f"lists are of the events {event.min()} to {event.max()}; there are {len(item)}")
    place = np.arange(len(flat)) - np.repeat(lengths.cumsum() - lengths, lengths)
    listed = _ListPlaces(np.repeat(event, lengths), place, named)
    listed = listed.select(np.repeat(there, lengths))
    listed = listed.select(measured[listed.event])
    _check_distinct(listed)
    matrix = listed.matrix(len(item), k)
    rows = matrix[at]
    good = interactions["reason"].is_null().to_numpy()
    before = np.flatnonzero(good[:first])
    popularity = np.bincount(item[before], minlength=len(ids.values))
    hits, one = rows == item[at, None], np.ones(len(at), np.int64)
    of_list = {
        "hr": measures.hit_rate(hits),
        "ndcg": measures.ndcg(hits, one),
        "mrr": listed.reciprocal_ranks(item)[at],  # of whole lists, as the judges have it
        "map": measures.average_precision(hits, one),
        "precision": measures.precision(hits),
        "recall": measures.recall(hits, one),
        "novelty": measures.novelty(rows, popularity),
        "long-tail share": measures.long_tail_share(rows, popularity),
    } | _of_categories(items, ids, user, item, rows, at, before)
    found = {name: float(values.mean()) for name, values in of_list.items()}
    catalogue = np.unique(item[good])
    covered = measures.coverage(np.intersect1d(rows, catalogue), len(catalogue))  # lists may name other items too
    found |= {"coverage": covered, "gini": _gini(rows, np.union1d(catalogue, named))}
    parts = [
        _parts(values[at], good[at], of_list["hr"], of_list["ndcg"], of_list["long-tail share"])
        for values in (earlier(np.where(good, user, -1)), popularity[item])
    ]
    without = int((~np.isin(at, event)).sum())
    named_measures = {name: found[name] for name in MEASURES if name in found}
    seen = 0 if repeats else _with_seen_item(listed, user, item)
    refused = int((~good[at]).sum())
    empty = int(np.isin(at, event[lengths == 0]).sum())
    return Evaluation(len(at), refused, without, empty, int((~there).sum()), seen, named_measures, *parts)


class _ListPlaces(NamedTuple):
    """The places of lists, one after the other."""

    event: np.ndarray  # [P] whose list it is
    place: np.ndarray  # [P] from 0
    item: np.ndarray  # [P] index of an id

    def select(self, wanted: np.ndarray) -> "_ListPlaces":
        """The wanted places."""
        return _ListPlaces(*(column[wanted] for column in self))

    def matrix(self, events: int, k: int) -> np.ndarray:
        """[events, K] item indices, −1 past a list's end and where there is no list."""
        matrix = np.full((events, k), -1, np.int64)
        kept = self.select(self.place < k)
        matrix[kept.event, kept.place] = kept.item
        return matrix

    def reciprocal_ranks(self, item: np.ndarray) -> np.ndarray:
        """[events] 1 / place of each event's item in its list, 0 where it is not in it."""
        ranks = np.zeros(len(item))
        hits = self.select(self.item == item[self.event])
        ranks[hits.event] = 1 / (hits.place + 1.0)
        return ranks


def _columns(lists: pa.Table) -> tuple[np.ndarray, np.ndarray, pa.Array]:
    """The event of each list, its length, and all their ids as text, one after the other. Raises DataRefused.

    A list that is null is none.
    """
    column = listed_ids(lists).combine_chunks()
    there = pc.is_valid(column)
    try:
        event = lists["event"].cast(pa.float64()).cast(pa.int64())
        flat = pc.fill_null(column.flatten().cast(pa.string()), NAMELESS)
    except pa.ArrowException as error:
        raise DataRefused(f"event is a whole number, items are lists of ids: {str(error).splitlines()[0]}") from error
    if event.null_count:
        raise DataRefused(f"{counted(event.null_count, 'list')} without the number of an event")
    if pc.count_distinct(event).as_py() < len(event):
        raise DataRefused("two lists are of one event")
    lengths = pc.list_value_length(column.filter(there))
    return event.filter(there).to_numpy(), lengths.to_numpy().astype(np.int64), flat


def listed_ids(lists: pa.Table) -> pa.ChunkedArray:
    """[N] the column `items`. Raises DataRefused where it does not hold lists."""
    column, kind = lists["items"], lists["items"].type
    if pa.types.is_null(kind) or pa.types.is_fixed_size_list(kind):
        column = column.cast(pa.list_(pa.string() if pa.types.is_null(kind) else kind.value_type))
    elif not (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
        raise DataRefused(f"items are lists of ids, best first; here they are of the type {kind}")
    return column


def _codes(column: pa.ChunkedArray) -> np.ndarray:
    """[N] int64 a number for each distinct id."""
    coded = pc.dictionary_encode(column.combine_chunks())
    return np.asarray(coded.indices.to_numpy(), np.int64)


def _check_distinct(listed: _ListPlaces) -> None:
    order = np.lexsort((listed.item, listed.event))
    event, item = listed.event[order], listed.item[order]
    twice = np.flatnonzero((event[1:] == event[:-1]) & (item[1:] == item[:-1]))
    if len(twice):
        raise DataRefused(f"the list of event {event[twice].min()} names an item twice")


def _with_seen_item(listed: _ListPlaces, user: np.ndarray, item: np.ndarray) -> int:
    """How many lists name an item that their user had taken before."""
    pairs = user << 32 | item
    known, first = np.unique(pairs, return_index=True)
    wanted = user[listed.event] << 32 | listed.item
    at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    seen = (known[at] == wanted) & (first[at] < listed.event)
    return len(np.unique(listed.event[seen]))


def _of_categories(
    items: Iterable[Item],
    ids: _Ids,
    user: np.ndarray,
    item: np.ndarray,
    rows: np.ndarray,
    at: np.ndarray,
    before: np.ndarray,
) -> dict[str, np.ndarray]:
    known = {value.item_id: value.categories for value in items if value.categories}
    if not known:
        return {}
    kinds = {kind: n for n, kind in enumerate(sorted({kind for kinds in known.values() for kind in kinds}))}
    features = np.zeros((len(ids.values), len(kinds)))
    for n, id_ in enumerate(ids.values.to_pylist()):
        for kind in known.get(id_, ()):
            features[n, kinds[kind]] = 1
    taken = np.zeros((int(user.max()) + 1, len(kinds)))
    np.add.at(taken, user[before], features[item[before]])
    listed = (features[np.maximum(rows, 0)] * (rows >= 0)[..., None]).sum(axis=1)
    return {
        "diversity": measures.diversity(rows, features),
        "calibration": measures.calibration(listed, taken[user[at]]),
    }


def _gini(rows: np.ndarray, known: np.ndarray) -> float:
    """Of the items `known`, ascending indices; rows: [N, K] item indices, -1 where there is none."""
    return measures.gini(np.where(rows >= 0, np.searchsorted(known, rows), -1), len(known))


def _parts(
    count: np.ndarray, good: np.ndarray, hr: np.ndarray, ndcg: np.ndarray, tail: np.ndarray
) -> list[SegmentScores]:
    """By how many there were, in the bins of COUNTS, and last the rows that are not good."""
    groups = [*binned(count, COUNTS, good), *([(REFUSED, ~good)] if not good.all() else [])]
    return [
        SegmentScores(name, int(inside.sum()), *(float(values[inside].mean()) for values in (hr, ndcg, tail)))
        for name, inside in groups
    ]
