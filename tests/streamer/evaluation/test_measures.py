"""Every measure against what a hand works out."""

from collections.abc import Callable
from inspect import getmembers, isfunction

import numpy as np
import pytest

from streamer.evaluation import measures

HITS = np.array([[0, 1, 0, 1], [0, 0, 0, 0], [1, 0, 0, 0]], bool)
RELEVANT = np.array([3, 2, 1])
ITEMS = np.array([[0, 1, 2], [0, 1, -1], [-1, -1, -1]])
POPULARITY = np.array([8, 4, 2, 2, 0])
LOG2_3, LOG2_5 = np.log2(3), np.log2(5)

WORKED_OUT: dict[str, tuple[Callable[[], object], object]] = {
    "hit_rate": (lambda: measures.hit_rate(HITS), [1, 0, 1]),
    "precision": (lambda: measures.precision(HITS), [0.5, 0, 0.25]),
    "recall": (lambda: measures.recall(HITS, RELEVANT), [2 / 3, 0, 1]),
    "average_precision": (lambda: measures.average_precision(HITS, RELEVANT), [(1 / 2 + 2 / 4) / 3, 0, 1]),
    "ndcg": (
        lambda: measures.ndcg(HITS, RELEVANT),
        [(1 / LOG2_3 + 1 / LOG2_5) / (1 + 1 / LOG2_3 + 1 / 2), 0, 1],
    ),
    "coverage": (lambda: measures.coverage(ITEMS, 5), 3 / 5),
    # listed 2, 2, 1, 0, 0 times: ascending 0 0 1 2 2; (−4·0 − 2·0 + 0·1 + 2·2 + 4·2) / (5 · 5)
    "gini": (lambda: measures.gini(ITEMS, 5), 12 / 25),
    # shares of 16.5: the item without an interaction counts as half of one
    "novelty": (
        lambda: measures.novelty(ITEMS, POPULARITY),
        [np.mean([np.log2(16.5 / 8), np.log2(16.5 / 4), np.log2(16.5 / 2)]), np.mean([np.log2(16.5 / 8), np.log2(16.5 / 4)]), 0],
    ),
    # of 16 interactions the items 0, 1 and 2 have 14: those that begin before 80 % of them are the head
    "long_tail_share": (lambda: measures.long_tail_share(np.array([[0, 3, 4], [2, -1, -1]]), POPULARITY), [2 / 3, 0]),
    # pairs (0, 1): cosine 0; (0, 2): 1/√2; (1, 2): 1/√2
    "diversity": (
        lambda: measures.diversity(ITEMS, np.array([[1, 0], [0, 1], [2, 2], [1, 1], [0, 0]])),
        [1 - 2 / np.sqrt(2) / 3, 1, 0],
    ),
    "calibration": (
        lambda: measures.calibration(np.array([[1, 3], [4, 0], [1, 1]]), np.array([[2, 6], [2, 2], [0, 0]])),
        [0, 0.5 * np.log2(0.5 / 0.995) + 0.5 * np.log2(0.5 / 0.005), 0],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WORKED_OUT)
def test_it_is_what_a_hand_works_out(name: str) -> None:
    measured, expected = WORKED_OUT[name]
    np.testing.assert_allclose(measured(), expected, atol=1e-12)


def test_every_measure_is_worked_out() -> None:
    public = {
        name for name, of in getmembers(measures, isfunction) if of.__module__ == measures.__name__ and name[0] != "_"
    }
    assert public == WORKED_OUT.keys()


def test_one_right_item_is_as_the_live_quality_says() -> None:
    """The stream's own measures are those of lists with one right item."""
    from streamer.monitoring.prequential_quality import scores

    rank = np.array([1, 3, 10, 11, 0])
    hits = (np.arange(1, 21) == rank[:, None]) & (rank[:, None] > 0)
    one = np.ones(len(rank), np.int64)
    reciprocal = [1, 1 / 3, 1 / 10, 1 / 11, 0]
    ours = np.stack([measures.hit_rate(hits[:, :10]), measures.ndcg(hits[:, :10], one), reciprocal], axis=1)
    np.testing.assert_allclose(ours, scores(rank))


def test_equal_lists_are_perfectly_calibrated_and_a_single_item_is_unequal() -> None:
    assert measures.gini(np.zeros((4, 1), int), 100) == pytest.approx(0.99)
    assert measures.gini(np.arange(100)[:, None], 100) == pytest.approx(0)
