"""From what a request holds to records for the log, with what was taken otherwise than its sender may think."""

import math
import os
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from consumers.counted import counted
from consumers.dead_letter import DeadLetter, Reason
from consumers.decode_fields import MAX_ID_BYTES, Refused, is_cloud_event
from consumers.feedback.rules import what_is_missing
from consumers.records import Headers, NewRecord, Record
from consumers.schemas import Feedback, Interaction, Item
from streamer.runtime.decoders import feedback_decoder, interaction_decoder, node_decoder
from streamer.runtime.time_units import like_seconds
from streamer.settings import Settings
from streamer.web.answers import ApiError
from streamer.web.bodies import Body

WARNINGS = 100  # an answer has at most so many
_encode = msgspec.json.encode


class IncomingRecords(NamedTuple):
    """Records for the log. `event_ids`: of interactions, one a record."""

    records: list[NewRecord]
    event_ids: list[str]
    warnings: list[dict[str, Any]]

    def answer(self) -> dict[str, Any]:
        """The body of the 202."""
        warnings = self.warnings[:WARNINGS]
        return {"accepted": len(self.records), "event_ids": self.event_ids, "warnings": warnings}


class IncomingFeedback(NamedTuple):
    """Feedback, each with an event id, of which the user may not be known yet."""

    feedback: list[Feedback]
    warnings: list[dict[str, Any]]


