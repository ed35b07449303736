"""Files as raw rows: cells of text, typed columns of Parquet, or JSON values. What a row means is in `file_rows`.

Nothing is guessed from text: every cell of a text format is text. A line that has not the fields of a row is kept as
it stands; it costs itself, never the file.
"""

import csv
import gzip
import io
import re
import sys
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from consumers.decode import json_of
from consumers.errors import DataRefused

FORMATS = ("parquet", "csv", "jsonl", "jodie", "movielens", "recbole")
Kind = Literal["interactions", "items", "users"]
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
_RECBOLE = re.compile(rb":(token|float)(_seq)?(\t|\s*$)")
_NUMBER = re.compile(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*")
_TIME = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d.*)?")


class Broken(msgspec.Struct, frozen=True):
    """A line that is no row, as it stands in the file."""

    line: bytes
    why: str = ""  # of a line of columns; what is no JSON says it itself


@dataclass
class RawColumns:
    """Rows by column, in file order."""

    names: list[str]
    cells: list[pa.ChunkedArray]
    text: bool = True  # every cell is text, and an empty one says nothing
    broken: dict[int, Broken] = field(default_factory=dict)  # row → its line; its cells are empty
    line_of: Callable[[int], int] = lambda row: row + 1  # the line of a row, from 1
    headless: bool = False  # there was no line of names
    lists: frozenset[str] = frozenset()  # columns whose text is a list, separated by spaces


@dataclass
class Objects:
    """Rows as JSON values, in file order."""

    values: list[Any]  # what is no JSON is Broken
    lines: Sequence[int]  # the line of each row; of a JSON array its place in it
    sizes: Sequence[int]  # bytes of each row


def looks_like_a_row(names: Sequence[str]) -> bool:
    """Whether what should be a line of names has cells that no column is called: a number, a time, nothing."""
    return any(not name or _NUMBER.fullmatch(name) or _TIME.fullmatch(name) for name in names)


def guess_format(path: Path) -> str:
    """The format of a file by its name and first line. Raises DataRefused when it is none of FORMATS."""
    name = path.name.removesuffix(".gz")
    suffix = Path(name).suffix
    first = _first_line(path)
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
    if suffix in (".csv", ".tsv", ".txt") or b"," in first or b"\t" in first:
        return "csv"
    raise DataRefused(f"{path} is none of {', '.join(FORMATS)}; name its format with --format")


def raw_rows(
    path: Path, format_: str | None = None, kind: Kind = "interactions", names: Sequence[str] | None = None
) -> tuple[str, RawColumns | Objects]:
    """The format of a file and its rows. names: of the columns, where the file has no line of names.

    Raises DataRefused when the file is not there, cannot be read, or ends inside a quote.
    """
    if not path.is_file():
        raise DataRefused(f"there is no file {path}")
    found = format_ or "its format"
    try:
        found = format_ or guess_format(path)
        if found == "parquet":
            return found, _parquet(path)
        text = _Text(path, _uncompressed(path.read_bytes()), kind, names)
        return found, _READERS[found](text)
    except (pa.ArrowException, OSError, EOFError, zlib.error, UnicodeError, csv.Error) as error:
        problem = error.strerror if isinstance(error, OSError) and error.strerror else str(error).splitlines()[0]
        raise DataRefused(f"{path} cannot be read as {found}: {problem}") from error


def _first_line(path: Path) -> bytes:
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    with gzip.open(path) if zipped else path.open("rb") as file:
        return _without_bom(file.readline(65_536))


def _uncompressed(data: bytes) -> bytes:
    return _without_bom(gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data)


def _without_bom(data: bytes) -> bytes:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", "replace").encode()
    return data.removeprefix(b"\xef\xbb\xbf")


