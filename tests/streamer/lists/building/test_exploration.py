"""What a list says of its propensities is how often its items come: over many ids of lists, by chi-square."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.lists.building.exploration import draws, explored
from tests.lazily import lazily

stats = lazily("scipy.stats")

LISTS = 4_000
SURE = 1e-9  # the chance that a test of many errs


def p_value(counted: np.ndarray, expected: np.ndarray) -> float:
    """Of counts against what is expected, rare cells put together."""
    rare = expected < 5
    counted = np.append(counted[~rare], counted[rare].sum())
    expected = np.append(expected[~rare], expected[rare].sum())
    if expected[-1] < 5:
        assert counted[-1] <= 5 + 10 * expected[-1]
        counted, expected = counted[:-1], expected[:-1]
    statistic = ((counted - expected) ** 2 / expected).sum()
    return float(stats.chi2.sf(statistic, max(len(counted) - 1, 1)))


@settings(max_examples=15, deadline=None)
@given(
    st.integers(2, 20),
    st.integers(1, 6),
    st.sampled_from([0.1, 0.5, 1.0]),
    st.sampled_from([0.5, 1.0, 10.0, np.inf]),
    st.integers(0, 9),
)
def test_propensities_are_what_many_lists_show(n: int, k: int, strength: float, temperature: float, seed: int) -> None:
    score = np.sort(np.random.default_rng(seed).normal(size=n))[::-1]
    size = min(k, n)
    counted, said = np.zeros((size, n)), np.zeros((size, n))
    both = 0
    for number in range(LISTS):
        drawn = explored(score, strength, k, seed, f"interactions-0-{number}", temperature)
        at = np.arange(size), drawn.place
        counted[at] += 1
        assert (drawn.propensity > 0).all()
        assert ((said[at] == 0) | np.isclose(said[at], drawn.propensity, rtol=1e-12)).all()
        said[at] = drawn.propensity
        both += bool(drawn.place[0] == 0 and drawn.place[-1] == size - 1)
    for place in range(size):
        assert said[place].sum() <= 1 + 1e-9
        there = said[place] > 0
        # items that never came have what is left of the chance
        expected = np.append(said[place][there], max(1 - said[place].sum(), 0)) * LISTS
        assert p_value(np.append(counted[place][there], 0), expected) > SURE
    if size > 1:  # and places are drawn independently of one another
        together = said[0, 0] * said[-1, size - 1]
        assert abs(both - LISTS * together) <= 6.5 * np.sqrt(LISTS * together * (1 - together)) + 1


def test_equal_chances_are_those_of_epsilon_slots() -> None:
    kept = explored(np.array([3.0, 2.0, 1.0, 0.0]), 0.3, 1, 0, "a", temperature=np.inf)
    found = {
        int(d.place[0]): float(d.propensity[0])
        for d in (explored(np.array([3.0, 2, 1, 0]), 0.3, 1, 0, f"{n}", temperature=np.inf) for n in range(300))
    }
    assert found == {n: pytest.approx(0.7 + 0.075 if n == 0 else 0.075) for n in range(4)}
    assert kept.place[0] in found


def test_an_inverse_propensity_score_is_unbiased() -> None:
    """What the clicks of lists that were drawn say of a list that was not."""
    score, reward = np.linspace(2, -2, 12), np.random.default_rng(1).random(12)
    estimates = []
    for number in range(20_000):
        drawn = explored(score, 0.5, 3, 0, f"q-{number}")
        kept = drawn.place == np.arange(3)
        estimates.append((kept * reward[drawn.place] / drawn.propensity).sum())
    error = np.std(estimates) / np.sqrt(len(estimates))
    assert abs(np.mean(estimates) - reward[:3].sum()) < 5 * error
    assert error < 0.01


def test_draws_are_uniform_and_keyed_by_seed_and_list() -> None:
    taken = np.concatenate([draws(0, f"interactions-0-{n}", 20) for n in range(1_000)])
    counted, _ = np.histogram(taken, 50, (0, 1))
    assert p_value(counted, np.full(50, 400.0)) > SURE
    assert len(np.unique(taken)) == len(taken)
    assert draws(0, "a", 3).tolist() != draws(1, "a", 3).tolist()
    assert draws(1, "0-a", 2).tolist() != draws(10, "-a", 2).tolist()
    assert draws(7, "a", 5)[:2].tolist() == draws(7, "a", 2).tolist()


@given(st.integers(1, 30), st.integers(1, 30), st.floats(0, 1), st.floats(-1e6, 1e6))
def test_what_cannot_be_drawn_has_a_propensity_of_one(n: int, k: int, strength: float, far: float) -> None:
    score = np.append(np.zeros(n - 1), far - 1e6)
    drawn = explored(score, strength, k, 0, "l")
    alone = np.arange(min(n, k)) + k >= n
    assert (drawn.propensity[alone] == 1.0).all()
    assert drawn.place[alone].tolist() == np.flatnonzero(alone).tolist()
    assert ((drawn.propensity > 0) & (drawn.propensity <= 1)).all()
