"""A report as text, as JSON, and as one sentence an arm."""

from datetime import UTC, datetime

import msgspec

from consumers.schemas import ChallengerQuality
from streamer.experiments.experiment_records import ArmStop
from streamer.experiments.intervals import LEAST_USERS, Estimate
from streamer.experiments.report import ArmDifference, ExperimentReport

SHARES = ("ctr", "cvr", "return_rate")
NAMES = {
    "ctr": "clicked of shown",
    "cvr": "bought of clicked",
    "conversions_per_user": "conversions a user",
    "revenue_per_user": "revenue a user",
    "engagement_per_user": "engagement a user, s",
    "return_rate": "returned of bought",
}


def verdicts(report: ExperimentReport) -> list[str]:
    """One sentence an arm, about the goal: what is shown, how sure that is, and what is missing."""
    goal = report.experiment.goal
    return [_sentence(report, one) for one in report.differences if one.metric == goal]


def _sentence(report: ExperimentReport, one: ArmDifference) -> str:
    record = report.experiment
    first, name = record.arms[0].name, NAMES[one.metric]
    if (stop := record.stop_of(one.arm)) is not None:
        return f"{one.arm} was stopped: {_harm(stop, first)}."
    if report.is_mismatched:
        return f"Nothing can be said of {one.arm}: users are not dealt as the shares say."
    if one.best is None or one.value is None or one.first is None:
        return f"Nothing can be said of {one.arm} yet: {_nothing_why(report, one)}."
    both = f"{name} {_level(one.value, one.metric)} against {_level(one.first, one.metric)}"
    between = _between(one.best, one.metric)
    sure = f"the difference is {between}, 95 % sure however often one looks"
    if one.verdict in ("more", "less"):
        return f"{one.arm} has {one.verdict} than {first}: {both}; {sure}."
    return f"No difference between {one.arm} and {first} is shown: {both}; {sure}{_missing(report, one)}."


def _nothing_why(report: ExperimentReport, one: ArmDifference) -> str:
    first, name = report.experiment.arms[0].name, NAMES[one.metric]
    if min(report.dealt[first], report.dealt[one.arm]) < LEAST_USERS:
        return f"that takes outcomes of {LEAST_USERS} {report.unit} in each arm"
    if one.first is None or one.value is None:
        return f"{first if one.first is None else one.arm} has nothing of which {name} could be a share"
    return f"{name} is the same for all {report.unit} of each arm, so nothing says how much it is by chance"


def _missing(report: ExperimentReport, one: ArmDifference) -> str:
    if one.users_needed is None:
        return ""
    effect = f"{100 * report.experiment.effect:g} %"
    if one.users_needed <= one.users:
        return f"; one of {effect} would have been seen by now, with {one.users:,} {report.unit}"
    needed = f"{_rounded(one.users_needed):,} {report.unit}"
    return f"; one of {effect} would be seen with about {needed}, there are {one.users:,}"


