"""What a peer is: it takes what happened, and lists what comes next. Nodes are indices; see `World`."""

from typing import NamedTuple, Protocol

import numpy as np
from numba import njit

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS


class World(NamedTuple):
    """Sizes and rules that a peer may know beforehand. Indices are in the order of the ids' UTF-8 bytes.

    A peer may size its arrays by `users` and `items`, and nothing else: an item exists once it was observed.
    """

    users: int
    items: int
    exclude_seen: bool  # no list names an item that its user has taken
    seed: int = 0


class Peer(Protocol):
    """A recommender that `measuring.prequential` can measure.

    `recommend` changes nothing that a later list depends on; `observe` is the one write of state; `refit` changes
    weights only, out of what was observed.
    """

    refit_every_ms: int | None  # event time between refits, ms; None: the first fit is the only one

    def recommend(self, user: int, now: int, k: int) -> np.ndarray:
        """At most k observed items for `user` at `now` (epoch ms), best first, ties by index, none twice: [≤ k] int."""

    def observe(self, user: int, item: int, t: int) -> None:
        """Takes one interaction at t (epoch ms)."""

    def refit(self, now: int) -> None:
        """Learns from everything observed so far; called before the first list, then at intervals."""

    def described(self) -> str:
        """What it chose for this stream and how much it trained, for the table."""


def top_k(score: np.ndarray, then: np.ndarray, allowed: np.ndarray, k: int) -> np.ndarray:
    """The k best allowed items: by `score`, then by `then`, both falling, then by index. All [items]; gives [≤ k]."""
    if k * 8 < len(score):
        return _first_k(score, then, allowed, k)
    items = np.flatnonzero(allowed)
    return items[np.lexsort((-then[items], -score[items]))[:k]]  # stable: ties stay in the order of indices


@njit(nogil=True)
def _first_k(score: np.ndarray, then: np.ndarray, allowed: np.ndarray, k: int) -> np.ndarray:
    """`top_k` by insertion: hardly more than one comparison an item where k is small."""
    best = np.empty(k, np.int64)
    size = 0
    for item in range(len(score)):
        if not allowed[item]:
            continue
        place = size
        while place > 0:
            other = best[place - 1]
            if score[item] < score[other] or (score[item] == score[other] and then[item] <= then[other]):
                break
            place -= 1
        if place == k:
            continue
        size = min(size + 1, k)
        for i in range(size - 1, place, -1):
            best[i] = best[i - 1]
        best[place] = item
    return best[:size]


class Taken:
    """Everything observed, in order: three arrays that grow by doubling."""

    def __init__(self) -> None:
        self._columns = np.zeros((3, 1024), np.int64)
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def append(self, user: int, item: int, t: int) -> None:
        if self._size == self._columns.shape[1]:
            self._columns = np.concatenate([self._columns, np.zeros_like(self._columns)], axis=1)
        self._columns[:, self._size] = user, item, t
        self._size += 1

    @property
    def user(self) -> np.ndarray:
        """[N] int64"""
        return self._columns[0, : self._size]

    @property
    def item(self) -> np.ndarray:
        """[N] int64"""
        return self._columns[1, : self._size]

    @property
    def t(self) -> np.ndarray:
        """[N] int64 epoch ms"""
        return self._columns[2, : self._size]
