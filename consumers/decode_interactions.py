"""Bytes to interactions: JSON, CloudEvents 1.0 and what a registry framed, checked, or a dead letter."""

import math
from collections.abc import Mapping
from typing import Any

import msgspec

from consumers.change_events import row_change
from consumers.dead_letter import DeadLetter, Reason
from consumers.decode_fields import (
    Refused,
    Unframe,
    check_not_later,
    checked_value,
    decode_id,
    decode_time,
    is_cloud_event,
    json_object,
)
from consumers.field_paths import ABSENT, unprefixed, value_at
from consumers.records import Record
from consumers.schemas import Interaction

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
        """The fields of an interaction in a JSON object: by our names, out of a CloudEvent or a change event.

        Raises Refused where that has none.
        """
        return self._unwrap(data, _NO_RECORD)

    def _parse(self, value: bytes, record: Record) -> _Wire:
        if not self._field_map and not any(name[:3].lower() == "ce_" for name, _ in record.headers):
            try:
                return self._wire.decode(value)
            except (msgspec.DecodeError, UnicodeDecodeError):
                pass  # the slow path finds out why, or a structured CloudEvent
        return _decode_wire(self._with_context(self._unwrap(json_object(value, self._unframe_value), record)))

    def _with_context(self, fields: dict[str, Any]) -> dict[str, Any]:
        """The fields with what the map names besides ours in their context."""
        told = {name: fields[name] for name in self._besides if fields.get(name) is not None}
        own = fields.get("context")
        return fields | {"context": (own or {}) | told} if told and isinstance(own, dict | None) else fields

    def _unwrap(self, data: dict[str, Any], record: Record) -> dict[str, Any]:
        """The fields of an interaction: of a record, of a CloudEvent in it, or of the row of a change event.

        A CloudEvent's `time` is optional: the log's own time stands in for it. A row without a type or a time has the
        name of its table and the time of its commit; one that was deleted takes back what it said.
        """
        headers = {name.lower(): text for name, text in record.headers}
        if "ce_specversion" in headers:  # CloudEvents, binary mode: the value is the data
            event: dict[str, Any] = {
                name[3:]: text.decode("utf-8", "replace") for name, text in headers.items() if name[:3] == "ce_"
            }
        elif is_cloud_event(data):  # structured mode
            event, data = data, data["data"]
        elif change := row_change(data):
            event = {"type": change.table, "time": change.committed_ms}
            data = change.row | {"retract": True} if change.is_deletion else change.row
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
            found = found | {name: v for name, v in stand_ins.items() if v is not None and found.get(name) is None}
        return found


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
    timestamp = decode_time(wire.timestamp)
    check_not_later(timestamp, latest_ms)
    event_id = None if wire.event_id is None else str(wire.event_id) or None
    if wire.retract and event_id is None:
        raise Refused(Reason.MISSING_FIELD, "a retraction names the event_id of what it takes back")
    if wire.value is not None and not math.isfinite(wire.value):
        raise Refused(Reason.BAD_VALUE, "value is not finite")
    return Interaction(
        user_id=decode_id(wire.user_id, "user_id"),
        item_id=decode_id(wire.item_id, "item_id"),
        event_type=wire.event_type,
        timestamp=timestamp,
        event_id=event_id,
        value=wire.value,
        session_id=None if wire.session_id is None else str(wire.session_id),
        context=wire.context,
        retract=wire.retract,
    )
