"""Streaming item-kNN: items that the same users took, by cosine, counted as the events come."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from streamer.evaluation.peers.contract import World, top_k
from streamer.evaluation.peers.popularity import DecayedPopularity, choice_events, gain

ALL = 1_000_000


class HistoryReading(NamedTuple):
    """How a user's distinct items are summed over."""

    last: int  # so many, from the newest back
    fades: bool  # the one `place` places before the newest weighs 1 / (1 + place)
    damping: float  # takers that each item is thought to have besides its own


READINGS = tuple(
    HistoryReading(last, fades, damping)
    for damping in (0.0, 2.0, 10.0)
    for fades in (False, True)
    for last in (1, 2, 5, 10, 20, 50, ALL)
)


class ItemKNN(DecayedPopularity):
    """score(z) = Σ_{j among the user's items} w(j)·C(j, z) / √((n(j) + λ)·(n(z) + λ)).

    C(j, z) is the number of users who took both, n(z) = C(z, z). Exact at every event, all neighbours count. C is
    dense, 4·items² bytes, of which only touched pages are used. An item is its own neighbour; whether a user's own
    items are scored or put last, and the reading (w and λ), are chosen at the first fit, by NDCG@10 over the last tenth
    of what came before.
    """

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._together = np.zeros((world.items, world.items), np.float32)
        self._takers = np.zeros(world.items, np.float32)
        self._distinct: dict[int, dict[int, None]] = {}  # last taken last
        self._reading, self._own = READINGS[0], True  # own: items that the user has taken are scored
        self._fitted = False

    def observe(self, user: int, item: int, t: int) -> None:
        super().observe(user, item, t)
        if self._fitted:
            self._count(user, item)

    def recommend(self, user: int, now: int, k: int) -> np.ndarray:
        taken = self._distinct_items(user)
        score = self._scores(taken, [self._reading])[0]
        if not self._own:
            score[taken] = -1
        return top_k(score, self.popular(), self.allowed(user), k)

    def refit(self, now: int) -> None:
        """Counts the history, ranking each reading on the way."""
        super().refit(now)
        ranked = set(choice_events(len(self.history)).tolist())
        quality = np.zeros((2, len(READINGS)))  # own items scored, put last
        for n, (user, item) in enumerate(zip(self.history.user.tolist(), self.history.item.tolist(), strict=True)):
            if n in ranked:
                taken = self._distinct_items(user)
                scores = self._scores(taken, READINGS)
                at_least = scores >= scores[:, [item]]
                ranks = at_least.sum(1)
                quality[0] += [gain(rank) for rank in ranks.tolist()]
                if item not in taken:
                    quality[1] += [gain(rank) for rank in (ranks - at_least[:, taken].sum(1)).tolist()]
            self._count(user, item)
        own, reading = np.unravel_index(int(np.argmax(quality)), quality.shape)
        self._own, self._reading, self._fitted = own == 0, READINGS[reading], True

    def described(self) -> str:
        last, fades, damping = self._reading
        words = ["all items" if last == ALL else f"last {last} items", *(["fading"] if fades else []), f"λ {damping:g}"]
        return ", ".join([*words, *([] if self._own else ["own items put last"])])

    def _count(self, user: int, item: int) -> None:
        distinct = self._distinct.setdefault(user, {})
        if item in distinct:
            del distinct[item]
        else:
            others = np.fromiter(distinct, np.int64, len(distinct))
            self._together[item, others] += 1
            self._together[others, item] += 1
            self._together[item, item] += 1
            self._takers[item] += 1
        distinct[item] = None

    def _distinct_items(self, user: int) -> np.ndarray:
        """[n] int64, the newest last"""
        distinct = self._distinct.get(user, {})
        return np.fromiter(distinct, np.int64, len(distinct))

    def _scores(self, taken: np.ndarray, readings: Sequence[HistoryReading]) -> np.ndarray:
        """[readings, items] float32, 0 for those that nobody took together with what is read."""
        read = taken[-max(reading.last for reading in readings) :]
        last, fades, damping = (np.array(column, np.float32)[:, None] for column in zip(*readings, strict=True))
        place = np.arange(len(read), dtype=np.float32)[::-1]
        weight = (place < last) / (1 + fades * place) / np.sqrt(self._takers[read] + damping)
        scores: np.ndarray = weight.astype(np.float32) @ self._together[read]
        scores /= np.sqrt(np.maximum(self._takers, 1) + damping)
        return scores
