"""`freshet produce`: sends a file to the log."""

import argparse
import json
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from consumers.counted import counted
from consumers.files.interactions import FilePart, digest_files, items_of_file, parts_of, users_of_file
from consumers.log import Log
from consumers.records import NewRecord
from streamer.cli.first_look import nodes_as_json
from streamer.cli.flags import add_json_flag, add_setting_flags, settings_of
from streamer.cli.numbers import rate
from streamer.cli.producing import CHUNK, Chunk, Pace, encode, interaction_chunks, send
from streamer.cli.spans import parse_speed
from streamer.cli.stream_flags import add_reading_flags, ends_here, reading_of, say_nodes, stream_of_files
from streamer.runtime.progress import progress
from streamer.runtime.topics import open_log_of
from streamer.settings import Settings

EXAMPLE = "freshet produce interactions.parquet --bootstrap localhost:9092"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file", type=Path, nargs="+", metavar="FILE", help="files to send, folders of them, or - for standard input"
    )
    add_setting_flags(parser, "bootstrap", "log", "field_map")
    parser.add_argument(
        "--kind",
        choices=("interactions", "items", "users"),
        default="interactions",
        help='kind of the rows (default interactions); of items and users, "deleted": true deletes or erases',
    )
    add_reading_flags(parser)
    parser.add_argument("--rate", type=rate, metavar="N", help="rate, records a second (default: as fast as it goes)")
    parser.add_argument(
        "--speed",
        default="max",
        metavar="10x",
        help="speed of event time against wall time: 10x, 1x or max (default max)",
    )
    add_json_flag(parser, "one JSON object at the end")


def run(arguments: argparse.Namespace) -> int:
    speed = parse_speed(arguments.speed)
    settings = settings_of(arguments)
    parts = parts_of(arguments.file)
    topic = {"items": settings.items_topic, "users": settings.users_topic}.get(
        arguments.kind, settings.interactions_topic
    )
    with nullcontext() if arguments.dry_run else _log_with(topic, settings) as log:
        return _produce(arguments, settings, parts, topic, log, speed)


@contextmanager
def _log_with(topic: str, settings: Settings) -> Iterator[Log]:
    """The open log. Raises UnknownTopic where it lacks the topic, before a file is read for minutes."""
    with open_log_of(settings) as log:
        log.ends(topic)
        yield log


def _produce(
    arguments: argparse.Namespace,
    settings: Settings,
    parts: list[FilePart],
    topic: str,
    log: Log | None,
    speed: float | None,
) -> int:
    """Reads the files, and sends them where there is a log."""
    if arguments.kind == "interactions":
        found = stream_of_files(arguments, settings, parts)
        if ends_here(arguments, found) or log is None:
            return 0
        _say_weights(settings, found.settings, arguments.event_weight or [])
        refused, total = found.refused, len(found.table)
        chunks = interaction_chunks(found.table, topic, digest_files(parts), found.records)
    else:
        chunks, refused, total = _node_chunks(arguments, settings, parts, topic)
        if log is None:
            return 0
    dead = sum(refused.values()) if arguments.kind == "interactions" else 0  # refused items and users are not sent
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
    said = f"{counted(sent, 'record')} sent in {seconds:.1f} s"
    if dead:
        said += f"; {dead:,} of these will be dead letters: the rows that are refused"
    print(json.dumps(summary) if arguments.json else said)
    return 0


def _say_weights(settings: Settings, known: Settings, given: Sequence[str]) -> None:
    """Says which weights a worker has to be told, since they do not go along with the records.

    known: with those of the source. given: of each --event-weight.
    """
    more = {name: w for name, w in known.event_weights.items() if name not in settings.event_weights and w != 1}
    pairs = [*given, *(f"{name}={weight:g}" for name, weight in more.items())]
    if pairs:
        flags = " ".join(f"--event-weight {shlex.quote(pair)}" for pair in pairs)
        print(f"freshet: `freshet run` has to be told what these types count: {flags}", file=sys.stderr)


def _node_chunks(
    arguments: argparse.Namespace, settings: Settings, parts: list[FilePart], topic: str
) -> tuple[Iterator[Chunk], dict[str, int], int]:
    """Items or users as records, one that is deleted as a tombstone; what was refused; and how many are sent."""
    read: Any = items_of_file if arguments.kind == "items" else users_of_file
    nodes = read(parts, reading_of(arguments, settings))
    where = ", ".join(map(str, arguments.file))
    say_nodes(where, nodes, arguments.strict, quiet=arguments.json)
    if arguments.dry_run and arguments.json:
        print(json.dumps(nodes_as_json(where, nodes)))

    def chunks() -> Iterator[Chunk]:
        for first in range(0, len(nodes.entries), CHUNK):
            part = nodes.entries[first : first + CHUNK]
            records = [NewRecord(topic, id_.encode(), None if node is None else encode(node)) for id_, node in part]
            yield records, [None] * len(part)

    return chunks(), nodes.refusals.counts(), len(nodes.entries)
