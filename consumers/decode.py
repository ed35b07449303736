"""Bytes to interactions, items and users: JSON, CloudEvents 1.0 and what a registry framed, checked, or a dead letter.

A producer's ids may be strings or integers; inside they are strings. A numeric timestamp is epoch milliseconds, always.
"""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from consumers.dead_letter import DeadLetter, Reason
from consumers.field_paths import ABSENT, unprefixed, value_at
from consumers.records import Record
from consumers.schemas import Interaction, Item, User

MAX_ID_BYTES = 1024
MAX_TIMESTAMP_MS = 253_402_300_799_999  # the end of the year 9999
MAX_DIGITS = 4_000  # of an integer; Python itself turns no longer ones into text
_JSON = msgspec.json.Decoder()
_ZONE = re.compile(r" ?(Z|[+-]\d\d:?\d\d)?(?: UTC)?$")  # as databases and Go write a zone: 09:11:34 UTC, +0000 UTC
Unframe = Callable[[bytes], Any]
"""What a value says that a schema registry framed, see `consumers.schema_registry.registry`. Raises Refused."""
_NO_RECORD = Record(topic="", partition=0, offset=0, key=None, value=None, headers=(), timestamp_ms=-1)


class _Wire(msgspec.Struct):
    """An interaction as producers send it. Types are checked here, meanings in `_normalise`."""

    user_id: str | int
    item_id: str | int
    event_type: str
    timestamp: int | float | str
    event_id: str | int | None = None
    value: float | None = None
    session_id: str | int | None = None
    context: dict[str, Any] | None = None
    retract: bool = False


class Refused(Exception):
    """Why a value cannot be taken."""

    def __init__(self, reason: Reason, message: str) -> None:
        self.reason, self.message = reason, message


def checked_value(record: Record, max_record_bytes: int) -> bytes:
    """The value of a record that no tombstone belongs among. Raises Refused where there is none, or it is too large."""
    if record.value is None:
        raise Refused(Reason.TOMBSTONE, "the value is null")
    if len(record.value) > max_record_bytes:
        raise Refused(Reason.OVERSIZED, f"{len(record.value)} bytes are over the limit of {max_record_bytes}")
    return record.value


class InteractionDecoder:
    """Decodes the records of the interactions topic.

    Args:
        field_map: our field → the stream's, or an expression of `consumers.field_paths`.
        clock_skew_ms: how far in the future a timestamp may lie.
        max_record_bytes: larger values are refused.
        unframe: reads values that a schema registry framed; without it they are refused.

    >>> record = Record("interactions", 0, 7, b"ann", b'{"user_id": 42, "item_id": "tea", "timestamp": 1000}', (), 1000)
    >>> InteractionDecoder().decode(record, now_ms=2000).message
    'there is no event_type'
    >>> whole = b'{"user_id": 42, "item_id": "tea", "event_type": "view", "timestamp": 1000}'
    >>> taken = InteractionDecoder().decode(msgspec.structs.replace(record, value=whole), now_ms=2000)
    >>> taken.user_id, taken.item_id, taken.timestamp
    ('42', 'tea', 1000)
    """

    def __init__(
        self,
        field_map: Mapping[str, str] | None = None,
        clock_skew_ms: int = 300_000,
        max_record_bytes: int = 1_000_000,
        unframe: Unframe | None = None,
    ) -> None:
        self._unframe_value = unframe
        self._field_map = unprefixed(field_map or {})
        self._besides = tuple(name for name in self._field_map if name not in Interaction.__struct_fields__)
        self._clock_skew_ms = clock_skew_ms
        self._max_record_bytes = max_record_bytes
        self._wire = msgspec.json.Decoder(_Wire)

    def decode(self, record: Record, now_ms: int) -> Interaction | DeadLetter:
        """The interaction in a record, or why there is none. `now_ms` is the wall clock, for the skew bound."""
        try:
            wire = self._parse(checked_value(record, self._max_record_bytes), record)
            return _normalise(wire, now_ms + self._clock_skew_ms)
        except Refused as refused:
            return DeadLetter(record, refused.reason, refused.message)
        except RecursionError:
            return DeadLetter(record, Reason.NOT_JSON, "nested too deep")

    def of_fields(self, fields: dict[str, Any], now_ms: int) -> Interaction:
        """The interaction in the fields of a JSON object, or of a row of a file. Raises Refused."""
        return _normalise(_decode_wire(fields), now_ms + self._clock_skew_ms)

    def unwrapped(self, data: dict[str, Any]) -> dict[str, Any]:
        """The fields of an interaction in a JSON object: by our names, out of a CloudEvent."""
        return self._unwrap(data, _NO_RECORD)

    def _parse(self, value: bytes, record: Record) -> _Wire:
        if not self._field_map and not any(name[:3].lower() == "ce_" for name, _ in record.headers):
            try:
                return self._wire.decode(value)
            except (msgspec.DecodeError, UnicodeDecodeError):
                pass  # the slow path finds out why, or a structured CloudEvent
        return _decode_wire(self._with_context(self._unwrap(_object_of(value, self._unframe_value), record)))

    def _with_context(self, fields: dict[str, Any]) -> dict[str, Any]:
        """The fields with what the map names besides ours in their context."""
        told = {name: fields[name] for name in self._besides if fields.get(name) is not None}
        own = fields.get("context")
        return fields | {"context": (own or {}) | told} if told and isinstance(own, dict | None) else fields

    def _unwrap(self, data: dict[str, Any], record: Record) -> dict[str, Any]:
        """The fields of an interaction. A CloudEvent's `time` is optional: the log's own time stands in for it."""
        headers = {name.lower(): text for name, text in record.headers}
        if "ce_specversion" in headers:  # CloudEvents, binary mode: the value is the data
            event = {name[3:]: text.decode("utf-8", "replace") for name, text in headers.items() if name[:3] == "ce_"}
        elif is_cloud_event(data):  # structured mode
            event, data = data, data["data"]
        else:
            event = {}
        found = data
        if self._field_map:
            mapped = {ours: value_at(data, theirs) for ours, theirs in self._field_map.items()}
            found = data | {ours: value for ours, value in mapped.items() if value is not ABSENT}
        if event:
            of_ours = {"event_id": "id", "timestamp": "time", "event_type": "type"}
            stand_ins: dict[str, Any] = {ours: event.get(theirs) for ours, theirs in of_ours.items()}
            if stand_ins["timestamp"] is None and record.timestamp_ms >= 0:
                stand_ins["timestamp"] = record.timestamp_ms
            found |= {name: v for name, v in stand_ins.items() if v is not None and found.get(name) is None}
        return found


