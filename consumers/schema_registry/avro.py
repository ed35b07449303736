"""Values in Avro."""

import io
import json
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from datetime import time as time_of_day
from decimal import Decimal
from typing import Any
from uuid import UUID

import fastavro

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def avro_reader(schema: str, references: Mapping[str, str]) -> Callable[[bytes], Any]:
    """A reader of values by the schema that wrote them. Times become epoch ms, decimals numbers, bytes text."""
    named: dict[str, Any] = {}
    for text in references.values():
        fastavro.parse_schema(json.loads(text), named_schemas=named)
    writer = fastavro.parse_schema(json.loads(schema), named_schemas=named)

    def read(data: bytes) -> Any:
        source = io.BytesIO(data)
        value = fastavro.schemaless_reader(source, writer, None)
        if source.tell() != len(data):
            raise ValueError("there is more than the schema says")
        return _plain(value)

    return read


def _plain(value: Any) -> Any:
    match value:
        case dict():
            return {name: _plain(one) for name, one in value.items()}
        case list():
            return [_plain(one) for one in value]
        case datetime():
            moment = value if value.tzinfo else value.replace(tzinfo=UTC)
            return (moment - _EPOCH) // timedelta(milliseconds=1)
        case date() | time_of_day():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case Decimal():
            return float(value)
        case UUID():
            return str(value)
        case bytes():
            return value.decode()
    return value
