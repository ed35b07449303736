"""Files of JSON: each value is what a record of the topic would be, and is decoded as one."""

from collections.abc import Iterable
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from consumers.dead_letter import Reason
from consumers.decode_fields import Refused
from consumers.decode_interactions import InteractionDecoder
from consumers.field_paths import alternatives, root_of
from consumers.files.raw import Broken, Objects
from consumers.files.rows import (  # fmt: skip
    OF_NO_COLUMN,
    OWN,
    Reading,
    Refusals,
    RefusedRow,
    cells_of,
    encode,
    not_ours,
    number_of,
    shown,
    what_is_kept,
    which_cell,
    why_broken,
    wire_time,
)
from consumers.files.shapes import keys_of
from consumers.schemas import Interaction

TYPES = {
    "user_id": pa.string(), "item_id": pa.string(), "event_type": pa.string(), "timestamp": pa.int64(),
    "event_id": pa.string(), "value": pa.float64(), "session_id": pa.string(), "context": pa.string(),
    "retract": pa.bool_(),
}  # fmt: skip
MOST_COLUMNS = 256  # of what rows say besides; the rest stays in their context


def rows_of_objects(raw: Objects, reading: Reading, only: bool = False) -> tuple[pa.Table, Refusals]:
    """The canonical columns of JSON values, in file order, and what was refused.

    only: whether nothing is kept but what the field map names.
    """
    return _ObjectRows(raw, reading, only).read()


class _ObjectRows:
    """A file of JSON values that is being read."""

    def __init__(self, raw: Objects, reading: Reading, only: bool) -> None:
        self._raw, self._reading, self._only = raw, reading, only
        self._decoder = InteractionDecoder(reading.field_map, reading.clock_skew_ms, reading.max_record_bytes)
        self._now_ms = reading.now()
        self._converts = reading.time_unit is not None or reading.time_format is not None
        self._type = reading.event_type or self._default_type()
        paths = (path for theirs in reading.field_map.values() for path in (theirs, *alternatives(theirs)))
        self._used = {name for path in paths for name in (path, root_of(path))} - {*reading.field_map}

    def _default_type(self) -> str | None:
        """The event type of a file in which no row has one."""
        have = {*keys_of(self._raw), *self._reading.field_map}
        if "event_type" in have:
            return None
        return OF_NO_COLUMN["value" not in have]

    def read(self) -> tuple[pa.Table, Refusals]:
        rows: list[dict[str, Any]] = []
        extras: list[dict[str, Any]] = []
        refusals = Refusals()
        for row, value in enumerate(self._raw.values):
            place = self._raw.places[row] if self._raw.places else 0
            found, fields = self._decided(value, self._raw.sizes[row], place)
            others: dict[str, Any] = {}
            if isinstance(found, Interaction):
                rows.append(cells_of(found) | {"reason": None})
                others = {name: cell for name, cell in fields.items() if self._is_besides(name)}
            else:
                said = _said(value, fields, found)
                record = value.line if isinstance(value, Broken) else encode(fields if fields else value)
                line = self._raw.lines[row]
                refusals.rows.append(
                    RefusedRow(
                        row=row, line=line, reason=found.reason, message=found.message, shown=said, record=record
                    )
                )
                rows.append(what_is_kept(fields) | {"reason": str(found.reason)})
            extras.append(others)
        columns = {name: pa.array([row.get(name) for row in rows], kind) for name, kind in TYPES.items()}
        for name in ("event_id", "value", "session_id", "context"):
            if columns[name].null_count == len(rows):
                del columns[name]
        if not pc.any(columns["retract"], min_count=0).as_py():
            del columns["retract"]
        besides = _besides(extras, columns)
        reasons = pa.array([row["reason"] for row in rows], pa.string())
        return pa.table(
            {name: columns[name] for name in OWN if name in columns} | besides | {"reason": reasons}
        ), refusals

    def _is_besides(self, name: str) -> bool:
        if name in OWN or name in self._used:
            return False
        return not self._only or name in self._reading.field_map

    def _decided(self, value: Any, size: int, place: int) -> tuple[Interaction | Refused, dict[str, Any]]:
        """What a value is, and its fields. place: in the list of which it is an element."""
        if isinstance(value, Broken):
            return Refused(*why_broken(value, self._decoder, self._now_ms)), {}
        if size > self._reading.max_record_bytes:
            return Refused(Reason.OVERSIZED, f"{size} bytes are over the limit of {self._reading.max_record_bytes}"), {}
        if not isinstance(value, dict):
            return Refused(Reason.NOT_AN_OBJECT, f"the value is a JSON {type(value).__name__}"), {}
        try:
            fields = self._decoder.unwrapped(value)
        except Refused as refused:
            return refused, {}
        if self._only and "context" not in self._reading.field_map:
            fields = {name: cell for name, cell in fields.items() if name != "context"}
        if self._reading.event_type:
            fields = fields | {"event_type": self._reading.event_type}
        elif self._type is not None:
            fields = {"event_type": self._type} | fields
        if place and fields.get("event_id") is not None:
            fields = fields | {"event_id": f"{fields['event_id']}-{place}"}
        if self._converts and "timestamp" in fields:
            unit, time_format, t = self._reading.time_unit or "ms", self._reading.time_format, fields["timestamp"]
            if self._reading.time_unit and isinstance(t, str):
                t = number_of(t)  # whoever names a unit says that the times are numbers
            fields = fields | {"timestamp": wire_time(t, unit, time_format)}
        try:
            return self._decoder.of_fields(fields, self._now_ms), fields
        except Refused as refused:
            return refused, fields


def _said(value: Any, fields: dict[str, Any], refused: Refused) -> str:
    """What of a value was refused, for a message."""
    if isinstance(value, Broken):
        return shown(value.line)
    return which_cell(fields, fields, refused) if fields else shown(value)


def _besides(extras: list[dict[str, Any]], columns: dict[str, pa.Array]) -> dict[str, pa.Array]:
    """What rows say besides, a column a name; what is no plain value goes into their contexts."""
    names: dict[str, None] = {}
    for row in extras:
        if len(names) < MOST_COLUMNS:
            names.update(dict.fromkeys(row))
    kept, rest = list(names)[:MOST_COLUMNS], {}
    found: dict[str, pa.Array] = {}
    for name in kept:
        cells = [row.get(name) for row in extras]
        plain = [cell if isinstance(cell, str | int | float) else None for cell in cells]
        column = _column_of(plain)
        if column is not None and column.null_count < len(column):
            found[not_ours(name)] = column
    for n, row in enumerate(extras):
        left = {k: v for k, v in row.items() if v is not None and (k not in names or isinstance(v, dict | list))}
        if left:
            rest[n] = left
    if rest:
        own = columns.get("context", pa.nulls(len(extras), pa.string())).to_pylist()
        for n, left in rest.items():
            own[n] = encode(left | (msgspec.json.decode(own[n]) if own[n] else {})).decode()
        columns["context"] = pa.array(own, pa.string())
    return found


def _column_of(cells: Iterable[Any]) -> pa.Array | None:
    """A column of plain values; of several kinds: their text."""
    cells = list(cells)
    kinds = {type(cell) for cell in cells if cell is not None}
    if not kinds:
        return None
    if len(kinds) > 1 and kinds != {int, float}:
        cells = [None if cell is None else str(cell) for cell in cells]
    try:
        return pa.array(cells, pa.float64()) if kinds == {int, float} else pa.array(cells)
    except (pa.ArrowException, OverflowError):
        return pa.array([None if cell is None else str(cell) for cell in cells])
