"""Lists against the interactions that they were made for: every measure of `streamer.measures`, and by group.

The protocol of the judges: a list is of one event, made from the events before it; every measured event counts, and one
without a list, or whose item is not in its list, is a miss.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from consumers.errors import DataRefused
from consumers.schemas import Item
from streamer import measures
from streamer.breakdown import COUNTS, binned, earlier

MEASURES = (
    "hr", "ndcg", "mrr", "map", "precision", "recall",
    "coverage", "gini", "novelty", "long-tail share", "diversity", "calibration",
)  # fmt: skip


class Part(NamedTuple):
    """Mean quality of the measured events that have something in common."""

    name: str
    events: int
    hr: float
    ndcg: float
    long_tail_share: float


class Evaluation(NamedTuple):
    """What a file of lists is worth."""

    events: int  # measured
    without_list: int
    measures: dict[str, float]  # by name, of MEASURES; diversity and calibration only where categories are known
    by_user_age: list[Part]  # interactions of the user before
    by_popularity: list[Part]  # interactions of the item before the measured part


class _Ids:
    """Item ids as indices: those of the interactions first, then what only lists name."""

    def __init__(self, interactions: pa.ChunkedArray, listed: pa.ChunkedArray) -> None:
        self.values = pa.chunked_array([*interactions.chunks, *listed.chunks]).unique()

    def of(self, column: pa.ChunkedArray) -> np.ndarray:
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
    """Measures lists (columns event, items) of a table of `read_interactions`, the first K places of each.

    after: the share of the events before the measured ones; repeats: whether an event whose user had its item before is
    measured. Raises DataRefused where the lists are not of these events.
    """
    listed = lists["items"].combine_chunks()
    flat = pa.chunked_array([listed.flatten().cast(pa.string())])
    ids = _Ids(interactions["item_id"], flat)
    user = pc.dictionary_encode(interactions["user_id"].combine_chunks()).indices.to_numpy()
    item = ids.of(interactions["item_id"])
    event = lists["event"].to_numpy()
    matrix = _matrix(event, pc.list_value_length(listed).to_numpy(), ids.of(flat), len(item), k)
    first = int(len(item) * after)
    measured = np.arange(len(item)) >= first
    if not repeats:
        measured &= earlier(user.astype(np.int64) << 32 | item) == 0
    at = np.flatnonzero(measured)
    if not len(at):
        raise DataRefused("no event is measured")
    rows = matrix[at]
    popularity = np.bincount(item[:first], minlength=len(ids.values))
    hits, one = rows == item[at, None], np.ones(len(at), np.int64)
    of_list = {
        "hr": measures.hit_rate(hits),
        "ndcg": measures.ndcg(hits, one),
        "mrr": measures.reciprocal_rank(hits),
        "map": measures.average_precision(hits, one),
        "precision": measures.precision(hits),
        "recall": measures.recall(hits, one),
        "novelty": measures.novelty(rows, popularity),
        "long-tail share": measures.long_tail_share(rows, popularity),
    } | _of_categories(items, ids, user, item, rows, at, first)
    found = {name: float(values.mean()) for name, values in of_list.items()}
    catalogue = len(np.unique(item))
    found |= {"coverage": measures.coverage(rows, catalogue), "gini": measures.gini(rows, len(ids.values))}
    parts = [
        _parts(values[at], of_list["hr"], of_list["ndcg"], of_list["long-tail share"])
        for values in (earlier(user), popularity[item])
    ]
    without = int((~np.isin(at, event)).sum())
    return Evaluation(len(at), without, {name: found[name] for name in MEASURES if name in found}, *parts)


def _matrix(event: np.ndarray, lengths: np.ndarray, flat: np.ndarray, events: int, k: int) -> np.ndarray:
    """[events, K] item indices, −1 past a list's end and where there is no list."""
    if len(np.unique(event)) < len(event):
        raise DataRefused("two lists are of one event")
    if len(event) and not (event.min() >= 0 and event.max() < events):
        raise DataRefused(f"lists are of the events {event.min()} to {event.max()}; there are {events}")
    matrix = np.full((events, k), -1, np.int64)
    row = np.repeat(event, lengths)
    column = np.arange(len(flat)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    kept = column < k
    matrix[row[kept], column[kept]] = flat[kept]
    return matrix


def _of_categories(
    items: Iterable[Item], ids: _Ids, user: np.ndarray, item: np.ndarray, rows: np.ndarray, at: np.ndarray, first: int
) -> dict[str, np.ndarray]:
    known = {value.item_id: value.categories for value in items if value.categories}
    if not known:
        return {}
    kinds = {kind: n for n, kind in enumerate(sorted({kind for kinds in known.values() for kind in kinds}))}
    features = np.zeros((len(ids.values), len(kinds)))
    for n, id_ in enumerate(ids.values.to_pylist()):
        for kind in known.get(id_, ()):
            features[n, kinds[kind]] = 1
    taken = np.zeros((user.max() + 1, len(kinds)))
    np.add.at(taken, user[:first], features[item[:first]])
    listed = (features[np.maximum(rows, 0)] * (rows >= 0)[..., None]).sum(axis=1)
    return {
        "diversity": measures.diversity(rows, features),
        "calibration": measures.calibration(listed, taken[user[at]]),
    }


def _parts(count: np.ndarray, hr: np.ndarray, ndcg: np.ndarray, tail: np.ndarray) -> list[Part]:
    """By how many there were, in the bins of COUNTS."""
    return [
        Part(name, int(inside.sum()), *(float(values[inside].mean()) for values in (hr, ndcg, tail)))
        for name, inside in binned(count, COUNTS)
    ]
