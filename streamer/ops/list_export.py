"""Lists from their topics to a Parquet file, a row a list, for whoever analyses them elsewhere."""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from consumers.decode_fields import ListTime
from consumers.records import Record
from streamer.runtime.whole_files import whole_file

ROWS_A_GROUP = 10_000
SCHEMA = pa.schema(
    [
        ("list_id", pa.string()),
        ("user_id", pa.string()),  # null: of a session, a basket or anybody
        ("surface", pa.string()),
        ("timestamp", pa.int64()),  # ms
        ("items", pa.list_(pa.string())),
        ("scores", pa.list_(pa.float64())),
        ("sources", pa.list_(pa.string())),
        ("reasons", pa.list_(pa.string())),
        ("propensities", pa.list_(pa.float64())),
        ("model_version", pa.string()),
        ("fallback", pa.string()),
        ("rules", pa.string()),
        ("experiment", pa.string()),
        ("arm", pa.string()),
        ("group", pa.string()),
        ("cut", pa.int32()),
        ("partition", pa.int32()),
        ("offset", pa.int64()),
    ]
)


class _ExportedItem(msgspec.Struct, gc=False):
    item_id: str
    score: float | None = None
    source: str | None = None
    reason: str | None = None
    propensity: float | None = None


class _ExportedTime(msgspec.Struct, gc=False):
    timestamp: ListTime


class _ExportedArm(msgspec.Struct, gc=False):
    name: str | None = None
    arm: str | None = None
    group: str | None = None


class _ExportedList(msgspec.Struct):
    list_id: str
    items: list[_ExportedItem]
    as_of: _ExportedTime
    user_id: str | None = None
    surface: str | None = None
    model_version: str | None = None
    fallback: str | None = None
    rules: str | None = None
    experiment: _ExportedArm | None = None
    cut: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] = 0


class ExportedFile(NamedTuple):
    """How much an export wrote. `passed_over`: records that are no lists."""

    lists: int
    passed_over: int


def export_lists(records: Iterable[Record], file: Path) -> ExportedFile:
    """Writes the lists of these records in their order; the file appears when all of it is there. Raises OSError."""
    decode, lists, passed_over, rest = msgspec.json.Decoder(_ExportedList).decode, 0, 0, iter(records)
    with whole_file(file) as part, pq.ParquetWriter(part, SCHEMA) as out:
        while some := list(islice(rest, ROWS_A_GROUP)):
            rows = []
            for record in some:
                try:
                    rows.append(_row(record, decode(record.value or b"")))
                except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                    passed_over += 1  # whoever wrote it did not write a list
            out.write_table(pa.Table.from_pylist(rows, SCHEMA))
            lists += len(rows)
    return ExportedFile(lists, passed_over)


def newest_of(records: Iterable[Record]) -> Iterator[Record]:
    """The newest record of each key of each topic, unless it is a tombstone. They are held in memory meanwhile."""
    newest = dict[tuple[str, bytes | None], Record]()
    for record in records:
        newest.pop((record.topic, record.key), None)
        if record.value is not None:
            newest[record.topic, record.key] = record
    yield from newest.values()


def _row(record: Record, one: _ExportedList) -> dict[str, object]:
    dealt = one.experiment or _ExportedArm()
    return {
        "list_id": one.list_id,
        "user_id": one.user_id,
        "surface": one.surface,
        "timestamp": one.as_of.timestamp,
        "items": [item.item_id for item in one.items],
        "scores": [item.score for item in one.items],
        "sources": [item.source for item in one.items],
        "reasons": [item.reason for item in one.items],
        "propensities": [item.propensity for item in one.items],
        "model_version": one.model_version,
        "fallback": one.fallback,
        "rules": one.rules,
        "experiment": dealt.name,
        "arm": dealt.arm,
        "group": dealt.group,
        "cut": one.cut,
        "partition": record.partition,
        "offset": record.offset,
    }
