"""What readers of files share: how a file is read, what is refused of it, and cells as the values of a record."""

import datetime as dt
import json
import math
import re
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec

from consumers.dead_letter import DeadLetter, Reason
from consumers.decode_fields import Refused, parse_iso
from consumers.decode_interactions import InteractionDecoder
from consumers.records import Record
from consumers.schemas import Interaction

if TYPE_CHECKING:
    from consumers.files.raw import Broken  # Arrow, which who reads no file does without

OWN = tuple(Interaction.__struct_fields__)
REQUIRED = ("user_id", "item_id", "timestamp")
THEIR_REASON = "reason of the file"  # what a column of theirs that is called `reason` is called here
OF_NO_COLUMN = ("rating", "interaction")  # event types of files without a column of them, with and without a value
EXACT_FLOAT = 1 << 53  # a float id above it is no longer the integer that it was
Kind = Literal["interactions", "items", "users"]
TimeUnit = Literal["s", "ms", "us", "ns"]
MS_A_UNIT = {"s": 1000.0, "ms": 1.0, "us": 1e-3, "ns": 1e-6}
NUMBER = r"^\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*$"
TRUTH = {"true": True, "1": True, "false": False, "0": False}
encode = msgspec.json.Encoder().encode
_ACCEPTED = {
    Reason.BAD_TIMESTAMP: "epoch milliseconds or ISO 8601; numbers of another unit are read with --time-unit, "
    "other texts with --time-format",
    Reason.FUTURE_TIMESTAMP: "a time that is no later than now and clock_skew_ms; see --time-unit",
    Reason.BAD_ID: "a text or an integer",
    Reason.BAD_VALUE: "a finite number with a point: 4.5",
    Reason.MISSING_FIELD: "a row with user_id, item_id, event_type and timestamp",
    Reason.NOT_A_ROW: "a line with as many fields as the file has columns, in UTF-8",
    Reason.NOT_JSON: "one JSON object a line, in UTF-8",
    Reason.NOT_AN_OBJECT: "a JSON object",
}


@dataclass(frozen=True)
class Reading:
    """How a file is read.

    Args:
        field_map: our field → where it stands: a column, or an expression of `consumers.field_paths`.
        format: of the file, one of `consumers.files.reader.ALL_FORMATS`; None: it is told by its name and content.
        names: of the columns, where the file has no line of names; "_" is a column that nobody reads.
        delimiter: between the cells of a row; None: the one that the first line has most of.
        encoding: of the text; None: UTF-8, or what a byte order mark says.
        time_unit: of times that are numbers; None: the format's own, seconds for MovieLens, RecBole and JODIE, else ms.
        time_format: of other times, as in `strptime`; UTC where it names no zone.
        event_type: of every row; None: that of its column, or `rating` or `interaction` where there is none.
        order: "file": the file has no times, its rows are in their order.
        beside: whether it is a file of items or users beside a stream, which need not have all that the map names.
        clock_skew_ms: how far in the future a timestamp may lie.
        max_record_bytes: larger values are refused.
        now_ms: the wall clock; None: that of the machine.
    """

    field_map: Mapping[str, str] = field(default_factory=dict)
    format: str | None = None
    names: tuple[str, ...] | None = None
    delimiter: str | None = None
    encoding: str | None = None
    time_unit: TimeUnit | None = None
    time_format: str | None = None
    event_type: str | None = None
    order: Literal["time", "file"] = "time"
    beside: bool = False
    clock_skew_ms: int = 300_000
    max_record_bytes: int = 1_000_000
    now_ms: int | None = None

    def decoder(self) -> InteractionDecoder:
        """What the rows have to satisfy."""
        return InteractionDecoder(None, self.clock_skew_ms, self.max_record_bytes)

    def now(self) -> int:
        """The wall clock, epoch ms."""
        return int(time.time() * 1000) if self.now_ms is None else self.now_ms


class RefusedRow(NamedTuple):
    """A row that could not be taken."""

    row: int  # in file order, from 0
    line: int
    reason: Reason
    message: str
    shown: str  # what of it was refused, for who reads the message
    record: bytes  # the value that a record of it has
    where: str = ""  # the file, where there are several


@dataclass
class Refusals:
    """What of a file was refused."""

    rows: list[RefusedRow] = field(default_factory=list)

    def add(self, others: "Refusals", rows_before: int, part: object = None) -> None:
        """Adds what was refused of the next file, which is named where there are several."""
        where = f"{part}, " if part else ""
        self.rows += [row._replace(row=row.row + rows_before, where=where) for row in others.rows]

    def counts(self) -> dict[str, int]:
        """Reason → rows, most first."""
        return dict(Counter(str(row.reason) for row in self.rows).most_common())

    def first(self) -> str:
        """The first of them: where, what, and what would have been taken."""
        row = min(self.rows, key=lambda one: one.row)
        accepted = _ACCEPTED.get(row.reason)
        return f"{row.where}line {row.line}, {row.shown}: {row.message}" + (
            f"; taken is {accepted}" if accepted else ""
        )


def wire_time(value: Any, unit: TimeUnit, time_format: str | None) -> Any:
    """What stands in a record for a time that a file gives in another unit or format: whole milliseconds."""
    if isinstance(value, str):
        read = read_time(value, time_format) if time_format else None
        return value if read is None else read
    if isinstance(value, bool) or not isinstance(value, int | float) or unit == "ms":
        return value
    if isinstance(value, int):
        return value * 1000 if unit == "s" else value // (1000 if unit == "us" else 1_000_000)
    scaled = value * MS_A_UNIT[unit]
    return round(scaled) if math.isfinite(scaled) else scaled


