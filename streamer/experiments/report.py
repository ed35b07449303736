"""What an experiment has shown so far, out of the results on the topic of quality."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeVar

import msgspec

from consumers.decode_fields import UNDECODABLE
from consumers.log import Log
from consumers.schemas import BUSINESS_KEYS, CHALLENGER_KEYS, Business, ChallengerQuality
from streamer.experiments.experiment_records import ExperimentRecord
from streamer.experiments.intervals import LEAST_USERS, Estimate, cuped, mismatch, plain, users_needed
from streamer.lists.rules import HOLDBACK
from streamer.runtime.topics import read_records, whole
from streamer.settings import Settings

Figure = TypeVar("Figure", Business, ChallengerQuality)
MISMATCH_P = 0.001
COMPARED = ("ctr", "cvr", "conversions_per_user", "revenue_per_user", "engagement_per_user", "return_rate")


class ArmDifference(NamedTuple):
    """One metric of an arm beside that of the first arm.

    `plain` and `cuped` are None where there are too few users, or all of them are alike; `cuped` also where nothing is
    known of before.
    `users`: of both arms; where they are dealt in groups, groups. `users_needed`: how many of these it takes until a
    difference as large as the experiment's `effect` is shown in four of five experiments; None: nothing is known of it
    yet.
    """

    arm: str
    metric: str
    first: float | None
    value: float | None
    plain: Estimate | None = None
    cuped: Estimate | None = None
    users: int = 0
    users_needed: int | None = None

    @property
    def best(self) -> Estimate | None:
        """The narrower way: with what is known of before, where it is."""
        return self.cuped or self.plain

    @property
    def verdict(self) -> str:
        """What the always-valid interval says: it may be read at any time."""
        if self.best is None:
            is_there = self.first is not None and self.value is not None and self.first != self.value
            return "too little to tell yet" if is_there else "nothing to compare yet"
        if self.best.always_low > 0:
            return "more"
        return "less" if self.best.always_high < 0 else "no difference shown"


class ExperimentReport(NamedTuple):
    """`users` by arm; `dealt`: the same, or groups of them; `mismatch_p`: how likely numbers of these as far from the
    shares are by chance, None: too few."""

    experiment: ExperimentRecord
    users: dict[str, int]
    dealt: dict[str, int]
    mismatch_p: float | None
    differences: list[ArmDifference]
    challengers: Sequence[ChallengerQuality] = ()  # beside the live model

    @property
    def unit(self) -> str:
        """What is dealt, in the plural."""
        return "users" if self.experiment.unit is None else f"groups ({self.experiment.unit})"

    @property
    def is_mismatched(self) -> bool:
        """Whether users are dealt otherwise than the shares say: then no difference means anything."""
        return self.mismatch_p is not None and self.mismatch_p < MISMATCH_P


def report_of(
    record: ExperimentRecord, results: Iterable[Business], challengers: Iterable[ChallengerQuality] = ()
) -> ExperimentReport:
    """The report of an experiment out of the newest results, and out of what is known of any challengers."""
    found = {(one.arm, one.metric): one for one in results if one.surface == record.surface}
    shares = {arm.name: arm.share for arm in record.arms}
    if record.holdback:
        shares[HOLDBACK] = record.holdback
    arms = {name: {metric: found.get((f"{record.name}:{name}", metric)) for metric in COMPARED} for name in shares}
    told = {name: [one for one in of.values() if one is not None] for name, of in arms.items()}
    users = {name: max((one.users for one in some), default=0) for name, some in told.items()}
    dealt = {name: max((one.dealt for one in some), default=0) for name, some in told.items()}
    first, *others = shares
    differences = [
        _difference(name, metric, arms[first][metric], arms[name][metric], record.effect)
        for name in others for metric in COMPARED
    ]  # fmt: skip
    on = [name for name in shares if record.stop_of(name) is None]  # an arm that was stopped early has fewer users
    p = mismatch({name: dealt[name] for name in on}, {name: shares[name] for name in on})
    return ExperimentReport(record, users, dealt, p, differences, _said_last(record, challengers))


def _said_last(record: ExperimentRecord, challengers: Iterable[ChallengerQuality]) -> list[ChallengerQuality]:
    """Of each challenger what was said last: before, lists may have had another length, and metrics other names."""
    mine = [one for one in challengers if one.experiment == record.name]
    last = {arm.name: max((one.timestamp for one in mine if one.arm == arm.name), default=0) for arm in record.arms}
    return sorted((one for one in mine if one.timestamp == last.get(one.arm)), key=lambda one: (one.arm, one.metric))


def _difference(arm: str, metric: str, first: Business | None, other: Business | None, effect: float) -> ArmDifference:
    a, b = (None if one is None else one.value for one in (first, other))
    found = ArmDifference(arm, metric, a, b)
    if first is None or other is None or a is None or b is None:
        return found
    users = first.dealt + other.dealt
    if min(first.dealt, other.dealt) < LEAST_USERS:
        return found._replace(users=users)
    without = plain(first, other)
    if not without.error:  # nobody has done any of it, or everybody the same: that says nothing of what they will do
        return found._replace(users=users)
    found = found._replace(users=users, plain=without, cuped=cuped(first, other))
    best = found.cuped or without
    return found._replace(users_needed=users_needed(best.error, users, effect * a) if a and best.error else None)


def newest_results(log: Log, settings: Settings) -> list[Business]:
    """What lists bring, as the topic of quality says it: the newest of each key."""
    return _newest(log, settings, BUSINESS_KEYS, Business)


def newest_challengers(log: Log, settings: Settings) -> list[ChallengerQuality]:
    """What challengers are worth beside the live model, likewise."""
    return _newest(log, settings, CHALLENGER_KEYS, ChallengerQuality)


def _newest(log: Log, settings: Settings, keys: bytes, kind: type[Figure]) -> list[Figure]:
    newest: dict[bytes, Figure] = {}
    for record in read_records(log, whole(log, settings.quality_topic)):
        if record.key is None or not record.key.startswith(keys) or record.value is None:
            continue
        try:
            newest[record.key] = msgspec.json.decode(record.value, type=kind)
        except UNDECODABLE:
            continue
    return list(newest.values())
