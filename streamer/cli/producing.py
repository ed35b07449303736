"""Rows of a recorded stream as records, and when they are due."""

import time
from collections.abc import Iterator, Mapping
from itertools import repeat
from typing import Any

import msgspec
import pyarrow as pa

from consumers.files.rows import THEIR_REASON
from consumers.log import Log
from consumers.records import ROW_HEADER, NewRecord

CHUNK = 5_000


_OWN = ("user_id", "item_id", "event_type", "timestamp", "event_id", "value", "session_id", "retract")


encode = msgspec.json.Encoder().encode


Chunk = tuple[list[NewRecord], list[int | None]]


class Pace:
    """When the next records are due: by a rate, by event time, or at once."""

    def __init__(self, rate: float | None, speed: float | None) -> None:
        self._rate, self._speed = rate, speed
        self._started = time.monotonic()
        self._first_ms: int | None = None
        self.chunk = CHUNK if rate is None and speed is None else max(1, int((rate or 1000) / 100))

    def wait(self, sent: int, timestamp_ms: int | None) -> None:
        """Sleeps until record number `sent`, of this event time, is due."""
        due_s = sent / self._rate if self._rate else 0.0
        if self._speed and timestamp_ms is not None:
            self._first_ms = timestamp_ms if self._first_ms is None else self._first_ms
            due_s = max(due_s, (timestamp_ms - self._first_ms) / 1000 / self._speed)
        time.sleep(max(0.0, self._started + due_s - time.monotonic()))


def interaction_chunks(
    table: pa.Table, topic: str, file_digest: str = "0" * 16, records: Mapping[int, bytes] | None = None
) -> Iterator[Chunk]:
    """The rows as records with their event times; the number of each stands in a header.

    A row without an id of its own gets `<file_digest>-<its number>`. records: the values of refused rows, by number.
    """
    names = [name for name in table.column_names if name in _OWN]
    extra = [name for name in table.column_names if name not in (*_OWN, "reason", "context")]
    refused, row = records or {}, 0
    for batch in table.to_batches(CHUNK):
        columns = [batch[name].to_pylist() for name in names]
        values: list[dict[str, Any]] = [
            {name: cell for name, cell in zip(names, cells, strict=True) if cell is not None}
            for cells in zip(*columns, strict=True)
        ]
        for n, value in enumerate(values):
            value.setdefault("event_id", f"{file_digest}-{row + n}")
            if value.get("retract") is False:
                del value["retract"]
        for value, context in zip(values, _contexts(batch, extra), strict=True):
            if context:
                value["context"] = context
        chunk = []
        for n, (user, value) in enumerate(zip(batch["user_id"].to_pylist(), values, strict=True), row):
            key, header = None if user is None else user.encode(), (ROW_HEADER, str(n).encode())
            chunk.append(NewRecord(topic, key, refused[n] if n in refused else encode(value), (header,)))
        row += len(chunk)
        yield chunk, batch["timestamp"].to_pylist()


def _contexts(batch: pa.RecordBatch, extra: list[str]) -> Iterator[dict[str, Any]]:
    """The context of each row: its other columns, and over them its context."""
    others = zip(*(batch[name].to_pylist() for name in extra), strict=True) if extra else repeat((), len(batch))
    own = batch["context"].to_pylist() if "context" in batch.schema.names else repeat(None, len(batch))
    names = ["reason" if name == THEIR_REASON else name for name in extra]
    for cells, context in zip(others, own, strict=True):
        told = {name: cell for name, cell in zip(names, cells, strict=True) if cell is not None}
        if isinstance(context, str):
            context = msgspec.json.decode(context)
        yield told | {name: cell for name, cell in (context or {}).items() if cell is not None}


def send(log: Log, chunks: Iterator[Chunk], pace: Pace, advance: Any) -> int:
    """Appends the chunks at their pace; gives the number of records."""
    sent = 0
    for records, times in chunks:
        for first in range(0, len(records), pace.chunk):
            part = records[first : first + pace.chunk]
            pace.wait(sent, times[first])
            log.append(part)
            sent += len(part)
            advance(len(part))
    return sent
