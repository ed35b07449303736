"""Last item: the user's previous item again, then their other items by recency, then decayed popularity."""

import numpy as np

from streamer.evaluation.peers.contract import top_k
from streamer.evaluation.peers.popularity import DecayedPopularity


class LastItem(DecayedPopularity):
    """What a user took last, they take again. Where repeats are off this is decayed popularity."""

    def recommend(self, user: int, now: int, k: int) -> np.ndarray:
        taken = self.taken(user)
        recency = np.zeros(self.world.items)
        recency[taken] = np.arange(1, len(taken) + 1)  # of an item taken twice, the later place stays
        return top_k(recency, self.popular(), self.allowed(user), k)
