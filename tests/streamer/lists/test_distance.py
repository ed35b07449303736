"""The distance of rankings against the sum that the paper writes down, one depth after the other."""

import hypothesis
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streamer.lists.distance import PERSISTENCE, distance

RANKINGS = st.lists(st.integers(0, 30), max_size=12, unique=True)


def slow(before: list[int], after: list[int]) -> float:
    places = max(len(before), len(after))
    weights = [PERSISTENCE**depth for depth in range(places)]
    agreement = []
    for depth in range(1, places + 1):
        first, second = set(before[:depth]), set(after[:depth])
        agreement.append(len(first & second) / max(len(first), len(second)))
    return 1 - sum(w * a for w, a in zip(weights, agreement, strict=True)) / sum(weights) if places else 0.0


def padded(ranking: list[int], places: int) -> np.ndarray:
    return np.array([ranking + [-1] * (places - len(ranking))], np.int32)


@hypothesis.settings(max_examples=200)
@given(before=RANKINGS, after=RANKINGS, columns=st.tuples(st.integers(12, 40), st.integers(12, 40)))
def test_it_is_the_sum_over_depths(before: list[int], after: list[int], columns: tuple[int, int]) -> None:
    """Exactly 0 for the same ranking, and the same number however many columns there are behind the rankings."""
    first, second = columns
    found = distance(padded(before, first), padded(after, second))[0]
    assert abs(found - slow(before, after)) < 1e-9
    assert (found == 0) == (before == after)
    assert distance(padded(after, second), padded(before, first))[0] == found
    assert distance(padded(before, 12), padded(after, 12))[0] == found
