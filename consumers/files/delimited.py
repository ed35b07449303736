"""Text with delimiters as raw rows. A line that is no row is kept: it costs itself, never the file."""

import csv
import io
import sys
from codecs import BOM_UTF8
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.csv

from consumers.errors import DataRefused
from consumers.files.raw import Broken, RawColumns

NO_UTF8 = "the line is no UTF-8; name the encoding of the file with --encoding, such as latin-1"


def delimited(
    where: object, data: bytes, delimiter: bytes, quoting: bool, names: Sequence[str] | None = None
) -> RawColumns:
    """Rows of cells between delimiters; in quotes, if `quoting`, a cell may have delimiters and line breaks.

    names: of the columns, where there is no line of them. where: what messages call the file. Raises DataRefused where
    it ends inside a quote.
    """
    skipped = 0
    while data[:1] in (b"\n", b"\r"):
        skipped += data[:1] == b"\n"
        data = data[1:]
    quoting = quoting and len(delimiter) == 1 and b'"' in data
    if quoting and _plain_names(data, delimiter):
        quoting = False  # only the names are quoted: none of them has a delimiter
    if b"\r" in data and not quoting:
        data = data.replace(b"\r\n", b"\n")
        data = data if b"\n" in data else data.replace(b"\r", b"\n")
    headless = names is not None
    if names is None:
        names, data = _header(data, delimiter, quoting)
        skipped += 1
    names = _named(names)
    if not quoting and (found := _quickly(data, delimiter, names, skipped)):
        columns = found
    elif quoting:
        columns = _quoted(where, data, delimiter, names, skipped)
    else:
        columns = _split(data, delimiter, names, skipped)
    columns.headless = headless
    return columns


def _header(data: bytes, delimiter: bytes, quoting: bool) -> tuple[list[str], bytes]:
    """The names of the columns, and what follows them."""
    if quoting:
        stream = io.StringIO(data.decode("utf-8", "surrogateescape"), newline="")
        first = next(csv.reader(stream, delimiter=delimiter.decode()), [])
        first = [name.encode("utf-8", "surrogateescape").decode("utf-8", "replace") for name in first]
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
    if not data or b"\n\n" in data or b"\r" in data or b"\n " in data or data.startswith(BOM_UTF8):
        return None  # Arrow would take the mark off the id with which the first row begins
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
        if delimiter not in line and not line.strip():
            continue
        cells = line.rstrip(b"\r").split(delimiter)
        if len(cells) != width:
            broken[len(rows)] = Broken(line, wrong_width(len(cells), width))
            cells = [b""] * width
        rows.append(cells)
        lines.append(number)
    return of_rows(names, rows, broken, lines)


def _quoted(where: object, data: bytes, delimiter: bytes, names: Sequence[str], skipped: int) -> RawColumns:
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
                        broken[len(rows)] = Broken(_encoded(text), wrong_width(len(row), width))
                        row = [""] * width
                    rows.append(row)
                    numbers.append(start + skipped + 1)
                start = first + reader.line_num
            break
        except csv.Error as error:
            if "unexpected end of data" in str(error):
                raise DataRefused(
                    f"{where} ends inside a quote that is opened in the row of line {start + skipped + 1}; close it, "
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


def wrong_width(cells: int, columns: int) -> str:
    """What is wrong with a line of too many or too few fields."""
    return f"the line has {cells} field{'s' if cells != 1 else ''}, the file {columns} columns"


def of_rows(
    names: Sequence[str], rows: list[list[bytes]], broken: dict[int, Broken], lines: Sequence[int]
) -> RawColumns:
    """Columns of split lines; a row with bytes that are no UTF-8 is broken."""
    columns: list[Any] = list(zip(*rows, strict=True)) if rows else [()] * len(names)
    try:
        cells = [pa.array([cell.decode() for cell in column], pa.string()) for column in columns]
    except UnicodeDecodeError:
        for n, row in enumerate(rows):
            if not _is_text(row):
                broken[n] = Broken(
                    b",".join(row),
                    NO_UTF8,
                )
                rows[n] = [b""] * len(names)
        return of_rows(names, rows, broken, lines)
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
        return of_rows(names, encoded, broken, lines)
    return RawColumns(list(names), chunked, broken=broken, line_of=lambda row: lines[row])


def _is_text(row: list[bytes]) -> bool:
    try:
        return b"".join(row).decode() is not None and all(cell.decode() is not None for cell in row)
    except UnicodeDecodeError:
        return False
