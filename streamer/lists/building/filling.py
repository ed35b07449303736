"""The places of a list: what counts more, what stands where, how much of one kind."""

from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any, NamedTuple

import numpy as np

from streamer.features.item_columns import Values
from streamer.lists.building.ranking import best_first
from tgn.graph import F32, F64, I32, I64, U8


class Ranking(NamedTuple):
    """Items, best first."""

    item: I32  # [C]
    score: F32  # [C] log-odds up to a constant, as the ranker gives them


class _NamesOf(Sequence[str]):
    """The ids of a ranking's items, of which few are asked for."""

    def __init__(self, item: I32, ids: Sequence[str]) -> None:
        self._item, self._ids = item, ids

    def __len__(self) -> int:
        return len(self._item)

    def __getitem__(self, place: Any) -> Any:
        return self._ids[self._item[place]]


def boosted(ranking: Ranking, boosts: Sequence[tuple[U8, float]], ids: Sequence[str]) -> Ranking:
    """The ranking with the odds of items under a mask [I] times a factor; ties break by id."""
    score = ranking.score
    for mask, factor in boosts:
        score = score + mask[ranking.item] * np.float32(np.log(factor))
    if score is ranking.score:
        return ranking
    return rescored(ranking, score, ids)


def rescored(ranking: Ranking, score: F64 | F32, ids: Sequence[str]) -> Ranking:
    """The items of a ranking by other scores [C]; ties break by id."""
    order = best_first(score, _NamesOf(ranking.item, ids))
    return Ranking(ranking.item[order], score[order].astype(np.float32))


def filled(ranking: Ranking, k: int, pins: Sequence[tuple[int, int]], quotas: Sequence[tuple[Values, int]]) -> Ranking:
    """k places: pinned items at theirs, the others in order as far as the quotas let them.

    Pins count for the quotas, and are never left out for them. The first pin of an item counts; of two at one place the
    later one stands behind. A place beyond the others is the next one.

    Args:
        ranking: best first.
        k: how many places there are.
        pins: item and place, from 1.
        quotas: what of each item counts [I], and how many items may have the same.
    """
    at: dict[int, int] = {}  # place from 0 → item
    for item, place in pins:
        free = next(n for n in count(place - 1) if n not in at)
        if free < k and item not in at.values():
            at[free] = item
    pinned = np.array(list(at.values()), np.int32)
    rest = np.flatnonzero(~np.isin(ranking.item, pinned)) if at else np.arange(len(ranking.item))
    fitting = _within(ranking.item[rest], pinned, quotas, k - len(at)) if quotas else slice(k - len(at))
    others = rest[fitting]
    if not at:
        return Ranking(ranking.item[others], ranking.score[others])
    listed, left = list[int](), iter(ranking.item[others].tolist())
    for place in range(k):
        item = at[place] if place in at else next(left, -1)
        if item >= 0:
            listed.append(item)
    items = np.array(listed, np.int32)
    place_of = places_in(ranking.item, items)
    nowhere = ranking.score.min(initial=np.inf) if len(ranking.score) else 0.0  # of a pin that was no candidate
    score = np.full(len(items), nowhere, np.float32)
    score[place_of >= 0] = ranking.score[place_of[place_of >= 0]]
    return Ranking(items, score)


def places_in(ranked: I32, items: I32) -> I64:
    """[N] the place of each item among the ranked ones [C], from 0; −1: it is not among them."""
    if not len(ranked):
        return np.full(len(items), -1)
    order = np.argsort(ranked, kind="stable")
    found = order[np.minimum(np.searchsorted(ranked, items, sorter=order), len(ranked) - 1)]
    return np.where(ranked[found] == items, found, -1)


def _within(items: I32, pinned: I32, quotas: Sequence[tuple[Values, int]], k: int) -> I64:
    """The first k of items [N] that the quotas let in beside those that are pinned."""
    if len(quotas) == 1 and quotas[0][0].lists is None:
        values, most = quotas[0]
        return _of_one_kind_each(np.concatenate([pinned, items]), len(pinned), values, most)[:k]
    tallies = [_Tally(values, most) for values, most in quotas]
    for item in pinned.tolist():
        for tally in tallies:
            tally.add(item)
    return np.fromiter(_let_in(items.tolist(), tallies, k), np.int64)


def _of_one_kind_each(items: I32, pinned: int, values: Values, most: int) -> I64:
    """The places behind the pinned ones that no more than `most` before them have the value of, if they have one."""
    kind = _kinds(items, values)
    order = np.argsort(kind, kind="stable")
    begins = np.flatnonzero(np.diff(kind[order], prepend=-2))
    before = np.empty(len(items), np.int64)
    before[order] = np.arange(len(items)) - np.repeat(begins, np.diff(begins, append=len(items)))
    return np.flatnonzero(((kind < 0) | (before < most))[pinned:])


def _kinds(items: I32, values: Values) -> I64:
    """[N] the same number for the same value, −1 for none."""
    kind, base = np.full(len(items), -1, np.int64), 0
    codes = None if values.text is None else values.text.code
    parts = [part[items] for part in (values.number, values.time, values.flag, codes) if part is not None]
    for part in parts:
        there = np.flatnonzero((kind < 0) & (~np.isnan(part) if part.dtype == np.float64 else part >= 0))
        distinct, code = np.unique(part[there], return_inverse=True)
        kind[there] = code + base
        base += len(distinct)
    return kind


def _let_in(items: Sequence[int], tallies: Sequence["_Tally"], k: int) -> Iterator[int]:
    """The places of the first k items that every tally has room for."""
    let_in = 0
    for place, item in enumerate(items):
        if let_in == k:
            return
        if all(tally.has_room(item) for tally in tallies):
            for tally in tallies:
                tally.add(item)
            let_in += 1
            yield place


class _Tally:
    """How many listed items have each value."""

    def __init__(self, values: Values, most: int) -> None:
        self._values, self._most = values, most
        self._count: dict[Any, int] = {}

    def has_room(self, item: int) -> bool:
        return all(self._count.get(key, 0) < self._most for key in self._keys(item))

    def add(self, item: int) -> None:
        for key in self._keys(item):
            self._count[key] = self._count.get(key, 0) + 1

    def _keys(self, item: int) -> set[Any]:
        values = self._values
        for name in ("number", "time"):
            part = getattr(values, name)
            if part is not None and not np.isnan(part[item]):
                return {(name, float(part[item]))}
        if values.flag is not None and values.flag[item] >= 0:
            return {("flag", int(values.flag[item]))}
        if values.text is not None and values.text.code[item] >= 0:
            return {("text", int(values.text.code[item]))}
        if values.lists is not None:
            start, size = int(values.lists.start[item]), int(values.lists.size[item])
            return set(values.lists.code[start : start + size].tolist()) if size > 0 else set()
        return set()
