"""Files as raw rows, by format: cells of text, typed columns of Parquet, or JSON values. What a row means comes later.

Nothing is guessed from text: every cell of a text format is text.
"""

import csv
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from consumers.decode_fields import UNDECODABLE, decode_json, why_undecodable
from consumers.errors import DataRefused
from consumers.files.delimited import delimited, of_rows, wrong_width
from consumers.files.parquet import read_parquet
from consumers.files.parts import UNREADABLE, FilePart
from consumers.files.raw import Broken, Objects, RawColumns
from consumers.files.rows import Kind

FORMATS = ("parquet", "csv", "tsv", "jsonl", "jodie", "movielens", "recbole")
MOVIELENS_GENRES = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip
_MOVIELENS_NAMES = {
    "interactions": ("user_id", "item_id", "value", "timestamp"),
    "items": ("item_id", "title", "categories"),
    "users": ("user_id", "gender", "age", "occupation", "zip"),  # users.dat; u.user has the age first
}
_RENAMED = {
    "movielens": {"userId": "user_id", "movieId": "item_id", "rating": "value", "genres": "categories"},
    "recbole": {"rating": "value", "movie_title": "title", "class": "categories"},
}
_DELIMITERS = (b",", b";", b"\t", b"|")
_SEPARATOR = re.compile(rb"[\r\n]*sep=([^\w\s]|\t)\r?\n", re.IGNORECASE)
_RECBOLE = re.compile(rb":(token|float)(_seq)?(\t|\s*$)")


def guess_format(path: Path | FilePart, encoding: str | None = None) -> str:
    """The format of a file by its name and first line. Raises DataRefused when it is none of FORMATS."""
    part = path if isinstance(path, FilePart) else FilePart(path)
    name = part.name
    suffix = Path(name).suffix
    first = part.first_line(encoding)
    if suffix == ".parquet" or first[:4] == b"PAR1":
        return "parquet"
    if _RECBOLE.search(first) or (suffix == ".inter" and b"\t" in first):
        return "recbole"
    if first.lstrip()[:1] in (b"{", b"[") or suffix in (".jsonl", ".ndjson"):
        return "jsonl"
    if b"comma_separated_list_of_features" in first or b"state_label" in first:
        return "jodie"
    if b"::" in first or name in ("u.data", "u.item", "u.user") or first.startswith((b"userId,movieId", b"movieId,")):
        return "movielens"
    if suffix in (".csv", ".tsv", ".txt") or any(mark in first for mark in _DELIMITERS):
        return "csv"
    if not part.text(encoding).strip():
        raise DataRefused(f"{part} is empty")
    raise DataRefused(f"{part} is none of {', '.join(FORMATS)}; name its format with --format")


@dataclass(frozen=True)
class Text:
    """How a text file is read.

    Args:
        kind: what its rows are.
        names: of the columns, where the file has no line of names.
        delimiter: between the cells of a row; None: the one that the first line has most of.
        encoding: of the text; None: UTF-8, or what a byte order mark says.
    """

    kind: Kind = "interactions"
    names: Sequence[str] | None = None
    delimiter: str | None = None
    encoding: str | None = None


def raw_rows(part: FilePart, format_: str | None, how: Text) -> tuple[str, RawColumns | Objects]:
    """The format of a file, one of FORMATS, and its rows.

    Raises DataRefused when it is not there, cannot be read, or ends inside a quote.
    """
    found = format_ or ""
    try:
        found = format_ or ("csv" if how.delimiter else guess_format(part, how.encoding))
        if found == "parquet":
            return found, _parquet(part)
        file = _TextFile(part, part.text(how.encoding), how)
        raw = _READERS[found](file)
        return "tsv" if found == "csv" and file.delimiter == b"\t" else found, raw
    except (*UNREADABLE, csv.Error) as error:
        problem = error.strerror if isinstance(error, OSError) and error.strerror else str(error).splitlines()[0]
        mend = "; name its encoding with --encoding, such as latin-1" if isinstance(error, UnicodeError) else ""
        as_ = f" as {found}" if found else ""
        raise DataRefused(f"{part} cannot be read{as_}: {problem}{mend}") from error


