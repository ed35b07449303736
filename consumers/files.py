"""Files of interactions as one Arrow table: canonical columns, sorted by time, stably; bad rows kept and marked.

The number of a row in that order is the number of its event, in every output.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from consumers.dead_letter import Reason
from consumers.decode import MAX_TIMESTAMP_MS, Refused, parse_iso
from consumers.errors import DataRefused
from consumers.schemas import Item, User

FORMATS = ("parquet", "csv", "jsonl", "jodie", "movielens", "recbole")
_MOVIELENS = {"userId": "user_id", "movieId": "item_id", "rating": "value", "timestamp": "timestamp"}
_SECONDS = {"jodie", "movielens", "recbole"}
_STRINGS = ("user_id", "item_id", "event_type", "event_id", "session_id")


def read_interactions(path: Path, field_map: Mapping[str, str] | None = None, format_: str | None = None) -> pa.Table:
    """Reads a file of interactions.

    Columns: user_id, item_id, event_type (string), timestamp (int64 epoch ms), where the file has them event_id,
    session_id (string), value (double), the file's other columns as they are, and `reason`: null for a good row,
    else why it cannot be taken. Rows without a usable time go last, in file order.

    Raises DataRefused when the file is not there, is no table, or lacks a column.
    """
    if not path.is_file():
        raise DataRefused(f"there is no file {path}")
    kind = format_ or guess_format(path)
    try:
        table = _READERS[kind](path)
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
        raise DataRefused(f"{path} cannot be read as {kind}: {str(error).splitlines()[0]}") from error
    table = _rename(table, field_map or {}, path)
    if "event_type" not in table.column_names:
        kind_of_event = "rating" if "value" in table.column_names else "interaction"
        table = table.append_column("event_type", pa.repeat(kind_of_event, len(table)))
    for name in _STRINGS:
        if name in table.column_names:
            table = _replace(table, name, _text(table[name]))
    table = _replace(table, "timestamp", _milliseconds(table["timestamp"], kind in _SECONDS))
    if "value" in table.column_names:
        table = _replace(table, "value", _numbers(table["value"]))
    return in_time_order(table.append_column("reason", _reasons(table)))


def guess_format(path: Path) -> str:
    """The format of a file by its name and first line. Raises DataRefused when it is none of FORMATS."""
    if path.suffix == ".parquet":
        return "parquet"
    with path.open("rb") as file:
        first = file.readline(4096)
    if first[:4] == b"PAR1":
        return "parquet"
    if first[:1] in b"{[":
        return "jsonl"
    if path.suffix in (".inter", ".item", ".user") or b":token" in first:
        return "recbole"
    if b"comma_separated_list_of_features" in first or b"state_label" in first:
        return "jodie"
    if b"::" in first or path.name == "u.data" or first.startswith(b"userId,movieId"):
        return "movielens"
    if path.suffix in (".csv", ".tsv", ".txt") or b"," in first or b"\t" in first:
        return "csv"
    raise DataRefused(f"{path} is none of {', '.join(FORMATS)}; name its format with --format")


def _read_csv(path: Path, delimiter: str | None = None, names: list[str] | None = None) -> pa.Table:
    with path.open("rb") as file:
        first = file.readline().decode("utf-8", "replace")
    if delimiter is None:
        delimiter = max(",;\t", key=first.count)
    header = names or [name.strip().strip('"') for name in first.rstrip("\r\n").split(delimiter)]
    ids = {name: pa.string() for name in header}  # ids keep their leading zeros; numbers are parsed where they are due
    return pyarrow.csv.read_csv(
        path,
        read_options=pyarrow.csv.ReadOptions(column_names=names),
        parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter),
        convert_options=pyarrow.csv.ConvertOptions(column_types=ids, strings_can_be_null=True),
    )


def _read_jodie(path: Path) -> pa.Table:
    """user, item, timestamp in seconds, label, features: rows are ragged past the fourth comma, so split by hand."""
    lines = pyarrow.csv.read_csv(
        path,
        read_options=pyarrow.csv.ReadOptions(column_names=["line"], skip_rows=1),
        parse_options=pyarrow.csv.ParseOptions(delimiter="\x01", quote_char=False),
    )["line"]
    parts = pc.split_pattern(lines, ",", max_splits=4)
    names = ("user_id", "item_id", "timestamp")
    return pa.table({name: pc.list_element(parts, n) for n, name in enumerate(names)})


def _read_movielens(path: Path) -> pa.Table:
    with path.open("rb") as file:
        first = file.readline()
    if first.startswith(b"userId"):
        return _read_csv(path, ",").rename_columns(_MOVIELENS)
    names = list(_MOVIELENS.values())
    if b"::" not in first:
        return _read_csv(path, "\t", names)
    lines = pa.chunked_array([path.read_text("latin-1").splitlines()])
    parts = pc.split_pattern(lines, "::")
    return pa.table({name: pc.list_element(parts, n) for n, name in enumerate(names)})


def _read_recbole(path: Path) -> pa.Table:
    table = _read_csv(path, "\t")
    names = [name.split(":")[0] for name in table.column_names]
    return table.rename_columns(["value" if name == "rating" else name for name in names])


_READERS = {
    "parquet": pyarrow.parquet.read_table,
    "csv": _read_csv,
    "jsonl": pyarrow.json.read_json,
    "jodie": _read_jodie,
    "movielens": _read_movielens,
    "recbole": _read_recbole,
}


def _rename(table: pa.Table, field_map: Mapping[str, str], path: Path) -> pa.Table:
    have = table.column_names
    theirs = {theirs: ours for ours, theirs in field_map.items()}
    missing = [name for name in theirs if name not in have]
    kept = [name for name in have if name in theirs or name not in field_map]  # a mapped field wins over its namesake
    table = table.select(kept).rename_columns([theirs.get(name, name) for name in kept])
    missing += [name for name in ("user_id", "item_id", "timestamp") if name not in table.column_names]
    if missing:
        raise DataRefused(
            f"{path} lacks the column(s) {', '.join(missing)}; it has {', '.join(have)}; use --map ours=theirs"
        )
    return table


def _replace(table: pa.Table, name: str, column: pa.ChunkedArray) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, column)


def _text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Ids as text; a whole float is its integer's text: a missing value makes readers turn integers to floats."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_floating(column.type) and pc.all(pc.equal(column, pc.floor(column)), min_count=0).as_py():
        column = column.cast(pa.int64())
    return column.cast(pa.string())


def _numbers(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        number = pc.match_substring_regex(column, r"^\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*$")
        column = pc.if_else(number, pc.utf8_trim_whitespace(column), pa.scalar(None, pa.string()))
    return column.cast(pa.float64())


def _milliseconds(column: pa.ChunkedArray, seconds: bool) -> pa.ChunkedArray:
    """int64 epoch ms; null where there is no usable time."""
    if pa.types.is_temporal(column.type):
        return column.cast(pa.timestamp("ms", tz=getattr(column.type, "tz", None)), safe=False).cast(pa.int64())
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        numbers = _numbers(column)
        if numbers.null_count > column.null_count:  # some are ISO 8601
            parsed = [_iso(text) for text in column.to_pylist()]
            numbers = pc.coalesce(numbers, pa.chunked_array([parsed], pa.float64()))
        column = numbers
    if pa.types.is_floating(column.type) or seconds:
        column = pc.multiply(column.cast(pa.float64()), 1000.0 if seconds else 1.0)
        usable = pc.and_kleene(pc.is_finite(column), pc.less(pc.abs(column), 9.2e18))
        column = pc.if_else(usable, pc.round(column), pa.scalar(None, pa.float64()))
    return column.cast(pa.int64(), safe=False)


def _iso(text: str | None) -> float | None:
    try:
        return None if text is None else float(parse_iso(text))
    except Refused:
        return None


def _reasons(table: pa.Table) -> pa.ChunkedArray:
    t = table["timestamp"]
    in_range = pc.and_(pc.greater_equal(t, 0), pc.less_equal(t, MAX_TIMESTAMP_MS))
    bad_time = pc.fill_null(pc.invert(in_range), True)
    no_user, no_item = (pc.equal(pc.fill_null(pc.binary_length(table[c]), 0), 0) for c in ("user_id", "item_id"))
    bad_value: Any = pa.scalar(False)
    if "value" in table.column_names:
        bad_value = pc.fill_null(pc.invert(pc.is_finite(table["value"])), False)
    conditions = pc.make_struct(bad_time, pc.or_(no_user, no_item), bad_value, field_names=["t", "id", "value"])
    reasons = pc.case_when(
        conditions, *(pa.scalar(str(r)) for r in (Reason.BAD_TIMESTAMP, Reason.BAD_ID, Reason.BAD_VALUE))
    )
    return reasons if isinstance(reasons, pa.ChunkedArray) else pa.chunked_array([reasons])


def in_time_order(table: pa.Table) -> pa.Table:
    """The rows by `timestamp`, stably; rows without one last."""
    t = table["timestamp"]
    if t.null_count == 0 and len(t) and not pc.any(pc.less(t[1:], t[:-1])).as_py():
        return table
    # a second key makes the sort stable whatever the kernel does; nulls go last
    order = table.select(["timestamp"]).append_column("row", pa.array(range(len(table)), pa.int64()))
    keys = [("timestamp", "ascending", "at_end"), ("row", "ascending", "at_end")]
    return table.take(pc.sort_indices(order, sort_keys=keys))


def read_items(path: Path) -> Iterator[Item]:
    """The items of a Parquet, CSV, JSONL or RecBole file; other columns become attributes. Raises DataRefused."""
    for row in _node_rows(path, "item_id"):
        title = row.pop("title", None) or row.pop("movie_title", None)
        categories = row.pop("categories", None) or row.pop("class", None) or ()
        if isinstance(categories, str):
            categories = categories.replace("|", " ").split()
        yield Item(row.pop("item_id"), title, tuple(categories), attributes=row or None)


def read_users(path: Path) -> Iterator[User]:
    """The users of such a file. Raises DataRefused."""
    for row in _node_rows(path, "user_id"):
        yield User(row.pop("user_id"), attributes=row or None)


def _node_rows(path: Path, id_field: str) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        raise DataRefused(f"there is no file {path}")
    table = _READERS[guess_format(path)](path)
    if id_field not in table.column_names:
        raise DataRefused(f"{path} lacks the column {id_field}; it has {', '.join(table.column_names)}")
    table = _replace(table, id_field, _text(table[id_field]))
    for batch in table.to_batches(10_000):
        for row in batch.to_pylist():
            yield {name: value for name, value in row.items() if value is not None}
