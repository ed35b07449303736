"""Records of the topic of experiments: what is compared, and since when it runs."""

import json
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from consumers.errors import UnknownTopic
from consumers.log import Log
from consumers.records import NewRecord
from streamer.errors import RulesRefused
from streamer.lists.rules import SURFACE, ExperimentArm, SurfaceExperiment, first_problem
from streamer.lists.rules_on_log import put_experiment
from streamer.runtime.topics import create_missing, read_records, whole
from streamer.settings import Settings

State = Literal["created", "running", "stopped"]


class ExperimentRecord(BaseModel):
    """An experiment. Times are those of the wall clock, epoch ms; the others are compared with the first arm."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, serialize_by_alias=True)

    name: str = Field(pattern=SURFACE)
    surface: str = Field(default="default", pattern=SURFACE)
    arms: tuple[ExperimentArm, ...] = Field(min_length=2, max_length=10)
    holdback: float = Field(default=0.0, ge=0, lt=1)
    salt: str = ""
    state: State = "created"
    created_ms: int = 0
    started_ms: int | None = None
    stopped_ms: int | None = None

    def on_surface(self) -> SurfaceExperiment:
        """As the rules of its surface hold it."""
        return SurfaceExperiment(name=self.name, salt=self.salt or self.name, holdback=self.holdback, arms=self.arms)

    def text(self) -> dict[str, Any]:
        """As JSON has it."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def read_experiment(value: Any) -> ExperimentRecord:
    """An experiment, of an object as JSON or YAML has it. Raises RulesRefused with the field and what is wrong."""
    try:
        record = ExperimentRecord.model_validate(value)
        record.on_surface()
    except ValidationError as error:
        field, message = first_problem(error)
        raise RulesRefused(f"{field}: {message}" if field else message, field) from None
    return record


def experiments(log: Log, settings: Settings) -> dict[str, ExperimentRecord]:
    """What the topic says, by name; empty where there is no such topic. Records of others are passed over."""
    found: dict[str, ExperimentRecord] = {}
    try:
        places = whole(log, settings.experiments_topic)
    except UnknownTopic:
        return found
    for record in read_records(log, places):
        name = (record.key or b"").decode("utf-8", "replace")
        if record.value is None:
            found.pop(name, None)
            continue
        try:
            found[name] = read_experiment(json.loads(record.value))
        except (RulesRefused, ValueError):
            continue
    return found


def create(log: Log, settings: Settings, wanted: ExperimentRecord, now_ms: int) -> ExperimentRecord:
    """Writes a new experiment down; it runs from `start` on. Raises RulesRefused where one of its name has run."""
    before = experiments(log, settings).get(wanted.name)
    if before is not None and before.state != "created":
        raise RulesRefused(
            f"name: {wanted.name!r} is {before.state}; an experiment that has run keeps its name", "name"
        )
    return _write(log, settings, wanted.model_copy(update={"state": "created", "created_ms": now_ms}))


def start(log: Log, settings: Settings, name: str, now_ms: int) -> ExperimentRecord:
    """Has an experiment run from the next epoch on: (1) it is written down, (2) the rules of its surface name it.

    Done again, it does what is left of it. Raises RulesRefused where there is none, it was stopped, or another one
    runs on the surface.
    """
    every = experiments(log, settings)
    record = _known(every, name)
    if record.state == "stopped":
        raise RulesRefused(f"name: {name!r} was stopped; create another one, so that its numbers are its own", "name")
    others = [one.name for one in every.values() if _runs_beside(one, record)]
    if others:
        raise RulesRefused(f"surface: {others[0]!r} runs on {record.surface!r}; stop it first", "surface")
    if record.state != "running":
        record = _write(log, settings, record.model_copy(update={"state": "running", "started_ms": now_ms}))  # (1)
    put_experiment(log, settings, record.surface, record.on_surface(), now_ms)  # (2)
    return record


def stop(log: Log, settings: Settings, name: str, now_ms: int) -> ExperimentRecord:
    """Ends an experiment: (1) the rules of its surface no longer name it, (2) that is written down."""
    record = _known(experiments(log, settings), name)
    if record.state == "created":
        raise RulesRefused(f"name: {name!r} has not been started", "name")
    if record.state == "stopped":
        return record
    put_experiment(log, settings, record.surface, None, now_ms)  # (1)
    return _write(log, settings, record.model_copy(update={"state": "stopped", "stopped_ms": now_ms}))  # (2)


def _runs_beside(one: ExperimentRecord, record: ExperimentRecord) -> bool:
    return one.state == "running" and one.surface == record.surface and one.name != record.name


def _known(every: dict[str, ExperimentRecord], name: str) -> ExperimentRecord:
    if name not in every:
        raise RulesRefused(f"name: there is no experiment {name!r}; there are {_names(list(every))}", "name")
    return every[name]


def _names(names: Sequence[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def _write(log: Log, settings: Settings, record: ExperimentRecord) -> ExperimentRecord:
    create_missing(log, settings, names=(settings.experiments_topic,))
    value = json.dumps(record.text()).encode()
    log.append([NewRecord(settings.experiments_topic, record.name.encode(), value, partition=0)])
    return record
