"""`freshet produce`: sends a file to the log."""

import argparse
import json
import time
from collections.abc import Iterator, Mapping
from itertools import repeat
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from consumers.file_rows import THEIR_REASON
from consumers.files import FORMATS, digest_of_file, items_of_file, users_of_file
from consumers.log import Log
from consumers.records import ROW_HEADER, NewRecord
from streamer.cli import add_setting_flags, settings_of
from streamer.errors import UsageError
from streamer.logs import open_log_of
from streamer.progress import progress
from streamer.settings import Settings
from streamer.stream_flags import add_reading_flags, reading_of, say_nodes, stream_of_file

EXAMPLE = "freshet produce interactions.parquet --bootstrap localhost:9092"
CHUNK = 5_000
_OWN = ("user_id", "item_id", "event_type", "timestamp", "event_id", "value", "session_id", "retract")
_encode = msgspec.json.Encoder().encode


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, help=f"{', '.join(FORMATS)}")
    add_setting_flags(parser, "bootstrap", "log", "field_map")
    parser.add_argument(
        "--kind",
        choices=("interactions", "items", "users"),
        default="interactions",
        help='what the file holds; a row of items or users with "deleted": true deletes the item, erases the user',
    )
    add_reading_flags(parser)
    parser.add_argument("--rate", type=float, metavar="N", help="records a second (default: as fast as it goes)")
    parser.add_argument("--speed", default="max", metavar="10x", help="event time against wall time: 10x, 1x or max")
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")


def run(arguments: argparse.Namespace) -> int:
    speed = parse_speed(arguments.speed)
    if arguments.rate is not None and arguments.rate <= 0:
        raise UsageError(f"--rate got {arguments.rate}: a positive number of records a second")
    settings = settings_of(arguments)
    if arguments.kind == "interactions":
        found = stream_of_file(arguments.file, reading_of(arguments, settings), arguments.format, arguments.strict)
        refused, total = found.refusals.counts(), len(found.table)
        digest = digest_of_file(arguments.file)
        chunks = interaction_chunks(found.table, settings.interactions_topic, digest, found.records)
    else:
        chunks, refused, total = _node_chunks(arguments, settings)
    dead = sum(refused.values()) if arguments.kind == "interactions" else 0  # refused items and users are not sent
    log = open_log_of(settings)
    started = time.monotonic()
    try:
        with progress("produce", total, "records") as advance:
            sent = send(log, chunks, Pace(arguments.rate, speed), advance)
    finally:
        log.close()
    seconds = time.monotonic() - started
    summary = {
        "sent": sent,
        "refused": refused,
        "dead_letters": dead,
        "seconds": round(seconds, 3),
        "records_per_second": round(sent / seconds) if seconds else 0,
    }
    said = f"{sent:,} records sent in {seconds:.1f} s"
    if dead:
        said += f"; {dead:,} of these will be dead letters: the rows that are refused"
    print(json.dumps(summary) if arguments.json else said)
    return 0


def parse_speed(text: str) -> float | None:
    """Event time per wall time; None: as fast as it goes. Raises UsageError."""
    if text == "max":
        return None
    try:
        speed = float(text.removesuffix("x"))
        if speed > 0:
            return speed
    except ValueError:
        pass
    raise UsageError(f"--speed got {text!r}: max, or a factor such as 10x")


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


Chunk = tuple[list[NewRecord], list[int | None]]


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
            chunk.append(NewRecord(topic, key, refused[n] if n in refused else _encode(value), (header,)))
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


def _node_chunks(arguments: argparse.Namespace, settings: Settings) -> tuple[Iterator[Chunk], dict[str, int], int]:
    """Items or users as records, one that is deleted as a tombstone; what was refused; and how many are sent."""
    items = arguments.kind == "items"
    topic = settings.items_topic if items else settings.users_topic
    read: Any = items_of_file if items else users_of_file
    nodes = read(arguments.file, reading_of(arguments, settings), arguments.format)
    say_nodes(arguments.file, nodes, arguments.strict)

    def chunks() -> Iterator[Chunk]:
        for first in range(0, len(nodes.entries), CHUNK):
            part = nodes.entries[first : first + CHUNK]
            records = [NewRecord(topic, id_.encode(), None if node is None else _encode(node)) for id_, node in part]
            yield records, [None] * len(part)

    return chunks(), nodes.refusals.counts(), len(nodes.entries)


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
