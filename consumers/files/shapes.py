"""Raw rows as the source of a file writes them, made into rows of one interaction, item or user each."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from consumers.change_events import row_change
from consumers.decode_fields import Refused, is_cloud_event
from consumers.errors import DataRefused
from consumers.field_paths import ABSENT, alternatives, root_of, value_at
from consumers.files.presets import Shape
from consumers.files.raw import Broken, Objects, RawColumns
from consumers.files.rows import Kind

ROW_MS = 1000
"""Between rows of a file without times: as far apart as the clicks of somebody in a hurry."""
_TAIL = frozenset({"topic", "partition", "offset", "key", "value"})  # of a line that `freshet tail` prints


# before names are known


def shaped(raw: RawColumns | Objects, shape: Shape, kind: Kind) -> RawColumns | Objects:
    """The rows that are of this kind, each with its fields beside one another."""
    if isinstance(raw, Objects):
        raw = _of_tail(raw, kind)
        raw = _chosen(raw, shape)
        return _paired(raw, shape.pairs) if shape.pairs else raw
    if shape.long and {*shape.long} <= set(raw.names):
        return _gathered(raw, *shape.long)
    return _split(raw, *shape.split) if shape.split and shape.split[0] in raw.names else raw


def _of_tail(raw: Objects, kind: Kind) -> Objects:
    """The values of records that `freshet tail` printed, of which each line says where it stood."""
    if not any(isinstance(value, dict) and value.keys() >= _TAIL for value in raw.values):
        return raw
    return replace(raw, values=[_value_of_tail(value, kind) for value in raw.values])


def _value_of_tail(line: Any, kind: Kind) -> Any:
    if not (isinstance(line, dict) and line.keys() >= _TAIL):
        return line
    value, headers = line["value"], line.get("headers")
    if value is None and kind != "interactions":
        return {"item_id" if kind == "items" else "user_id": line["key"], "deleted": True}
    if not isinstance(value, dict):
        return Broken(str(value or "").encode("utf-8", "replace"))
    if isinstance(headers, dict) and "ce_specversion" in headers:  # the log's own time stands in for a missing one
        event = {name[3:]: text for name, text in headers.items() if name.startswith("ce_")}
        return {"time": line.get("timestamp")} | event | {"data": value}
    return value


def _chosen(raw: Objects, shape: Shape) -> Objects:
    """Without the rows that are of another kind."""
    if not (shape.where or shape.without):
        return raw

    def wanted(value: Any) -> bool:
        if not isinstance(value, dict):
            return True
        return (not shape.where or _says(value, *shape.where)) and not (shape.without and _says(value, *shape.without))

    return _at(raw, [n for n, value in enumerate(raw.values) if wanted(value)])


def _says(value: dict[str, Any], place: str, words: frozenset[str]) -> bool:
    """Whether one of the words stands there."""
    found = value_at(value, place)
    return isinstance(found, str) and found in words


def _at(raw: Objects, rows: list[int]) -> Objects:
    lines, sizes = [raw.lines[n] for n in rows], [raw.sizes[n] for n in rows]
    places = None if raw.places is None else [raw.places[n] for n in rows]
    return Objects([raw.values[n] for n in rows], lines, sizes, places)


def _paired(raw: Objects, name: str) -> Objects:
    """The rows with the pairs of a list as fields."""

    def flat(value: Any) -> Any:
        if not isinstance(value, dict) or not isinstance(value.get(name), list):
            return value
        pairs = [pair for pair in value[name] if isinstance(pair, dict) and isinstance(pair.get("name"), str)]
        rest = {key: cell for key, cell in value.items() if key not in (name, "event", "id")}
        return rest | {pair["name"]: pair.get("value") for pair in pairs}

    return replace(raw, values=[flat(value) for value in raw.values])


def _gathered(raw: RawColumns, property_: str, value: str) -> Objects:
    """An object for each item of which a file says one thing a row: the newest of each, and known since the first."""
    rest = [name for name in raw.names if name not in (property_, value, "timestamp")]
    columns = {name: cells.to_pylist() for name, cells in zip(raw.names, raw.cells, strict=True)}
    times = columns.get("timestamp", [""] * len(columns[property_]))
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    newest: dict[tuple[Any, ...], int] = {}
    lines: list[int] = []
    broken: list[tuple[Broken, int]] = []
    for row, key in enumerate(zip(*(columns[name] for name in rest), strict=True)):
        if row in raw.broken:
            broken.append((raw.broken[row], raw.line_of(row)))
            continue
        if key not in found:
            found[key] = dict(zip(rest, key, strict=True))
            lines.append(raw.line_of(row))
        about, at = found[key], int(times[row]) if str(times[row]).isdecimal() else 0
        if at:
            about["timestamp"] = min(at, about.get("timestamp", at))
        if at >= newest.get((key, columns[property_][row]), 0):
            newest[(key, columns[property_][row])] = at
            about[str(columns[property_][row])] = columns[value][row]
    values: list[Any] = [*found.values(), *(line for line, _ in broken)]
    return Objects(values, [*lines, *(line for _, line in broken)], [0] * len(values))


def _split(raw: RawColumns, column: str, separator: str, ending: str) -> RawColumns:
    """A row for each element of a column's text that has the ending, without it."""
    place = raw.names.index(column)
    lists = pc.split_pattern(raw.cells[place].combine_chunks(), separator)
    parents, elements, places = _elements(lists)
    wanted = pc.ends_with(elements, ending)
    kept, parents = pc.utf8_slice_codeunits(elements.filter(wanted), 0, -len(ending)), parents.filter(wanted)
    return _rows_of_elements(raw, place, kept, parents, places.filter(wanted))


