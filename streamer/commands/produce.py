"""`freshet produce`: sends a file to the log."""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
from msgspec import structs

from consumers.decode import Refused, flag_of
from consumers.errors import DataRefused
from consumers.files import FORMATS, read_interactions, read_items, read_users
from consumers.log import Log
from consumers.records import NewRecord
from consumers.schemas import Item, User
from streamer.cli import add_setting_flags, settings_of
from streamer.errors import UsageError
from streamer.logs import open_log_of
from streamer.progress import progress
from streamer.settings import Settings

EXAMPLE = "freshet produce interactions.parquet --bootstrap localhost:9092"
CHUNK = 5_000
_OWN = ("user_id", "item_id", "event_type", "timestamp", "event_id", "value", "session_id")
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
    parser.add_argument("--format", choices=FORMATS, help="the file's format, where its name and content do not tell")
    parser.add_argument("--rate", type=float, metavar="N", help="records a second (default: as fast as it goes)")
    parser.add_argument("--speed", default="max", metavar="10x", help="event time against wall time: 10x, 1x or max")
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")


def run(arguments: argparse.Namespace) -> int:
    speed = parse_speed(arguments.speed)
    if arguments.rate is not None and arguments.rate <= 0:
        raise UsageError(f"--rate got {arguments.rate}: a positive number of records a second")
    settings = settings_of(arguments)
    if arguments.kind == "interactions":
        table = read_interactions(arguments.file, settings.field_map, arguments.format)
        chunks, total = interaction_chunks(table, settings.interactions_topic), len(table)
    else:
        chunks, total = _node_chunks(arguments, settings), None
    log = open_log_of(settings)
    started = time.monotonic()
    try:
        if arguments.kind == "interactions" and "event_id" not in table.column_names:
            _warn_of_repetitions(log, settings.interactions_topic)
        with progress("produce", total, "records") as advance:
            sent = send(log, chunks, Pace(arguments.rate, speed), advance)
    finally:
        log.close()
    seconds = time.monotonic() - started
    summary = {"sent": sent, "seconds": round(seconds, 3), "records_per_second": round(sent / seconds)}
    print(json.dumps(summary) if arguments.json else f"{sent:,} records sent in {seconds:.1f} s")
    return 0


def _warn_of_repetitions(log: Log, topic: str) -> None:
    """Says that numbers which stand in for ids may have been sent before, by another file. Raises UnknownTopic."""
    if there := sum(log.ends(topic).values()):
        print(
            f"freshet: {topic} has {there:,} records; these rows have no event_id and get their numbers, "
            "so those whose number was sent before count as repetitions: another file needs a column event_id",
            file=sys.stderr,
        )


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


def interaction_chunks(table: pa.Table, topic: str) -> Iterator[Chunk]:
    """The rows as records with their event times. A row without an id of its own gets its number as `event_id`."""
    names = [name for name in table.column_names if name in _OWN]
    extra = [name for name in table.column_names if name not in (*_OWN, "reason", "retract", "context")]
    row = 0
    for batch in table.to_batches(CHUNK):
        columns = [batch[name].to_pylist() for name in names]
        values: list[dict[str, Any]] = [dict(zip(names, cells, strict=True)) for cells in zip(*columns, strict=True)]
        if "event_id" not in names:
            for n, value in enumerate(values):
                value["event_id"] = str(row + n)
        if extra:
            contexts = zip(*(batch[name].to_pylist() for name in extra), strict=True)
            for value, cells in zip(values, contexts, strict=True):
                value["context"] = {name: cell for name, cell in zip(extra, cells, strict=True) if cell is not None}
        users = batch["user_id"].to_pylist()
        records = [
            NewRecord(topic, None if user is None else user.encode(), _encode(value))
            for user, value in zip(users, values, strict=True)
        ]
        row += len(records)
        yield records, batch["timestamp"].to_pylist()


def _node_chunks(arguments: argparse.Namespace, settings: Settings) -> Iterator[Chunk]:
    items = arguments.kind == "items"
    topic = settings.items_topic if items else settings.users_topic
    nodes: Iterator[Any] = read_items(arguments.file) if items else read_users(arguments.file)
    chunk: list[NewRecord] = []
    for node in nodes:
        id_ = node.item_id if items else node.user_id
        chunk.append(NewRecord(topic, id_.encode(), _value_of(node, id_)))
        if len(chunk) == CHUNK:
            yield chunk, [None] * CHUNK
            chunk = []
    if chunk:
        yield chunk, [None] * len(chunk)


def _value_of(node: Item | User, id_: str) -> bytes | None:
    """An item or a user as the value of a record; None, a tombstone, where the row says `"deleted": true`."""
    attributes = dict(node.attributes or {})
    try:
        if flag_of("deleted", attributes.pop("deleted", None)):
            return None
    except Refused as refused:
        raise DataRefused(f"{id_}: {refused.message}") from None
    return _encode(structs.replace(node, attributes=attributes or None))


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
