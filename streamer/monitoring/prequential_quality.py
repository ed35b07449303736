"""Test-then-learn quality: what share of events were in the list made before they were known."""

from typing import Any, NamedTuple

import numpy as np

MEASURES = ("hr", "ndcg", "mrr")
BLOCK, LEAST_BLOCKS = 500, 10
AT = 10  # places of a list that HR and NDCG look at, where lists have as many


def places(k: int) -> int:
    """How many places HR and NDCG look at in lists of k items: what a list does not have is not measured."""
    return min(AT, k)


def metrics(k: int) -> tuple[str, str, str]:
    """The names of what is measured of lists of k items: hr@10 of ten places and more, hr@5 of five."""
    return f"hr@{places(k)}", f"ndcg@{places(k)}", "mrr"


def scores(rank: np.ndarray, at: int = AT) -> np.ndarray:
    """[N, 3] float64 HR, NDCG of the first `at` places and reciprocal rank of each event. rank: [N] from 1; 0: missed.

    NDCG with one right item is 1 / log2(rank + 1) (Järvelin and Kekäläinen 2002).
    """
    listed, hit = rank > 0, (rank > 0) & (rank <= at)
    place = np.where(listed, rank, 1)
    return np.stack([hit, hit / np.log2(place + 1.0), listed / place], axis=1)


class PairedFigure(NamedTuple):
    """A measure of a challenger and of the live model. `error`: the standard error of the difference; None: unknown."""

    value: float
    live: float
    error: float | None


class PairedMeter:
    """HR, NDCG and MRR of a challenger and of the live model over the same events, and how sure the difference is.

    Events that come together are alike, so that is read off means over BLOCK events in a row, not off single ones.
    """

    def __init__(self) -> None:
        self.events = 0
        self._sums = np.zeros((2, 3))  # challenger, live
        self._block = np.zeros(3)  # differences of the block that is not full yet
        self._blocks = np.zeros((2, 3))  # means of full ones, and their squares, summed up

    def add(self, rank: np.ndarray, live: np.ndarray) -> None:
        """Counts the events of a batch that were measured in both; ranks as in `QualityMeter`."""
        both = (rank >= 0) & (live >= 0)
        ours, theirs = scores(rank[both]), scores(live[both])
        self._sums += ours.sum(axis=0), theirs.sum(axis=0)
        left = ours - theirs
        while len(left):
            room = BLOCK - self.events % BLOCK
            self._block += left[:room].sum(axis=0)
            self.events += len(left[:room])
            left = left[room:]
            if self.events % BLOCK == 0:
                mean = self._block / BLOCK
                self._blocks += mean, mean**2
                self._block = np.zeros(3)

    def figures(self, k: int) -> dict[str, PairedFigure]:
        """By metric; k: items in the lists that were measured."""
        value, live = self._sums / max(self.events, 1)
        blocks = self.events // BLOCK
        errors: list[float | None] = [None] * len(MEASURES)
        if blocks >= LEAST_BLOCKS:
            sums, squares = self._blocks
            variance = np.maximum(squares - sums**2 / blocks, 0) / (blocks - 1)
            errors = np.sqrt(variance / blocks).tolist()
        return {
            name: PairedFigure(*of) for name, *of in zip(metrics(k), value.tolist(), live.tolist(), errors, strict=True)
        }

    def state(self) -> tuple[int, Any, Any, Any]:
        """What a checkpoint keeps."""
        return self.events, self._sums.tolist(), self._block.tolist(), self._blocks.tolist()

    def restore(self, state: tuple[int, Any, Any, Any]) -> None:
        """Takes back what `state` gave."""
        self.events, *arrays = state
        self._sums, self._block, self._blocks = (np.array(array) for array in arrays)


class QualityMeter:
    """HR, NDCG and MRR over ranks from 1 (0: missed, negative: not measured), ours and popularity's."""

    def __init__(self) -> None:
        self.events = 0
        self._sums = np.zeros((2, 3))

    def add(self, rank: np.ndarray, popularity_rank: np.ndarray) -> None:
        """Counts the measured events of a batch."""
        measured = rank >= 0
        self.events += int(measured.sum())
        for row, ranks in enumerate((rank[measured], popularity_rank[measured])):
            self._sums[row] += scores(ranks).sum(axis=0)

    def figures(self, k: int) -> dict[str, tuple[float, float]]:
        """Metric → (ours, decayed popularity's); k: items in the lists that were measured."""
        means = self._sums / max(self.events, 1)
        return {name: (float(ours), float(theirs)) for name, ours, theirs in zip(metrics(k), *means, strict=True)}

    def state(self) -> tuple[int, list[list[float]]]:
        """What a checkpoint keeps."""
        return self.events, self._sums.tolist()

    def restore(self, state: tuple[int, list[list[float]]]) -> None:
        """Takes back what `state` gave."""
        self.events, self._sums = state[0], np.array(state[1])