@dataclass
class _TextFile:
    """A text file that is being read, in UTF-8."""

    part: FilePart
    data: bytes
    how: Text
    delimiter: bytes = b""  # between its cells, once it is read

    def first(self) -> bytes:
        """The first line."""
        return self.data.lstrip(b"\r\n").partition(b"\n")[0].rstrip(b"\r")

    def delimited(self, delimiter: bytes, quoting: bool, names: Sequence[str] | None = None) -> RawColumns:
        """Its rows of cells; names: in place of those that the user gave."""
        self.delimiter = delimiter
        return delimited(self.part, self.data, delimiter, quoting, names or self.how.names)


# text formats


def _csv(file: _TextFile) -> RawColumns:
    first = file.first()
    if not first:
        raise DataRefused(f"{file.part} is empty")
    told = _SEPARATOR.match(file.data)  # a line for Excel, before that of the names
    if told:
        file.data = b"\n" + file.data[told.end() :]
    if file.how.delimiter:
        delimiter = file.how.delimiter.encode()
    elif told:
        delimiter = told[1]
    else:
        delimiter = b"\t" if file.part.name.endswith(".tsv") else max(_DELIMITERS, key=first.count)
    return file.delimited(delimiter, quoting=delimiter != b"\t")


def _tsv(file: _TextFile) -> RawColumns:
    if not file.how.delimiter:
        file.how = replace(file.how, delimiter="\t")
    return _csv(file)


def _recbole(file: _TextFile) -> RawColumns:
    columns = file.delimited(b"\t", quoting=False)
    parts = [name.partition(":") for name in columns.names]
    columns.names = _renamed("recbole", [name for name, _, _ in parts])
    is_list = [kind.endswith("_seq") for _, _, kind in parts]
    columns.lists = frozenset(name for name, many in zip(columns.names, is_list, strict=True) if many)
    return columns


def _renamed(format_: str, names: list[str]) -> list[str]:
    """The names as we have them, unless one of that name is there."""
    return [_RENAMED[format_].get(name, name) if _RENAMED[format_].get(name) not in names else name for name in names]


def _movielens(file: _TextFile) -> RawColumns:
    file.data = _latin(file.data)
    first = file.first()
    if first.startswith((b"userId,", b"movieId,")):
        columns = file.delimited(b",", quoting=True)
        columns.names = _renamed("movielens", columns.names)
        return columns
    delimiter = next((d for d in (b"::", b"|", b"\t") if d in first), b",")
    names = file.how.names or _names_of_movielens(file.how.kind, first.split(delimiter))
    columns = file.delimited(delimiter, quoting=False, names=names)
    flags = [n for n, name in enumerate(columns.names) if name in MOVIELENS_GENRES]
    return _with_categories(columns, flags) if flags else columns