@dataclass
class _Text:
    """A text file that is to be read."""

    path: Path
    data: bytes
    kind: Kind
    names: Sequence[str] | None

    def latin(self) -> "_Text":
        """The same in UTF-8: the old files of MovieLens are Latin-1."""
        try:
            self.data.decode()
        except UnicodeDecodeError:
            return _Text(self.path, self.data.decode("latin-1").encode(), self.kind, self.names)
        return self

    def first(self) -> bytes:
        """The first line."""
        return self.data.lstrip(b"\r\n").partition(b"\n")[0].rstrip(b"\r")


# text formats


def _csv(text: _Text) -> RawColumns:
    first = text.first()
    if not first:
        raise DataRefused(f"{text.path} is empty")
    tabs = text.path.name.removesuffix(".gz").endswith(".tsv")
    delimiter = b"\t" if tabs else max(b",", b";", b"\t", key=first.count)
    return _delimited(text, delimiter, quoting=delimiter != b"\t")


def _recbole(text: _Text) -> RawColumns:
    columns = _delimited(text, b"\t", quoting=False)
    parts = [name.partition(":") for name in columns.names]
    columns.names = _renamed("recbole", [name for name, _, _ in parts])
    is_list = [kind.endswith("_seq") for _, _, kind in parts]
    columns.lists = frozenset(name for name, many in zip(columns.names, is_list, strict=True) if many)
    return columns


def _renamed(format_: str, names: list[str]) -> list[str]:
    """The names as we have them, unless one of that name is there."""
    return [_RENAMED[format_].get(name, name) if _RENAMED[format_].get(name) not in names else name for name in names]


def _movielens(text: _Text) -> RawColumns:
    text = text.latin()
    first = text.first()
    if first.startswith((b"userId,", b"movieId,")):
        columns = _delimited(text, b",", quoting=True)
        columns.names = _renamed("movielens", columns.names)
        return columns
    delimiter = next((d for d in (b"::", b"|", b"\t") if d in first), b",")
    text.names = text.names or _names_of_movielens(text.kind, first.split(delimiter))
    columns = _delimited(text, delimiter, quoting=False)
    flags = [n for n, name in enumerate(columns.names) if name in MOVIELENS_GENRES]
    return _with_categories(columns, flags) if flags else columns


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


def _jodie(text: _Text) -> RawColumns:
    """user, item, timestamp in seconds, then a label and features, as many as there are, which nobody reads."""
    rows: list[list[bytes]] = []
    broken, lines, width = {}, [], 3
    for number, line in enumerate(text.data.split(b"\n"), 1):
        line = line.rstrip(b"\r")
        if number == 1 or not line:
            continue
        cells = line.split(b",", width)[:width]
        if len(cells) < width:
            broken[len(rows)] = Broken(line, _wrong_width(len(cells), width))
            cells = [b""] * width
        rows.append(cells)
        lines.append(number)
    return _of_rows(["user_id", "item_id", "timestamp"], rows, broken, lines)


def _delimited(text: _Text, delimiter: bytes, quoting: bool) -> RawColumns:
    """Rows of cells between delimiters; in quotes, if `quoting`, a cell may have delimiters and line breaks."""
    data, skipped = text.data, 0
    while data[:1] in (b"\n", b"\r"):
        skipped += data[:1] == b"\n"
        data = data[1:]
    quoting = quoting and b'"' in data
    if quoting and _plain_names(data, delimiter):
        quoting = False  # only the names are quoted: none of them has a delimiter
    if b"\r" in data and not quoting:
        data = data.replace(b"\r\n", b"\n")
        data = data if b"\n" in data else data.replace(b"\r", b"\n")
    names, headless = text.names, text.names is not None
    if names is None:
        names, data = _header(data, delimiter, quoting)
        skipped += 1
    names = _named(names)
    if not quoting and (found := _quickly(data, delimiter, names, skipped)):
        columns = found
    elif quoting:
        columns = _quoted(text.path, data, delimiter, names, skipped)
    else:
        columns = _split(data, delimiter, names, skipped)
    columns.headless = headless
    return columns


