"""Bytes to interactions: plain JSON and CloudEvents 1.0, validated, normalised, or a dead letter. Nothing is raised.

A producer's ids may be strings or integers; inside they are strings. A numeric timestamp is epoch milliseconds, always.
"""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, cast

import msgspec

from consumers.dead_letter import DeadLetter, Reason
from consumers.records import Record
from consumers.schemas import Interaction, Item, User

MAX_ID_BYTES = 1024
MAX_TIMESTAMP_MS = 253_402_300_799_999  # the end of the year 9999
_JSON = msgspec.json.Decoder()


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
    def __init__(self, reason: Reason, message: str) -> None:
        self.reason, self.message = reason, message


class InteractionDecoder:
    """Decodes the records of the interactions topic.

    Args: field_map: our field → the stream's; clock_skew_ms: how far in the future a timestamp may lie;
    max_record_bytes: larger values are refused.
    """

    def __init__(
        self,
        field_map: Mapping[str, str] | None = None,
        clock_skew_ms: int = 300_000,
        max_record_bytes: int = 1_000_000,
    ) -> None:
        self._field_map = dict(field_map or {})
        self._clock_skew_ms = clock_skew_ms
        self._max_record_bytes = max_record_bytes
        self._wire = msgspec.json.Decoder(_Wire)

    def decode(self, record: Record, now_ms: int) -> Interaction | DeadLetter:
        """The interaction in a record, or why there is none. `now_ms` is the wall clock, for the skew bound."""
        try:
            value = record.value
            if value is None:
                raise Refused(Reason.TOMBSTONE, "the value is null")
            if len(value) > self._max_record_bytes:
                raise Refused(Reason.OVERSIZED, f"{len(value)} bytes are over the limit of {self._max_record_bytes}")
            wire = self._parse(value, record)
            return _normalise(wire, now_ms + self._clock_skew_ms)
        except Refused as refused:
            return DeadLetter(record, refused.reason, refused.message)
        except RecursionError:
            return DeadLetter(record, Reason.NOT_JSON, "nested too deep")

    def _parse(self, value: bytes, record: Record) -> _Wire:
        if not self._field_map and not any(name[:3].lower() == "ce_" for name, _ in record.headers):
            try:
                return self._wire.decode(value)
            except (msgspec.DecodeError, UnicodeDecodeError):
                pass  # the slow path finds out why, or a structured CloudEvent
        return _wire_of(self._unwrap(_parse_json(value), record))

    def _unwrap(self, data: dict[str, Any], record: Record) -> dict[str, Any]:
        headers = {name.lower(): text for name, text in record.headers}
        if "ce_specversion" in headers:  # CloudEvents, binary mode: the value is the data
            event = {name[3:]: text.decode("utf-8", "replace") for name, text in headers.items() if name[:3] == "ce_"}
        elif "specversion" in data and isinstance(data.get("data"), dict):  # structured mode
            event, data = data, data["data"]
        else:
            event = {}
        renamed = {ours: data[theirs] for ours, theirs in self._field_map.items() if theirs in data}
        defaults = {
            "event_id": event.get("id"),
            "timestamp": event.get("time"),
            "event_type": event.get("type"),
        }
        return {name: v for name, v in defaults.items() if v is not None} | data | renamed


def _parse_json(value: bytes) -> dict[str, Any]:
    if value[:1] == b"\0":
        raise Refused(Reason.UNKNOWN_SCHEMA, "framed by a schema registry, and none is configured")
    try:
        data = _JSON.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refused(Reason.NOT_JSON, str(error)[:200]) from None
    if not isinstance(data, dict):
        raise Refused(Reason.NOT_AN_OBJECT, f"the value is a JSON {type(data).__name__}")
    return data


def _wire_of(data: dict[str, Any]) -> _Wire:
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
    timestamp = _epoch_ms(wire.timestamp)
    if timestamp > latest_ms:
        raise Refused(Reason.FUTURE_TIMESTAMP, f"{timestamp - latest_ms} ms beyond the allowed clock skew")
    if wire.retract and wire.event_id is None:
        raise Refused(Reason.MISSING_FIELD, "a retraction names the event_id of what it takes back")
    if wire.value is not None and not math.isfinite(wire.value):
        raise Refused(Reason.BAD_VALUE, "value is not finite")
    return Interaction(
        _id(wire.user_id),
        _id(wire.item_id),
        wire.event_type,
        timestamp,
        None if wire.event_id is None else str(wire.event_id),
        wire.value,
        None if wire.session_id is None else str(wire.session_id),
        wire.context,
        wire.retract,
    )


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
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise Refused(Reason.BAD_TIMESTAMP, "neither epoch milliseconds nor ISO 8601") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1000 + since.microseconds // 1000


def decode_item(value: bytes) -> Item | None:
    """An item's attributes, or None where the bytes are no item."""
    return cast(Item | None, _decode_node(value, "item_id", Item))


def decode_user(value: bytes) -> User | None:
    """A user's attributes, or None where the bytes are no user."""
    return cast(User | None, _decode_node(value, "user_id", User))


def _decode_node(value: bytes, id_field: str, kind: type[Any]) -> Any:
    try:
        data = _parse_json(value)
        data[id_field] = _id(data[id_field])
        return msgspec.convert(data, kind)
    except (Refused, KeyError, TypeError, msgspec.ValidationError, RecursionError):
        return None