def _latin(data: bytes) -> bytes:
    """The text in UTF-8: the old files of MovieLens are Latin-1."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1").encode()
    return data


def _names_of_movielens(kind: Kind, cells: list[bytes]) -> list[str]:
    """The columns of a file without a line of names, by what it holds and how many there are."""
    if kind == "items" and len(cells) > 3:  # u.item: the genres are flags
        names = ["item_id", "title", "release_date", "video_release_date", "url", *MOVIELENS_GENRES]
        return names[: len(cells)]
    names = list(_MOVIELENS_NAMES[kind])
    if kind == "users" and len(cells) > 2 and cells[1].isdigit():  # u.user
        names[1:3] = ["age", "gender"]
    return names[: len(cells)] + [f"column {n + 1}" for n in range(len(names), len(cells))]


def _with_categories(columns: RawColumns, flags: list[int]) -> RawColumns:
    """The columns with one of the genres instead of a flag for each."""
    rows = zip(*(columns.cells[n].to_pylist() for n in flags), strict=True)
    genres = ["|".join(columns.names[n] for n, flag in zip(flags, row, strict=True) if flag == "1") for row in rows]
    kept = [n for n in range(len(columns.names)) if n not in flags]
    columns.names = [*(columns.names[n] for n in kept), "categories"]
    columns.cells = [*(columns.cells[n] for n in kept), pa.chunked_array([pa.array(genres, pa.string())])]
    return columns


def _jodie(file: _TextFile) -> RawColumns:
    """user, item, timestamp in seconds, then a label and features, as many as there are, which nobody reads."""
    rows: list[list[bytes]] = []
    broken, lines, width = {}, [], 3
    for number, line in enumerate(file.data.split(b"\n"), 1):
        line = line.rstrip(b"\r")
        if number == 1 or not line:
            continue
        cells = line.split(b",", width)[:width]
        if len(cells) < width:
            broken[len(rows)] = Broken(line, wrong_width(len(cells), width))
            cells = [b""] * width
        rows.append(cells)
        lines.append(number)
    return of_rows(["user_id", "item_id", "timestamp"], rows, broken, lines)


# JSON and Parquet


def _json(file: _TextFile) -> Objects:
    """A JSON object a line, or one JSON array."""
    stripped = file.data.strip()
    if not stripped:
        raise DataRefused(f"{file.part} is empty")
    if stripped[:1] == b"[" and isinstance(_value(stripped.partition(b"\n")[0]), Broken):
        return _array(file, stripped)
    values, lines, sizes = [], [], []
    for number, line in enumerate(file.data.split(b"\n"), 1):
        line = line.strip()
        if line:
            values.append(_value(line))
            lines.append(number)
            sizes.append(len(line))
    if len(values) == 1 and isinstance(values[0], list):
        return _array(file, stripped)
    if isinstance(values[0], Broken) and stripped[:1] == b"{" and isinstance(whole := _value(stripped), dict):
        return Objects([whole], [1], [len(stripped)])  # one object over several lines
    return Objects(values, lines, sizes)


def _value(line: bytes) -> Any:
    try:
        return decode_json(line)
    except UNDECODABLE:
        return Broken(line)


def _array(file: _TextFile, data: bytes) -> Objects:
    try:
        values = decode_json(data)
    except UNDECODABLE as error:
        raise DataRefused(
            f"{file.part} is no whole JSON array: {why_undecodable(error)}; "
            "with one JSON object a line a broken line costs itself"
        ) from None
    sizes = [len(msgspec.json.encode(value)) for value in values] if len(data) > 100_000 else [0] * len(values)
    return Objects(values, range(1, len(values) + 1), sizes)


def _parquet(part: FilePart) -> RawColumns:
    table = read_parquet(pa.BufferReader(part.text()) if part.piped or part.packed else part.path, part)
    cells = [_plain(column) for column in table.columns]
    return RawColumns(list(table.column_names), cells, text=False, line_of=lambda row: row + 1)


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column without dictionaries and extensions; text that is no UTF-8 stays bytes."""
    if isinstance(column.type, pa.ExtensionType):
        column = pa.chunked_array([chunk.storage for chunk in column.chunks], column.type.storage_type)
    kind = column.type
    text = kind.value_type if pa.types.is_dictionary(kind) else kind
    if pa.types.is_string(text) or pa.types.is_large_string(text):
        try:
            column.validate(full=True)
        except pa.ArrowInvalid:
            column = column.cast(text) if pa.types.is_dictionary(kind) else column
            return column.cast(pa.large_binary())
    return column


_READERS: dict[str, Callable[[_TextFile], RawColumns | Objects]] = {
    "csv": _csv,
    "tsv": _tsv,
    "jsonl": _json,
    "jodie": _jodie,
    "movielens": _movielens,
    "recbole": _recbole,
}
SECONDS = {"jodie", "movielens", "recbole"}
