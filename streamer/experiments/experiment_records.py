"""Records of the topic of experiments: what is compared, since when it runs, and which arms were stopped by a guard."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from consumers.decode_fields import UNDECODABLE
from consumers.errors import UnknownTopic
from consumers.log import Log
from consumers.records import NewRecord
from streamer.errors import RulesRefused
from streamer.experiments.strata import balanced_salt, users_of_topic
from streamer.lists.rule_records import check_texts
from streamer.lists.rules import SURFACE, USER_FIELD, ExperimentArm, Rules, SurfaceExperiment, first_problem
from streamer.lists.rules_on_log import put_experiment, read_all_rules
from streamer.runtime.topics import create_missing, read_records, whole
from streamer.settings import Settings

State = Literal["created", "shadow", "running", "stopped"]
Metric = Literal["ctr", "cvr", "conversions_per_user", "revenue_per_user", "engagement_per_user", "return_rate"]
_OF_THE_LOG = ("state", "created_ms", "started_ms", "stopped_ms", "stops")


class ArmGuard(BaseModel):
    """A metric that an arm may not harm: that it is lower than in the first arm, or, of returns, higher."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    metric: Metric
    by: float = Field(default=0.0, ge=0, lt=1, description="harm that is borne, as a share of the first arm's value")


class ArmStop(BaseModel):
    """An arm that a guard has stopped, on the topic of experiments. Record key: `<experiment>/<arm>`.

    `started_ms` is that of the experiment; `at_ms`: when, by the wall clock; `low`, `high`: the always-valid interval
    of the difference with the first arm, by which it was decided.
    """

    model_config = ConfigDict(frozen=True)

    experiment: str
    arm: str
    metric: str
    started_ms: int
    at_ms: int
    difference: float
    low: float
    high: float


class ExperimentRecord(BaseModel):
    """An experiment. Times are those of the wall clock, epoch ms; the others are compared with the first arm.

    `goal`: the metric that the verdict is about; `effect`: the change of it that is worth seeing, as a share of the
    first arm's value. `unit`: a field of users, those of one value are dealt together; `strata`: a field of users, of
    each value every arm is to have its share. `state` shadow: challengers learn and are measured, nobody is dealt.
    `stops` are records of their own. Where every arm but the first
    is stopped, the experiment is.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, serialize_by_alias=True)

    name: str = Field(pattern=SURFACE)
    surface: str = Field(default="default", pattern=SURFACE)
    arms: tuple[ExperimentArm, ...] = Field(min_length=2, max_length=10)
    holdback: float = Field(default=0.0, ge=0, lt=1)
    salt: str = Field(default="", max_length=64)
    unit: str | None = Field(default=None, pattern=USER_FIELD)
    strata: str | None = Field(default=None, pattern=USER_FIELD)
    goal: Metric = "ctr"
    effect: float = Field(default=0.05, gt=0, le=10)
    guards: tuple[ArmGuard, ...] = Field(default=(), max_length=6)
    state: State = "created"
    created_ms: int = 0
    started_ms: int | None = None
    stopped_ms: int | None = None
    stops: tuple[ArmStop, ...] = ()

    def on_surface(self) -> SurfaceExperiment:
        """As the rules of its surface hold it."""
        stopped = tuple(stop.arm for stop in self.stops)
        return SurfaceExperiment(
            name=self.name, salt=self.salt or self.name, unit=self.unit, holdback=self.holdback, arms=self.arms,
            stopped=stopped, shadow=self.state == "shadow",
        )  # fmt: skip

    def stop_of(self, arm: str) -> ArmStop | None:
        """What stopped an arm; None: no guard did."""
        return next((stop for stop in self.stops if stop.arm == arm), None)

    def with_stops(self, stops: Sequence[ArmStop]) -> "ExperimentRecord":
        """With what guards have stopped since it was started."""
        mine = tuple(one for one in stops if one.started_ms == self.started_ms)
        over = self.state == "running" and {arm.name for arm in self.arms[1:]} <= {one.arm for one in mine}
        ended = {"state": "stopped", "stopped_ms": max(one.at_ms for one in mine)} if over else {}
        return self.model_copy(update={"stops": mine, **ended})

    def text(self) -> dict[str, Any]:
        """As JSON has it."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class CreatedExperiment(NamedTuple):
    """What creating has done. `how`: it was there before with other words, or with the same, or not at all."""

    record: ExperimentRecord
    how: Literal["created", "changed", "unchanged"]