def _elements(lists: pa.Array) -> tuple[pa.Array, pa.Array, pa.Array]:
    """[M] the row of each element of the lists, the element, and its place in its list."""
    parents = pc.list_parent_indices(lists).cast(pa.int64())
    sizes = pc.fill_null(pc.list_value_length(lists), 0).cast(pa.int64())
    starts = pc.subtract(pc.cumulative_sum(sizes), sizes)
    places = pc.subtract(pa.array(range(len(parents)), pa.int64()), starts.take(parents))
    return parents, pc.list_flatten(lists), places


def _rows_of_elements(
    raw: RawColumns, place: int, elements: pa.Array, parents: pa.Array, places: pa.Array
) -> RawColumns:
    """The columns with one of them replaced by elements, each a row of its own; a broken row stays one."""
    broken = sorted(raw.broken)
    if broken:
        elements = pa.concat_arrays([elements, pa.nulls(len(broken), elements.type)])
        if raw.text:
            elements = pc.fill_null(elements, "")
        parents = pa.concat_arrays([parents, pa.array(broken, pa.int64())])
        places = pa.concat_arrays([places, pa.array([0] * len(broken), pa.int64())])
        order = pc.sort_indices(pa.table({"row": parents, "place": places}),
                                sort_keys=[("row", "ascending"), ("place", "ascending")])  # fmt: skip
        elements, parents, places = elements.take(order), parents.take(order), places.take(order)
    cells = [column.take(parents) if n != place else pa.chunked_array([elements]) for n, column in enumerate(raw.cells)]
    rows = parents.to_pylist() if broken else None
    now_broken = {n: raw.broken[row] for n, row in enumerate(rows) if row in raw.broken} if rows else {}
    return replace(
        raw, cells=cells, broken=now_broken, line_of=lambda row: raw.line_of(parents[row].as_py()), places=places
    )


# with the field map


