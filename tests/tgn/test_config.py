"""Every number of ModelConfig has a checked range, and works at both ends of it."""

from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from tgn.config import PARTS, POPULARITY_SCALES, RANGES, ModelConfig
from tgn.model import Model

EVENTS = 500
DEFAULT = ModelConfig()


def values_of(name: str) -> list[Any]:
    """The smallest, the default and the largest value of a field."""
    default, allowed = getattr(DEFAULT, name), RANGES[name]
    kind = float if allowed.step is None else int
    if isinstance(default, tuple):
        return [(int(allowed.least),) * len(default), default, (int(allowed.most),) * len(default)]
    return [kind(allowed.least), default, kind(allowed.most)]


def runs(config: ModelConfig) -> None:
    """Takes events that are scored, learned from and listed; every list must be whole."""
    rng = np.random.default_rng(0)
    model = Model(config)
    user = np.array(model.users.encode([f"u{n}" for n in rng.integers(0, 20, EVENTS)]), np.int32)
    item = np.array(model.items.encode([f"i{n}" for n in rng.integers(0, 60, EVENTS)]), np.int32)
    t = np.cumsum(rng.integers(1, 10**7, EVENTS))
    weight, every = rng.choice(np.array([1, 2, -1], np.float32), EVENTS), np.ones(EVENTS, np.uint8)
    outcome = model.take(user, item, t, weight, k=10, score=every, learn=every, publish=every)
    for lists in (outcome.test, outcome.published):
        for row, scores, size in zip(lists.item, lists.score, lists.size, strict=True):
            assert len(set(row[:size].tolist())) == size
            assert (row[:size] >= 0).all()
            assert np.isfinite(scores[:size]).all()
    assert outcome.published.size[-1] > 0
    assert np.isfinite(model.ranker.weights).all()


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name in RANGES for value in dict.fromkeys(values_of(name))]
)
def test_the_ends_of_every_range_work(name: str, value: Any) -> None:
    runs(ModelConfig(**{name: value}))


@pytest.mark.parametrize("sources", [4, 6, 64])
def test_rows_of_more_items_than_have_a_feature_of_their_own_are_read(sources: int) -> None:
    runs(ModelConfig(transition_sources=sources))


def test_every_field_has_a_range() -> None:
    assert {field.name for field in fields(ModelConfig)} - {"without"} == RANGES.keys()


@pytest.mark.parametrize("name", RANGES)
def test_what_lies_outside_is_refused_by_name_with_what_it_may_be(name: str) -> None:
    least, most, step = RANGES[name]
    several = isinstance(getattr(DEFAULT, name), tuple)
    for bad in (least - 1, most + (step or 1), "6", None, True, *([least + 0.5] if step else [float("nan")])):
        values: Any = {name: (bad,) * len(getattr(DEFAULT, name)) if several else bad}
        with pytest.raises(ValueError, match=rf"^{name} = .*: it may be .* to "):
            ModelConfig(**values)


def test_the_counts_of_scales_and_the_names_of_parts_are_checked_too() -> None:
    with pytest.raises(ValueError, match=f"takes {POPULARITY_SCALES} scales"):
        ModelConfig(popularity_scales_ms=(1, 2))
    with pytest.raises(ValueError, match="takes 1 to 8 scales"):
        ModelConfig(row_scales_ms=())
    with pytest.raises(ValueError, match="it may name ring"):
        ModelConfig(without=("rings",))  # type: ignore[arg-type]
    ModelConfig(without=PARTS)
