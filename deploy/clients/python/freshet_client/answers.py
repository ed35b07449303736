"""What the API answers, as its document has it. Fields that a later server adds are there too."""

from typing import Any, NotRequired, TypedDict


class Accepted(TypedDict):
    """Records that are in the log. `event_ids`: of interactions, one a record; `warnings`: of what looks wrong."""

    accepted: int
    event_ids: list[str]
    warnings: list[dict[str, Any]]


class ListedItem(TypedDict):
    """One place of a list. `source`: what it comes from; `reason`: the same in words."""

    item_id: str
    score: float
    source: str
    reason: str
    propensity: NotRequired[float]
    title: NotRequired[str | None]
    attributes: NotRequired[dict[str, Any]]
    because: NotRequired[dict[str, Any] | None]


class AsOf(TypedDict):
    """What a list knew: the event time it was made at, ms, and the next offset of each partition."""

    timestamp: int
    positions: dict[str, int]


class RecommendationList(TypedDict):
    """A list, best item first. `list_id` is what feedback quotes; `stale`: nobody could make a newer one."""

    list_id: str
    user_id: str
    surface: str
    items: list[ListedItem]
    as_of: AsOf
    model_version: str
    fallback: NotRequired[str | None]
    cut: NotRequired[int]
    rules: NotRequired[str | None]
    experiment: NotRequired[dict[str, str] | None]
    warnings: NotRequired[list[dict[str, str]]]
    stale: NotRequired[bool]
    request_id: NotRequired[str]
    age_ms: NotRequired[int]


class RankedItem(TypedDict):
    """One place of a ranking."""

    item_id: str
    score: NotRequired[float]
    title: NotRequired[str | None]
    attributes: NotRequired[dict[str, Any]]


class Ranking(TypedDict):
    """Items in their order. `cursor`: where the next page begins, None at the end."""

    items: list[RankedItem]
    cursor: NotRequired[str | None]


class Explanation(TypedDict, total=False):
    """Why an item is in a user's list."""

    item_id: str
    source: str
    reason: str


class Item(TypedDict, total=False):
    """What is known of an item."""

    item_id: str
    title: str | None
    attributes: dict[str, Any]
