"""Files of columns: the one place that says what their rows mean.

The rules are those of the wire (`consumers.decode_interactions`). Cells that are surely good are taken as they are, a
column at a time; every other row goes through the wire decoder itself, so that it is taken, or refused with the same
reason.
"""

import datetime as dt
import decimal
import json
import math
from collections.abc import Sequence
from itertools import chain
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from consumers.dead_letter import Reason
from consumers.decode_fields import MAX_ID_BYTES, MAX_TIMESTAMP_MS, UNDECODABLE, Refused
from consumers.errors import DataRefused
from consumers.files.raw import RawColumns
from consumers.files.rows import (  # fmt: skip
    EXACT_FLOAT,
    MS_A_UNIT,
    NUMBER,
    OF_NO_COLUMN,
    OWN,
    REQUIRED,
    TRUTH,
    Reading,
    Refusals,
    RefusedRow,
    TimeUnit,
    cells_of,
    encode,
    not_ours,
    number_of,
    read_time,
    record_of,
    shown,
    what_is_kept,
    which_cell,
    why_broken,
    wire_time,
    with_context,
)
from consumers.schemas import Interaction

SURELY_A_VALUE = 1e3  # what lies beyond is for the wire decoder to say
_WHOLE = r"^(\d{1,18}|1\d{18})$"  # fits 64 bits
_ISO = r"^\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d{3}|\.\d{6})?Z?$"


def rows_of_columns(raw: RawColumns, reading: Reading, where: object) -> tuple[pa.Table, Refusals]:
    """The canonical columns of raw ones, in file order, and what was refused. Raises DataRefused."""
    return _ColumnRows(raw, reading, where).read()


