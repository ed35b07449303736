"""Files of interactions as one Arrow table: canonical columns, sorted by time, stably; bad rows kept and marked.

The number of a row in that order is the number of its event, in every output.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from consumers.decode_nodes import decode_item_fields, decode_user_fields
from consumers.files.columns import rows_of_columns
from consumers.files.first_look import FirstLook, look_at
from consumers.files.formats import FORMATS, guess_format
from consumers.files.nodes import Nodes, read_nodes
from consumers.files.objects import rows_of_objects
from consumers.files.parts import FilePart, digest_files, parts_of
from consumers.files.presets import shape_of
from consumers.files.raw import Objects
from consumers.files.reader import Opened, opened
from consumers.files.rows import Reading, Refusals, encode
from consumers.schemas import Item, User

__all__ = [
    "FORMATS",
    "FilePart",
    "FirstLook",
    "Nodes",
    "Reading",
    "Refusals",
    "StreamFile",
    "digest_files",
    "digest_of_file",
    "guess_format",
    "in_time_order",
    "items_of_file",
    "parts_of",
    "read_file",
    "read_interactions",
    "read_items",
    "read_users",
    "users_of_file",
]  # fmt: skip

Files = Path | Iterable[Path | FilePart]


@dataclass(frozen=True)
class StreamFile:
    """Files of interactions that were read: their rows as `read_interactions` gives them, and what was refused.

    `records`: event number → the value that a record of a refused row has, with its original text.
    """

    table: pa.Table
    refusals: Refusals = field(default_factory=Refusals)
    records: Mapping[int, bytes] = field(default_factory=dict)
    opened: tuple[Opened, ...] = ()

    @property
    def preset(self) -> str | None:
        """The source whose files they are like, if any."""
        return next((one.preset for one in self.opened if one.preset), None)

    def look(self, where: object) -> FirstLook:
        """What there is to know of them at first."""
        return look_at(where, self.table, self.refusals, self.opened)


def read_interactions(
    path: Files,
    field_map: Mapping[str, str] | None = None,
    format_: str | None = None,
    reading: Reading | None = None,
) -> pa.Table:
    """Reads a file of interactions.

    Columns: user_id, item_id, event_type (string), timestamp (int64 epoch ms), where the file has them event_id, value
    (double), session_id (string), context (string: a JSON object), retract (bool), the file's other columns as they
    are, and `reason`: null for a good row, else why it cannot be taken, in the words of the wire decoder. Rows without
    a usable time go last, in file order.

    Raises DataRefused when the file is not there, is no table, or lacks a column.
    """
    reading = reading or Reading()
    return read_file(path, replace(reading, field_map=field_map or reading.field_map), format_).table


def read_file(files: Files, reading: Reading, format_: str | None = None) -> StreamFile:
    """Reads a file of interactions, or several, and says what of it is refused. Raises as `read_interactions` does.

    >>> rows = "user_id,item_id,event_type,timestamp", "bob,pot,view,2000", "ann,tea,view,1000", "cat,,view,3000"
    >>> _ = Path("events.csv").write_text(chr(10).join(rows))
    >>> found = read_file(Path("events.csv"), Reading())
    >>> found.table["user_id"].to_pylist()
    ['ann', 'bob', 'cat']
    >>> found.table["reason"].to_pylist()
    [None, None, 'bad-id']
    >>> found.refusals.counts()
    {'bad-id': 1}
    """
    reading = replace(reading, format=format_ or reading.format)
    all_opened, tables, refused = [], [], Refusals()
    rows = 0
    parts = parts_of(files)
    for part in parts:
        one = opened(part, "interactions", reading, rows)
        if isinstance(one.raw, Objects):
            table, refusals = rows_of_objects(one.raw, one.reading, shape_of(one.preset, "interactions").only)
        else:
            table, refusals = rows_of_columns(one.raw, one.reading, part)
        refused.add(refusals, rows, part if len(parts) > 1 else None)
        rows += len(table)
        tables.append(table)
        all_opened.append(replace(one, raw=one.raw.without_rows()))
    table = tables[0] if len(tables) == 1 else _together(tables)
    order = _time_order(table)
    if order is None:
        return StreamFile(table, refused, {row.row: row.record for row in refused.rows}, tuple(all_opened))
    place = pc.sort_indices(order).take(pa.array([row.row for row in refused.rows], pa.int64())).to_pylist()
    records = {event: row.record for event, row in zip(place, refused.rows, strict=True)}
    return StreamFile(table.take(order), refused, records, tuple(all_opened))


def _together(tables: list[pa.Table]) -> pa.Table:
    """The rows of several files, one after the other; a column that has other types in some is text."""
    kinds: dict[str, set[pa.DataType]] = {}
    for table in tables:
        for column in table.schema:
            if not pa.types.is_null(column.type):
                kinds.setdefault(column.name, set()).add(column.type)
    mixed = {name for name, found in kinds.items() if len(found) > 1}
    for n, table in enumerate(tables):
        for place, name in enumerate(table.column_names):
            if name in mixed:
                table = table.set_column(place, name, _as_text(table[name]))
        tables[n] = table
    names = list(dict.fromkeys(name for table in tables for name in table.column_names))
    order = [*(name for name in names if name != "reason"), "reason"]
    return pa.concat_tables(tables, promote_options="default").select(order)


def _as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = column.type
    if pa.types.is_nested(kind):
        texts = [None if cell is None else encode(cell).decode() for cell in column.to_pylist()]
        return pa.chunked_array([pa.array(texts, pa.string())])
    return column.cast(pa.string())


def digest_of_file(path: Path) -> str:
    """16 hex digits that stand for what is in a file."""
    return digest_files([FilePart(path)])


def in_time_order(table: pa.Table) -> pa.Table:
    """The rows by `timestamp`, stably; rows without one last."""
    order = _time_order(table)
    return table if order is None else table.take(order)


def _time_order(table: pa.Table) -> pa.Array | None:
    """[N] the rows in time order; None where they are in it."""
    t = table["timestamp"]
    if t.null_count == 0 and len(t) and not pc.any(pc.less(t[1:], t[:-1])).as_py():
        return None
    # a second key makes the sort stable whatever the kernel does; nulls go last
    order = table.select(["timestamp"]).append_column("row", pa.array(range(len(table)), pa.int64()))
    keys = [("timestamp", "ascending", "at_end"), ("row", "ascending", "at_end")]
    return pc.sort_indices(order, sort_keys=keys)


def read_items(files: Files, reading: Reading | None = None, format_: str | None = None) -> Iterator[Item]:
    """The items of a file; other columns become attributes. Rows that are refused are left out. Raises DataRefused."""
    return iter(items_of_file(files, reading, format_).known())


def read_users(files: Files, reading: Reading | None = None, format_: str | None = None) -> Iterator[User]:
    """The users of such a file. Raises DataRefused."""
    return iter(users_of_file(files, reading, format_).known())


def items_of_file(files: Files, reading: Reading | None = None, format_: str | None = None) -> Nodes[Item]:
    """The items of a file, or several, and what of it was refused. Raises DataRefused."""
    return read_nodes(parts_of(files), "items", decode_item_fields, _with_format(reading, format_))


def users_of_file(files: Files, reading: Reading | None = None, format_: str | None = None) -> Nodes[User]:
    """The users of a file, or several, and what of it was refused. Raises DataRefused."""
    return read_nodes(parts_of(files), "users", decode_user_fields, _with_format(reading, format_))


def _with_format(reading: Reading | None, format_: str | None) -> Reading:
    reading = reading or Reading()
    return replace(reading, format=format_ or reading.format)
