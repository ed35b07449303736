"""The distance of rankings against the sum that the paper writes down, one depth after the other."""

import hypothesis
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streamer.lists.distance import PERSISTENCE, distance

RANKINGS = st.lists(st.integers(0, 30), max_size=12, unique=True)


def slow(before: list[int], after: list[int], places: int) -> float:
    weights = [PERSISTENCE**depth for depth in range(places)]
    agreement = []
    for depth in range(1, places + 1):
        first, second = set(before[:depth]), set(after[:depth])
        longest = max(len(first), len(second))
        agreement.append(len(first & second) / longest if longest else 1.0)
    return 1 - sum(w * a for w, a in zip(weights, agreement, strict=True)) / sum(weights)


def padded(ranking: list[int], places: int) -> np.ndarray:
    return np.array([ranking + [-1] * (places - len(ranking))], np.int32)


@hypothesis.settings(max_examples=200)
@given(before=RANKINGS, after=RANKINGS)
def test_it_is_the_sum_over_depths(before: list[int], after: list[int]) -> None:
    found = distance(padded(before, 12), padded(after, 12))[0]
    assert abs(found - slow(before, after, 12)) < 1e-9
    assert abs(distance(padded(after, 12), padded(before, 12))[0] - found) < 1e-9
    assert (abs(found) < 1e-9) == (before == after)
    assert distance(padded(before, 15), padded(before, 12))[0] < 1e-9
