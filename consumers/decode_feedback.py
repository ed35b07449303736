"""Bytes to feedback: plain JSON and CloudEvents of structured mode, validated, or a dead letter."""

import math
from collections.abc import Mapping
from typing import Any

from consumers.dead_letter import DeadLetter, Reason
from consumers.decode_fields import Refused, Unframe, checked_value, id_field, object_fields, time_field
from consumers.records import Record
from consumers.schemas import Feedback

MAX_EVENT_CHARACTERS = 200


class FeedbackDecoder:
    """Decodes the records of the feedback topic.

    Args:
        clock_skew_ms: how far in the future a timestamp may lie.
        max_record_bytes: larger values are refused.
        unframe: reads values that a schema registry framed; without it they are refused.

    >>> FeedbackDecoder().of_fields({"list_id": "0-7", "event": "click", "item_id": 3, "timestamp": 1000}, 2000)
    Feedback(list_id='0-7', event='click', timestamp=1000, user_id='', item_id='3', value=None, event_id=None)
    """

    def __init__(
        self, clock_skew_ms: int = 300_000, max_record_bytes: int = 1_000_000, unframe: Unframe | None = None
    ) -> None:
        self._clock_skew_ms, self._max_record_bytes, self._unframe = clock_skew_ms, max_record_bytes, unframe

    def decode(self, record: Record, now_ms: int) -> Feedback | DeadLetter:
        """The feedback in a record, or why there is none. `now_ms` is the wall clock, for the skew bound."""
        try:
            return self.of_fields(object_fields(checked_value(record, self._max_record_bytes), self._unframe), now_ms)
        except Refused as refused:
            return DeadLetter(record, refused.reason, refused.message)

    def of_fields(self, fields: Mapping[str, Any], now_ms: int) -> Feedback:
        """The feedback in the fields of a JSON object. Raises Refused."""
        timestamp = time_field(fields, "timestamp", now_ms + self._clock_skew_ms)
        if timestamp is None:
            raise Refused(Reason.MISSING_FIELD, "there is no timestamp")
        return Feedback(
            list_id=id_field(fields, "list_id"),
            event=_event(fields.get("event")),
            timestamp=timestamp,
            user_id="" if fields.get("user_id") in (None, "") else id_field(fields, "user_id"),
            item_id=None if fields.get("item_id") is None else id_field(fields, "item_id"),
            value=_value(fields.get("value")),
            event_id=None if fields.get("event_id") in (None, "") else id_field(fields, "event_id"),
        )


def _event(value: Any) -> str:
    if value is None or value == "":
        raise Refused(Reason.MISSING_FIELD, "there is no event")
    if not isinstance(value, str) or len(value) > MAX_EVENT_CHARACTERS:
        raise Refused(Reason.BAD_TYPE, f"event: a text of up to {MAX_EVENT_CHARACTERS} characters")
    return value


def _value(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Refused(Reason.BAD_VALUE, "value is no number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise Refused(Reason.BAD_VALUE, "value is not finite")
    return number
