"""Files of items and of users: each row is what a record of the items or users topic would be, by the same rules."""

import datetime as dt
import decimal
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from consumers.dead_letter import Reason
from consumers.decode_fields import UNDECODABLE, Refused, decode_flag, decode_json, why_undecodable
from consumers.errors import DataRefused
from consumers.field_paths import ABSENT, alternatives, root_of, value_at
from consumers.files.parts import FilePart
from consumers.files.presets import shape_of
from consumers.files.raw import Broken, Objects, RawColumns
from consumers.files.reader import Opened, opened
from consumers.files.rows import Kind, Reading, Refusals, RefusedRow, TimeUnit, number_of, shown, wire_time
from consumers.files.shapes import fields_in
from consumers.schemas import Item, User

TIMES = {"item_id": ("timestamp", "available_from", "expires_at"), "user_id": ("timestamp",)}
"""The fields that are times, by the field of the id."""
NO_GENRES = "(no genres listed)"
Node = TypeVar("Node", Item, User)


@dataclass
class Nodes(Generic[Node]):
    """What a file says of items or users, in its order: their ids and what is known; None deletes, or erases, one."""

    entries: list[tuple[str, Node | None]] = field(default_factory=list)
    refusals: Refusals = field(default_factory=Refusals)
    warnings: list[str] = field(default_factory=list)  # fields that were left out, and where
    opened: list[Opened] = field(default_factory=list)

    def known(self) -> list[Node]:
        """Those that are not deleted."""
        return [node for _, node in self.entries if node is not None]


def read_nodes(parts: Sequence[FilePart], kind: Kind, node_of: Callable[..., Any], reading: Reading) -> Nodes[Any]:
    """Reads files of items or users. Raises DataRefused where one cannot be read, or has no column of ids."""
    id_field = "item_id" if kind == "items" else "user_id"
    latest_ms = reading.now() + reading.clock_skew_ms
    nodes: Nodes[Any] = Nodes()
    row = -1
    for part in parts:
        one = opened(part, kind, reading)
        unit: TimeUnit = one.reading.time_unit or "ms"
        only = shape_of(one.preset, kind).only
        where = f"{part}, " if len(parts) > 1 else ""
        nodes.opened.append(replace(one, raw=one.raw.without_rows()))
        rows = (
            _rows_of_columns(one.raw, id_field, one.reading, part)
            if isinstance(one.raw, RawColumns)
            else _rows_of_objects(one.raw, id_field, one.reading, only)
        )
        for fields, line in rows:
            row += 1
            try:
                if isinstance(fields, Broken):
                    raise _why_broken(fields)
                if not isinstance(fields, dict):
                    raise Refused(Reason.NOT_AN_OBJECT, f"the value is a JSON {type(fields).__name__}")
                for name in TIMES[id_field]:
                    if name in fields:
                        fields[name] = wire_time(fields[name], unit, one.reading.time_format)
                gone = decode_flag("deleted", fields.pop("deleted", None))
                node, warnings = node_of(fields, latest_ms)
                id_ = node.item_id if kind == "items" else node.user_id
                nodes.entries.append((id_, None if gone else node))
                nodes.warnings += [f"{where}line {line}: {warning}" for warning in warnings]
            except Refused as refused:
                said = (
                    shown(fields.line) if isinstance(fields, Broken) else f"{id_field} {shown(_get(fields, id_field))}"
                )
                nodes.refusals.rows.append(
                    RefusedRow(
                        row=row, line=line, reason=refused.reason, message=refused.message, shown=said, record=b"",
                        where=where,
                    )
                )  # fmt: skip
    return nodes


def _why_broken(line: Broken) -> Refused:
    if line.why:
        return Refused(Reason.NOT_A_ROW, line.why)
    try:
        decode_json(line.line)
    except UNDECODABLE as error:
        return Refused(Reason.NOT_JSON, why_undecodable(error))
    return Refused(Reason.NOT_AN_OBJECT, "the value is no JSON object")


