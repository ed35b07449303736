"""Bad data is data: why a record could not be taken, and the record that keeps it, which `Pipeline` publishes."""

from enum import StrEnum
from hashlib import sha256

import msgspec

from consumers.records import RECORD_BYTES, Headers, NewRecord, Record, size_of

TOPIC_OF_LETTER = "__streams.errors.topic"  # the header that names the topic of the record
PARTITION_OF_LETTER, OFFSET_OF_LETTER = "__streams.errors.partition", "__streams.errors.offset"
PLACE_OF_LETTER = (TOPIC_OF_LETTER, PARTITION_OF_LETTER, OFFSET_OF_LETTER)  # no two letters have the same
MAX_HEADERS_BYTES, MAX_KEY_BYTES, MAX_MESSAGE_CHARS = 65_536, 4_096, 1_000


class Reason(StrEnum):
    """Stable codes. Each member's comment is what the producer can do."""

    TOMBSTONE = "tombstone"  # send a value; interactions are taken back with `"retract": true`
    OVERSIZED = "oversized"  # send less context, or raise `max_record_bytes`
    NOT_JSON = "not-json"  # send UTF-8 JSON
    NOT_A_ROW = "not-a-row"  # a line of a file has as many fields as the file has columns; on a topic it is `not-json`
    NOT_AN_OBJECT = "not-an-object"  # send one JSON object a record
    UNKNOWN_SCHEMA = "unknown-schema"  # name the registry that has the schema with `schema_registry`, or send JSON
    NOT_OF_SCHEMA = "not-of-schema"  # send what the schema says whose id the value begins with
    MISSING_FIELD = "missing-field"  # send it, or name it with `--map ours=theirs`
    BAD_ID = "bad-id"  # ids are non-empty strings of up to 1,024 bytes, or integers
    BAD_TYPE = "bad-type"  # a field has another JSON type than it should
    BAD_TIMESTAMP = "bad-timestamp"  # epoch milliseconds ≥ 0, or ISO 8601
    FUTURE_TIMESTAMP = "future-timestamp"  # mend the producer's clock, or raise `clock_skew_ms`
    BAD_VALUE = "bad-value"  # `value` is a finite number
    OTHER_WORKER = "other-worker"  # a session can be merged where one worker has its partition and the user's
    OTHER_USER = "other-user"  # a session stays the user's whose it is: give the next visitor another id
    TOO_LATE = (
        "too-late"  # send sooner, raise `allowed_lateness_ms` or `feedback_lateness_s`, or set `too_late = "take"`
    )
    UNKNOWN_LIST = "unknown-list"  # quote the `list_id` of a list of the same user, while it is kept
    NOT_LISTED = "not-listed"  # quote an `item_id` of that list


class DeadLetter(msgspec.Struct, frozen=True):
    """A record that cannot be taken, with the reason and one line of detail that quotes no user data."""

    record: Record
    reason: Reason
    message: str


def dead_letter_record(letter: DeadLetter, topic: str, limit: int = RECORD_BYTES) -> NewRecord:
    """The record for the dead-letter topic: the original bytes and Kafka Streams' error headers (KIP-1034).

    limit: the largest record that the topic takes, see `size_of`. What is too large is cut, and headers say so:
    `freshet.original-bytes` and `freshet.original-digest` of the whole value, `freshet.original-key-bytes` of the key,
    `freshet.headers-left-out` of the original headers.
    """
    record, key = letter.record, letter.record.key
    errors = {
        "freshet.reason": str(letter.reason),
        "__streams.errors.exception": str(letter.reason),
        "__streams.errors.message": letter.message[:MAX_MESSAGE_CHARS],
        TOPIC_OF_LETTER: record.topic,
        PARTITION_OF_LETTER: str(record.partition),
        OFFSET_OF_LETTER: str(record.offset),
    }
    headers = _bounded(record.headers)
    if len(headers) < len(record.headers):
        errors["freshet.headers-left-out"] = str(len(record.headers) - len(headers))
    if key is not None and len(key) > MAX_KEY_BYTES:
        errors["freshet.original-key-bytes"] = str(len(key))
        key = key[:MAX_KEY_BYTES]
    made = NewRecord(topic, key, record.value, headers + _as_headers(errors))
    if record.value is None or size_of(made) <= limit:
        return made
    errors["freshet.original-bytes"] = str(len(record.value))
    errors["freshet.original-digest"] = f"sha256:{sha256(record.value).hexdigest()}"
    headers += _as_headers(errors)
    room = max(limit - size_of(NewRecord(topic, key, b"", headers)), 0)
    return NewRecord(topic, key, record.value[:room], headers)


def _as_headers(texts: dict[str, str]) -> Headers:
    return tuple((name, text.encode()) for name, text in texts.items())


def _bounded(headers: Headers) -> Headers:
    """Those that fit into MAX_HEADERS_BYTES together; a larger one is left out whole."""
    kept, left = [], MAX_HEADERS_BYTES
    for name, value in headers:
        size = len(name.encode()) + len(value)
        if size <= left:
            kept.append((name, value))
            left -= size
    return tuple(kept)
