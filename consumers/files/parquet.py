"""Parquet as Arrow knows it, without those types that its functions do not take."""

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from consumers.errors import DataRefused

_VIEWS = {pa.string_view(): pa.large_string(), pa.binary_view(): pa.large_binary()}


def read_parquet(source: Any, name: object) -> pa.Table:
    """All of a file. name: what messages call it. Raises DataRefused where it cannot be read."""
    try:
        table = pq.ParquetFile(source).read()
        schema = pa.schema([field.with_type(_plain(field.type)) for field in table.schema])
        return table if schema == table.schema else table.cast(schema)
    except (pa.ArrowException, OSError) as error:
        raise DataRefused(f"{name} cannot be read as parquet: {str(error).splitlines()[0]}") from error


def _plain(kind: pa.DataType) -> pa.DataType:
    """The type with texts and bytes in place of views of them, wherever they stand in it."""
    if kind in _VIEWS:
        return _VIEWS[kind]
    if pa.types.is_list(kind):
        return pa.list_(_plain(kind.value_type))
    if pa.types.is_large_list(kind):
        return pa.large_list(_plain(kind.value_type))
    if pa.types.is_map(kind):
        return pa.map_(_plain(kind.key_type), _plain(kind.item_type))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_plain(field.type)) for field in kind])
    return kind