def is_cloud_event(data: dict[str, Any]) -> bool:
    """Whether an object is a CloudEvent in structured mode: no attribute of one has an underscore in its name."""
    return "specversion" in data and isinstance(data.get("data"), dict) and "user_id" not in data


def is_framed(value: bytes) -> bool:
    """Whether a value begins as those do that a schema registry framed; no JSON does."""
    return value[:1] == b"\0"


def _unframed(value: bytes, unframe: Unframe | None) -> Any:
    if unframe is None:
        raise Refused(Reason.UNKNOWN_SCHEMA, "framed by a schema registry, and none is configured")
    return unframe(value)


def _object_of(value: bytes, unframe: Unframe | None) -> dict[str, Any]:
    try:
        data = _unframed(value, unframe) if is_framed(value) else decode_json(value)
    except (ValueError, RecursionError) as error:  # those of msgspec and of Unicode are ValueErrors
        why = "nested too deep" if isinstance(error, RecursionError) else str(error)[:200]
        raise Refused(Reason.NOT_JSON, why) from None
    if not isinstance(data, dict):
        raise Refused(Reason.NOT_AN_OBJECT, f"the value is a JSON {type(data).__name__}")
    return data


def decode_json(value: bytes) -> Any:
    """A number that Python has no number for costs its field, not the record: it becomes infinite."""
    try:
        return _JSON.decode(value)
    except msgspec.ValidationError:
        data = json.loads(value.decode(), parse_int=_integer, parse_constant=_no_number)
        json.dumps(data, ensure_ascii=False).encode()  # this parser lets half a surrogate pair through
        return data


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= MAX_DIGITS else math.inf


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is no JSON")


def _decode_wire(data: dict[str, Any]) -> _Wire:
    for name in ("user_id", "item_id", "event_type", "timestamp"):
        if data.get(name) is None:
            raise Refused(Reason.MISSING_FIELD, f"there is no {name}")
    try:
        return msgspec.convert(data, _Wire)
    except msgspec.ValidationError as error:
        message = str(error)
        field = next((name for name in _REASON_OF_FIELD if f"$.{name}" in message), "")
        raise Refused(_REASON_OF_FIELD.get(field, Reason.BAD_TYPE), message) from None


_REASON_OF_FIELD = {
    "user_id": Reason.BAD_ID,
    "item_id": Reason.BAD_ID,
    "timestamp": Reason.BAD_TIMESTAMP,
    "value": Reason.BAD_VALUE,
}