def read_experiment(value: Any) -> ExperimentRecord:
    """An experiment, of an object as JSON or YAML has it. Raises RulesRefused with the field and what is wrong."""
    try:
        record = ExperimentRecord.model_validate(value)
        record.on_surface()
    except ValidationError as error:
        field, message = first_problem(error, ExperimentRecord)
        raise RulesRefused(f"{field}: {message}" if field else message, field) from None
    return record


def experiments(log: Log, settings: Settings) -> dict[str, ExperimentRecord]:
    """What the topic says, by name; empty where there is no such topic. Records of others are passed over."""
    found: dict[str, ExperimentRecord] = {}
    stops: dict[str, dict[str, ArmStop]] = {}
    try:
        places = whole(log, settings.experiments_topic)
    except UnknownTopic:
        return found
    for record in read_records(log, places):
        name, slash, arm = (record.key or b"").decode("utf-8", "replace").partition("/")
        try:
            if record.value is None:
                (stops.get(name, {}) if slash else found).pop(arm if slash else name, None)
            elif slash:
                stops.setdefault(name, {})[arm] = ArmStop.model_validate_json(record.value)
            else:
                found[name] = read_experiment(json.loads(record.value))
        except (RulesRefused, *UNDECODABLE):
            continue
    return {name: record.with_stops([*stops.get(name, {}).values()]) for name, record in found.items()}


def create(log: Log, settings: Settings, wanted: ExperimentRecord, now_ms: int) -> CreatedExperiment:
    """Writes a new experiment down; it runs from `start` on. Raises RulesRefused where one of its name has run,
    or where a condition of an arm is none."""
    for n, arm in enumerate(wanted.arms):
        check_texts(Rules(surface=wanted.surface).of_arm(arm), f"arms.{n}.")
    before = experiments(log, settings).get(wanted.name)
    if before is not None and before.state != "created":
        raise RulesRefused(f"{wanted.name!r} is {before.state}; an experiment that has run keeps its name", "name")
    if before is not None and before.model_dump(exclude={*_OF_THE_LOG}) == wanted.model_dump(exclude={*_OF_THE_LOG}):
        return CreatedExperiment(before, "unchanged")
    new = {"state": "created", "created_ms": now_ms, "started_ms": None, "stopped_ms": None, "stops": ()}
    record = _write(log, settings, wanted.model_copy(update=new))
    return CreatedExperiment(record, "created" if before is None else "changed")


def shadow(log: Log, settings: Settings, name: str, now_ms: int) -> ExperimentRecord:
    """Has the challengers of an experiment begin with the next epoch, to be measured beside the live model.

    (1) That is written down, (2) the rules of its surface name it. Done again, it does what is left of it. Raises
    RulesRefused where it has no challenger, has run, or another one runs on the surface.
    """
    every = experiments(log, settings)
    record = _known(every, name)
    if not record.on_surface().challengers():
        raise RulesRefused(f"no arm of {name!r} has a model of its own: there is nothing to measure", "arms")
    if record.state not in ("created", "shadow"):
        raise RulesRefused(f"{name!r} is {record.state}: in shadow is what has not been started", "name")
    _alone(every, record)
    if record.state != "shadow":
        record = _write(log, settings, record.model_copy(update={"state": "shadow"}))  # (1)
    put_experiment(log, settings, record.surface, record.on_surface(), now_ms)  # (2)
    return record


