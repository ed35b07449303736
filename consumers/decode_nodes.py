"""Bytes to items and users: one rule for every door, an unknown field is an attribute."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from consumers.dead_letter import DeadLetter, Reason
from consumers.decode_fields import (
    MAX_TIMESTAMP_MS,
    Refused,
    Unframe,
    decode_flag,
    id_field,
    object_fields,
    time_field,
)
from consumers.records import Record
from consumers.schemas import Item, User

Node = TypeVar("Node", Item, User)


class DecodedNode(NamedTuple, Generic[Node]):
    """An item or a user, and a line for each field of its record that could not be taken and was left out."""

    node: Node
    warnings: list[str]


class NodeDecoder:
    """Decodes the records of the items and users topics. One rule: an unknown field is an attribute.

    A bad id or time costs the record, every other bad field costs itself.

    Args:
        clock_skew_ms: how far after the record's own time in the log a timestamp may lie.
        max_record_bytes: larger values are refused.
        unframe: reads values that a schema registry framed; without it they are refused.
    """

    def __init__(
        self, clock_skew_ms: int = 300_000, max_record_bytes: int = 1_000_000, unframe: Unframe | None = None
    ) -> None:
        self._clock_skew_ms, self._max_record_bytes, self._unframe = clock_skew_ms, max_record_bytes, unframe

    def item(self, record: Record) -> DecodedNode[Item] | DeadLetter:
        """The item in a record that is no tombstone, or why there is none."""
        return self._decode(record, decode_item_fields)

    def user(self, record: Record) -> DecodedNode[User] | DeadLetter:
        """The user in a record that is no tombstone, or why there is none."""
        return self._decode(record, decode_user_fields)

    def _decode(
        self, record: Record, node_of: Callable[[dict[str, Any], int], DecodedNode[Node]]
    ) -> DecodedNode[Node] | DeadLetter:
        value, at_ms = record.value or b"", record.timestamp_ms
        try:
            if len(value) > self._max_record_bytes:
                raise Refused(Reason.OVERSIZED, f"{len(value)} bytes are over the limit of {self._max_record_bytes}")
            return node_of(
                object_fields(value, self._unframe), at_ms + self._clock_skew_ms if at_ms > 0 else MAX_TIMESTAMP_MS
            )
        except Refused as refused:
            return DeadLetter(record, refused.reason, refused.message)


def decode_item(value: bytes) -> Item | None:
    """An item, or None where the bytes are no item."""
    try:
        return decode_item_fields(object_fields(value)).node
    except Refused:
        return None


def decode_user(value: bytes) -> User | None:
    """A user, or None where the bytes are no user."""
    try:
        return decode_user_fields(object_fields(value)).node
    except Refused:
        return None


def decode_item_fields(data: Mapping[str, Any], latest_ms: int = MAX_TIMESTAMP_MS) -> DecodedNode[Item]:
    """The item that the fields of a JSON object describe, for every door. Raises Refused.

    latest_ms: the latest `timestamp` that it may name, epoch ms. A title that is a number is taken as its text, a text
    of categories is split at "|".
    """
    warnings: list[str] = []
    item = Item(
        item_id=id_field(data, "item_id"),
        title=_title(data.get("title"), warnings),
        categories=tuple(_categories(data.get("categories"), warnings)),
        timestamp=time_field(data, "timestamp", latest_ms),
        attributes=_attributes(data, Item, warnings),
        hidden=decode_flag("hidden", data.get("hidden")),
        available_from=time_field(data, "available_from", MAX_TIMESTAMP_MS),
        expires_at=time_field(data, "expires_at", MAX_TIMESTAMP_MS),
    )
    return DecodedNode(item, warnings)


def decode_user_fields(data: Mapping[str, Any], latest_ms: int = MAX_TIMESTAMP_MS) -> DecodedNode[User]:
    """The user that the fields of a JSON object describe, for every door. Raises Refused."""
    warnings: list[str] = []
    user = User(id_field(data, "user_id"), time_field(data, "timestamp", latest_ms), _attributes(data, User, warnings))
    return DecodedNode(user, warnings)


def _title(value: Any, warnings: list[str]) -> str | None:
    text = _text(value)
    if text is None and value is not None:
        warnings.append(f"title is left out: a JSON {type(value).__name__} is no text")
    return text


def _categories(value: Any, warnings: list[str]) -> Iterator[str]:
    values = value.split("|") if isinstance(value, str) else value if isinstance(value, list | tuple) else [value]
    for one in values:
        text = _text(one)
        if text is None and one is not None:
            warnings.append(f"a category is left out: a JSON {type(one).__name__} is no text")
        elif text and text.strip():
            yield text.strip()


def _text(value: Any) -> str | None:
    """A text, or a number as its text; None for anything else."""
    if isinstance(value, float):
        return None if not math.isfinite(value) else str(int(value)) if value.is_integer() else str(value)
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else None


def _attributes(data: Mapping[str, Any], kind: type[msgspec.Struct], warnings: list[str]) -> dict[str, Any] | None:
    """What the record says besides: its unknown fields, and over them those of its object `attributes`."""
    found = {name: value for name, value in data.items() if name not in kind.__struct_fields__}
    explicit = data.get("attributes")
    if isinstance(explicit, Mapping):
        found |= explicit
    elif explicit is not None:
        warnings.append(f"attributes is left out: a JSON {type(explicit).__name__} is no object")
    kept = {}
    for name, value in found.items():
        try:
            if value is not None:
                kept[str(name)] = _encodable_value(value)
        except (ValueError, RecursionError):
            warnings.append("an attribute is left out: its value cannot be written as JSON")
    return kept or None


def _encodable_value(value: Any) -> Any:
    """A JSON value as every reader can read it: integers beyond 64 bits as their text. Raises ValueError."""
    match value:
        case bool() | None | str():
            return value
        case int():
            return value if -(1 << 63) <= value < 1 << 63 else str(value)
        case float() if math.isfinite(value):
            return value
        case list() | tuple():
            return [_encodable_value(one) for one in value]
        case dict():
            return {str(name): _encodable_value(one) for name, one in value.items()}
    raise ValueError(value)
