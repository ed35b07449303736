"""Estimates of what other lists would bring, beside the truth of a world, and refusals."""

import math

import numpy as np
import pytest

from streamer.evaluation.off_policy import NOTHING, OffPolicy, ShownLists, off_policy
from tests.lazily import lazily
from tests.worlds.dealt_lists import DealtWorld

stats = lazily("scipy.stats")


def test_the_truth_lies_inside_as_often_as_promised() -> None:
    """Twenty ways of making lists, logs drawn anew: no estimator is off by more than chance, intervals hold."""
    world, random, runs = DealtWorld(0), np.random.default_rng(1), 12
    inside, misses = dict[str, list[bool]](), dict[str, list[float]]()
    for _ in range(runs):
        shown, kind = world.log(random, 5_000, explore=0.5)
        for policy in world.policies():
            found = off_policy(shown, world.lists_of(policy, kind, random))
            assert found.refusal is None
            for name, one in found.estimates.items():
                truth = world.truth(policy)
                inside.setdefault(name, []).append(one.low < truth < one.high)
                misses.setdefault(name, []).append((one.value - truth) / (one.high - one.low))
    assert inside.keys() == {"ips", "snips", "dr"}
    for name, hits in inside.items():
        assert np.mean(hits) > 0.9, name
        assert abs(np.mean(misses[name])) < 0.05, name  # of an interval's width; policies of one log miss together


def test_of_two_ways_the_better_one_is_told() -> None:
    world, random = DealtWorld(0), np.random.default_rng(2)
    shown, kind = world.log(random, 5_000, explore=0.5)
    best, worst = (off_policy(shown, world.lists_of(world.policies()[n], kind, random)) for n in (1, 2))
    assert {one.verdict for one in best.estimates.values()} == {"more"}
    assert {one.verdict for one in worst.estimates.values()} == {"less"}


def small(**change: np.ndarray) -> ShownLists:
    """800 lists of 100 users, two places, of which the second is drawn between two items."""
    random = np.random.default_rng(3)
    second = random.integers(0, 2, 800)
    item = np.column_stack([np.zeros(800, int), 1 + second])
    propensity = np.column_stack([np.ones(800), np.full(800, 0.5)])
    clicks = (random.random((800, 2)) < 0.3).astype(float)
    return ShownLists(np.arange(800) % 100, item, propensity, clicks)._replace(**change)


def always(*items: int) -> np.ndarray:
    return np.tile(items, (800, 1))


def test_by_hand() -> None:
    shown = small()
    found = off_policy(shown, always(0, 2))
    same = shown.item[:, 1] == 2
    clicked = shown.outcome[:, 1]
    assert found.estimates["ips"].value == pytest.approx(shown.outcome[:, 0].mean() + (clicked * same / 0.5).mean())
    assert found.estimates["snips"].value == pytest.approx(shown.outcome[:, 0].mean() + clicked[same].mean())
    assert found.effective == pytest.approx(same.sum())
    assert found.support == pytest.approx((800 + same.sum() / 0.5) / 1_600)
    value = shown.outcome[:, 0] + clicked * same / 0.5
    by_user = value.reshape(8, 100).sum(0)  # each user has eight lists
    error = stats.sem(by_user) / 8
    width = found.estimates["ips"].high - found.estimates["ips"].low
    assert width == pytest.approx(2 * 1.959964 * error, rel=1e-6)


def test_what_was_shown_is_what_it_was() -> None:
    shown = small(propensity=np.ones((800, 2)))
    found = off_policy(shown, shown.item)
    for one in found.estimates.values():
        assert one.value == pytest.approx(found.shown)
        assert one.difference == pytest.approx(0, abs=1e-12)
    assert found.effective == 800


def test_the_self_normalised_interval_is_that_of_resampled_users() -> None:
    shown = small()
    other = always(0, 2)
    found = off_policy(shown, other).estimates["snips"]
    random, values = np.random.default_rng(4), []
    for _ in range(300):
        rows = (random.integers(0, 100, 100)[:, None] + 100 * np.arange(8)).ravel()
        again = ShownLists(np.repeat(np.arange(100), 8), *(column[rows] for column in shown[1:]))
        values.append(off_policy(again, other).estimates["snips"].value)
    assert (found.high - found.low) / (2 * 1.96) == pytest.approx(np.std(values), rel=0.15)


@pytest.mark.parametrize(
    ("change", "other", "said"),
    [
        ({"propensity": np.full((800, 2), np.nan)}, (0, 2), "do: give the rules of the surface `explore`"),
        ({"propensity": np.ones((800, 2))}, (0, 2), "nothing was drawn: every propensity is 1"),
        ({"propensity": np.full((800, 2), 1e-5)}, (0, 2), "places that count were given with a propensity below 0.001"),
        ({"propensity": np.full((800, 2), 1.5)}, (0, 2), "1,600 propensities are no chance above 0"),
        ({}, (0, 7), "only about 50 % of what the other lists show could have been shown at its place"),
        ({"user": np.arange(800) % 29}, (0, 2), "lists of 29 users were shown"),
    ],
    ids=["missing", "nothing drawn", "too small", "no chance", "no support", "few users"],
)
def test_what_cannot_be_judged_is_refused_in_plain_words(
    change: dict[str, np.ndarray], other: tuple[int, int], said: str
) -> None:
    found = off_policy(small(**change), always(*other))
    assert found.estimates == {}
    assert found.refusal is not None
    assert said in found.refusal


def test_lists_that_count_as_few_are_refused() -> None:
    """Of 800 lists one of ten places was given with .05 and counts as twenty others."""
    random = np.random.default_rng(5)
    rare = random.random(800) < 0.05
    item = np.column_stack([np.zeros(800, int), np.where(rare, 2, 1)])
    propensity = np.column_stack([np.ones(800), np.where(rare, 0.05, 0.95)])
    found = off_policy(small(item=item, propensity=propensity), always(0, 2))
    assert found.refusal is not None
    assert f"the 800 lists count as {rare.sum()} by their weights, at place 2; it takes 200" in found.refusal


def test_without_lists_beside_there_is_nothing() -> None:
    nothing = ShownLists(*(column[:0] for column in small()))
    found: OffPolicy = off_policy(nothing, always(0, 2)[:0])
    assert math.isnan(found.shown)
    assert found.refusal == "lists of 0 users were shown and have feedback; it takes 30: wait for more feedback"
    shorter = off_policy(small(), always(0, NOTHING))
    assert shorter.estimates["dr"].value == pytest.approx(small().outcome[:, 0].mean(), abs=0.02)