def _rounded(users: int) -> int:
    """To two digits: more are not known."""
    unit = int(10 ** max(len(str(users)) - 2, 0))
    return -(-users // unit) * unit


def _harm(stop: ArmStop, first: str) -> str:
    low, high = _amount(stop.low, stop.metric), _amount(stop.high, stop.metric)
    return f"{NAMES[stop.metric]} differs from {first} by {low} to {high}, which its guard does not allow"


def _between(estimate: Estimate, metric: str) -> str:
    return f"{_amount(estimate.always_low, metric)} to {_amount(estimate.always_high, metric)}"


def _amount(difference: float, metric: str) -> str:
    return f"{100 * difference:+.3g} points" if metric in SHARES else f"{difference:+.4g}"


def _level(value: float, metric: str) -> str:
    return f"{100 * value:.4g} %" if metric in SHARES else f"{value:.4g}"


def in_words(report: ExperimentReport) -> list[str]:
    """The report as lines of text: the verdict, then every metric of every arm."""
    record, first = report.experiment, report.experiment.arms[0].name
    counts = ", ".join(f"{name} {n:,}" for name, n in report.users.items())
    lines = [f"{record.name} on {record.surface}: {record.state}; users with feedback: {counts}"]
    if record.unit is not None:
        lines.append(f"  dealt by {record.unit}: " + ", ".join(f"{name} {n:,}" for name, n in report.dealt.items()))
    if report.is_mismatched:
        lines.append(
            f"ALARM: users are not dealt as the shares say (p {report.mismatch_p:.2g}): look for what loses the "
            "feedback of an arm before you read on"
        )
    lines += [*stops_in_words(report), *challengers_in_words(report)]
    if not any(report.users.values()):
        in_shadow = record.state == "shadow"
        none = "nobody is dealt yet" if in_shadow else "no feedback of its lists has been counted yet"
        return [*lines, f"  {none}"]
    lines += verdicts(report)
    for one in report.differences:
        if one.value is None and one.first is None:
            continue
        difference = "–" if one.value is None or one.first is None else f"{one.value - one.first:+.4g}"
        if one.best is not None:
            best = one.best
            difference = (
                f"{best.difference:+.4g}, 95 % [{best.low:+.4g}, {best.high:+.4g}], at any time "
                f"[{best.always_low:+.4g}, {best.always_high:+.4g}]{_narrower(one)}"
            )
        this, that = ("–" if level is None else f"{level:.4g}" for level in (one.value, one.first))
        lines.append(f"  {one.metric}: {one.arm} {this}, {first} {that}: {difference}: {one.verdict}")
    return lines


def cells(one: ArmDifference) -> list[str]:
    """A row of a table: metric, first arm, this one, difference, interval, users needed, verdict."""
    levels = ["–" if level is None else _level(level, one.metric) for level in (one.first, one.value)]
    difference, between = ("–", "–")
    if one.best is not None:
        difference, between = _amount(one.best.difference, one.metric), _between(one.best, one.metric)
    needed = "–" if one.users_needed is None else f"{_rounded(one.users_needed):,}, there are {one.users:,}"
    return [NAMES[one.metric], *levels, difference, between, needed, one.verdict]


def _narrower(one: ArmDifference) -> str:
    """What is known of before brings."""
    if one.cuped is None or one.plain is None or not one.plain.error:
        return ""
    return f" ({100 * (1 - one.cuped.error / one.plain.error):.0f} % narrower by what users did before)"


def challengers_in_words(report: ExperimentReport) -> list[str]:
    """A sentence for each measure of each challenger: what it is beside the live model's, and how sure that is."""
    return [_beside_live(one) for one in report.challengers]


def _beside_live(one: ChallengerQuality) -> str:
    both = f"{one.arm} has {one.metric} {one.value:.4f}, the live model {one.live:.4f}"
    said = f"{both}, over {one.events:,} interactions"
    if one.error is None:
        return f"{said}: too few to say how sure the difference is."
    difference, reach = one.value - one.live, 1.96 * one.error
    return f"{said}: the difference is {difference - reach:+.4f} to {difference + reach:+.4f}, 95 % sure."


def stops_in_words(report: ExperimentReport) -> list[str]:
    """A line for each arm that a guard has stopped."""
    first = report.experiment.arms[0].name
    return [f"STOPPED: {one.arm} at {_when(one.at_ms)}: {_harm(one, first)}" for one in report.experiment.stops]


def _when(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d %H:%M:%S}Z"


def as_json(report: ExperimentReport) -> dict[str, object]:
    """The report for machines. Intervals are those that use what is known of before; `plain` has those that do not."""
    return {
        "experiment": report.experiment.text(), "users": report.users, "dealt": report.dealt,
        "mismatch_p": report.mismatch_p, "mismatched": report.is_mismatched, "verdicts": verdicts(report),
        "differences": [_row(one) for one in report.differences],
        "challengers": [msgspec.to_builtins(one) for one in report.challengers],
        "beside_live": challengers_in_words(report),
    }  # fmt: skip


def _row(one: ArmDifference) -> dict[str, object]:
    raw = None if one.value is None or one.first is None else one.value - one.first
    best = dict.fromkeys(Estimate._fields) if one.best is None else one.best._asdict()
    row: dict[str, object] = {"arm": one.arm, "metric": one.metric, "first": one.first, "value": one.value}
    row |= best | {"difference": raw if one.best is None else one.best.difference}
    row |= {"cuped": one.cuped is not None, "plain": None if one.plain is None else one.plain._asdict()}
    return row | {"users": one.users, "users_needed": one.users_needed, "verdict": one.verdict}