def start(log: Log, settings: Settings, name: str, now_ms: int) -> ExperimentRecord:
    """Has an experiment run from the next epoch on: (1) it is written down, (2) the rules of its surface name it.

    Where it has strata, or users are dealt in groups, the salt is chosen now, by the users that are known. Done again,
    it does what is left of it. Raises RulesRefused where there is none, it was stopped, another one runs on the
    surface, or challengers have not been in shadow.
    """
    every = experiments(log, settings)
    record = _known(every, name)
    if record.state == "stopped":
        raise RulesRefused(f"{name!r} was stopped; create another one, so that its numbers are its own", "name")
    if record.state == "created" and record.on_surface().challengers():
        raise RulesRefused(
            f"a challenger is measured before anybody is shown its lists: `freshet experiment shadow {name}` first",
            "name",
        )
    _alone(every, record)
    if record.state != "running":
        started: dict[str, Any] = {"state": "running", "started_ms": now_ms}
        if record.strata is not None or record.unit is not None:
            started["salt"] = balanced_salt(record.on_surface(), record.strata, users_of_topic(log, settings).known)
        record = _write(log, settings, record.model_copy(update=started))  # (1)
    put_experiment(log, settings, record.surface, record.on_surface(), now_ms)  # (2)
    return record


def stop(log: Log, settings: Settings, name: str, now_ms: int) -> ExperimentRecord:
    """Ends an experiment: (1) the rules of its surface no longer name it, (2) that is written down."""
    record = _known(experiments(log, settings), name)
    if record.state == "created":
        raise RulesRefused(f"{name!r} has not been started", "name")
    if record.state == "stopped":
        settle(log, settings, [record], now_ms)
        return record
    put_experiment(log, settings, record.surface, None, now_ms)  # (1)
    return _write(log, settings, record.model_copy(update={"state": "stopped", "stopped_ms": now_ms}))  # (2)


def stop_arms(log: Log, settings: Settings, stops: Sequence[ArmStop]) -> None:
    """Writes down that guards stopped arms; `settle` has rules follow."""
    log.append(
        [
            NewRecord(
                settings.experiments_topic,
                f"{one.experiment}/{one.arm}".encode(),
                one.model_dump_json().encode(),
                partition=0,
            )
            for one in stops
        ]
    )


def settle(log: Log, settings: Settings, every: Sequence[ExperimentRecord], now_ms: int) -> None:
    """Has rules follow what is written down: arms and experiments that are over. Done again, it changes nothing.

    Rules that name another experiment, or none, stay as they are.
    """
    over = [record for record in every if record.stops or record.state == "stopped"]
    rules = read_all_rules(log, settings)[0].records if over else {}
    for record in over:
        told = rules.get(record.surface)
        running = None if told is None else told.now.rules.experiment
        wanted = record.on_surface() if record.state == "running" else None
        if running is not None and running.name == record.name and running != wanted:
            put_experiment(log, settings, record.surface, wanted, now_ms)


def _alone(every: Mapping[str, ExperimentRecord], record: ExperimentRecord) -> None:
    """Raises RulesRefused where another experiment has the surface."""
    on = [one for one in every.values() if one.surface == record.surface and one.state in ("running", "shadow")]
    if others := [one.name for one in on if one.name != record.name]:
        raise RulesRefused(f"{others[0]!r} runs on {record.surface!r}; stop it first", "surface")


def _known(every: dict[str, ExperimentRecord], name: str) -> ExperimentRecord:
    if name not in every:
        known = ", ".join(sorted(every)) or "none"
        raise RulesRefused(f"there is no experiment {name!r}; there are: {known}", "name")
    return every[name]


def _write(log: Log, settings: Settings, record: ExperimentRecord) -> ExperimentRecord:
    create_missing(log, settings, names=(settings.experiments_topic,))
    told = record.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"stops"})
    log.append([NewRecord(settings.experiments_topic, record.name.encode(), json.dumps(told).encode(), partition=0)])
    return record
