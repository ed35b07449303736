"""EdgeBank: an edge that was seen comes again (Poursafaei et al. 2022, Evaluation for Dynamic Link Prediction)."""

import numpy as np

from streamer.evaluation.peers.contract import DAY_MS, World, top_k
from streamer.evaluation.peers.popularity import DecayedPopularity

WINDOW_SHARE = 0.15  # of the time before the first fit: TGB's window


class EdgeBank(DecayedPopularity):
    """Scores 1 for items that the user has taken, 0 for all others.

    The original leaves all of them tied; here ties go by decayed popularity, which is kinder. Where repeats are off
    this is decayed popularity.
    """

    def recommend(self, user: int, now: int, k: int) -> np.ndarray:
        score = np.zeros(self.world.items)
        score[self._remembered(user, now)] = 1
        return top_k(score, self.popular(), self.allowed(user), k)

    def _remembered(self, user: int, now: int) -> list[int]:
        return self.taken(user)


class EdgeBankWindow(EdgeBank):
    """EdgeBank that forgets edges older than a window: 15 % of the time before the first fit."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._window_ms: float = np.inf
        self._times: dict[int, list[int]] = {}

    def observe(self, user: int, item: int, t: int) -> None:
        super().observe(user, item, t)
        self._times.setdefault(user, []).append(t)

    def refit(self, now: int) -> None:
        super().refit(now)
        self._window_ms = WINDOW_SHARE * (now - self._origin)

    def described(self) -> str:
        return f"window {self._window_ms / DAY_MS:.3g} d, {super().described()}"

    def _remembered(self, user: int, now: int) -> list[int]:
        times = np.array(self._times.get(user, []), np.int64)
        return self.taken(user)[int(np.searchsorted(times, now - self._window_ms)) :]
