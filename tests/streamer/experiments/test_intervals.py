"""Intervals beside libraries, closed forms and resampled users."""

import numpy as np
import pytest

from consumers.schemas import Business
from streamer.experiments.intervals import (
    always_valid,
    chi_squared_tail,
    cuped,
    mismatch,
    plain,
    standard_error,
    users_needed,
)
from tests.lazily import lazily
from tests.worlds.outcomes import MEAN_TASTE, ctr_until, outcomes, results

stats = lazily("scipy.stats")


def per_user(name: str, x: np.ndarray, z: np.ndarray) -> Business:
    """A metric a user: everybody counts as one, before too."""
    ones = np.ones(len(x))
    return results(name, x, ones, z, ones, "revenue_per_user")


def test_with_arms_of_one_size_it_is_the_regression_with_what_was_before() -> None:
    """Least squares of the outcome on the arm and what was before (ANCOVA): the same effect, and its error."""
    random, n = np.random.default_rng(1), 4_000
    z = random.gamma(1.0, 2.0, 2 * n)
    x = 0.7 * z + random.normal(0, 1, 2 * n) + np.repeat([0.0, 0.1], n)
    arm = np.repeat([0.0, 1.0], n)
    design = np.column_stack([np.ones(2 * n), arm, z])
    found, residual, *_ = np.linalg.lstsq(design, x, rcond=None)
    error = np.sqrt(residual[0] / (2 * n - 3) * np.linalg.inv(design.T @ design)[1, 1])
    ours = cuped(per_user("a", x[:n], z[:n]), per_user("b", x[n:], z[n:]))
    assert ours is not None
    assert ours.difference == pytest.approx(found[1], abs=1e-3 * error)  # slopes are pooled by the same weights
    assert ours.error == pytest.approx(error, rel=2e-3)
    welch = stats.ttest_ind(x[n:], x[:n], equal_var=False)
    without = plain(per_user("a", x[:n], z[:n]), per_user("b", x[n:], z[n:]))
    assert without.difference / without.error == pytest.approx(welch.statistic, rel=1e-9)
    assert ours.error < 0.6 * without.error


def test_of_a_ratio_the_error_is_that_of_resampled_users() -> None:
    """Arms of unlike size, a ratio of sums, users of whom nothing is known of before."""
    random = np.random.default_rng(2)
    arms = [outcomes(random, n, 10, days_before=14) for n in (1_500, 900)]
    for arm in arms:
        arm.shown_before[::7] = 0
        arm.clicks_before[::7] = 0
    ours = cuped(*(ctr_until(name, arm, 9) for name, arm in zip("ab", arms, strict=True)))
    assert ours is not None

    def ratios(arm: int) -> np.ndarray:
        """[2, resamples] the ratio, and the one before, of users that are drawn again."""
        of = arms[arm]
        columns = np.stack([of.clicks.sum(1), of.shown.sum(1), of.clicks_before, of.shown_before])
        drawn = columns[:, random.integers(0, columns.shape[1], (1_500, columns.shape[1]))].sum(2)
        return np.stack([drawn[0] / drawn[1], drawn[2] / drawn[3]])

    after, before = ratios(1) - ratios(0)
    slope = np.cov(after, before)[0, 1] / before.var()
    assert ours.error == pytest.approx((after - slope * before).std(), rel=0.06)
    assert standard_error(ctr_until("a", arms[0], 9)) == pytest.approx(ratios(0)[0].std(), rel=0.06)


@pytest.mark.parametrize("lift", [0.0, 0.1])
def test_the_truth_lies_inside_as_often_as_promised_and_the_interval_is_narrower(lift: float) -> None:
    random, runs = np.random.default_rng(3), 300
    inside, widths = 0, []
    for _ in range(runs):
        both = [outcomes(random, 1_000, 14, shift, days_before=28) for shift in (0.0, lift)]
        a, b = (ctr_until(name, arm, 13) for name, arm in zip("ab", both, strict=True))
        ours, without = cuped(a, b), plain(a, b)
        assert ours is not None
        inside += ours.low < lift * MEAN_TASTE < ours.high
        widths.append(ours.error / without.error)
    assert stats.binomtest(inside, runs, 0.95).pvalue > 0.001
    assert np.mean(widths) < 0.85


def test_nothing_known_of_before_is_no_cuped() -> None:
    arms = [outcomes(np.random.default_rng(n), 200, 5) for n in (1, 2)]
    assert cuped(*(ctr_until(name, arm, 4) for name, arm in zip("ab", arms, strict=True))) is None


@pytest.mark.parametrize("effect", [0.02, -0.1, 0.5])
def test_how_many_users_are_needed_is_the_closed_form(effect: float) -> None:
    """Two arms of equal size and standard deviation 1: n = 4 (z₀.₉₇₅ + z₀.₈)² / effect², rounded up."""
    exact = 4 * (stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) ** 2 / effect**2
    error = np.sqrt(4 / 1_000)  # with 1,000 users
    assert users_needed(error, 1_000, effect, always=False) == int(np.ceil(exact - 1e-9))
    always = users_needed(error, 1_000, effect)
    assert always is not None
    assert 1.2 < always / exact < 9
    half = always_valid(np.sqrt(4 / always), always)
    assert half + stats.norm.ppf(0.8) * np.sqrt(4 / always) == pytest.approx(abs(effect), rel=2e-2)
    assert users_needed(error, 1_000, 1e-12) is None


@pytest.mark.parametrize("freedom", range(1, 8))
@pytest.mark.parametrize("x", [0.0, 0.3, 2.0, 11.0, 60.0])
def test_the_tail_of_chi_squared_is_that_of_scipy(x: float, freedom: int) -> None:
    assert chi_squared_tail(x, freedom) == pytest.approx(stats.chi2.sf(x, freedom), rel=1e-9)


def test_users_that_are_dealt_otherwise_are_noticed_as_often_as_by_scipy() -> None:
    random = np.random.default_rng(4)
    for n in random.binomial(2_000, 0.5, 50).tolist():
        p = stats.chisquare([n, 2_000 - n]).pvalue
        assert mismatch({"a": n, "b": 2_000 - n}, {"a": 0.5, "b": 0.5}) == pytest.approx(p)
    assert mismatch({"a": 10, "b": 9}, {"a": 0.5, "b": 0.5}) is None
