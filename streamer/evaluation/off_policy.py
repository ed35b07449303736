"""What another way of making lists would have brought, out of lists that were shown, their propensities and feedback.

A place of a shown list counts where the other list has the same item at it, one over the propensity times as much:
inverse propensity scores (Horvitz and Thompson 1952). Self-normalised ones divide by the weights (Swaminathan and
Joachims 2015); doubly robust ones use the weights only for what a model of the outcomes gets wrong (Dudík, Langford
and Li 2011). It is taken that what comes of a place depends on its item and on the place, not on the items around
it: the item-position model (Li et al. 2018, "Offline evaluation of ranking policies with click models"). Weights of
whole lists would need no such assumption, and a product of propensities that no log is long enough for.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from consumers.counted import agreeing, counted

Z_95 = 1.959963984540054
NOTHING = -1
LEAST_USERS, LEAST_EFFECTIVE = 30, 200
"""With fewer the weights are too uneven for the intervals: with 80 to 150, 95 % ones held in 90 % of the logs."""
LEAST_SUPPORT = 0.9
PRIOR = 5.0
"""Outcomes by which what is known of an item is drawn towards the mean."""


class ShownLists(NamedTuple):
    """N lists that were shown, of up to K places, and what came of each place."""

    user: np.ndarray  # [N] any integer id
    item: np.ndarray  # [N, K] codes; NOTHING: the list is shorter
    propensity: np.ndarray  # [N, K] of the item at the place; NaN: the list does not say
    outcome: np.ndarray  # [N, K]


class PolicyEstimate(NamedTuple):
    """A mean a list, with its 95 % interval; `difference` is that to what was shown, with its interval."""

    value: float
    low: float
    high: float
    difference: float
    difference_low: float
    difference_high: float

    @property
    def verdict(self) -> str:
        """What the interval of the difference says."""
        if self.difference_low > 0:
            return "more"
        return "less" if self.difference_high < 0 else "no difference shown"


class OffPolicy(NamedTuple):
    """`shown`: what the lists that were shown brought. `effective`: lists, by weights, of the place that has fewest.

    `support`: how much of the other lists could have been shown, as the weights have it: 1 on average where all of it
    could. `refusal`: why there are no estimates.
    """

    lists: int
    users: int
    shown: float
    effective: float
    effective_place: int
    support: float
    estimates: Mapping[str, PolicyEstimate]
    refusal: str | None


def off_policy(shown: ShownLists, other: np.ndarray, least_propensity: float = 0.001) -> OffPolicy:
    """Estimates of what other lists would have brought a list, by `ips`, `snips` and `dr`.

    Args:
        shown: what was shown.
        other: [N, K] codes of the items that would have been shown instead; NOTHING: that list is shorter.
        least_propensity: with smaller ones there is a refusal.
    """
    there = other != NOTHING
    same = there & (other == shown.item)
    weight = np.where(same, 1 / np.where(same, shown.propensity, 1.0), 0.0)
    users, of_user = np.unique(shown.user, return_inverse=True)
    places = np.flatnonzero(there.any(axis=0))
    total, squares = weight[:, places].sum(0), (weight[:, places] ** 2).sum(0)
    effective = np.divide(total**2, squares, out=np.zeros(len(places)), where=squares > 0)
    effective *= len(there) / np.maximum(there[:, places].sum(0), 1)  # of a place that few lists have
    worst = int(effective.argmin()) if len(places) else 0
    found = OffPolicy(
        len(other), len(users), float(shown.outcome.sum(1).mean()) if len(other) else math.nan,
        float(effective[worst]) if len(places) else 0.0, int(places[worst]) + 1 if len(places) else 0,
        float(weight.sum() / max(there.sum(), 1)), {}, None,
    )  # fmt: skip
    refusal = _refusal(found, shown, same, least_propensity)
    if refusal is not None:
        return found._replace(refusal=refusal)
    parts = {"ips": _ips(shown, weight), "snips": _snips(shown, weight, there), "dr": _dr(shown, weight, other)}
    before = shown.outcome.sum(1)
    return found._replace(
        estimates={name: _estimate(value, before, of_user, len(users)) for name, value in parts.items()}
    )


def _refusal(found: OffPolicy, shown: ShownLists, same: np.ndarray, least: float) -> str | None:
    """Why nothing can be said, in plain words."""
    listed = shown.item != NOTHING
    missing = int((listed & np.isnan(shown.propensity)).any(axis=1).sum())
    if missing:
        return (
            f"{missing:,} of {found.lists:,} lists {agreeing(missing, 'do')} not say the propensities of their items; "
            "those that `freshet run` publishes do: give the rules of the surface `explore`, such as 0.1, so that "
            "something is drawn"
        )
    if wrong := int((listed & ~((shown.propensity > 0) & (shown.propensity <= 1))).sum()):
        return f"{counted(wrong, 'propensity', 'propensities', 'are')} no chance above 0, and 1 at most"
    if found.users < LEAST_USERS:
        users = counted(found.users, "user")
        return f"lists of {users} were shown and have feedback; it takes {LEAST_USERS}: wait for more feedback"
    small = int((same & (shown.propensity < least)).sum())
    if small:
        return (
            f"{small:,} places that count were given with a propensity below {least:g}: one of them would outweigh "
            f"{1 / least:,.0f} others; explore more, or more evenly"
        )
    if (shown.propensity[listed] == 1).all() and found.support < 1:
        return (
            "nothing was drawn: every propensity is 1, so nothing is known of what was not shown; give the rules of "
            "the surface `explore`, such as 0.1, and wait for feedback"
        )
    if found.support < LEAST_SUPPORT:
        return (
            f"only about {100 * found.support:.0f} % of what the other lists show could have been shown at its place: "
            "of the rest nothing is known; lists that choose among the items that exploration draws from can be judged"
        )
    if found.effective < LEAST_EFFECTIVE:
        return (
            f"the {found.lists:,} lists count as {found.effective:,.0f} by their weights, at place "
            f"{found.effective_place}; it takes {LEAST_EFFECTIVE}: wait for more feedback, or explore more"
        )
    return None


def _ips(shown: ShownLists, weight: np.ndarray) -> np.ndarray:
    """[N] whose mean is the estimate, and whose spread is its own."""
    return np.asarray((weight * shown.outcome).sum(1))


def _snips(shown: ShownLists, weight: np.ndarray, there: np.ndarray) -> np.ndarray:
    """The same, place by place: the mean by weights, and what each list moves it by (its linearisation)."""
    total = weight.sum(0)
    total = np.where(total > 0, total, 1.0)
    mean = (weight * shown.outcome).sum(0) / total  # [K]
    share = there.mean(0)
    moved = weight * (shown.outcome - mean) * (len(weight) / total) * share
    return np.asarray(moved.sum(1) + (mean * share).sum())


def _dr(shown: ShownLists, weight: np.ndarray, other: np.ndarray) -> np.ndarray:
    """What a model says of the other list, and by weights what it gets wrong; each half is modelled by the other.

    The model: an outcome is the mean of its place times a factor of its item, drawn towards 1 where little is known.
    """
    half = _halves(shown.user)
    found = np.zeros(len(weight))
    items = int(max(shown.item.max(), other.max())) + 1
    for mine in (half, ~half):
        listed = shown.item[~mine] != NOTHING
        count = np.maximum(listed.sum(0), 1)
        place = np.where(listed, shown.outcome[~mine], 0).sum(0) / count  # [K]
        codes = np.where(listed, shown.item[~mine], items).ravel()
        came = np.bincount(codes, np.where(listed, shown.outcome[~mine], 0).ravel(), items + 1)
        usual = np.bincount(codes, np.where(listed, place, 0).ravel(), items + 1)
        scale = float(shown.outcome[~mine].max(initial=0.0)) or 1.0
        factor = (came + PRIOR * scale) / (usual + PRIOR * scale)

        def modelled(item: np.ndarray, place: np.ndarray = place, factor: np.ndarray = factor) -> np.ndarray:
            return np.where(item == NOTHING, 0.0, place * factor[np.where(item == NOTHING, items, item)])

        error = shown.outcome[mine] - modelled(shown.item[mine])
        found[mine] = (modelled(other[mine]) + weight[mine] * error).sum(1)
    return found


def _halves(user: np.ndarray) -> np.ndarray:
    """[N] which half: whole users, by a hash that knows no order."""
    mixed = user.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return np.asarray((mixed >> np.uint64(63)) == 1)


def _estimate(value: np.ndarray, before: np.ndarray, of_user: np.ndarray, users: int) -> PolicyEstimate:
    """The means of N lists, and of their differences; lists of one user depend on one another."""
    mean, error = _clustered(value, of_user, users)
    difference, its_error = _clustered(value - before, of_user, users)
    return PolicyEstimate(
        mean, mean - Z_95 * error, mean + Z_95 * error,
        difference, difference - Z_95 * its_error, difference + Z_95 * its_error,
    )  # fmt: skip


def _clustered(value: np.ndarray, of_user: np.ndarray, users: int) -> tuple[float, float]:
    """Mean, and its standard error by users."""
    mean = float(value.mean())
    sums = np.bincount(of_user, value - mean, users)
    return mean, math.sqrt(float(sums @ sums) * users / max(users - 1, 1)) / len(value)
