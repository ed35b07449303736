"""Fields and attributes of items as coded NumPy columns, one row an item: what filters read.

A column is made when it is first asked for, and follows each change from then on, an item at a time. Its values may be
of several types: each type has an array of its own, in which the other rows are missing. Texts, and elements of lists,
are codes of a dictionary, so that what is asked of a text is asked once for each distinct one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec
import numpy as np

from consumers.schemas import Item
from tgn.compiling.growing import enough, lengthened

if TYPE_CHECKING:  # who reads rules loads no kernels
    from tgn.graph import F64, I8, I32, I64, U8

Path = tuple[str, ...]  # the names that lead to a value: ("address", "city")
ID: Path = ("item_id",)
TIMES = frozenset({("timestamp",), ("available_from",), ("expires_at",)})
HELD = 64  # columns at most; the one that was not asked for longest goes
NONE = -1


class Texts(NamedTuple):
    """Texts of N rows."""

    code: I32  # [N] NONE: no text
    values: Sequence[str]  # by code, each once
    find: Callable[[str], int | None]  # the code of a text


class ListColumn(NamedTuple):
    """ListColumn of N rows, as E elements in any order."""

    size: I32  # [N] NONE: no list
    start: I64  # [N] where the elements of a row begin
    owner: I32  # [E] whose element it is, NONE: nobody's any more
    code: I32  # [E]
    elements: Values  # by code, each once


class Values(NamedTuple):
    """Values of N rows by their type; None: no row has one of that type."""

    rows: int
    number: F64 | None = None  # [N] NaN: no number
    text: Texts | None = None
    flag: I8 | None = None  # [N] 0, 1 or NONE
    time: F64 | None = None  # [N] epoch ms, NaN: no time
    span: F64 | None = None  # [N] ms, NaN: no span of time
    lists: ListColumn | None = None
    present: U8 | None = None  # [N] 1: there is a value, of whatever type; None: there is none


Kind = Literal["number", "time", "flag", "text", "lists", "present", "other"]
_KINDS: dict[type, Kind] = {
    bool: "flag", int: "number", float: "number", str: "text", list: "lists", tuple: "lists"
}  # fmt: skip
_SCALARS = (bool, int, float, str)
_NO_VALUE = (dict, None)  # what stands for an element that is an object or a list
_MISSING: dict[Kind, tuple[type, float]] = {
    "number": (np.float64, np.nan),
    "time": (np.float64, np.nan),
    "flag": (np.int8, NONE),
    "text": (np.int32, NONE),
    "lists": (np.int32, NONE),
    "present": (np.uint8, 0),
}
"""The type of each array, and what stands where there is no value."""


def _doubles(numbers: list[int | float]) -> F64:
    try:
        return np.array(numbers, np.float64)
    except OverflowError:  # an integer beyond any double is missing
        return np.array([np.nan if isinstance(one, int) and one.bit_length() > 1_000 else one for one in numbers])


class Column:
    """The values of one path. `is_time`: its numbers are epoch ms."""

    def __init__(self, is_time: bool = False) -> None:
        self._numbers: Kind = "time" if is_time else "number"
        self._arrays: dict[Kind, np.ndarray] = {}  # [room] each; of lists: how many elements
        self._start = np.zeros(0, np.int64)  # [room] where a list begins in `_owner`
        self._code_of: dict[str, int] = {}
        self._texts: list[str] = []
        self._owner, self._element = np.zeros(0, np.int32), np.zeros(0, np.int32)
        self._element_of: dict[tuple[type, Any], int] = {}
        self._elements: Column | None = None
        self._room = 0
        self._dead = 0  # places of `_owner` that are nobody's

    def set(self, rows: Sequence[int], values: Sequence[Any], room: int) -> None:
        """Makes JSON values [M] those of rows [M], each below `room`; None: it has none."""
        self._make_room(room)
        self._clear(np.array(rows, np.int64))
        found: dict[Kind, tuple[list[int], list[Any]]] = {}
        for row, value in zip(rows, values, strict=True):
            if value is not None:
                kind: Kind = _KINDS.get(type(value), "other")
                of_rows, of_values = found.setdefault(kind, ([], []))
                of_rows.append(row)
                of_values.append(value)
        for kind, (of_rows, of_values) in found.items():
            self._array("present")[of_rows] = 1
            if kind == "text":
                self._array(kind)[of_rows] = [self._code(value) for value in of_values]
            elif kind == "lists":
                self._append(of_rows, of_values)
            elif kind == "number":
                self._array(self._numbers)[of_rows] = _doubles(of_values)
            elif kind != "other":
                self._array(kind)[of_rows] = of_values

    def _code(self, text: str) -> int:
        code = self._code_of.setdefault(text, len(self._texts))
        if code == len(self._texts):
            self._texts.append(text)
        return code

    def _append(self, rows: list[int], lists: list[Sequence[Any]]) -> None:
        known = len(self._element_of)
        keys = [[(type(one), one) if type(one) in _SCALARS else _NO_VALUE for one in values] for values in lists]
        codes = [self._element_of.setdefault(key, len(self._element_of)) for of_row in keys for key in of_row]
        new = [value for _, value in islice(self._element_of, known, None)]
        self._elements = self._elements or Column()
        self._elements.set(range(known, known + len(new)), new, known + len(new))
        sizes = np.array([len(of_row) for of_row in keys])
        self._array("lists")[rows] = sizes
        self._start[rows] = len(self._owner) + np.cumsum(sizes) - sizes
        first = len(self._owner)
        self._owner = lengthened(self._owner, first + len(codes))
        self._element = lengthened(self._element, first + len(codes))
        self._owner[first:], self._element[first:] = np.repeat(np.array(rows, np.int32), sizes), codes

    def _clear(self, rows: I64) -> None:
        rows = rows[self._array("present")[rows] > 0]
        for kind, array in self._arrays.items():
            if kind == "lists":
                for row in rows[array[rows] > 0].tolist():
                    self._owner[self._start[row] : self._start[row] + array[row]] = NONE
                    self._dead += int(array[row])
            array[rows] = _MISSING[kind][1]

    def _array(self, kind: Kind) -> np.ndarray:
        if kind not in self._arrays:
            dtype, missing = _MISSING[kind]
            self._arrays[kind] = np.full(self._room, missing, dtype)
        return self._arrays[kind]

    def _make_room(self, rows: int) -> None:
        if rows > self._room:
            self._room = enough(self._start, rows)
            for kind, array in self._arrays.items():
                self._arrays[kind] = lengthened(array, self._room, _MISSING[kind][1])
            self._start = lengthened(self._start, self._room)

    def is_worn(self) -> bool:
        """Whether much of what it holds belongs to no row any more."""
        return len(self._texts) + len(self._element_of) > 1_000 + 2 * self._room or 2 * self._dead > 1_000 + len(
            self._owner
        )

    def values(self, rows: int) -> Values:
        """Views of the first rows."""
        self._make_room(rows)
        found = {kind: array[:rows] for kind, array in self._arrays.items()}
        sizes, code = found.pop("lists", None), found.pop("text", None)
        text = None if code is None else Texts(code, self._texts, self._code_of.get)
        lists = None
        if sizes is not None and self._elements is not None:
            elements = self._elements.values(len(self._element_of))
            lists = ListColumn(sizes, self._start[:rows], self._owner, self._element, elements)
        return Values(rows, text=text, lists=lists, **{str(kind): array for kind, array in found.items()})


class ItemColumns:
    """The columns of a catalogue.

    Args:
        records: item → its record, see `item_bytes`.
        ids: of all items, those without a record too.
        rows: how many rows a column has, at least one for each id.
    """

    def __init__(
        self, records: Mapping[int, bytes], ids: Callable[[], Sequence[str]], find: Callable[[str], int | None],
        rows: Callable[[], int],
    ) -> None:  # fmt: skip
        self._records, self._ids, self._find, self._rows = records, ids, find, rows
        self._columns: dict[Path, Column] = {}  # the one asked for last is the last
        self._changed: set[int] = set()  # items whose records the columns do not have yet
        self._names: set[str] | None = None  # of attributes, those that records had before among them
        self.version = 0  # raised with every change

    def known(self) -> int:
        """How many items have an id."""
        return len(self._ids())

    def rows(self) -> int:
        """N: how many rows each column has."""
        return self._rows()

    def note(self, node: int) -> None:
        """Says that the record of an item is another now."""
        self.version += 1
        if self._columns or self._names is not None:
            self._changed.add(node)

    def values(self, path: Path) -> Values:
        """[N] the values of a field of items, of an attribute, or of what is inside one.

        `category` is the first of the categories where an item has no attribute of that name.
        """
        rows = self.rows()
        if path == ID:
            ids = self._ids()
            code = np.arange(rows, dtype=np.int32)
            code[len(ids) :] = NONE
            return Values(rows, text=Texts(code, ids, self._find), present=(code >= 0).astype(np.uint8))
        self._follow()
        if not self._is_known(path[0]):
            return Values(rows)
        column = self._columns.pop(path, None)
        if column is None or column.is_worn():
            column = self._made(path)
        self._columns[path] = column
        if len(self._columns) > HELD:
            del self._columns[next(iter(self._columns))]
        return column.values(rows)

    def _made(self, path: Path) -> Column:
        column, read = Column(path in TIMES), _reader(path)
        column.set(list(self._records), [read(record) for record in self._records.values()], self.rows())
        return column

    def _follow(self) -> None:
        """Takes the changed records into the columns."""
        if not self._changed:
            return
        nodes = sorted(self._changed)
        records = [self._records.get(node) for node in nodes]
        for path, column in self._columns.items():
            read = _reader(path)
            column.set(nodes, [None if record is None else read(record) for record in records], self.rows())
        if self._names is not None:
            self._names.update(name for record in records if record is not None for name in _names_in(record))
        self._changed.clear()

    def _is_known(self, name: str) -> bool:
        """Whether a record has had a field or an attribute of the name: others are no reason to look at all of them."""
        if name in Item.__struct_fields__ or name == "category":
            return True
        if self._names is None:
            self._names = {name for record in self._records.values() for name in _names_in(record)}
        return name in self._names


def item_bytes(item: Item) -> bytes:
    """The record of an item, as columns read it."""
    return msgspec.msgpack.encode(item)


item_of_bytes = msgspec.msgpack.Decoder(Item).decode


class _Attributes(msgspec.Struct):
    attributes: dict[str, msgspec.Raw] | None = None


_attributes_of = msgspec.msgpack.Decoder(_Attributes).decode


def _names_in(record: bytes) -> Iterable[str]:
    return _attributes_of(record).attributes or ()


@lru_cache(maxsize=4 * HELD)
def _reader(path: Path) -> Callable[[bytes], Any]:
    """Reads the value at a path out of a record, and nothing else: that is several times as fast as all of it."""
    name, *inside = path
    if name in Item.__struct_fields__ and name != "attributes":
        default = Item("").hidden if name == "hidden" else None
        field = msgspec.defstruct("Field", [("value", Any, default)], rename={"value": name})
        of_field: Callable[[bytes], Any] = msgspec.msgpack.Decoder(field).decode
        return lambda record: _inside(of_field(record).value, inside)
    inner = msgspec.defstruct("Inner", [("value", Any, None)], rename={"value": name})
    outer = msgspec.defstruct("Outer", [("attributes", inner | None, None), ("categories", Any, ())])
    of_attribute: Callable[[bytes], Any] = msgspec.msgpack.Decoder(outer).decode

    def read(record: bytes) -> Any:
        found = of_attribute(record)
        value = None if found.attributes is None else found.attributes.value
        if value is None and name == "category" and found.categories:
            value = found.categories[0]
        return _inside(value, inside)

    return read


def _inside(value: Any, names: Sequence[str]) -> Any:
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value