class _ColumnRows:
    """A file of columns that is being read."""

    def __init__(self, raw: RawColumns, reading: Reading, where: object) -> None:
        self._raw, self._reading, self._where = raw, reading, where
        self._unit: TimeUnit = reading.time_unit or "ms"
        self._decoder, self._now_ms = reading.decoder(), reading.now()
        self._size = len(raw.cells[0]) if raw.cells else 0
        self._cells, self._extras = self._columns_by_name()

    def _columns_by_name(self) -> tuple[dict[str, pa.ChunkedArray], dict[str, pa.ChunkedArray]]:
        """Our columns and the others. Raises DataRefused where one is named twice."""
        raw, field_map = self._raw, self._reading.field_map
        places: dict[str, list[int]] = {}
        for n, name in enumerate(raw.names):
            places.setdefault(name, []).append(n)
        wanted = {ours: field_map.get(ours, ours) for ours in (*OWN, *field_map)}
        found: dict[str, pa.ChunkedArray] = {}
        for ours, theirs in wanted.items():
            if theirs in places and not (theirs == ours and ours in raw.unread):
                if len(places[theirs]) > 1:
                    raise DataRefused(
                        f"{self._where} has the column {theirs} {len(places[theirs])} times: which is it?"
                    )
                found[ours] = raw.cells[places[theirs][0]]
        if raw.places is not None and "event_id" in found:
            found["event_id"] = _ids_of_elements(found["event_id"], raw.places)
        extras = {name: found.pop(name) for name in field_map if name in found and name not in OWN}
        used = {*wanted.values(), *field_map, *raw.unread}
        for name, at in places.items():
            if name not in used:
                for place, n in enumerate(at, 1):
                    extras[not_ours(name if place == 1 else f"{name} ({place})")] = raw.cells[n]
        return found, extras

    def read(self) -> tuple[pa.Table, Refusals]:
        columns: dict[str, pa.Array] = {}
        good = pa.repeat(pa.scalar(True), self._size)
        for name, cells in self._cells.items():
            columns[name], sure = self._surely(name, cells)
            good = pc.and_(good, sure)
        if "event_type" not in columns:
            kind = self._reading.event_type or OF_NO_COLUMN["value" not in columns]
            columns["event_type"] = pa.repeat(pa.scalar(kind), self._size)
        good = pc.and_(good, self._small_enough())
        reasons, refusals = pa.nulls(self._size, pa.string()), Refusals()
        odd = pc.indices_nonzero(pc.invert(good)).to_pylist() if not pc.all(good).as_py() else []
        odd = sorted({*odd, *self._raw.broken})
        if odd:
            rows, refusals = self._closely(odd, columns["event_type"])
            mask = _mask(self._size, odd)
            for name in columns:
                if pa.types.is_struct(columns[name].type):
                    continue  # a context that stands in columns is what it is
                values = pa.array([row.get(name) for row in rows], columns[name].type)
                columns[name] = pc.replace_with_mask(columns[name], mask, values)
            reasons = pc.replace_with_mask(reasons, mask, pa.array([row["reason"] for row in rows], pa.string()))
        ordered = {name: columns[name] for name in OWN if name in columns}
        extras = {name: _nothing_as_null(cells) if self._raw.text else cells for name, cells in self._extras.items()}
        return pa.table(ordered | extras | {"reason": reasons}), refusals

    # what is surely good

    def _surely(self, name: str, cells: pa.ChunkedArray) -> tuple[pa.Array, pa.Array]:
        """[N] canonical values, and [N] whether the wire decoder surely takes each; one that it may not is null."""
        cells = _whole(cells)
        if name in ("user_id", "item_id"):
            column = _ids(cells)
            length = pc.binary_length(column)
            return _judged(column, pc.and_(pc.greater(length, 0), pc.less_equal(length, MAX_ID_BYTES)))
        if name == "event_type":
            column = cells.cast(pa.string()) if _is_text(cells.type) else pa.nulls(len(cells), pa.string())
            return _judged(column, pc.greater(pc.binary_length(column), 0))
        if name == "timestamp":
            column = self._times(cells)
            latest = min(self._now_ms + self._reading.clock_skew_ms, MAX_TIMESTAMP_MS)
            return _judged(column, pc.and_(pc.greater_equal(column, 0), pc.less_equal(column, latest)))
        nothing = _says_nothing(cells, self._raw.text)
        if name == "value":
            column = _values(cells)
            return _judged(column, pc.less_equal(pc.abs(column), SURELY_A_VALUE), nothing)
        if name == "retract":
            column = cells if pa.types.is_boolean(cells.type) else pa.nulls(len(cells), pa.bool_())
            column, sure = _judged(column, pc.invert(column), nothing)
            return pc.fill_null(column, False), sure
        if name == "context":
            if pa.types.is_struct(cells.type):
                return cells, pa.repeat(pa.scalar(True), len(cells))
            return pa.nulls(len(cells), pa.string()), nothing
        column = _nothing_as_null(_ids(cells)) if self._raw.text or name == "event_id" else _ids(cells)
        if name == "event_id":
            nothing = _says_nothing(cells, True) if _is_text(cells.type) else nothing
        return _judged(column, pc.less_equal(pc.binary_length(column), MAX_ID_BYTES), nothing)

    def _times(self, cells: pa.Array) -> pa.Array:
        """[N] int64 epoch ms, null where a closer look is needed."""
        kind = cells.type
        if pa.types.is_date(kind):
            return cells.cast(pa.timestamp("ms")).cast(pa.int64())
        if pa.types.is_timestamp(kind):
            return cells.cast(pa.timestamp("ms", kind.tz), safe=False).cast(pa.int64())
        if pa.types.is_integer(kind):
            return self._scaled(cells)
        if pa.types.is_floating(kind):
            return self._scaled_float(cells.cast(pa.float64()))
        if not _is_text(kind):
            return pa.nulls(len(cells), pa.int64())
        if self._reading.time_format:
            return self._formatted(cells)
        found = self._scaled(_where(pc.match_substring_regex(cells, _WHOLE), cells).cast(pa.int64()))
        if self._unit != "ms" and found.null_count:
            parts = _where(pc.match_substring_regex(cells, r"[.eE]"), cells)
            found = pc.coalesce(found, self._scaled_float(_values(parts)))
        return pc.coalesce(found, _iso_times(cells)) if found.null_count else found

    def _scaled(self, numbers: pa.Array) -> pa.Array:
        """[N] int64 ms of whole numbers of the unit."""
        numbers = _where(pc.less(numbers, 1 << 62), numbers).cast(pa.int64())
        if self._unit == "s":
            return pc.multiply(_where(pc.less(pc.abs(numbers), 1 << 50), numbers), 1000)
        return numbers if self._unit == "ms" else pc.divide(numbers, 1000 if self._unit == "us" else 1_000_000)

    def _scaled_float(self, numbers: pa.Array) -> pa.Array:
        """[N] int64 ms of numbers of the unit; a millisecond has no parts."""
        numbers = pc.multiply(numbers, MS_A_UNIT[self._unit])
        if self._unit != "ms":
            numbers = pc.round(numbers)
        usable = pc.and_(pc.less(pc.abs(numbers), 9.2e18), pc.equal(numbers, pc.floor(numbers)))
        return _where(usable, numbers).cast(pa.int64(), safe=False)

    def _formatted(self, cells: pa.Array) -> pa.Array:
        """[N] int64 ms of texts of the format: each distinct one is read once."""
        coded = pc.dictionary_encode(cells)
        read = [read_time(text, self._reading.time_format or "") for text in coded.dictionary.to_pylist()]
        return pa.array(read, pa.int64()).take(coded.indices)

    def _small_enough(self) -> pa.Array:
        """[N] whether a record of the row is surely not too large."""
        size = pa.repeat(pa.scalar(0, pa.int64()), self._size)
        for cells in chain(self._cells.values(), self._extras.values()):
            if _is_text(cells.type):
                size = pc.add(size, pc.fill_null(pc.binary_length(cells), 0).cast(pa.int64()))
        return pc.less_equal(size, self._reading.max_record_bytes // 8)  # a character is at most six bytes of JSON

    # what needs a closer look

    def _closely(self, odd: Sequence[int], event_type: pa.Array) -> tuple[list[dict[str, Any]], Refusals]:
        """Canonical cells and the reason of rows, by the wire decoder; and those that it refuses."""
        raw, taken = self._raw, []
        refusals = Refusals()
        at = pa.array(odd, pa.int64())
        ours, theirs = (
            [dict(zip(cells, row, strict=True)) for row in zip(*map(_pylist(at), cells.values()), strict=True)]
            for cells in (self._cells, self._extras)
        )
        theirs = theirs or [{} for _ in odd]
        default = None if "event_type" in self._cells else event_type[0].as_py()
        for n, row in enumerate(odd):
            if row in raw.broken:
                broken = raw.broken[row]
                reason, message = why_broken(broken, self._decoder, self._now_ms)
                refused = RefusedRow(
                    row=row,
                    line=raw.line_of(row),
                    reason=reason,
                    message=message,
                    shown=shown(broken.line),
                    record=broken.line,
                )
                refusals.rows.append(refused)
                taken.append({"reason": str(reason), "event_type": default})
                continue
            fields = {name: self._wire_value(name, cell) for name, cell in ours[n].items()}
            fields = {name: value for name, value in fields.items() if value is not None or name in REQUIRED}
            if default:
                fields["event_type"] = default
            others = {name: value for name, value in theirs[n].items() if value is not None and value != ""}
            found = self._decided(fields, others)
            if isinstance(found, Interaction):
                taken.append(cells_of(found) | {"reason": None})
            else:
                record = record_of(fields, ours[n], others, found.reason)
                refused = RefusedRow(
                    row=row,
                    line=raw.line_of(row),
                    reason=found.reason,
                    message=found.message,
                    shown=which_cell(ours[n], fields, found),
                    record=record,
                )
                refusals.rows.append(refused)
                taken.append(what_is_kept(fields) | {"reason": str(found.reason)})
        return taken, refusals

    def _decided(self, fields: dict[str, Any], others: dict[str, Any]) -> Interaction | Refused:
        try:
            size = _size(with_context(fields, others))
            if size > self._reading.max_record_bytes:
                return Refused(Reason.OVERSIZED, f"{size} bytes are over the limit of {self._reading.max_record_bytes}")
            return self._decoder.of_fields(fields, self._now_ms)
        except Refused as refused:
            return refused
        except UnicodeEncodeError:
            return Refused(Reason.NOT_JSON, "a text is no UTF-8")

    def _wire_value(self, name: str, cell: Any) -> Any:
        """What a record of the topic would have in place of a cell; None where the cell says nothing."""
        if isinstance(cell, float) and math.isnan(cell):
            return None
        if isinstance(cell, bytes):
            cell = cell.decode("utf-8", "surrogateescape")
        if isinstance(cell, decimal.Decimal):
            cell = int(cell) if cell == cell.to_integral_value() else float(cell)
        if name == "timestamp":
            return self._wire_time(cell)
        if name in ("user_id", "item_id", "event_id", "session_id"):
            if name not in REQUIRED and cell == "" and self._raw.text:
                return None
            if isinstance(cell, float) and cell.is_integer() and abs(cell) <= EXACT_FLOAT:
                return int(cell)
            return str(cell) if isinstance(cell, dt.date | dt.time) else cell
        if not isinstance(cell, str) or name == "event_type":
            pairs = name == "context" and isinstance(cell, list) and all(isinstance(pair, tuple) for pair in cell)
            return dict(cell) if pairs else cell
        text = cell.strip()
        if not text:
            return None
        if name == "value":
            return number_of(text)
        if name == "retract":
            return TRUTH.get(text.lower(), cell)
        if name == "context":
            try:
                return msgspec.json.decode(text)
            except UNDECODABLE:
                return cell
        return cell

    def _wire_time(self, cell: Any) -> Any:
        if isinstance(cell, dt.datetime):
            since = cell.replace(tzinfo=cell.tzinfo or dt.UTC) - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
            return since // dt.timedelta(milliseconds=1)
        if isinstance(cell, dt.date):
            return (cell - dt.date(1970, 1, 1)).days * 86_400_000
        return wire_time(number_of(cell) if isinstance(cell, str) else cell, self._unit, self._reading.time_format)


def _ids_of_elements(ids: pa.ChunkedArray, places: pa.Array) -> pa.Array:
    """Ids of rows that are elements of one that had the id: the first keeps it."""
    ids = _whole(ids).cast(pa.string())
    more = pc.binary_join_element_wise(ids, places.cast(pa.string()), "-")
    return pc.if_else(pc.or_(pc.equal(places, 0), pc.equal(ids, "")), ids, more)


def _whole(cells: pa.ChunkedArray) -> pa.Array:
    """One array, without a dictionary."""
    if pa.types.is_dictionary(cells.type):
        cells = cells.cast(cells.type.value_type)
    return cells.combine_chunks() if isinstance(cells, pa.ChunkedArray) else cells


def _judged(column: pa.Array, sure: pa.Array, nothing: pa.Array | None = None) -> tuple[pa.Array, pa.Array]:
    """The column, null where it is not sure; and whether it is sure, or says nothing."""
    sure = pc.fill_null(sure, False)
    column = column if pc.all(sure, min_count=0).as_py() else _where(sure, column)
    return column, sure if nothing is None else pc.or_(sure, nothing)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _says_nothing(cells: pa.Array, text: bool) -> pa.Array:
    """[N] whether a cell of an optional column is there at all."""
    if text:
        return pc.equal(pc.fill_null(cells, ""), "")
    return pc.is_null(cells, nan_is_null=True)


def _where(wanted: pa.Array, cells: pa.Array) -> pa.Array:
    """The cells, null where they are not wanted."""
    return pc.if_else(pc.fill_null(wanted, False), cells, pa.scalar(None, cells.type))


def _nothing_as_null(cells: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.if_else(pc.equal(cells, ""), pa.scalar(None, cells.type), cells)


def _ids(cells: pa.Array) -> pa.Array:
    """[N] ids as text, null where a closer look is needed."""
    kind = cells.type
    if _is_text(kind):
        return cells.cast(pa.string())
    if pa.types.is_integer(kind):
        return cells.cast(pa.string())
    if pa.types.is_floating(kind):
        cells = cells.cast(pa.float64())
        exact = pc.and_(pc.equal(cells, pc.floor(cells)), pc.less_equal(pc.abs(cells), float(EXACT_FLOAT)))
        return _where(exact, cells).cast(pa.int64()).cast(pa.string())
    return pa.nulls(len(cells), pa.string())


def _values(cells: pa.Array) -> pa.Array:
    """[N] numbers, null where a closer look is needed."""
    kind = cells.type
    if _is_text(kind):
        number = _where(pc.match_substring_regex(cells, NUMBER), cells)
        return pc.utf8_trim_whitespace(number).cast(pa.float64())
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return cells.cast(pa.float64(), safe=False)
    return pa.nulls(len(cells), pa.float64())


def _iso_times(cells: pa.Array) -> pa.Array:
    """[N] int64 epoch ms of texts in the common form of ISO 8601, in UTC; null for all others."""
    plain = pc.utf8_rtrim(_where(pc.match_substring_regex(cells, _ISO), cells), "Z")
    if plain.null_count == len(plain):
        return pa.nulls(len(cells), pa.int64())
    try:
        return plain.cast(pa.timestamp("us")).cast(pa.timestamp("ms"), safe=False).cast(pa.int64())
    except pa.ArrowInvalid:  # a thirtieth of February
        return pa.nulls(len(cells), pa.int64())


def _size(record: dict[str, Any]) -> int:
    """Bytes of a record; of one with values that JSON has not, about so many. Raises UnicodeEncodeError."""
    try:
        return len(encode(record))
    except TypeError:
        return len(json.dumps(record, default=str))


def _mask(size: int, rows: Sequence[int]) -> pa.Array:
    marked = bytearray(size)
    for row in rows:
        marked[row] = 1
    return pc.equal(pa.array(marked, pa.uint8()), 1)


def _pylist(at: pa.Array) -> Any:
    return lambda cells: cells.take(at).to_pylist()
