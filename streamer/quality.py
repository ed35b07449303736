"""Test-then-learn quality: what share of events were in the list made before they were known."""

import numpy as np


class QualityMeter:
    """HR@10, NDCG@10 and MRR over ranks from 1 (0: missed, negative: not measured), ours and popularity's."""

    AT = 10

    def __init__(self) -> None:
        self.events = 0
        self._sums = np.zeros((2, 3))

    def add(self, rank: np.ndarray, popularity_rank: np.ndarray) -> None:
        """Counts the measured events of a batch."""
        measured = rank >= 0
        self.events += int(measured.sum())
        for row, ranks in enumerate((rank[measured], popularity_rank[measured])):
            hit = (ranks > 0) & (ranks <= self.AT)
            found = ranks[ranks > 0]
            self._sums[row] += hit.sum(), (1 / np.log2(ranks[hit] + 1.0)).sum(), (1.0 / found).sum()

    def figures(self) -> dict[str, tuple[float, float]]:
        """Metric → (ours, decayed popularity's)."""
        means = self._sums / max(self.events, 1)
        return {
            name: (float(ours), float(theirs))
            for name, ours, theirs in zip(("hr@10", "ndcg@10", "mrr"), *means, strict=True)
        }

    def state(self) -> tuple[int, list[list[float]]]:
        """What a checkpoint keeps."""
        return self.events, self._sums.tolist()

    def restore(self, state: tuple[int, list[list[float]]]) -> None:
        """Takes back what `state` gave."""
        self.events, self._sums = state[0], np.array(state[1])
