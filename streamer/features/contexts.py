"""Contexts of interactions and attributes of users as rows of the model's table (`tgn.context_embedding`)."""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from consumers.schemas import CONTEXT_NAMES
from tgn.context_embedding import NEW_USER, ROWS
from tgn.graph import I16, NONE, SLOTS, no_contexts

NAMES = CONTEXT_NAMES
"""What of an interaction's context is learned from, a slot each; a request can know the first REQUEST_SLOTS of them."""
EXACT_BELOW, STEPS_A_DOUBLING = 10, 4
CACHED_CHARS = 200  # longer texts are hashed each time: producers choose them, and the cache keeps them


def rows_of_contexts(contexts: Sequence[Mapping[str, Any] | None]) -> I16:
    """[N, SLOTS] rows of the contexts of N interactions."""
    rows = no_contexts(len(contexts))
    for n, context in enumerate(contexts):
        if context:
            rows[n] = [_find_row(name, context.get(name)) for name in NAMES]
    return rows


def rows_of_table(table: pa.Table) -> I16:
    """[N, SLOTS] the same of N rows of a table, without a loop over rows where the contexts are columns."""
    rows = no_contexts(len(table))
    columns = context_columns(table)
    for slot, name in enumerate(NAMES):
        column = columns.get(name)
        if column is not None:
            coded = pc.dictionary_encode(column.combine_chunks(), null_encoding="encode")
            coded = coded.combine_chunks() if isinstance(coded, pa.ChunkedArray) else coded
            values = [_find_row(name, value) for value in coded.dictionary.to_pylist()]
            rows[:, slot] = np.array(values, np.int16)[coded.indices.to_numpy()]
    return rows


def context_columns(table: pa.Table) -> dict[str, pa.ChunkedArray]:
    """What of the contexts of N rows is learned from, by name: columns, or fields of a column `context`."""
    found = {name: column for name in NAMES if (column := _column(table, name)) is not None}
    if "context" in table.column_names and pa.types.is_string(table["context"].type):  # JSON objects
        contexts = [msgspec.json.decode(text) if text else {} for text in table["context"].to_pylist()]
        for name in NAMES:
            if name not in found:
                found[name] = pa.chunked_array([[as_text(one.get(name)) for one in contexts]], pa.string())
    return found


def rows_of_attributes(attributes: Mapping[str, Any]) -> I16:
    """[SLOTS] rows of a user's attributes, the first by name; a number of two digits or more stands with its likes."""
    found = [_find_row(name, _rounded(value)) for name, value in sorted(attributes.items())]
    known = [row for row in found if row != NONE][:SLOTS]
    return np.array(known + [NONE] * (SLOTS - len(known)), np.int16)


def _column(table: pa.Table, name: str) -> pa.ChunkedArray | None:
    if name in table.column_names:
        return None if pa.types.is_nested(table[name].type) else table[name]
    if "context" in table.column_names and pa.types.is_struct(table["context"].type):
        fields = {field.name: field.type for field in table["context"].type}
        if name in fields and not pa.types.is_nested(fields[name]):
            return pc.struct_field(table["context"], name)
    return None


def as_text(value: Any) -> str | None:
    """A value of a context as text; None for what is no text, finite number or truth value."""
    if isinstance(value, float):  # a missing value elsewhere has made integers floats, and is NaN itself
        value = None if not math.isfinite(value) else int(value) if value.is_integer() else value
    return str(value) if isinstance(value, str | int | float) else None


def _find_row(name: str, value: Any) -> int:
    text = as_text(value)
    if not text:
        return NONE
    return _cached(name, text) if len(name) + len(text) <= CACHED_CHARS else _hashed(name, text)


def _hashed(name: str, value: str) -> int:
    digest = blake2b(f"{name}\0{value}".encode(), digest_size=8).digest()
    return NEW_USER + 1 + int.from_bytes(digest, "little") % (ROWS - NEW_USER - 1)


_cached = lru_cache(maxsize=1 << 16)(_hashed)


def _rounded(value: Any) -> Any:
    """A number on a logarithmic scale, four steps a doubling, so that 24 and 26 years are one value."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return value
    if not math.isfinite(number) or abs(number) < EXACT_BELOW:
        return value
    return math.copysign(math.floor(STEPS_A_DOUBLING * math.log2(abs(number))), number)
