"""Weights of event types: fixed, the record's own value, or what it is above the mean of all before it."""

import numpy as np
import pyarrow as pa
import pytest

from consumers.event_weights import EventWeights, Means
from streamer.features.tables import weigh_rows


def test_a_value_counts_as_what_it_is_above_the_mean_of_those_before_it() -> None:
    weights = EventWeights({"rating": "value-mean", "like": 2})
    found = [weights.weigh("rating", value) for value in (4.0, 4.0, 1.0, 5.0)]
    assert found == [0.0, 0.0, -3.0, 2.0]  # means before: itself, 4, 4, 3
    assert weights.weigh("like", 5.0) == 2
    assert weights.weigh("view", 5.0) == 1


@pytest.mark.parametrize("nothing", [None, float("nan"), float("inf")])
def test_what_has_no_value_counts_as_one_and_moves_no_mean(nothing: float | None) -> None:
    means: Means = {}
    weights = EventWeights({"rating": "value-mean"}, means=means)
    weights.weigh("rating", 3.0)
    before = {name: list(mean) for name, mean in means.items()}
    assert weights.weigh("rating", nothing) == 1
    assert means == before


def test_each_type_has_a_mean_of_its_own_and_the_means_go_on_from_where_they_were() -> None:
    means: Means = {}
    values = np.random.default_rng(0).uniform(0, 10, 200).tolist()
    types = ["rating" if n % 3 else "stars" for n in range(200)]
    through = EventWeights({"rating": "value-mean", "stars": "value-mean"})
    expected = [through.weigh(*pair) for pair in zip(types, values, strict=True)]
    found = []
    for pair in zip(types, values, strict=True):
        found.append(EventWeights({"rating": "value-mean", "stars": "value-mean"}, means=means).weigh(*pair))
    assert found == expected
    for n in range(2, 200):
        before = [v for t, v in zip(types[:n], values[:n], strict=True) if t == types[n]]
        assert expected[n] == pytest.approx(values[n] - sum(before) / len(before)) if before else True


def test_a_table_is_weighed_row_by_row_across_its_chunks() -> None:
    table = pa.table({"event_type": ["rating"] * 6, "value": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]})
    weights = EventWeights({"rating": "value-mean"})
    pieces = [weigh_rows(table.slice(first, 2), weights) for first in (0, 2, 4)]
    assert np.concatenate(pieces).tolist() == weigh_rows(table, EventWeights({"rating": "value-mean"})).tolist()