def derived(
    raw: RawColumns | Objects, field_map: Mapping[str, str], shape: Shape, order_from: int | None = None
) -> tuple[RawColumns | Objects, dict[str, str]]:
    """The rows with a column, or a field, for each expression of the map, and the map by which they are found.

    order_from: the number of the first row, where times are made of the order of rows; else None.
    """
    field_map = dict(field_map)
    if order_from is not None:
        field_map.pop("timestamp", None)
    listed = {path.partition("[]")[0] for theirs in field_map.values() for path in alternatives(theirs) if "[]" in path}
    if len(listed) > 1:
        raise DataRefused(f"--map names elements of {' and '.join(sorted(listed))}: a row is an element of one list")
    for prefix in listed:
        raw = _exploded_objects(raw, prefix) if isinstance(raw, Objects) else _exploded_columns(raw, prefix)
    field_map = {ours: theirs.replace("[]", "") for ours, theirs in field_map.items()}
    if isinstance(raw, Objects):
        if shape.needs:
            raw = _needing(raw, field_map.get(shape.needs, shape.needs))
        return _in_file_order(raw, order_from), field_map
    names = set(raw.names)
    for theirs in dict.fromkeys(theirs for theirs in field_map.values() if theirs not in names):
        raw.cells.append(_column_at(raw, theirs))
        raw.names.append(theirs)
    used = {root_of(path) for theirs in field_map.values() if theirs not in names for path in alternatives(theirs)}
    nobody = names - set(field_map.values()) - set(field_map) if shape.only else set()
    raw.unread = raw.unread | used | nobody | ({"_"} if raw.headless else set())
    if order_from is not None:
        size = len(raw.cells[0])
        times = pa.array(range(order_from * ROW_MS, (order_from + size) * ROW_MS, ROW_MS), pa.int64())
        raw.names.append(_MADE_UP)
        raw.cells.append(pa.chunked_array([times.cast(pa.string()) if raw.text else times]))
        raw.unread = raw.unread | {"timestamp"}
        field_map["timestamp"] = _MADE_UP
    return raw, field_map


_MADE_UP = "the order of the file"


def _exploded_objects(raw: Objects, prefix: str) -> Objects:
    """A row for each element of the list at a path; a value without the list stays one row."""
    path = prefix.split(".")
    values, rows, places = [], [], []
    for n, value in enumerate(raw.values):
        elements = value_at(value, prefix) if isinstance(value, dict) else ABSENT
        if not isinstance(elements, list) and elements is not None:
            values.append(value)
            rows.append(n)
            places.append(0)
            continue
        for place, element in enumerate(elements or ()):
            values.append(_with(value, path, element))
            rows.append(n)
            places.append(place)
    return Objects(values, [raw.lines[n] for n in rows], [raw.sizes[n] for n in rows], places)


def _with(value: dict[str, Any], path: list[str], element: Any) -> dict[str, Any]:
    name, *rest = path
    return value | {name: _with(value[name], rest, element) if rest else element}


