"""ISGD: matrix factorisation that takes one gradient step an event (Vinagre et al. 2014, Fast Incremental MF)."""

import numpy as np
from numba import njit

from streamer.evaluation.peers.contract import World, top_k
from streamer.evaluation.peers.popularity import DecayedPopularity, choice_events, gain

RATES = (0.003, 0.01, 0.03, 0.1, 0.3)  # η; the one with the best NDCG@10 over the last tenth is taken
REGULARISATION = 0.01  # λ


class ISGD(DecayedPopularity):
    """err = 1 − ⟨a, b⟩; a += η(err·b − λa); b += η(err·a − λb), both from the old values; order by |1 − ⟨a, b⟩|.

    Its vectors are its state: every event moves them, in measured parts too. Users without history get decayed
    popularity. η is chosen at the first fit, on the last tenth of what came before.
    """

    def __init__(self, world: World, factors: int = 40) -> None:
        super().__init__(world)
        self._rate = RATES[2]
        self._users, self._items = self._fresh(factors)

    def observe(self, user: int, item: int, t: int) -> None:
        super().observe(user, item, t)
        _step(self._users[user], self._items[item], self._rate)

    def recommend(self, user: int, now: int, k: int) -> np.ndarray:
        if not self.taken(user):
            return super().recommend(user, now, k)
        score = -np.abs(1 - self._items @ self._users[user])
        return top_k(score, self.popular(), self.allowed(user), k)

    def refit(self, now: int) -> None:
        super().refit(now)
        ranked = choice_events(len(self.history))
        best = -1.0
        for rate in RATES:
            users, items = self._fresh(self._users.shape[1])
            quality = _run(self.history.user, self.history.item, users, items, self._known, ranked, rate)
            if quality > best:
                best, self._rate, self._users, self._items = quality, rate, users, items

    def described(self) -> str:
        return f"η {self._rate}"

    def _fresh(self, factors: int) -> tuple[np.ndarray, np.ndarray]:
        """[users, D], [items, D] float32, N(0, 0.1)"""
        rng = np.random.default_rng(self.world.seed)
        shapes = ((self.world.users, factors), (self.world.items, factors))
        users, items = (rng.normal(0, 0.1, shape).astype(np.float32) for shape in shapes)
        return users, items


@njit(cache=True, nogil=True)
def _step(a: np.ndarray, b: np.ndarray, rate: float) -> None:
    """One event: moves the user's vector a and the item's vector b, [D] each."""
    error = np.float32(1) - np.dot(a, b)
    for d in range(len(a)):
        a_d, b_d = a[d], b[d]
        a[d] += rate * (error * b_d - REGULARISATION * a_d)
        b[d] += rate * (error * a_d - REGULARISATION * b_d)


@njit(cache=True, nogil=True)
def _run(
    user: np.ndarray, item: np.ndarray, users: np.ndarray, items: np.ndarray, known: np.ndarray, ranked: np.ndarray,
    rate: float,
) -> float:  # fmt: skip
    """Takes N events from fresh vectors; NDCG@10 at the `ranked` ones, −1 where it diverged."""
    total, nth = 0.0, 0
    for n in range(len(user)):
        if nth < len(ranked) and ranked[nth] == n:
            distance = np.abs(np.float32(1) - np.dot(items, users[user[n]]))
            total += gain(((distance <= distance[item[n]]) & (known > 0)).sum())
            nth += 1
        _step(users[user[n]], items[item[n]], rate)
    return total / max(nth, 1) if np.isfinite(users).all() and np.isfinite(items).all() else -1.0
