"""`freshet produce`: sends a file to the log."""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from consumers.files.interactions import FORMATS, digest_of_file, items_of_file, users_of_file
from consumers.records import NewRecord
from streamer.cli.flags import add_json_flag, add_setting_flags, settings_of
from streamer.cli.producing import CHUNK, Chunk, Pace, encode, interaction_chunks, send
from streamer.cli.stream_flags import add_reading_flags, reading_of, say_nodes, stream_of_file
from streamer.errors import UsageError
from streamer.runtime.progress import progress
from streamer.runtime.topics import open_log_of
from streamer.settings import Settings

EXAMPLE = "freshet produce interactions.parquet --bootstrap localhost:9092"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, help=f"file to send: {', '.join(FORMATS)}")
    add_setting_flags(parser, "bootstrap", "log", "field_map")
    parser.add_argument(
        "--kind",
        choices=("interactions", "items", "users"),
        default="interactions",
        help='kind of the rows (default interactions); of items and users, "deleted": true deletes or erases',
    )
    add_reading_flags(parser)
    parser.add_argument("--rate", type=float, metavar="N", help="rate, records a second (default: as fast as it goes)")
    parser.add_argument(
        "--speed",
        default="max",
        metavar="10x",
        help="speed of event time against wall time: 10x, 1x or max (default max)",
    )
    add_json_flag(parser, "one JSON object at the end")


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
    with open_log_of(settings) as log:
        started = time.monotonic()
        with progress("produce", total, "records") as advance:
            sent = send(log, chunks, Pace(arguments.rate, speed), advance)
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
            records = [NewRecord(topic, id_.encode(), None if node is None else encode(node)) for id_, node in part]
            yield records, [None] * len(part)

    return chunks(), nodes.refusals.counts(), len(nodes.entries)