class Incoming:
    """Checks records as the worker will, so that a request is refused whole or lies in the log whole."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._decoder = interaction_decoder(settings)
        self._nodes_decoder = node_decoder(settings)
        self._feedback_decoder = feedback_decoder(settings)
        self._fields = {*Interaction.__struct_fields__, *settings.field_map.values()}

    def interactions(self, body: Body, clock_ms: int, now_ms: int) -> IncomingRecords:
        """Interactions, plain or as CloudEvents. Raises ApiError with the index and reason of the first bad one.

        One without a time gets `clock_ms`; one without an event id gets one here, so that its sender may send it again.
        `now_ms`: the wall clock, for the skew bound.
        """
        taken, in_seconds = IncomingRecords([], [], []), list[tuple[int, float]]()
        random = os.urandom(16 * len(body.values))  # a call of the system
        for n, value in enumerate(body.values):
            data = _unwrapped(value)
            if isinstance(data, dict) and not self._has_time(value, data, body.headers):
                self._set(data, "timestamp", clock_ms)
            if data is value and not body.headers and isinstance(data, dict) and self._lacks_event_id(data):
                data["event_id"] = _event_id(random, n)
            encoded = _encode(value)
            interaction = self._decoder.decode(
                Record(
                    topic="", partition=0, offset=n, key=None, value=encoded, headers=body.headers, timestamp_ms=now_ms
                ),
                now_ms,
            )
            if isinstance(interaction, DeadLetter):
                raise _refused(n, interaction.reason, interaction.message)
            event_id = interaction.event_id
            if event_id is None:  # it is there, and empty, or was looked for elsewhere
                event_id = _event_id(random, n)
                self._set(data, "event_id", event_id)
                encoded = _encode(value)
            self._check_size(n, encoded)
            taken.records.append(
                NewRecord(self._settings.interactions_topic, interaction.user_id.encode(), encoded, body.headers)
            )
            taken.event_ids.append(event_id)
            taken.warnings.extend(
                warning(n, "unknown-field", f"the field {name[:100]!r} is ignored", name[:100])
                for name in sorted(data.keys() - self._fields)
            )
            if like_seconds(interaction.timestamp) and self._is_number(data, interaction.timestamp):
                in_seconds.append((n, interaction.timestamp))
        taken.warnings[:0] = _seconds(in_seconds)
        return taken

    def retraction(self, user_id: str, event_id: str, clock_ms: int) -> IncomingRecords:
        """What takes the interaction `event_id` of a user back."""
        value = {
            "user_id": user_id, "item_id": "-", "event_type": "retract", "timestamp": clock_ms, "event_id": event_id,
            "retract": True,
        }  # fmt: skip
        record = NewRecord(self._settings.interactions_topic, user_id.encode(), _encode(value))
        return IncomingRecords([record], [event_id], [])

    def items(self, body: Body, now_ms: int) -> IncomingRecords:
        """Items; an unknown field is an attribute. Raises ApiError likewise."""
        return self._nodes(body, "item", self._settings.items_topic, now_ms)

    def users(self, body: Body, now_ms: int) -> IncomingRecords:
        """Users likewise."""
        return self._nodes(body, "user", self._settings.users_topic, now_ms)

    def feedback(self, body: Body, clock_ms: int, now_ms: int) -> IncomingFeedback:
        """Feedback, plain or as CloudEvents. Raises ApiError likewise; what has no time or event id gets one here."""
        taken, in_seconds = IncomingFeedback([], []), list[tuple[int, float]]()
        headers = {name.lower(): text.decode("utf-8", "replace") for name, text in body.headers}
        for n, value in enumerate(body.values):
            data = _unwrapped(value)
            if not isinstance(data, dict):
                raise _refused(n, Reason.NOT_AN_OBJECT, f"the value is a JSON {type(data).__name__}")
            event = value if data is not value else {}
            given = {
                name: math.inf if isinstance(one, msgspec.Raw) else one for name, one in data.items() if one is not None
            }
            time = event.get("time") or headers.get("ce_time") or clock_ms
            event_id = event.get("id") or headers.get("ce_id") or str(uuid.uuid4())
            try:
                one = self._feedback_decoder.of_fields({"timestamp": time, "event_id": event_id} | given, now_ms)
            except Refused as refused:
                raise _refused(n, refused.reason, refused.message) from None
            if (missing := what_is_missing(one, self._settings.feedback_events)) is not None:
                raise _refused(n, *missing)
            self._check_size(n, _encode(one))
            taken.feedback.append(one)
            taken.warnings.extend(self._uncounted(n, one))
            taken.warnings.extend(
                warning(n, "unknown-field", f"the field {name[:100]!r} is ignored", name[:100])
                for name in sorted(data.keys() - {*Feedback.__struct_fields__})
            )
            if like_seconds(one.timestamp) and isinstance(given.get("timestamp"), int | float):
                in_seconds.append((n, one.timestamp))
        taken.warnings[:0] = _seconds(in_seconds)
        return taken

    def _uncounted(self, n: int, one: Feedback) -> list[dict[str, Any]]:
        """A warning where nothing will count what is taken all the same."""
        kinds = self._settings.feedback_events
        if one.event in kinds:
            return []
        message = f"nothing counts {one.event[:100]!r}: `feedback_events` has {', '.join(sorted(kinds))}"
        return [warning(n, "unknown-event", message, "event")]

    def _nodes(self, body: Body, noun: str, topic: str, now_ms: int) -> IncomingRecords:
        taken, in_seconds = IncomingRecords([], [], []), list[tuple[int, float]]()
        decode: Any = self._nodes_decoder.item if noun == "item" else self._nodes_decoder.user
        for n, value in enumerate(body.values):
            known = decode(
                Record(topic="", partition=0, offset=n, key=None, value=_encode(value), headers=(), timestamp_ms=now_ms)
            )
            if isinstance(known, DeadLetter):
                raise _refused(n, known.reason, known.message)
            if (known.node.attributes or {}).get("deleted"):  # nothing would be deleted, and nobody would notice
                message = f"to delete it, send DELETE /v1/{noun}s/ and its id"
                raise _refused(n, Reason.BAD_TYPE, message, "deleted")
            encoded = _encode(known.node)
            self._check_size(n, encoded)
            taken.records.append(NewRecord(topic, getattr(known.node, f"{noun}_id").encode(), encoded))
            taken.warnings.extend(warning(n, "left-out", text) for text in known.warnings)
            time = _unwrapped(value).get("timestamp")
            if isinstance(time, int | float) and like_seconds(time):
                in_seconds.append((n, time))
        taken.warnings[:0] = _seconds(in_seconds)
        return taken

    def _has_time(self, value: dict[str, Any], data: dict[str, Any], headers: Headers) -> bool:
        given = self._times(data) + [text for name, text in headers if name == "ce_time"]
        if data is not value:
            given.append(value.get("time"))
        return any(time is not None for time in given)

    def _lacks_event_id(self, data: dict[str, Any]) -> bool:
        """Whether a record, plain JSON, certainly has none and may be given one: a retraction has to name its own."""
        return not data.keys() & {"event_id", "retract"} and "event_id" not in self._settings.field_map

    def _times(self, data: dict[str, Any]) -> list[Any]:
        """What stands for the time in a record, under our name and under the stream's."""
        return [data.get(name) for name in {"timestamp", self._settings.field_map.get("timestamp", "timestamp")}]

    def _is_number(self, data: dict[str, Any], time_ms: int) -> bool:
        """Whether a time was given as a number, and not in ISO 8601."""
        return any(isinstance(time, int | float) and time == time_ms for time in self._times(data))

    def _set(self, data: dict[str, Any], field: str, value: Any) -> None:
        data[field] = value
        if (theirs := self._settings.field_map.get(field)) in data:  # it is there, and null
            data[theirs] = value

    def _check_size(self, index: int, encoded: bytes) -> None:
        if len(encoded) > self._settings.max_record_bytes:
            message = f"{len(encoded)} bytes are over the limit of {self._settings.max_record_bytes}"
            raise _refused(index, Reason.OVERSIZED, message)


