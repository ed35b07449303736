"""Decayed popularity: what everybody takes these days. Every other peer fills its lists with it."""

import math

import numpy as np
from numba import njit

from streamer.evaluation.peers.contract import DAY_MS, HOUR_MS, MINUTE_MS, Taken, World, top_k

# τ in ms, and "never forgets"; the grid is fixed, the choice is made on each stream's own past
SCALES_MS = (10 * MINUTE_MS, HOUR_MS, 4 * HOUR_MS, DAY_MS, 7 * DAY_MS, 45 * DAY_MS, 100_000 * DAY_MS)
CHOICE_SHARE = 0.1  # the last tenth of what came before the measured part decides on τ
CHOICE_EVENTS = 10_000  # at most so many events of it, evenly spaced, are ranked


class DecayedPopularity:
    """Items by Σ exp(−(now − tᵢ)/τ).

    Kept as a logarithm, L ← log(exp(L) + exp(t/τ)): the order at any `now` is the order of L, and nothing overflows.
    τ is the one of SCALES_MS with the best NDCG@10 over the last tenth before the first fit.

    It also keeps what most peers need: the history, and every user's items in order.
    """

    refit_every_ms: int | None = None

    def __init__(self, world: World) -> None:
        self.world = world
        self.history = Taken()
        self.scale_ms = float(DAY_MS)
        self._known = np.zeros(world.items, np.uint8)
        self._taken: dict[int, list[int]] = {}
        self._log_sum = np.full(world.items, -np.inf)
        self._origin = 0

    def recommend(self, user: int, now: int, k: int) -> np.ndarray:
        return top_k(self._log_sum, self._log_sum, self.allowed(user), k)

    def observe(self, user: int, item: int, t: int) -> None:
        if not len(self.history):
            self._origin = t
        self.history.append(user, item, t)
        self._known[item] = 1
        self._taken.setdefault(user, []).append(item)
        old, new = self._log_sum[item], (t - self._origin) / self.scale_ms
        self._log_sum[item] = max(old, new) + math.log1p(math.exp(-abs(old - new)))

    def refit(self, now: int) -> None:
        t = (self.history.t - self._origin).astype(np.float64)
        scales = np.array(SCALES_MS, np.float64)
        sums, quality = _try_scales(self.history.item, t, scales, choice_events(len(t)), self.world.items)
        best = int(np.argmax(quality))
        self.scale_ms, self._log_sum = float(SCALES_MS[best]), sums[best]

    def allowed(self, user: int) -> np.ndarray:
        """[items] uint8: what a list for `user` may name."""
        if not self.world.exclude_seen:
            return self._known
        allowed = self._known.copy()
        allowed[self.taken(user)] = 0
        return allowed

    def taken(self, user: int) -> list[int]:
        """What `user` took, oldest first, repeats included."""
        return self._taken.get(user, [])

    def popular(self) -> np.ndarray:
        """[items] float64, higher is more popular: what peers rank by where they know nothing."""
        return self._log_sum

    def described(self) -> str:
        return f"τ {self.scale_ms / HOUR_MS:,.3g} h" if self.scale_ms < SCALES_MS[-1] else "τ ∞"


def choice_events(events: int) -> np.ndarray:
    """Numbers of events that decide on a peer's settings, evenly spaced over the last tenth before the first fit."""
    last_tenth = np.linspace(int(events * (1 - CHOICE_SHARE)), events - 1, CHOICE_EVENTS)
    return np.unique(last_tenth.astype(np.int64)) if events else np.empty(0, np.int64)


@njit(nogil=True)
def gain(rank: int) -> float:
    """NDCG@10 of one event whose item has this rank, from 1: what peers choose their settings by."""
    return 1 / np.log2(rank + 1.0) if rank <= 10 else 0.0


@njit(nogil=True)
def _try_scales(
    item: np.ndarray, t: np.ndarray, scales: np.ndarray, ranked: np.ndarray, items: int
) -> tuple[np.ndarray, np.ndarray]:
    """Sums after all N events, [scales, items] float64, and NDCG@10 at the `ranked` ones, [scales]."""
    sums = np.full((len(scales), items), -np.inf)
    quality = np.zeros(len(scales))
    nth = 0
    for n in range(len(item)):
        rank_it = nth < len(ranked) and ranked[nth] == n
        nth += rank_it
        for s in range(len(scales)):
            old, new = sums[s, item[n]], t[n] / scales[s]
            if rank_it and old > -np.inf:
                rank = 1 + (sums[s] > old).sum() + (sums[s, : item[n]] == old).sum()
                quality[s] += gain(rank) / len(ranked)
            sums[s, item[n]] = max(old, new) + np.log1p(np.exp(-abs(old - new)))
    return sums, quality
