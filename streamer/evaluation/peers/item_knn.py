"""Streaming item-kNN: items that the same users took, by cosine, counted as the events come."""

import numpy as np

from streamer.evaluation.peers.contract import World, top_k
from streamer.evaluation.peers.popularity import DecayedPopularity, choice_events, gain

READ = (1, 5, 20, 1_000_000)  # how many of the user's last distinct items are summed over
WAYS = tuple((read, own) for own in (True, False) for read in READ)  # own: items that the user has taken are scored


class ItemKNN(DecayedPopularity):
    """score(z) = Σ_{j among the user's last items} C(j, z) / √(n(j)·n(z)).

    C(j, z) is the number of users who took both, n(z) = C(z, z). Exact at every event, all neighbours count. C is
    dense, 4·items² bytes, of which only touched pages are used. An item is its own neighbour with cosine 1; whether a
    user's own items are scored or put last, and how many last items are read, is chosen from WAYS at the first fit, by
    NDCG@10 over the last tenth of what came before.
    """

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._together = np.zeros((world.items, world.items), np.float32)
        self._takers = np.zeros(world.items, np.float32)
        self._distinct: dict[int, dict[int, None]] = {}  # last taken last
        self._way = WAYS[0]
        self._fitted = False

    def observe(self, user: int, item: int, t: int) -> None:
        super().observe(user, item, t)
        if self._fitted:
            self._count(user, item)

    def recommend(self, user: int, now: int, k: int) -> np.ndarray:
        return top_k(self._score(user, *self._way), self.popular(), self.allowed(user), k)

    def refit(self, now: int) -> None:
        """Counts the history, ranking each way of reading on the way."""
        super().refit(now)
        ranked = set(choice_events(len(self.history)).tolist())
        quality = np.zeros(len(WAYS))
        for n, (user, item) in enumerate(zip(self.history.user.tolist(), self.history.item.tolist(), strict=True)):
            if n in ranked:
                scores = (self._score(user, *way) for way in WAYS)
                quality += [gain(int(np.count_nonzero(score >= score[item]))) for score in scores]
            self._count(user, item)
        self._way, self._fitted = WAYS[int(np.argmax(quality))], True

    def described(self) -> str:
        read, own = self._way
        return ("all items" if read == READ[-1] else f"last {read} items") + ("" if own else ", own items put last")

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

    def _score(self, user: int, read: int, own: bool) -> np.ndarray:
        """[items] float32, 0 for those that nobody took together with what is read."""
        distinct = self._distinct.get(user, {})
        taken = np.fromiter(distinct, np.int64, len(distinct))
        last = taken[-read:]
        score: np.ndarray = (1 / np.sqrt(self._takers[last])) @ self._together[last]
        score /= np.sqrt(np.maximum(self._takers, 1))
        if not own:
            score[taken] = -1
        return score
