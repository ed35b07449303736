"""Bad data is data: why a record could not be taken, and the record that keeps it."""

from enum import StrEnum

import msgspec

from consumers.records import NewRecord, Record


class Reason(StrEnum):
    """Stable codes. Each member's comment is what the producer can do."""

    TOMBSTONE = "tombstone"  # send a value; interactions are taken back with `"retract": true`
    OVERSIZED = "oversized"  # send less context, or raise `max_record_bytes`
    NOT_JSON = "not-json"  # send UTF-8 JSON
    NOT_AN_OBJECT = "not-an-object"  # send one JSON object a record
    UNKNOWN_SCHEMA = "unknown-schema"  # send plain JSON or CloudEvents
    MISSING_FIELD = "missing-field"  # send it, or name it with `--map ours=theirs`
    BAD_ID = "bad-id"  # ids are non-empty strings of up to 1,024 bytes, or integers
    BAD_TYPE = "bad-type"  # a field has another JSON type than it should
    BAD_TIMESTAMP = "bad-timestamp"  # epoch milliseconds ≥ 0, or ISO 8601
    FUTURE_TIMESTAMP = "future-timestamp"  # mend the producer's clock, or raise `clock_skew_ms`
    BAD_VALUE = "bad-value"  # `value` is a finite number
    TOO_LATE = "too-late"  # send sooner, raise `allowed_lateness_ms`, or set `too_late = "take"`


class DeadLetter(msgspec.Struct, frozen=True):
    """A record that cannot be taken, with the reason and one line of detail that quotes no user data."""

    record: Record
    reason: Reason
    message: str


def dead_letter_record(letter: DeadLetter, topic: str) -> NewRecord:
    """The record for the dead-letter topic: the original bytes and Kafka Streams' error headers (KIP-1034)."""
    record = letter.record
    errors = {
        "freshet.reason": str(letter.reason),
        "__streams.errors.exception": str(letter.reason),
        "__streams.errors.message": letter.message,
        "__streams.errors.topic": record.topic,
        "__streams.errors.partition": str(record.partition),
        "__streams.errors.offset": str(record.offset),
    }
    headers = tuple((name, text.encode()) for name, text in errors.items())
    return NewRecord(topic, record.key, record.value, record.headers + headers)
