"""Intervals of the difference of two arms, out of sums over users: plain, and with what users did before (CUPED)."""

import math
from collections.abc import Mapping
from typing import NamedTuple

from consumers.schemas import Business

Z_95, Z_80 = 1.959963984540054, 0.8416212335729143
ALPHA, SHARPEST_AT_USERS = 0.05, 10_000
"""Intervals hold with 95 %; an always-valid one is narrowest, beside the other, about so many users."""
LEAST_USERS = 30
MOST_USERS = 10**12
ROUNDING = 1e-12
"""Of what it is made of, a variance that is smaller is 0: sums of many users are rounded."""


class Estimate(NamedTuple):
    """A difference with 95 % intervals.

    `low`, `high`: if it is looked at once, at a time that was fixed before; `always_low`, `always_high`: however often
    it is looked at, and whenever it is stopped. `error`: the standard error.
    """

    difference: float
    low: float
    high: float
    always_low: float
    always_high: float
    error: float


class _ArmMoments(NamedTuple):
    """A ratio of sums over users, the same ratio of the time before, their variances, and their covariance."""

    ratio: float
    past: float
    variance: float
    past_variance: float
    covariance: float


def plain(first: Business, other: Business) -> Estimate:
    """The difference of `other` and `first`, both with `LEAST_USERS` and a value."""
    difference = other.numerator / other.denominator - first.numerator / first.denominator
    return _estimate(difference, math.hypot(standard_error(first), standard_error(other)), first.dealt + other.dealt)


def cuped(first: Business, other: Business) -> Estimate | None:
    """The same less what the arms' users differed by before (Deng et al. 2013); None: nothing is known of before.

    Both arms draw their users alike, so the difference before is 0 on average: θ times it can be taken off. The best θ
    is the covariance of the difference with the one before, over the variance of that. Of ratios of sums the
    covariances are those of the delta method (their appendix B; Deng, Knoblich and Lu 2018, eq. 3).
    """
    a, b = _moments(first), _moments(other)
    if a is None or b is None:
        return None
    variance, past = a.variance + b.variance, a.past_variance + b.past_variance
    if past <= 0 or variance <= 0:
        return None
    covariance = a.covariance + b.covariance
    theta, left = covariance / past, variance - covariance**2 / past
    if left <= ROUNDING * variance:  # what was before says all of it: no interval can be made of what is left
        return None
    difference = b.ratio - a.ratio - theta * (b.past - a.past)
    return _estimate(difference, math.sqrt(left), first.dealt + other.dealt)


def standard_error(one: Business) -> float:
    """Of a ratio of sums over what was dealt, users or groups: the delta method (Deng, Knoblich and Lu 2018, eq. 3).

    0 where all of them are alike.
    """
    n, ratio = one.dealt, one.numerator / one.denominator
    xx, xy, yy = one.squares
    mean_y = one.denominator / n
    spread = _squares_of_rest(ratio, xx, xy, yy) / (n - 1)
    return math.sqrt(spread / n) / mean_y


def _squares_of_rest(ratio: float, xx: float, xy: float, yy: float) -> float:
    """The sum of squares of x − ratio · y, whose mean is 0."""
    rest = xx - 2 * ratio * xy + ratio**2 * yy
    return rest if rest > ROUNDING * (xx + ratio**2 * yy) else 0.0


def _moments(one: Business) -> _ArmMoments | None:
    n, (z, w, zz, zw, ww, xz, xw, yz, yw) = one.dealt, one.before
    if w <= 0:
        return None
    ratio, past, y = one.numerator / one.denominator, z / w, one.denominator
    scale = n / (n - 1)
    before = _squares_of_rest(past, zz, zw, ww) * scale / w**2
    both = (xz - past * xw - ratio * yz + ratio * past * yw) * scale / (y * w)
    return _ArmMoments(ratio, past, standard_error(one) ** 2, before, both)


def _estimate(difference: float, error: float, users: int) -> Estimate:
    fixed, always = Z_95 * error, always_valid(error, users)
    d = difference
    return Estimate(d, d - fixed, d + fixed, d - always, d + always, error)


def always_valid(error: float, n: int, alpha: float = ALPHA, sharpest_at: int = SHARPEST_AT_USERS) -> float:
    """Half the width of an asymptotic confidence sequence (Waudby-Smith et al. 2021, Theorem 2.2).

    Args:
        error: the standard error now.
        n: users so far.
        alpha: how often it may miss, at whatever time.
        sharpest_at: the number of users for which it is tuned (their eq. 27).
    """
    rho2 = (-2 * math.log(alpha) + math.log(-2 * math.log(alpha) + 1)) / sharpest_at
    scaled = n * rho2 + 1
    return error * math.sqrt(2 * scaled / (n * rho2) * math.log(math.sqrt(scaled) / alpha))


def users_needed(error: float, n: int, effect: float, always: bool = True) -> int | None:
    """How many users there are until a difference of `effect` is shown in four of five experiments; None: never.

    Args:
        error: the standard error with `n` users; with others it goes by 1 / √n.
        effect: the size of the difference.
        always: shown by the always-valid interval; False: by the one of a time that is fixed before.
    """

    def is_seen(users: int) -> bool:
        then = error * math.sqrt(n / users)
        half = always_valid(then, users) if always else Z_95 * then
        return half + Z_80 * then <= abs(effect)

    least, most = 2, 4
    while not is_seen(most):
        least, most = most, most * 2
        if most > MOST_USERS:
            return None
    while most - least > 1:
        middle = (least + most) // 2
        least, most = (least, middle) if is_seen(middle) else (middle, most)
    return most


def mismatch(users: Mapping[str, int], shares: Mapping[str, float]) -> float | None:
    """The p-value of Pearson's chi-squared test of the numbers of users against the shares; None: too few users."""
    total, of = sum(users.values()), sum(shares.values())
    if total < LEAST_USERS:
        return None
    expected = {name: total * share / of for name, share in shares.items()}
    statistic = sum((users[name] - mean) ** 2 / mean for name, mean in expected.items())
    return chi_squared_tail(statistic, len(shares) - 1)


def chi_squared_tail(x: float, freedom: int) -> float:
    """P(X > x) of the chi-squared distribution, by its recursion over degrees of freedom.

    >>> round(chi_squared_tail(3.841, 1), 3), round(chi_squared_tail(5.991, 2), 3)
    (0.05, 0.05)
    """
    if x <= 0:
        return 1.0
    if math.isinf(x):
        return 0.0
    tail, k = (math.erfc(math.sqrt(x / 2)), 1) if freedom % 2 else (math.exp(-x / 2), 2)
    while k < freedom:
        tail += math.exp(k / 2 * math.log(x / 2) - x / 2 - math.lgamma(k / 2 + 1))
        k += 2
    return min(tail, 1.0)
