"""Rows of a file before anybody says what they mean: cells of text, typed columns of Parquet, or JSON values."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import pyarrow as pa


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
    unread: frozenset[str] = frozenset()  # columns of which nothing is kept but what our fields take from them
    places: pa.Array | None = None  # [N] the place of each row in the list of which it is an element

    def without_rows(self) -> "RawColumns":
        """What is to be known of the columns, without what they hold."""
        return replace(self, cells=[column.slice(0, 0) for column in self.cells], broken={}, places=None)


@dataclass
class Objects:
    """Rows as JSON values, in file order."""

    values: list[Any]  # what is no JSON is Broken
    lines: Sequence[int]  # the line of each row; of a JSON array its place in it
    sizes: Sequence[int]  # bytes of each row
    places: Sequence[int] | None = None  # the place of each row in the list of which it is an element

    def without_rows(self) -> "Objects":
        """Nothing of the rows."""
        return Objects([], [], [])