def _normalise(wire: _Wire, latest_ms: int) -> Interaction:
    if not wire.event_type:
        raise Refused(Reason.MISSING_FIELD, "event_type is empty")
    timestamp = _epoch_ms(wire.timestamp)
    _check_not_later(timestamp, latest_ms)
    event_id = None if wire.event_id is None else str(wire.event_id) or None
    if wire.retract and event_id is None:
        raise Refused(Reason.MISSING_FIELD, "a retraction names the event_id of what it takes back")
    if wire.value is not None and not math.isfinite(wire.value):
        raise Refused(Reason.BAD_VALUE, "value is not finite")
    return Interaction(
        user_id=_id(wire.user_id),
        item_id=_id(wire.item_id),
        event_type=wire.event_type,
        timestamp=timestamp,
        event_id=event_id,
        value=wire.value,
        session_id=None if wire.session_id is None else str(wire.session_id),
        context=wire.context,
        retract=wire.retract,
    )


def _check_not_later(timestamp: int, latest_ms: int) -> None:
    if timestamp > latest_ms:
        raise Refused(Reason.FUTURE_TIMESTAMP, f"{timestamp - latest_ms} ms beyond the allowed clock skew")


def id_of_key(key: bytes | None, unframe: Unframe | None = None) -> str:
    """The id that the key of a record names, as text or framed by a schema registry. Raises Refused."""
    if key is None:
        raise Refused(Reason.BAD_ID, "there is no key")
    if is_framed(key) and unframe is not None:
        named = unframe(key)
        if isinstance(named, dict) and len(named) == 1:
            [named] = named.values()
        return id_field({"the key": named}, "the key")
    try:
        return _id(key.decode())
    except UnicodeDecodeError:
        raise Refused(Reason.BAD_ID, "the key is no UTF-8") from None


def _id(value: str | int) -> str:
    text = value if type(value) is str else str(value)
    if not text or len(text) > MAX_ID_BYTES or (not text.isascii() and not _encodable(text)):
        raise Refused(
            Reason.BAD_ID, f"an id has {len(text)} characters; 1 to {MAX_ID_BYTES} bytes of UTF-8 are allowed"
        )
    return text


def _encodable(text: str) -> bool:
    try:
        return len(text.encode()) <= MAX_ID_BYTES
    except UnicodeEncodeError:  # a lone surrogate
        return False


def _epoch_ms(value: int | float | str) -> int:
    if type(value) is str:
        value = parse_iso(value)
    elif type(value) is float:
        if not value.is_integer():
            raise Refused(Reason.BAD_TIMESTAMP, "a numeric timestamp is whole epoch milliseconds")
        value = int(value)
    if not 0 <= value <= MAX_TIMESTAMP_MS:  # type: ignore[operator]
        raise Refused(Reason.BAD_TIMESTAMP, "outside 1970 to 9999 in epoch milliseconds")
    return value  # type: ignore[return-value]


def parse_iso(text: str) -> int:
    """Epoch ms of a time in ISO 8601, in UTC where it names no zone. Raises Refused."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        try:
            moment = datetime.fromisoformat(_ZONE.sub(r"\1", text))
        except ValueError:
            raise Refused(Reason.BAD_TIMESTAMP, "neither epoch milliseconds nor ISO 8601") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1000 + since.microseconds // 1000


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


def object_fields(value: bytes, unframe: Unframe | None = None) -> dict[str, Any]:
    """The fields of a record that is an object, or a CloudEvent of structured mode. Raises Refused."""
    data = _object_of(value, unframe)
    return data["data"] if is_cloud_event(data) else data


def id_field(data: Mapping[str, Any], field: str) -> str:
    """A field that is an id. Raises Refused."""
    value = data.get(field)
    if value is None:
        raise Refused(Reason.MISSING_FIELD, f"there is no {field}")
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise Refused(Reason.BAD_ID, f"{field} is a JSON {type(value).__name__}; an id is a string or an integer")
    return _id(value)


def time_field(data: Mapping[str, Any], field: str, latest_ms: int) -> int | None:
    """A field that is a time, epoch ms; None where there is none. Raises Refused, for one after `latest_ms` too."""
    value = data.get(field)
    if value is None:
        return None
    try:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise Refused(Reason.BAD_TIMESTAMP, "neither epoch milliseconds nor ISO 8601")
        timestamp = _epoch_ms(value)
        _check_not_later(timestamp, latest_ms)
    except Refused as refused:
        raise Refused(refused.reason, f"{field}: {refused.message}") from None
    return timestamp


def decode_flag(name: str, value: Any) -> bool:
    """A yes or no, as JSON or as the text of a cell. Raises Refused: a guess would show what is to be hidden."""
    text = value.strip().lower() if isinstance(value, str) else value
    if text in (None, "", False, 0, "false", "0", "no"):
        return False
    if text in (True, 1, "true", "1", "yes"):
        return True
    raise Refused(Reason.BAD_TYPE, f"{name} is true or false")


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