def _header(data: bytes, delimiter: bytes, quoting: bool) -> tuple[list[str], bytes]:
    """The names of the columns, and what follows them."""
    if quoting:
        stream = io.StringIO(data.decode("utf-8", "surrogateescape"), newline="")
        first = next(csv.reader(stream, delimiter=delimiter.decode()), [])
        rest = stream.read().encode("utf-8", "surrogateescape")
    else:
        line, _, rest = data.partition(b"\n")
        first = line.decode("utf-8", "replace").split(delimiter.decode())
    return [name.strip().strip('"').strip() for name in first], rest


def _plain_names(data: bytes, delimiter: bytes) -> bool:
    """Whether nothing but the line of names has quotes, and no name has a delimiter."""
    line, _, rest = data.partition(b"\n")
    inside = line.split(b'"')[1::2]
    return b'"' not in rest and line.count(b'"') % 2 == 0 and not any(delimiter in name for name in inside)


def _named(names: Sequence[str]) -> list[str]:
    """The names, a missing one by its place."""
    return [name or f"column {n}" for n, name in enumerate(names, 1)]


def _quickly(data: bytes, delimiter: bytes, names: Sequence[str], skipped: int) -> RawColumns | None:
    """The columns where every line is a row of UTF-8; None where a closer look is needed."""
    if len(delimiter) > 1:
        if b"\x1f" in data:
            return None
        data, delimiter = data.replace(delimiter, b"\x1f"), b"\x1f"
    if not data or b"\n\n" in data or b"\r" in data or b"\n " in data:
        return None
    places = [str(n) for n in range(len(names))]
    try:
        table = pyarrow.csv.read_csv(
            pa.BufferReader(data),
            read_options=pyarrow.csv.ReadOptions(column_names=places),
            parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter.decode(), quote_char=False),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(places, pa.string()), null_values=[], strings_can_be_null=False
            ),
        )
    except pa.ArrowException:
        return None
    return RawColumns(list(names), table.columns, line_of=lambda row: row + skipped + 1)


def _split(data: bytes, delimiter: bytes, names: Sequence[str], skipped: int) -> RawColumns:
    rows: list[list[bytes]] = []
    broken, lines, width = {}, [], len(names)
    for number, line in enumerate(data.split(b"\n"), skipped + 1):
        if not line.strip(b" \r"):
            continue
        cells = line.rstrip(b"\r").split(delimiter)
        if len(cells) != width:
            broken[len(rows)] = Broken(line, _wrong_width(len(cells), width))
            cells = [b""] * width
        rows.append(cells)
        lines.append(number)
    return _of_rows(names, rows, broken, lines)


def _quoted(path: Path, data: bytes, delimiter: bytes, names: Sequence[str], skipped: int) -> RawColumns:
    """A CSV with quotes. Who opens one and does not close it before other text costs that line alone.

    Raises DataRefused where the file ends inside a quote.
    """
    csv.field_size_limit(sys.maxsize)
    lines = list(io.StringIO(data.decode("utf-8", "surrogateescape"), newline=""))
    rows: list[list[str]] = []
    broken, numbers, width, first = {}, [], len(names), 0
    while first < len(lines):
        reader, start = csv.reader(iter(lines[first:]), delimiter=delimiter.decode(), strict=True), first
        try:
            for row in reader:
                if row and (len(row) > 1 or row[0].strip()):
                    if len(row) != width:
                        text = "".join(lines[start : first + reader.line_num])
                        broken[len(rows)] = Broken(_encoded(text), _wrong_width(len(row), width))
                        row = [""] * width
                    rows.append(row)
                    numbers.append(start + skipped + 1)
                start = first + reader.line_num
            break
        except csv.Error as error:
            if "unexpected end of data" in str(error):
                raise DataRefused(
                    f"{path} ends inside a quote that is opened in the row of line {start + skipped + 1}; close it, "
                    'double a " that belongs to the text, or save the file with tabs between the columns'
                ) from None
            why = f"a quote does not enclose its whole cell ({error})"
            broken[len(rows)] = Broken(_encoded(lines[start]), why)
            rows.append([""] * width)
            numbers.append(start + skipped + 1)
            first = start + 1
    return _of_texts(names, rows, broken, numbers)


