"""What answers say: one model for each kind, of which the API's document is made too.

A field that has `UNSET` for a default is not there where nothing is said by it; every other field always is.
"""

from typing import Any, TypeAlias

import msgspec
from msgspec import UNSET, UnsetType

from consumers.schemas import AsOf, ListedItem

Ids: TypeAlias = list[str]  # a field of the name `list` hides the type


class StateAnswer(msgspec.Struct, kw_only=True):
    """What every answer says of itself. `as_of`: what it knows; `age_ms`: how old, by the stream's clock, the last of
    that is."""

    as_of: AsOf
    age_ms: int
    request_id: str


class AskedWarning(msgspec.Struct):
    """Something of a question that has no effect. `field`: which of its fields."""

    code: str
    message: str
    field: str | UnsetType = UNSET


class Cause(msgspec.Struct):
    """The interaction that led to an item; `timestamp`: epoch ms, null where it is too long ago."""

    item_id: str
    timestamp: int | None


class AskedItem(ListedItem, frozen=True, gc=False):
    """A place of a list that was asked for. `title` and `attributes` are there where `fields` names them, `because`
    where `explain` is asked for."""

    title: str | UnsetType | None = UNSET
    attributes: dict[str, Any] | UnsetType = UNSET
    because: Cause | UnsetType | None = UNSET


class AskedList(msgspec.Struct, kw_only=True):
    """A list that was asked for: that of the topic, and what every answer says.

    `stale`: no worker can make one now; this is the last that was published, made at `as_of` and `age_ms` old. `cut`,
    `rules`, `experiment`: see `RecommendationList`.
    """

    list_id: str
    user_id: str | None
    surface: str
    items: list[AskedItem]
    as_of: AsOf
    model_version: str
    fallback: str | None
    request_id: str
    age_ms: int
    cut: int | UnsetType = UNSET
    rules: str | UnsetType = UNSET
    experiment: dict[str, str] | UnsetType = UNSET
    warnings: list[AskedWarning] | UnsetType = UNSET
    stale: bool | UnsetType = UNSET


class RankedItem(msgspec.Struct, kw_only=True):
    """A place of a ranking. `title` and `attributes` are there where `fields` names them."""

    item_id: str
    score: float
    title: str | UnsetType | None = UNSET
    attributes: dict[str, Any] | UnsetType = UNSET


class RelatedItem(RankedItem, kw_only=True):
    """An item that is near to another. `source`: by what."""

    source: str


class NewestItem(msgspec.Struct, kw_only=True):
    """An item and since when it is there, epoch ms; null where the stream has no time yet."""

    item_id: str
    first_seen: int | None
    title: str | UnsetType | None = UNSET
    attributes: dict[str, Any] | UnsetType = UNSET


class PopularItems(StateAnswer, kw_only=True):
    """Items by popularity. `cursor`: where the next page begins, null after the last; `decay_ms`: the time after which
    1/e of an interaction's weight is left, null where each counts alike for ever."""

    items: list[RankedItem]
    cursor: str | None
    scale: str
    decay_ms: int | None


class TrendingItems(StateAnswer, kw_only=True):
    """Items whose popularity rises. `cursor`: where the next page begins, null after the last."""

    items: list[RankedItem]
    cursor: str | None


class NewestItems(StateAnswer, kw_only=True):
    """Items by when they came. `cursor`: where the next page begins, null after the last."""

    items: list[NewestItem]
    cursor: str | None


class RelatedItems(StateAnswer, kw_only=True):
    """Items that are near to one."""

    item_id: str
    items: list[RelatedItem]
    model_version: str


class AudienceUser(msgspec.Struct):
    """Somebody who should hear of an item. `score`: how likely they choose it next; `place`: in their own list."""

    user_id: str
    score: float
    place: int


class Audience(StateAnswer, kw_only=True):
    """Who should hear of an item."""

    item_id: str
    users: list[AudienceUser]
    model_version: str


class PastInteraction(msgspec.Struct):
    """One of a user's last interactions."""

    item_id: str
    title: str | None
    timestamp: int
    weight: float


class KnownUser(StateAnswer, kw_only=True):
    """What is known of a user. `last`: interactions, the newest first; `list`: the items of the published list, null
    where there is none."""

    user_id: str
    attributes: dict[str, Any]
    interactions: int
    last: list[PastInteraction]
    list: Ids | None


class OwnerOfSession(StateAnswer, kw_only=True):
    """The user whose a session is; null: nobody's."""

    session: str
    user_id: str | None


class KnownItem(StateAnswer, kw_only=True):
    """What is known of an item. `popularity`: decayed, by time scale; `lists`: in how many published lists it is."""

    item_id: str
    title: str | None
    attributes: dict[str, Any]
    status: str
    interactions: int
    first_seen: int | None
    last_interaction: int | None
    popularity: dict[str, float]
    lists: int


class CarryingInteraction(msgspec.Struct):
    """An interaction that an item stands on. `fall`: by how much its score falls without it."""

    item_id: str
    title: str | None
    timestamp: int
    fall: float
    sentence: str


class RemovedInteraction(msgspec.Struct):
    """An interaction that is thought away."""

    item_id: str
    timestamp: int


class WithoutThem(msgspec.Struct):
    """Where an item would stand without some interactions; `falls`: whether it falls by that."""

    without: list[RemovedInteraction]
    place: int | None
    score: float | None
    falls: bool


class ItemExplanation(StateAnswer, kw_only=True):
    """Why an item stands where it stands for a user. `place`: null where it cannot be listed for the user."""

    user_id: str
    item_id: str
    title: str | None
    place: int | None
    candidates: int
    score: float | None
    source: str | None
    reason: str | None
    sentence: str
    because: list[CarryingInteraction]
    counterfactual: WithoutThem | None


class SurprisingInteraction(msgspec.Struct):
    """An interaction, and −ln of how likely it was."""

    item_id: str
    title: str | None
    timestamp: int
    surprise: float


class Surprises(StateAnswer, kw_only=True):
    """A user's last interactions, the most surprising first."""

    user_id: str
    interactions: list[SurprisingInteraction]


class WorkerFigure(msgspec.Struct):
    """How good lists were, ours and those by popularity."""

    value: float
    popularity: float


class WorkerState(StateAnswer, kw_only=True):
    """How far the state of a worker is, and how large."""

    epoch: int
    records: int
    interactions: int
    users: int
    items: int
    clock: int
    model_version: str
    embeddings: str | None
    pending_repairs: int
    quality: dict[str, WorkerFigure]
    measured: int
    settings: dict[str, Any]
