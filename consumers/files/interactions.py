"""Files of interactions as one Arrow table: canonical columns, sorted by time, stably; bad rows kept and marked.

The number of a row in that order is the number of its event, in every output.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from consumers.decode import item_of, user_of
from consumers.files.columns import rows_of_columns
from consumers.files.formats import FORMATS, SECONDS, Objects, RawColumns, guess_format, looks_like_a_row, raw_rows
from consumers.files.nodes import Nodes, read_nodes
from consumers.files.objects import rows_of_objects
from consumers.files.rows import Reading, Refusals
from consumers.schemas import Item, User

__all__ = [
    "FORMATS", "Nodes", "Reading", "Refusals", "StreamFile", "digest_of_file", "guess_format", "in_time_order",
    "items_of_file", "read_file", "read_interactions", "read_items", "read_users", "users_of_file",
]  # fmt: skip


@dataclass(frozen=True)
class StreamFile:
    """A file of interactions that was read: its rows as `read_interactions` gives them, and what was refused.

    `records`: event number → the value that a record of a refused row has, with its original text.
    """

    table: pa.Table
    refusals: Refusals = field(default_factory=Refusals)
    records: Mapping[int, bytes] = field(default_factory=dict)


def read_interactions(
    path: Path,
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


def read_file(path: Path, reading: Reading, format_: str | None = None) -> StreamFile:
    """Reads a file of interactions and says what of it is refused. Raises DataRefused as `read_interactions` does.

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
    found, raw = raw_rows(path, format_, names=reading.names)
    if isinstance(raw, RawColumns) and _maps_cells(raw, reading):
        found, raw = raw_rows(path, format_, names=raw.names)
    if isinstance(raw, Objects):
        table, refusals = rows_of_objects(raw, reading, path)
    else:
        table, refusals = rows_of_columns(raw, found in SECONDS, reading, path)
    order = _time_order(table)
    if order is None:
        return StreamFile(table, refusals, {row.row: row.record for row in refusals.rows})
    place = pc.sort_indices(order).take(pa.array([row.row for row in refusals.rows], pa.int64())).to_pylist()
    records = {event: row.record for event, row in zip(place, refusals.rows, strict=True)}
    return StreamFile(table.take(order), refusals, records)


def _maps_cells(raw: RawColumns, reading: Reading) -> bool:
    """Whether a field map names the columns by the cells of the first row, because there is no line of names."""
    theirs = list(reading.field_map.values())
    return raw.text and not raw.headless and set(theirs) <= set(raw.names) and looks_like_a_row(theirs)


def digest_of_file(path: Path) -> str:
    """16 hex digits that stand for what is in a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=8)).hexdigest()


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


def read_items(path: Path, reading: Reading | None = None, format_: str | None = None) -> Iterator[Item]:
    """The items of a file; other columns become attributes. Rows that are refused are left out. Raises DataRefused."""
    return iter(items_of_file(path, reading, format_).known())


def read_users(path: Path, reading: Reading | None = None, format_: str | None = None) -> Iterator[User]:
    """The users of such a file. Raises DataRefused."""
    return iter(users_of_file(path, reading, format_).known())


def items_of_file(path: Path, reading: Reading | None = None, format_: str | None = None) -> Nodes[Item]:
    """The items of a file, and what of it was refused. Raises DataRefused."""
    return read_nodes(path, "items", item_of, reading or Reading(), format_)


def users_of_file(path: Path, reading: Reading | None = None, format_: str | None = None) -> Nodes[User]:
    """The users of a file, and what of it was refused. Raises DataRefused."""
    return read_nodes(path, "users", user_of, reading or Reading(), format_)