def _exploded_columns(raw: RawColumns, prefix: str) -> RawColumns:
    """The same of a column of lists; a null or empty list is no row. Raises DataRefused where it is no such column."""
    place = raw.names.index(prefix) if prefix in raw.names else -1
    kind = raw.cells[place].type if place >= 0 else None
    if kind is None or not (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
        raise DataRefused(f"there is no column {prefix} that holds lists")
    parents, elements, places = _elements(raw.cells[place].combine_chunks())
    return _rows_of_elements(raw, place, elements, parents, places)


def _needing(raw: Objects, expression: str) -> Objects:
    def has(value: Any) -> bool:
        return not isinstance(value, dict) or value_at(value, expression) not in (ABSENT, None, "")

    return _at(raw, [n for n, value in enumerate(raw.values) if has(value)])


def _in_file_order(raw: Objects, order_from: int | None) -> Objects:
    if order_from is None:
        return raw
    values = [
        value | {"timestamp": n * ROW_MS} if isinstance(value, dict) else value
        for n, value in enumerate(raw.values, order_from)
    ]
    return replace(raw, values=values)


def field_finder(raw: RawColumns | Objects) -> Callable[[str], bool]:
    """Whether an expression of a field map finds anything in the rows."""
    if isinstance(raw, RawColumns):
        return lambda theirs: theirs in raw.names or any(_type_at(raw, path) for path in alternatives(theirs))

    def has(theirs: str) -> bool:
        paths = alternatives(theirs)
        return any(
            any(_is_there(fields, path) for path in (theirs, *paths)) for fields in map(fields_in, raw.values) if fields
        )

    return has


def _is_there(value: dict[str, Any], path: str) -> bool:
    prefix, listed, rest = path.partition("[]")
    found = value_at(value, prefix)
    if not listed or not isinstance(found, list):
        return found is not ABSENT and not listed
    inside = rest.removeprefix(".")
    return any(not inside or (isinstance(one, dict) and value_at(one, inside) is not ABSENT) for one in found)


def _type_at(raw: RawColumns, path: str) -> pa.DataType | None:
    """The type of what stands at a path in columns; None where nothing does."""
    if path in raw.names:
        return raw.cells[raw.names.index(path)].type
    first, *rest = path.split(".")
    name = first.removesuffix("[]")
    kind = raw.cells[raw.names.index(name)].type if name in raw.names else None
    if kind is not None and first.endswith("[]"):
        kind = kind.value_type if pa.types.is_list(kind) or pa.types.is_large_list(kind) else None
    for step in rest:
        at = kind.get_field_index(step) if kind is not None and pa.types.is_struct(kind) else -1
        kind = kind.field(at).type if kind is not None and at >= 0 else None
    return kind


def _column_at(raw: RawColumns, expression: str) -> pa.ChunkedArray:
    """[N] what stands at an expression: of several, the first that says something."""
    columns = [_cells_at(raw, path) for path in alternatives(expression) if _type_at(raw, path) is not None]
    kinds = {column.type for column in columns}
    if len(kinds) > 1:
        columns = [column.cast(pa.string()) for column in columns]
    found = columns[0]
    for column in columns[1:]:
        nothing = pc.is_null(found)
        if pa.types.is_string(found.type) or pa.types.is_large_string(found.type):
            nothing = pc.or_(nothing, pc.fill_null(pc.equal(found, ""), False))
        found = pc.if_else(nothing, column, found)
    return found if isinstance(found, pa.ChunkedArray) else pa.chunked_array([found])


def _cells_at(raw: RawColumns, path: str) -> pa.ChunkedArray:
    if path in raw.names:
        return raw.cells[raw.names.index(path)]
    first, *rest = path.split(".")
    return pc.struct_field(raw.cells[raw.names.index(first)], rest)


def keys_of(raw: RawColumns | Objects) -> list[str]:
    """What the columns or fields of the rows are called, those of a CloudEvent by their meaning."""
    if isinstance(raw, RawColumns):
        return raw.names
    seen: dict[str, None] = {}
    for value in raw.values:
        fields = fields_in(value)
        if fields:
            seen.update(dict.fromkeys(fields))
            if fields is not value:
                seen.update(dict.fromkeys(("timestamp", "event_type", "event_id")))
    return list(seen)


def fields_in(value: Any) -> dict[str, Any] | None:
    """The fields of a JSON value: of a CloudEvent, or the row of a change event, in it; None where there are none."""
    if not isinstance(value, dict):
        return None
    if is_cloud_event(value):
        return dict(value["data"])
    try:
        change = row_change(value)
    except Refused:
        return None
    return change.row if change else value


def paths_of(raw: RawColumns | Objects) -> list[str]:
    """The names of the columns or fields, in place of one that has others inside the paths to those.

    Of objects, what the first rows have is inside.
    """
    if isinstance(raw, RawColumns):
        return [
            path for name, cells in zip(raw.names, raw.cells, strict=True) for path in _paths_of_type(name, cells.type)
        ]
    first = [fields for fields in map(fields_in, raw.values[:_LOOKED_AT]) if fields]
    found = dict.fromkeys(path for fields in first for name, value in fields.items() for path in _paths(name, value))
    roots = {*found, *map(root_of, found)}
    return [*found, *(name for name in keys_of(raw) if name not in roots)]


_LOOKED_AT = 20


def _paths(path: str, value: Any) -> list[str]:
    """The paths to what is in a value; of a list inside a list there is none."""
    if isinstance(value, dict) and value:
        return [inner for name, inside in value.items() for inner in _paths(f"{path}.{name}", inside)]
    if isinstance(value, list) and value and "[]" not in path:
        return _paths(f"{path}[]", value[0])
    return [path]


def _paths_of_type(path: str, kind: pa.DataType) -> list[str]:
    if pa.types.is_struct(kind):
        return [inner for field in kind for inner in _paths_of_type(f"{path}.{field.name}", field.type)]
    if (pa.types.is_list(kind) or pa.types.is_large_list(kind)) and "[]" not in path:
        return _paths_of_type(f"{path}[]", kind.value_type)
    return [path]