def _encoded(line: str) -> bytes:
    return line.rstrip("\r\n").encode("utf-8", "surrogateescape")


def _wrong_width(cells: int, columns: int) -> str:
    return f"the line has {cells} field{'s' if cells != 1 else ''}, the file {columns} columns"


def _of_rows(
    names: Sequence[str], rows: list[list[bytes]], broken: dict[int, Broken], lines: Sequence[int]
) -> RawColumns:
    """Columns of split lines; a row with bytes that are no UTF-8 is broken."""
    columns: list[Any] = list(zip(*rows, strict=True)) if rows else [()] * len(names)
    try:
        cells = [pa.array([cell.decode() for cell in column], pa.string()) for column in columns]
    except UnicodeDecodeError:
        for n, row in enumerate(rows):
            if not _is_text(row):
                broken[n] = Broken(b",".join(row), "the line is no UTF-8")
                rows[n] = [b""] * len(names)
        return _of_rows(names, rows, broken, lines)
    chunked = [pa.chunked_array([column], pa.string()) for column in cells]
    return RawColumns(list(names), chunked, broken=broken, line_of=lambda row: lines[row])


def _of_texts(
    names: Sequence[str], rows: list[list[str]], broken: dict[int, Broken], lines: Sequence[int]
) -> RawColumns:
    """Columns of split lines; a row with a cell that was no UTF-8 is broken."""
    columns: list[Any] = list(zip(*rows, strict=True)) if rows else [()] * len(names)
    try:
        chunked = [pa.chunked_array([pa.array(column, pa.string())], pa.string()) for column in columns]
    except UnicodeEncodeError:
        encoded = [[cell.encode("utf-8", "surrogateescape") for cell in row] for row in rows]
        return _of_rows(names, encoded, broken, lines)
    return RawColumns(list(names), chunked, broken=broken, line_of=lambda row: lines[row])


def _is_text(row: list[bytes]) -> bool:
    try:
        return b"".join(row).decode() is not None and all(cell.decode() is not None for cell in row)
    except UnicodeDecodeError:
        return False


# JSON and Parquet


def _json(text: _Text) -> Objects:
    """A JSON object a line, or one JSON array."""
    stripped = text.data.strip()
    if not stripped:
        raise DataRefused(f"{text.path} is empty")
    if stripped[:1] == b"[" and isinstance(_value(stripped.partition(b"\n")[0]), Broken):
        return _array(text, stripped)
    values, lines, sizes = [], [], []
    for number, line in enumerate(text.data.split(b"\n"), 1):
        line = line.strip()
        if line:
            values.append(_value(line))
            lines.append(number)
            sizes.append(len(line))
    if len(values) == 1 and isinstance(values[0], list):
        return _array(text, stripped)
    return Objects(values, lines, sizes)


def _value(line: bytes) -> Any:
    try:
        return json_of(line)
    except (ValueError, RecursionError):
        return Broken(line)


def _array(text: _Text, data: bytes) -> Objects:
    try:
        values = json_of(data)
    except (ValueError, RecursionError) as error:
        raise DataRefused(
            f"{text.path} is no whole JSON array: {error}; with one JSON object a line a broken line costs itself"
        ) from None
    sizes = [len(msgspec.json.encode(value)) for value in values] if len(data) > 100_000 else [0] * len(values)
    return Objects(values, range(1, len(values) + 1), sizes)


def _parquet(path: Path) -> RawColumns:
    table = pyarrow.parquet.ParquetFile(path).read()
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


_READERS: dict[str, Callable[[_Text], RawColumns | Objects]] = {
    "csv": _csv,
    "jsonl": _json,
    "jodie": _jodie,
    "movielens": _movielens,
    "recbole": _recbole,
}
SECONDS = {"jodie", "movielens", "recbole"}