@lru_cache(maxsize=1 << 16)
def read_time(text: str | None, time_format: str) -> int | None:
    """Epoch ms of a text of a format; None where it is none."""
    if text is None:
        return None
    try:
        moment = dt.datetime.strptime(text.strip(), time_format)
        moment = moment.replace(tzinfo=moment.tzinfo or dt.UTC)
    except (ValueError, OverflowError):
        return None
    return (moment - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(milliseconds=1)


def number_of(text: str) -> Any:
    """The number that a text is; the text where it is none."""
    number = text.strip()  # of every white space; int() and float() leave some
    if re.fullmatch(r"[-+]?\d{1,4000}", number, re.ASCII):
        return int(number)
    is_real = re.match(NUMBER, number, re.ASCII) or re.fullmatch("[-+]?inf(inity)?", number, re.I)
    return float(number) if is_real else text


def record_of(fields: dict[str, Any], cells: Mapping[str, Any], others: dict[str, Any], reason: Reason) -> bytes:
    """The value of the record of a refused row: what it says, with the text of the field for which it is refused."""
    fields = {name: value for name, value in fields.items() if value is not None}
    for name, of in (("timestamp", Reason.BAD_TIMESTAMP), ("value", Reason.BAD_VALUE)):
        if reason is of and isinstance(cells.get(name), str):
            fields[name] = cells[name]
    record = _finite(with_context(fields, others))
    try:
        return encode(record)
    except UnicodeEncodeError:
        return json.dumps(fields, ensure_ascii=False, default=str).encode("utf-8", "surrogateescape")
    except (TypeError, ValueError, OverflowError):
        return json.dumps({name: _jsonable(value) for name, value in fields.items()}).encode()


def _finite(record: dict[str, Any]) -> dict[str, Any]:
    """The record with the text of a number that JSON has not."""
    return {
        name: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in record.items()
    }


def _jsonable(value: Any) -> Any:
    return value if isinstance(value, int | float) and abs(value) < EXACT_FLOAT else str(value)


def with_context(fields: dict[str, Any], others: dict[str, Any]) -> dict[str, Any]:
    """The fields with what the file says besides in their context."""
    if not others:
        return fields
    own = fields.get("context")
    named = {("reason" if name == THEIR_REASON else name): value for name, value in others.items()}
    return fields | {"context": named | (own if isinstance(own, dict) else {})} if own is None or own else fields


def which_cell(cells: Mapping[str, Any], fields: Mapping[str, Any], refused: Refused) -> str:
    """The cell for which a row is refused, for a message."""
    names = {Reason.BAD_VALUE: ("value",), Reason.BAD_ID: ("user_id", "item_id", "event_id", "session_id")}
    names |= dict.fromkeys((Reason.BAD_TIMESTAMP, Reason.FUTURE_TIMESTAMP), ("timestamp",))
    wanted = names.get(refused.reason, tuple(cells))
    if refused.reason is Reason.BAD_ID:
        wanted = tuple(name for name in wanted if name in cells and not _is_id(fields.get(name)))[:1] or wanted[:1]
    if refused.reason in (Reason.MISSING_FIELD, Reason.BAD_TYPE, Reason.OVERSIZED):
        return str(refused.reason)
    return ", ".join(f"{name} {shown(cells.get(name))}" for name in wanted)


def _is_id(value: Any) -> bool:
    return isinstance(value, int) or (isinstance(value, str) and 0 < len(value.encode("utf-8", "replace")) <= 1024)


def shown(cell: Any) -> str:
    """A cell for a message: what is long is cut."""
    text = repr(cell.decode("utf-8", "replace") if isinstance(cell, bytes) else cell)
    return text if len(text) <= 80 else f"{text[:60]}… ({len(text)} characters)"


def why_broken(broken: "Broken", decoder: InteractionDecoder, now_ms: int) -> tuple[Reason, str]:
    """Why a line that is no row cannot be taken: what its reader says of it, else what the wire does."""
    line = broken.line
    letter = decoder.decode(
        Record(topic="", partition=0, offset=0, key=None, value=line, headers=(), timestamp_ms=0), now_ms
    )
    if broken.why and not (isinstance(letter, DeadLetter) and letter.reason is Reason.OVERSIZED):
        return Reason.NOT_A_ROW, broken.why
    if isinstance(letter, DeadLetter):
        return letter.reason, letter.message
    return Reason.NOT_A_ROW, "the line has not the fields of a row"


def cells_of(interaction: Interaction) -> dict[str, Any]:
    """An interaction by column."""
    row = {name: getattr(interaction, name) for name in OWN}
    return row | {"context": None if interaction.context is None else encode(interaction.context).decode()}


def what_is_kept(fields: dict[str, Any]) -> dict[str, Any]:
    """What of a refused row its columns hold: its ids and its time, so that it has its place in the order."""
    kept: dict[str, Any] = {}
    for name in ("user_id", "item_id", "event_type", "event_id", "session_id"):
        value = fields.get(name)
        if isinstance(value, str | int) and not isinstance(value, bool) and value != "":
            text = str(value)
            kept[name] = text if text.isascii() or _is_utf8(text) else None
    t, value = fields.get("timestamp"), fields.get("value")
    if isinstance(t, str):
        try:
            t = parse_iso(t)
        except Refused:
            t = None
    if isinstance(t, int | float) and not isinstance(t, bool) and abs(t) < 9.2e18:
        kept["timestamp"] = int(t)
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300:
        kept["value"] = float(value)
    return kept | {"retract": fields.get("retract") is True}


def _is_utf8(text: str) -> bool:
    try:
        return bool(text.encode())
    except UnicodeEncodeError:
        return False


def not_ours(name: str) -> str:
    return THEIR_REASON if name == "reason" else name
