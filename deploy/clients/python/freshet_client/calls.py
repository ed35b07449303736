"""Every call of the API as a value: what is sent, and of which type the answer is."""

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypedDict, TypeVar
from urllib.parse import quote

from freshet_client.answers import Accepted, Explanation, Item, Ranking, RecommendationList

Answer = TypeVar("Answer")
Record = Mapping[str, Any]


@dataclass(frozen=True)
class Call(Generic[Answer]):
    """One request; all of them may be made again, and count once."""

    method: str
    path: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    body: Any = None


class ListOptions(TypedDict, total=False):
    """How a list is to be: see `/docs` of the server."""

    k: int
    filter: str
    fields: list[str]
    surface: str
    exclude: list[str]
    context: dict[str, str]
    personalize: bool
    explain: bool


class RankingOptions(TypedDict, total=False):
    """How a ranking of items is to be."""

    k: int
    filter: str
    fields: list[str]


def recommendations(user_id: str, options: ListOptions) -> Call[RecommendationList]:
    context = options.get("context", {})
    rest = {name: value for name, value in options.items() if name != "context"}
    dotted = {f"context.{name}": value for name, value in context.items()}
    return Call("GET", f"/v1/users/{_id(user_id)}/recommendations", _query(rest | dotted))


def list_of(question: Record) -> Call[RecommendationList]:
    return Call("POST", "/v1/recommendations", body=dict(question))


def of_item(kind: str, item_id: str, options: RankingOptions) -> Call[Ranking]:
    return Call("GET", f"/v1/items/{_id(item_id)}/{kind}", _query(options))


def ranking(kind: str, options: RankingOptions, more: Record) -> Call[Ranking]:
    return Call("GET", f"/v1/{kind}", _query({**options, **more}))


def interactions(events: Record | Iterable[Record]) -> Call[Accepted]:
    return Call("POST", "/v1/interactions", body=_with_ids(events))


def interactions_then_list(events: Record | Iterable[Record], wait_ms: int) -> Call[dict[str, Any]]:
    return Call("POST", "/v1/interactions", {"wait": wait_ms}, _with_ids(events))


def retraction(user_id: str, event_id: str) -> Call[Accepted]:
    return Call("DELETE", f"/v1/interactions/{_id(event_id)}", {"user_id": user_id})


def feedback(events: Record | Iterable[Record]) -> Call[Accepted]:
    return Call("POST", "/v1/feedback", body=_with_ids(events))


def items(records: Record | Iterable[Record]) -> Call[Accepted]:
    return Call("POST", "/v1/items", body=_array(records))


def users(records: Record | Iterable[Record]) -> Call[Accepted]:
    return Call("POST", "/v1/users", body=_array(records))


def item_change(item_id: str, change: Record) -> Call[Accepted]:
    return Call("PATCH", f"/v1/items/{_id(item_id)}", body=dict(change))


def item(item_id: str) -> Call[Item]:
    return Call("GET", f"/v1/items/{_id(item_id)}")


def item_deletion(item_id: str) -> Call[Accepted]:
    return Call("DELETE", f"/v1/items/{_id(item_id)}")


def erasure(user_id: str) -> Call[Accepted]:
    return Call("DELETE", f"/v1/users/{_id(user_id)}")


def merge(user_id: str, session: str) -> Call[Accepted]:
    return Call("POST", f"/v1/users/{_id(user_id)}/merge", body={"session": session})


def explanation(user_id: str, item_id: str) -> Call[Explanation]:
    return Call("GET", f"/v1/users/{_id(user_id)}/explanations/{_id(item_id)}")


def status() -> Call[dict[str, Any]]:
    return Call("GET", "/v1/status")


def list_stream(user_id: str) -> Call[None]:
    return Call("GET", f"/v1/users/{_id(user_id)}/lists/stream")


def _with_ids(events: Record | Iterable[Record]) -> list[dict[str, Any]]:
    """Each record with an id by which what is sent twice counts once."""
    return [{"event_id": uuid.uuid4().hex, **event} for event in _array(events)]


def _array(records: Record | Iterable[Record]) -> list[dict[str, Any]]:
    return [dict(record) for record in ([records] if isinstance(records, Mapping) else records)]


def _id(text: str) -> str:
    return quote(text, safe="")


def _query(options: Mapping[str, Any]) -> dict[str, Any]:
    """Lists stay lists, true and false are written as the API reads them, what is None is left out."""
    texts = {True: "true", False: "false"}
    return {
        name: texts[value] if isinstance(value, bool) else value for name, value in options.items() if value is not None
    }
