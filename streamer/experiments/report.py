"""What an experiment has shown so far, out of the results on the topic of quality."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from consumers.log import Log
from consumers.schemas import BUSINESS_KEYS, Business
from streamer.experiments.experiment_records import ExperimentRecord
from streamer.lists.rules import HOLDBACK
from streamer.runtime.topics import read_records, whole
from streamer.settings import Settings

Z_95 = 1.959963984540054
ALPHA, SHARPEST_AT_USERS = 0.05, 10_000
"""Intervals hold with 95 %; an always-valid one is narrowest, beside the other, about so many users."""
LEAST_USERS = 30
MISMATCH_P = 0.001
COMPARED = ("ctr", "cvr", "conversions_per_user", "revenue_per_user", "engagement_per_user", "return_rate")


class ArmDifference(NamedTuple):
    """One metric of an arm beside that of the first arm. Intervals are None where there are too few users.

    `low`, `high`: of the difference, if it is looked at once, at a time that was fixed before; `always_low`,
    `always_high`: however often it is looked at, and whenever it is stopped.
    """

    arm: str
    metric: str
    first: float | None
    value: float | None
    difference: float | None
    low: float | None = None
    high: float | None = None
    always_low: float | None = None
    always_high: float | None = None

    @property
    def verdict(self) -> str:
        """What the always-valid interval says: it may be read at any time."""
        if self.always_low is None or self.always_high is None:
            return "too few users yet"
        if self.always_low > 0:
            return "more"
        return "less" if self.always_high < 0 else "no difference shown"


class ExperimentReport(NamedTuple):
    """`users` by arm; `mismatch_p`: how likely counts as far from the shares are by chance, None: too few users."""

    experiment: ExperimentRecord
    users: dict[str, int]
    mismatch_p: float | None
    differences: list[ArmDifference]

    @property
    def is_mismatched(self) -> bool:
        """Whether users are dealt otherwise than the shares say: then no difference means anything."""
        return self.mismatch_p is not None and self.mismatch_p < MISMATCH_P


def report_of(record: ExperimentRecord, results: Iterable[Business]) -> ExperimentReport:
    """The report of an experiment out of the newest results."""
    found = {(one.arm, one.metric): one for one in results if one.surface == record.surface}
    shares = {arm.name: arm.share for arm in record.arms}
    if record.holdback:
        shares[HOLDBACK] = record.holdback
    arms = {name: {metric: found.get((f"{record.name}:{name}", metric)) for metric in COMPARED} for name in shares}
    users = {name: max((one.users for one in of.values() if one is not None), default=0) for name, of in arms.items()}
    first, *others = shares
    differences = [
        _difference(name, metric, arms[first][metric], arms[name][metric]) for name in others for metric in COMPARED
    ]
    return ExperimentReport(record, users, mismatch(users, shares), differences)


def _difference(arm: str, metric: str, first: Business | None, other: Business | None) -> ArmDifference:
    a, b = (None if one is None else one.value for one in (first, other))
    if first is None or other is None or a is None or b is None:
        return ArmDifference(arm, metric, a, b, None)
    if min(first.users, other.users) < LEAST_USERS:
        return ArmDifference(arm, metric, a, b, b - a)
    error = math.hypot(standard_error(first), standard_error(other))
    fixed, always = Z_95 * error, always_valid(error, first.users + other.users)
    d = b - a
    return ArmDifference(arm, metric, a, b, d, d - fixed, d + fixed, d - always, d + always)


def standard_error(one: Business) -> float:
    """Of a ratio of sums over users, who are what was dealt: the delta method (Deng, Knoblich and Lu 2018, eq. 3)."""
    n, ratio = one.users, one.numerator / one.denominator
    xx, xy, yy = one.squares
    mean_y = one.denominator / n
    spread = max(xx - 2 * ratio * xy + ratio**2 * yy, 0.0) / (n - 1)  # of x − ratio · y, whose mean is 0
    return math.sqrt(spread / n) / mean_y


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


def mismatch(users: Mapping[str, int], shares: Mapping[str, float]) -> float | None:
    """The p-value of Pearson's chi-squared test of the numbers of users against the shares."""
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
    tail, k = (math.erfc(math.sqrt(x / 2)), 1) if freedom % 2 else (math.exp(-x / 2), 2)
    while k < freedom:
        tail += math.exp(k / 2 * math.log(x / 2) - x / 2 - math.lgamma(k / 2 + 1))
        k += 2
    return min(tail, 1.0)


def newest_results(log: Log, settings: Settings) -> list[Business]:
    """What is said on the topic of quality, the newest of each key."""
    newest: dict[bytes, Business] = {}
    for record in read_records(log, whole(log, settings.quality_topic)):
        if record.key is None or not record.key.startswith(BUSINESS_KEYS) or record.value is None:
            continue
        try:
            newest[record.key] = msgspec.json.decode(record.value, type=Business)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
    return list(newest.values())


def in_words(report: ExperimentReport) -> list[str]:
    """The report as lines of text."""
    record, first = report.experiment, report.experiment.arms[0].name
    counts = ", ".join(f"{name} {n:,}" for name, n in report.users.items())
    lines = [f"{record.name} on {record.surface}: {record.state}; users with feedback: {counts}"]
    if report.is_mismatched:
        lines.append(
            f"ALARM: users are not dealt as the shares say (p {report.mismatch_p:.2g}): look for what loses the "
            "feedback of an arm before you read on"
        )
    for one in report.differences:
        if one.difference is None:
            continue
        interval = "" if one.low is None else f", 95 % [{one.low:+.4g}, {one.high:+.4g}]"
        always = "" if one.low is None else f", at any time [{one.always_low:+.4g}, {one.always_high:+.4g}]"
        lines.append(
            f"  {one.metric}: {one.arm} {one.value:.4g}, {first} {one.first:.4g}: "
            f"{one.difference:+.4g}{interval}{always}: {one.verdict}"
        )
    return lines if len(lines) > 1 else [*lines, "  no feedback of its lists has been counted yet"]


def as_json(report: ExperimentReport) -> dict[str, object]:
    """The report for machines."""
    rows: Sequence[dict[str, object]] = [one._asdict() | {"verdict": one.verdict} for one in report.differences]
    return {
        "experiment": report.experiment.text(), "users": report.users, "mismatch_p": report.mismatch_p,
        "mismatched": report.is_mismatched, "differences": rows,
    }  # fmt: skip
