"""Feedback: what is taken, and what is refused with which reason."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.dead_letter import DeadLetter, Reason
from consumers.decode_feedback import MAX_EVENT_CHARACTERS, FeedbackDecoder
from consumers.records import Record
from consumers.schemas import Feedback

NOW_MS = 1_700_000_000_000
GOOD: dict[str, Any] = {"list_id": "0-7", "event": "click", "timestamp": NOW_MS}
_decoder = FeedbackDecoder(clock_skew_ms=1_000, max_record_bytes=5_000)


def decoded(value: bytes | None) -> Feedback | DeadLetter:
    return _decoder.decode(Record("feedback", 0, 0, b"u", value, (), NOW_MS), NOW_MS)


TAKEN = [
    ({}, {}),
    ({"user_id": 7, "item_id": 8, "event_id": 9}, {"user_id": "7", "item_id": "8", "event_id": "9"}),
    ({"user_id": "", "event_id": ""}, {}),
    ({"user_id": None, "item_id": None, "value": None}, {}),
    ({"value": 3}, {"value": 3.0}),
    ({"timestamp": "2023-11-14T22:13:20Z"}, {}),
    ({"timestamp": float(NOW_MS)}, {}),
    ({"timestamp": NOW_MS + 1_000}, {"timestamp": NOW_MS + 1_000}),
    ({"position": 3}, {}),
]


@pytest.mark.parametrize(("fields", "others"), TAKEN)
def test_what_is_taken(fields: dict[str, Any], others: dict[str, Any]) -> None:
    wanted = Feedback(**{**GOOD, **others})
    assert decoded(json.dumps(GOOD | fields).encode()) == wanted
    assert decoded(msgspec.json.encode(wanted)) == wanted
    event = {"specversion": "1.0", "id": "e", "source": "s", "type": "t", "data": GOOD | fields}
    if not fields.get("user_id"):
        assert decoded(json.dumps(event).encode()) == wanted


REFUSED = [
    (None, Reason.TOMBSTONE),
    (b"{", Reason.NOT_JSON),
    (b"[]", Reason.NOT_AN_OBJECT),
    (b"\0\0\0\0\1abc", Reason.UNKNOWN_SCHEMA),
    ({"list_id": None}, Reason.MISSING_FIELD),
    ({"list_id": ""}, Reason.BAD_ID),
    ({"list_id": True}, Reason.BAD_ID),
    ({"list_id": "x" * 2_000}, Reason.BAD_ID),
    ({"item_id": []}, Reason.BAD_ID),
    ({"user_id": 1.5}, Reason.BAD_ID),
    ({"event": None}, Reason.MISSING_FIELD),
    ({"event": ""}, Reason.MISSING_FIELD),
    ({"event": 3}, Reason.BAD_TYPE),
    ({"event": "x" * (MAX_EVENT_CHARACTERS + 1)}, Reason.BAD_TYPE),
    ({"timestamp": None}, Reason.MISSING_FIELD),
    ({"timestamp": -1}, Reason.BAD_TIMESTAMP),
    ({"timestamp": "soon"}, Reason.BAD_TIMESTAMP),
    ({"timestamp": NOW_MS + 1_001}, Reason.FUTURE_TIMESTAMP),
    ({"value": "3"}, Reason.BAD_VALUE),
    ({"value": True}, Reason.BAD_VALUE),
    (b'{"list_id": "a", "event": "e", "timestamp": 1, "value": 1e999}', Reason.BAD_VALUE),
    (b'{"list_id": "a", "event": "e", "timestamp": 1, "value": ' + b"9" * 4_500 + b"}", Reason.BAD_VALUE),
    ({"more": "x" * 6_000}, Reason.OVERSIZED),
]


@pytest.mark.parametrize(("value", "reason"), REFUSED)
def test_what_is_refused(value: Any, reason: Reason) -> None:
    letter = decoded(json.dumps(GOOD | value).encode() if isinstance(value, dict) else value)
    assert isinstance(letter, DeadLetter)
    assert letter.reason is reason


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(), st.lists) | st.binary())
def test_nothing_that_comes_is_an_exception(value: Any) -> None:
    for name in GOOD:
        assert isinstance(decoded(json.dumps(GOOD | {name: value}, default=repr).encode()), Feedback | DeadLetter)
    assert isinstance(decoded(value if isinstance(value, bytes) else json.dumps(value).encode()), Feedback | DeadLetter)
