"""One reader for files of interactions, items and users: what the file is, which column is which field, its rows.

1. Read the file as raw rows, by its format.
2. Take the rows that are of this kind, each with its fields beside one another, as its source is known to write them.
3. Find out which column is which field. What is not sure is refused with the flags that answer it.
4. Make a column of each field that stands elsewhere: in a path, in one of several columns, in each element of a list.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from consumers.field_paths import alternatives, unprefixed
from consumers.files.formats import FORMATS, SECONDS, Text, guess_format, raw_rows
from consumers.files.looks import looks_like_a_row
from consumers.files.names import FIELDS, SYNONYMS, FileColumns, Matched, matched, plain
from consumers.files.parts import FilePart
from consumers.files.presets import PLAIN, PRESETS, Shape, recognised, shape_of
from consumers.files.raw import Objects, RawColumns
from consumers.files.rows import Kind, Reading
from consumers.files.shapes import derived, field_finder, keys_of, paths_of, shaped

ALL_FORMATS = (*FORMATS, *PRESETS)


@dataclass(frozen=True)
class Opened:
    """A file whose rows can be decoded.

    Args:
        raw: its rows, with a column or a field for everything in the field map of `reading`.
        reading: how they are decoded.
        format: the format of the file.
        preset: the source whose files it is like, if any.
        matched: which column is which field.
        left_out: how many of its rows are of another kind.
    """

    raw: RawColumns | Objects
    reading: Reading
    format: str
    preset: str | None
    matched: Matched
    left_out: int


def opened(part: FilePart, kind: Kind, reading: Reading, order_from: int = 0) -> Opened:
    """Opens a file. order_from: the number of its first row in the order of all files. Raises DataRefused."""
    preset = reading.format if reading.format in PRESETS else None
    if preset is None and reading.format is None:
        preset = recognised(part.name, (), kind)
    shape = PRESETS[preset].shape(kind) if preset else PLAIN
    found, raw = _raw(part, kind, reading, shape, None if preset else reading.format)
    if preset is None and reading.format is None and found in ("csv", "tsv", "jsonl", "parquet"):
        preset = recognised(part.name, keys_of(raw), kind)
        shape = shape_of(preset, kind)
    before = _size(raw)
    raw = shaped(raw, shape, kind)
    left_out = before - _size(raw) if isinstance(raw, Objects) and not shape.long else 0
    timeless = reading.order == "file" and kind == "interactions"
    columns = FileColumns(
        where=part, names=keys_of(raw), kind=kind, has=field_finder(raw), text=isinstance(raw, RawColumns) and raw.text,
        headless=isinstance(raw, RawColumns) and raw.headless, mixed=isinstance(raw, Objects),
        inside=lambda: paths_of(raw),
    )  # fmt: skip
    told = {"timestamp": timeless, "event_type": reading.event_type}
    known = [name for name, is_told in told.items() if is_told]
    given = _given(reading, kind)
    if isinstance(raw, Objects) and not any(isinstance(value, dict) for value in raw.values):
        match = Matched({})  # nothing to find names in: every row is refused by itself
    else:
        match = matched(columns, given, shape.fields, strict=not reading.beside, known=known)
    at = next((path for path in alternatives(match.field_map.get("timestamp", "")) if columns.has(path)), "")
    unit = reading.time_unit or shape.units.get(at) or shape.time_unit or ("s" if found in SECONDS else None)
    raw, field_map = derived(raw, match.field_map, shape, order_from if timeless else None)
    if isinstance(raw, RawColumns) and reading.event_type:
        raw.unread |= {"event_type"}
    reading = replace(
        reading, field_map=field_map, names=None, time_unit="ms" if timeless else unit,
        time_format=None if timeless else reading.time_format or shape.time_format,
        event_type=reading.event_type or shape.event_type,
    )  # fmt: skip
    return Opened(raw, reading, found, preset, match, left_out)


def _raw(
    part: FilePart, kind: Kind, reading: Reading, shape: Shape, format_: str | None
) -> tuple[str, RawColumns | Objects]:
    """The rows as the file has them, and its format."""
    how = Text(kind, reading.names, reading.delimiter, reading.encoding)
    if shape.base and not format_:
        guessed = guess_format(part, reading.encoding)
        format_ = guessed if guessed in ("parquet", "jsonl") else shape.base
        if shape.columns and how.names is None and format_ == "csv" and not _has_header(part, kind, shape, reading):
            how = replace(how, names=shape.columns)
    found, raw = raw_rows(part, format_, how)
    if isinstance(raw, RawColumns) and _maps_cells(raw, reading.field_map):
        found, raw = raw_rows(part, format_, replace(how, names=raw.names))
    return found, raw


def _has_header(part: FilePart, kind: Kind, shape: Shape, reading: Reading) -> bool:
    """Whether the first line of a file, whose source writes no line of names, is one all the same."""
    line = part.first_line(reading.encoding).decode("utf-8", "replace")
    first = plain(line.replace("\t", ",").partition(",")[0].strip('" \r\n'))
    usual = {plain(name) for name in (*shape.columns, *FIELDS[kind])} - {""}
    return first in usual or any(first in names for names in SYNONYMS[kind].values())


def _maps_cells(raw: RawColumns, field_map: Mapping[str, str]) -> bool:
    """Whether a field map names the columns by the cells of the first row, because there is no line of names."""
    theirs = list(field_map.values())
    return raw.text and not raw.headless and set(theirs) <= set(raw.names) and looks_like_a_row(theirs)


def _given(reading: Reading, kind: Kind) -> dict[str, str]:
    """The part of the field map that is of this kind: of a file beside the stream, what it may have."""
    own = unprefixed(reading.field_map)
    if not reading.beside:
        return own
    return {
        ours: theirs
        for ours, theirs in own.items()
        if ours in FIELDS[kind] or f"attributes.{ours}" in reading.field_map
    }


def _size(raw: RawColumns | Objects) -> int:
    if isinstance(raw, Objects):
        return len(raw.values)
    return len(raw.cells[0]) if raw.cells else 0
