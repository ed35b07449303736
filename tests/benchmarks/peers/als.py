"""ALS as the package `implicit` ships it: the whole matrix, refit hourly (Hu, Koren, Volinsky 2008)."""

import numpy as np
from implicit.cpu.als import AlternatingLeastSquares
from scipy.sparse import coo_matrix, csr_matrix

from streamer.evaluation.peers.contract import HOUR_MS, World, top_k
from streamer.evaluation.peers.popularity import DecayedPopularity


class ALS(DecayedPopularity):
    """Confidence α·count for what a user took; factors, λ and α as in implicit's tutorial.

    Refits start from the factors before. Between them the items' factors stay, and the user's are solved anew out of
    all their interactions at each list (`recalculate_user`), so that state is as fresh as everybody's.
    """

    refit_every_ms = HOUR_MS

    def __init__(self, world: World, factors: int = 64, passes: int = 15, refit_passes: int = 2) -> None:
        super().__init__(world)
        self._passes, self._refit_passes = passes, refit_passes
        self._model = AlternatingLeastSquares(
            factors=factors, regularization=0.05, alpha=2.0, iterations=passes, num_threads=1, random_state=world.seed
        )

    def refit(self, now: int) -> None:
        if self._model.item_factors is None:
            super().refit(now)
        else:
            self._model.iterations = self._refit_passes
        ones = np.ones(len(self.history), np.float32)
        matrix = coo_matrix((ones, (self.history.user, self.history.item)), (self.world.users, self.world.items))
        self._model.fit(matrix.tocsr(), show_progress=False)

    def described(self) -> str:
        return f"{self._passes} passes, {self._refit_passes} a refit"

    def recommend(self, user: int, now: int, k: int) -> np.ndarray:
        taken = self.taken(user)
        if not taken:
            return super().recommend(user, now, k)
        items, counts = np.unique(taken, return_counts=True)
        row = csr_matrix((counts.astype(np.float32), items, [0, len(items)]), (1, self.world.items))
        factors = self._model.recalculate_user(0, row)
        return top_k(self._model.item_factors @ factors, self.popular(), self.allowed(user), k)