def _get(fields: Any, name: str) -> Any:
    return fields.get(name) if isinstance(fields, dict) else fields


def _rows_of_objects(raw: Objects, id_field: str, reading: Reading, only: bool) -> Iterator[tuple[Any, int]]:
    """Each value, an object by our names, and its line. only: nothing but what the field map names, and our fields."""
    field_map = reading.field_map
    paths = [path for theirs in field_map.values() for path in (theirs, *alternatives(theirs))]
    used = {name for path in paths for name in (path, root_of(path))}
    for value, line in zip(raw.values, raw.lines, strict=True):
        fields = fields_in(value)
        if fields is None:
            yield value, line
            continue
        mapped = {ours: value_at(fields, theirs) for ours, theirs in field_map.items()}
        kept = {} if only else {name: cell for name, cell in fields.items() if name not in used}
        if only and "timestamp" in fields:
            kept["timestamp"] = fields["timestamp"]
        found = kept | {ours: cell for ours, cell in mapped.items() if cell is not ABSENT}
        for name in TIMES[id_field]:
            if reading.time_unit and isinstance(found.get(name), str):
                found[name] = number_of(found[name])
        yield found, line


def _rows_of_columns(
    raw: RawColumns, id_field: str, reading: Reading, where: object
) -> Iterator[tuple[dict[str, Any] | Broken, int]]:
    """Each row's fields by our names, without those that say nothing, and its line."""
    theirs = reading.field_map.get(id_field, id_field)
    if (times := raw.names.count(theirs)) > 1:
        raise DataRefused(f"{where} has the column {theirs} {times} times: which is it?")
    ours: dict[str, list[str]] = {}
    for name, expression in reading.field_map.items():
        ours.setdefault(expression, []).append(name)
    names = [
        ours.get(name) or ([] if name in raw.unread or name in reading.field_map else [name]) for name in raw.names
    ]
    row = 0
    size = len(raw.cells[0])
    for first in range(0, size, 10_000):
        columns = [cells.slice(first, 10_000).to_pylist() for cells in raw.cells]
        for cells in zip(*columns, strict=True):
            if row in raw.broken:
                yield raw.broken[row], raw.line_of(row)
            else:
                yield _row(raw, names, cells, id_field), raw.line_of(row)
            row += 1


def _row(raw: RawColumns, names: list[list[str]], cells: tuple[Any, ...], id_field: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for theirs, mine, cell in zip(raw.names, names, cells, strict=True):
        for name in mine:
            value = _text_value(raw, theirs, name, cell, id_field) if raw.text else _typed(cell, name == id_field)
            if value is not None and not (name in found and name != id_field):  # of a repeated column the first counts
                found[name] = value
    if raw.text and id_field not in found:
        found[id_field] = ""
    return found


def _text_value(raw: RawColumns, theirs: str, name: str, cell: str, id_field: str) -> Any:
    if not cell:
        return None
    if name == "categories" and theirs in raw.lists:
        return cell.split()
    if name == "categories":
        return [one for one in cell.split("|") if one != NO_GENRES]
    return number_of(cell) if name in TIMES[id_field] else cell


def _typed(cell: Any, is_id: bool = False) -> Any:
    """A cell of Parquet as a JSON value."""
    match cell:
        case float():
            if math.isnan(cell):
                return None
            return int(cell) if is_id and cell.is_integer() and abs(cell) <= 1 << 53 else cell
        case dt.datetime() | dt.date() | dt.time():
            return cell.isoformat()
        case decimal.Decimal():
            return int(cell) if cell == cell.to_integral_value() else float(cell)
        case bytes():
            return cell.decode("utf-8", "replace")
        case list():
            pairs = bool(cell) and all(isinstance(one, tuple) and len(one) == 2 for one in cell)
            return {str(k): _typed(v) for k, v in cell} if pairs else [_typed(one) for one in cell]
        case dict():
            return {name: _typed(one) for name, one in cell.items() if one is not None}
        case dt.timedelta():
            return str(cell)
    return cell
