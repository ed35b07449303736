"""Files of items and of users: each row is what a record of the items or users topic would be, by the same rules."""

import datetime as dt
import decimal
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from consumers.dead_letter import Reason
from consumers.decode import Refused, flag_of
from consumers.errors import DataRefused
from consumers.files.formats import SECONDS, Broken, Kind, RawColumns, raw_rows
from consumers.files.rows import Reading, Refusals, RefusedRow, TimeUnit, number_of, shown, wire_time
from consumers.schemas import Item, User

NO_GENRES = "(no genres listed)"
Node = TypeVar("Node", Item, User)


@dataclass
class Nodes(Generic[Node]):
    """What a file says of items or users, in its order: their ids and what is known; None deletes, or erases, one."""

    entries: list[tuple[str, Node | None]] = field(default_factory=list)
    refusals: Refusals = field(default_factory=Refusals)
    warnings: list[str] = field(default_factory=list)  # fields that were left out, and where

    def known(self) -> list[Node]:
        """Those that are not deleted."""
        return [node for _, node in self.entries if node is not None]


def read_nodes(
    path: Path, kind: Kind, node_of: Callable[..., Any], reading: Reading, format_: str | None
) -> Nodes[Any]:
    """Reads a file of items or users. Raises DataRefused where it cannot be read, or has no column of ids."""
    id_field = "item_id" if kind == "items" else "user_id"
    found, raw = raw_rows(path, format_, kind, reading.names)
    unit: TimeUnit = reading.time_unit or ("s" if found in SECONDS else "ms")
    latest_ms = reading.now() + reading.clock_skew_ms
    nodes: Nodes[Any] = Nodes()
    rows = (
        _rows_of_columns(raw, id_field, reading, path)
        if isinstance(raw, RawColumns)
        else zip(raw.values, raw.lines, strict=True)
    )
    for row, (fields, line) in enumerate(rows):
        try:
            fields = _fields(fields, reading)
            if "timestamp" in fields:
                fields["timestamp"] = wire_time(fields["timestamp"], unit, reading.time_format)
            gone = flag_of("deleted", fields.pop("deleted", None))
            node, warnings = node_of(fields, latest_ms)
            id_ = node.item_id if kind == "items" else node.user_id
            nodes.entries.append((id_, None if gone else node))
            nodes.warnings += [f"line {line}: {warning}" for warning in warnings]
        except Refused as refused:
            said = shown(fields.line) if isinstance(fields, Broken) else f"{id_field} {shown(_get(fields, id_field))}"
            nodes.refusals.rows.append(
                RefusedRow(row=row, line=line, reason=refused.reason, message=refused.message, shown=said, record=b"")
            )
    return nodes


def _get(fields: Any, name: str) -> Any:
    return fields.get(name) if isinstance(fields, dict) else fields


def _fields(value: Any, reading: Reading) -> dict[str, Any]:
    """The fields of a row, by our names. Raises Refused."""
    if isinstance(value, Broken):
        raise Refused(Reason.NOT_JSON, value.why or "the line cannot be read as a row")
    if not isinstance(value, dict):
        raise Refused(Reason.NOT_AN_OBJECT, f"the value is a JSON {type(value).__name__}")
    if "specversion" in value and isinstance(value.get("data"), dict):
        value = value["data"]
    field_map = reading.field_map
    mapped = {ours: value[theirs] for ours, theirs in field_map.items() if theirs in value}
    used = {field_map[ours] for ours in mapped}
    return {name: cell for name, cell in value.items() if name not in used} | mapped


def _rows_of_columns(
    raw: RawColumns, id_field: str, reading: Reading, path: Path
) -> Iterator[tuple[dict[str, Any] | Broken, int]]:
    """Each row's fields, without those that say nothing, and its line."""
    theirs = reading.field_map.get(id_field, id_field)
    if missing := [name for name in (theirs, *reading.field_map.values()) if name not in raw.names]:
        hint = "use --map ours=theirs; if its first line is a row, name the columns in their order with --columns"
        raise DataRefused(f"{path} lacks the column {missing[0]}; it has {', '.join(raw.names)}; {hint}")
    if raw.names.count(theirs) > 1:
        raise DataRefused(f"{path} has the column {theirs} {raw.names.count(theirs)} times: which is it?")
    row = 0
    size = len(raw.cells[0])
    for first in range(0, size, 10_000):
        columns = [cells.slice(first, 10_000).to_pylist() for cells in raw.cells]
        for cells in zip(*columns, strict=True):
            if row in raw.broken:
                yield raw.broken[row], raw.line_of(row)
            else:
                yield _row(raw, cells, id_field), raw.line_of(row)
            row += 1


def _row(raw: RawColumns, cells: tuple[Any, ...], id_field: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, cell in zip(raw.names, cells, strict=True):
        value = _text_value(raw, name, cell) if raw.text else _typed(cell, name == id_field)
        if value is not None and not (name in found and name != id_field):  # of a repeated column the first counts
            found[name] = value
    if raw.text and id_field not in found:
        found[id_field] = ""
    return found


def _text_value(raw: RawColumns, name: str, cell: str) -> Any:
    if not cell:
        return None
    if name in raw.lists and name == "categories":
        return cell.split()
    if name == "categories":
        return [one for one in cell.split("|") if one != NO_GENRES]
    return number_of(cell) if name == "timestamp" else cell


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