def _event_id(random: bytes, n: int) -> str:
    """The nth of the ids that random bytes have room for."""
    return str(uuid.UUID(bytes=random[16 * n : 16 * n + 16], version=4))


def checked_id(text: str, field: str) -> str:
    """An id of a path or a parameter. Raises ApiError."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise ApiError(400, "bad-id", f"{field} is no UTF-8", field=field) from None
    if not 1 <= size <= MAX_ID_BYTES:
        raise ApiError(
            400, "bad-id", f"{field} has {size} bytes; 1 to {MAX_ID_BYTES} bytes of UTF-8 are allowed", field=field
        )
    return text


def _unwrapped(value: Any) -> Any:
    """The record in a CloudEvent of structured mode; anything else is one itself."""
    if isinstance(value, dict) and is_cloud_event(value):
        return value["data"]
    return value


_FIELDS = (*Item.__struct_fields__, *Interaction.__struct_fields__, *Feedback.__struct_fields__)
_FIELD = {Reason.BAD_TIMESTAMP: "timestamp", Reason.FUTURE_TIMESTAMP: "timestamp", Reason.BAD_VALUE: "value"}


def _refused(index: int, reason: Reason, message: str, field: str | None = None) -> ApiError:
    begins = ((name, (f"{name}: ", f"{name} is ", f"{name} has ")) for name in _FIELDS)
    field = field or next((name for name, words in begins if message.startswith(words)), None)
    field = field or next((name for name in _FIELDS if f"`$.{name}" in message), None)
    field = field or _FIELD.get(reason)
    if field is None and reason is Reason.MISSING_FIELD:
        field = next((name for name in message.split() if name in _FIELDS), None)
    return ApiError(400, str(reason), f"record {index}: {reason}: {message}", field=field, index=index)


def _seconds(found: list[tuple[int, float]]) -> Iterable[dict[str, Any]]:
    """One warning, however many records it is about."""
    if found:
        index, time = found[0]
        day = datetime.fromtimestamp(time / 1000, UTC).date()
        message = f"the timestamp {time} is taken as epoch milliseconds, which is {day}: is it in seconds?"
        if len(found) > 1:
            message += f" {counted(len(found), 'record', verb='have')} such a one"
        yield warning(index, "seconds", message, "timestamp")


def warning(index: int, code: str, message: str, field: str | None = None) -> dict[str, Any]:
    """A warning of an answer, about the record of that number in the request."""
    about = {} if field is None else {"field": field}
    return {"index": index, "code": code, "message": f"record {index}: {message}", **about}
