"""What the front says of itself, beside the answers of workers: see `streamer.asking.answer_models`."""

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from streamer.asking.answer_models import AskedList, WorkerState

REFERENCE = "#/components/schemas/{model}"
"""Where the document has a model."""


def _either(*models: str) -> Meta:
    """Elements are of one of several models, which a decoder could not tell apart."""
    kinds = [{"$ref": REFERENCE.format(model=model)} for model in models]
    return Meta(extra_json_schema={"items": {"anyOf": kinds}})


class ErrorDetail(msgspec.Struct):
    """`code`: what went wrong, for programs; stable. `message`: one line for people. `field`: the field or parameter
    that is wrong. `index`: the record of the body that is wrong, from 0."""

    code: str
    message: str
    field: str | UnsetType = UNSET
    index: int | UnsetType = UNSET


class Error(msgspec.Struct):
    """What every request is answered with that is refused, or fails."""

    error: ErrorDetail


class AppendWarning(msgspec.Struct):
    """Something of a record that has no effect. `index`: which record of the body, from 0."""

    index: int
    code: str
    message: str
    field: str | UnsetType = UNSET


class Accepted(msgspec.Struct):
    """Records that lie in the log. `event_ids`: of interactions and of feedback, those that were made here too."""

    accepted: int
    event_ids: list[str]
    warnings: list[AppendWarning]


class ListThatKnows(AskedList, kw_only=True):
    """The list that knows the interactions which it was waited for, and what `Accepted` says of them."""

    accepted: int
    event_ids: list[str]
    warnings: list[AppendWarning]  # type: ignore[assignment]


class SeveralLists(msgspec.Struct):
    """Several lists, in the order of the requests; an error in place of a list that cannot be."""

    lists: Annotated[list[Any], _either("AskedList", "Error")]


class FoundItem(msgspec.Struct):
    """An item by its title."""

    item_id: str
    title: str


class FoundItems(msgspec.Struct):
    """Items that a search found."""

    items: list[FoundItem]


class ActiveUsers(msgspec.Struct):
    """Users that were active lately, the latest first."""

    users: list[str]


class RulesVersion(msgspec.Struct, kw_only=True):
    """Rules of a surface. `since_ms`: when they were applied, by the wall clock, epoch ms; 0: nobody knows."""

    version: str
    since_ms: int
    rules: dict[str, Any]


class SurfaceRules(RulesVersion, kw_only=True):
    """The rules of a surface; `before`: those of before, the newest first, where one surface is asked for."""

    surface: str
    before: list[RulesVersion] | UnsetType = UNSET


class RulesInForce(msgspec.Struct):
    """The rules in force, by surface."""

    rules: list[SurfaceRules]


class AppliedVersion(msgspec.Struct):
    """What a surface has now. `changed`: whether it had others before."""

    surface: str
    version: str
    changed: bool


class RulesWarning(msgspec.Struct):
    """Something of rules that has no effect as far as is known now."""

    surface: str
    code: str
    message: str
    field: str | UnsetType = UNSET


class AppliedRules(msgspec.Struct):
    """Rules that lie in the log."""

    applied: list[AppliedVersion]
    warnings: list[RulesWarning]


class PreviewedLists(msgspec.Struct):
    """A user's list as it is, and as other rules would make it."""

    user_id: str
    surface: str
    version: str
    before: AskedList
    after: AskedList


class PreviewAnswer(msgspec.Struct):
    """What other rules would make of the lists of some users; an error in place of one that cannot be."""

    surface: str
    version: str
    lists: Annotated[list[Any], _either("PreviewedLists", "Error")]
    warnings: list[RulesWarning]


class Experiments(msgspec.Struct):
    """Each experiment with what it has shown: see `freshet experiment report`."""

    experiments: list[dict[str, Any]]


class AnsweringWorker(WorkerState, kw_only=True):
    """A worker that answers. `partitions`: null where it does not say which are its own."""

    address: str
    partitions: list[int] | None


class FrontStatus(msgspec.Struct, kw_only=True):
    """How far workers are, and, where there is a view of the log, what it sees. `ownerless`: partitions that nobody
    answers for."""

    workers: list[AnsweringWorker]
    ownerless: list[int]
    ready: bool | UnsetType = UNSET
    state: str | UnsetType = UNSET
    events: int | UnsetType = UNSET
    lists: int | UnsetType = UNSET
    events_per_second: float | UnsetType = UNSET
    latency_ms: dict[str, float] | UnsetType | None = UNSET
    late: float | UnsetType | None = UNSET
    lag: dict[str, float] | UnsetType | None = UNSET
    catching_up: bool | UnsetType = UNSET
    quality: dict[str, dict[str, Any]] | UnsetType = UNSET
    drifts: list[dict[str, Any]] | UnsetType = UNSET
    dead_letters: list[dict[str, Any]] | UnsetType = UNSET
    feedback: dict[str, Any] | UnsetType | None = UNSET
    business: list[dict[str, Any]] | UnsetType = UNSET


class DeadRecord(msgspec.Struct, kw_only=True):
    """A record that could not be taken: key and value as text, cut where they are long."""

    reason: str
    message: str | None
    topic: str | None
    partition: str | None
    offset: str | None
    at_ms: int
    key: str | None
    value: str | None
    value_bytes: int | None


class OpenSession(msgspec.Struct):
    """What a key, or a session, may do."""

    scopes: list[str]
