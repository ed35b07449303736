"""What users do with lists, day by day, without lists: experiments whose truth is known.

A user has a taste, the chance that they click what is shown, and a zeal, how much they are shown a day. Both stay, so
days of one user resemble each other, and what was before says much of what comes. The arm multiplies the tastes.
"""

from typing import NamedTuple

import numpy as np

from consumers.schemas import Business

MEAN_TASTE = 0.1
A_DAY = 2.0
"""Items that are shown to a user on a day, on average."""


class Outcomes(NamedTuple):
    """Of N users on D days, and in the time before: what was shown, and what was clicked."""

    shown: np.ndarray  # [N, D]
    clicks: np.ndarray  # [N, D]
    shown_before: np.ndarray  # [N]
    clicks_before: np.ndarray  # [N]


def outcomes(random: np.random.Generator, users: int, days: int, lift: float = 0.0, days_before: int = 0) -> Outcomes:
    """Users come on a day of their own, and stay. The truth: CTR is (1 + lift) · MEAN_TASTE."""
    taste, zeal = random.beta(2, 18, users), random.gamma(1.0, A_DAY, users)
    first = random.integers(0, days, users)
    there = np.arange(days) >= first[:, None]
    shown = random.poisson(zeal[:, None] * there)
    clicks = random.binomial(shown, np.minimum(taste * (1 + lift), 1)[:, None])
    shown_before = random.poisson(zeal * days_before)
    return Outcomes(shown, clicks, shown_before, random.binomial(shown_before, taste))


def purchases(random: np.random.Generator, users: int, lift: float = 0.0) -> np.ndarray:
    """[N] what users spend: most nothing, some much. The truth: the mean is (1 + lift) · 0.1 · e."""
    return np.where(random.random(users) < 0.1, random.lognormal(0.5, 1.0, users), 0.0) * (1 + lift)


def results(name: str, x: np.ndarray, y: np.ndarray, z: np.ndarray, w: np.ndarray, metric: str = "ctr") -> Business:
    """What the join says of an arm of these users [N], of whom anything is counted where `y` is above 0.

    Args:
        name: of experiment and arm.
        x, y: what each adds to numerator and denominator.
        z, w: what each added to them before.
    """
    there = y > 0
    x, y, z, w = (column[there].astype(float) for column in (x, y, z, w))
    top, below = float(x.sum()), float(y.sum())
    before = (z.sum(), w.sum(), z @ z, z @ w, w @ w, x @ z, x @ w, y @ z, y @ w)
    return Business(
        metric, "default", name, top / below if below else None, top, below, len(x), 0,
        (float(x @ x), float(x @ y), float(y @ y)), tuple(float(one) for one in before),
    )  # fmt: skip


def ctr_until(name: str, of: Outcomes, day: int) -> Business:
    """What is said at the end of a day, from 0."""
    shown, clicks = of.shown[:, : day + 1].sum(1), of.clicks[:, : day + 1].sum(1)
    return results(name, clicks, shown, of.clicks_before, of.shown_before)
