"""The fields of a record's value, whatever it is a record of: JSON and what a registry framed, ids, times, flags.

A producer's ids may be strings or integers; inside they are strings. A numeric timestamp is epoch milliseconds, always.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec

from consumers.dead_letter import Reason
from consumers.records import Record

MAX_ID_BYTES = 1024
MAX_TIMESTAMP_MS = 253_402_300_799_999  # the end of the year 9999
MAX_DIGITS = 4_000  # of an integer; Python itself turns no longer ones into text
_JSON = msgspec.json.Decoder()
_ZONE = re.compile(r" ?(Z|[+-]\d\d:?\d\d)?(?: UTC)?$")  # as databases and Go write a zone: 09:11:34 UTC, +0000 UTC
UNDECODABLE = (ValueError, RecursionError)
"""What bytes raise that are no JSON of the wanted form: of msgspec, json and Unicode, and where they nest too deep."""
ListTime = Annotated[int, msgspec.Meta(ge=0, le=MAX_TIMESTAMP_MS)]
"""When a list was made, epoch ms, in a record that anybody may have written."""
Unframe = Callable[[bytes], Any]
"""What a value says that a schema registry framed, see `consumers.schema_registry.registry`. Raises Refused."""


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


def json_object(value: bytes, unframe: Unframe | None) -> dict[str, Any]:
    try:
        data = _unframed(value, unframe) if is_framed(value) else decode_json(value)
    except UNDECODABLE as error:
        raise Refused(Reason.NOT_JSON, why_undecodable(error)) from None
    if not isinstance(data, dict):
        raise Refused(Reason.NOT_AN_OBJECT, f"the value is a JSON {type(data).__name__}")
    return data


def why_undecodable(error: Exception) -> str:
    """What is wrong with bytes that raised one of UNDECODABLE, or KeyError for want of a field, in one line."""
    if isinstance(error, KeyError):
        return f"a line has no {error.args[0]}"
    return "nested too deep" if isinstance(error, RecursionError) else " ".join(str(error).split())[:200]


def decode_json(value: bytes, too_large: Callable[[str], Any] = float) -> Any:
    """A number that Python has no number for costs its field, not the record: it becomes infinite.

    too_large: makes something else of the text of such a one.
    """

    def real(text: str) -> Any:
        return number if math.isfinite(number := float(text)) else too_large(text)

    def integer(digits: str) -> Any:
        return int(digits) if len(digits) <= MAX_DIGITS else too_large(digits)

    try:
        return _JSON.decode(value)
    except msgspec.ValidationError:
        data = json.loads(value.decode(), parse_float=real, parse_int=integer, parse_constant=_no_number)
        json.dumps(data, ensure_ascii=False, default=str).encode()  # this parser lets half a surrogate pair through
        return data


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is no JSON")


def object_fields(value: bytes, unframe: Unframe | None = None) -> dict[str, Any]:
    """The fields of a record that is an object, or a CloudEvent of structured mode. Raises Refused."""
    data = json_object(value, unframe)
    return data["data"] if is_cloud_event(data) else data


def id_field(data: Mapping[str, Any], field: str) -> str:
    """A field that is an id. Raises Refused."""
    value = data.get(field)
    if value is None:
        raise Refused(Reason.MISSING_FIELD, f"there is no {field}")
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise Refused(Reason.BAD_ID, f"{field} is a JSON {type(value).__name__}; an id is a string or an integer")
    return decode_id(value, field)


def time_field(data: Mapping[str, Any], field: str, latest_ms: int) -> int | None:
    """A field that is a time, epoch ms; None where there is none. Raises Refused, for one after `latest_ms` too."""
    value = data.get(field)
    if value is None:
        return None
    try:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise Refused(Reason.BAD_TIMESTAMP, "neither epoch milliseconds nor ISO 8601")
        timestamp = decode_time(value)
        check_not_later(timestamp, latest_ms)
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


def check_not_later(timestamp: int, latest_ms: int) -> None:
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
        return decode_id(key.decode(), "the key")
    except UnicodeDecodeError:
        raise Refused(Reason.BAD_ID, "the key is no UTF-8") from None


def decode_id(value: str | int, field: str) -> str:
    text = value if type(value) is str else str(value)
    if not text or len(text) > MAX_ID_BYTES or (not text.isascii() and not _encodable(text)):
        raise Refused(
            Reason.BAD_ID, f"{field} has {len(text)} characters; 1 to {MAX_ID_BYTES} bytes of UTF-8 are allowed"
        )
    return text


def _encodable(text: str) -> bool:
    try:
        return len(text.encode()) <= MAX_ID_BYTES
    except UnicodeEncodeError:  # a lone surrogate
        return False


def decode_time(value: int | float | str) -> int:
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
