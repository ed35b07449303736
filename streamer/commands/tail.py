"""`freshet tail`: prints a topic as it grows."""

import argparse
import json
import sys

from consumers.log import Log
from consumers.records import Record, TopicPartition
from streamer.cli import add_setting_flags, settings_of
from streamer.logs import open_log_of
from streamer.signals import StopRequest

EXAMPLE = "freshet tail recommendations --bootstrap localhost:9092"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("topic", help="interactions, recommendations, quality, interactions.dead, …")
    add_setting_flags(parser, "bootstrap", "log")
    parser.add_argument("--from-end", action="store_true", help="print only what comes from now on")
    parser.add_argument("--exit-at-end", action="store_true", help="stop where the topic ends now")
    parser.add_argument("--limit", type=int, metavar="N", help="stop after N records")


def run(arguments: argparse.Namespace) -> int:
    stop = StopRequest()
    log = open_log_of(settings_of(arguments))
    try:
        _print(log, arguments, stop)
    finally:
        log.close()
    return 0


def _print(log: Log, arguments: argparse.Namespace, stop: StopRequest) -> None:
    bounds = log.ends(arguments.topic) if arguments.from_end else log.starts(arguments.topic)
    positions = {TopicPartition(arguments.topic, p): offset for p, offset in bounds.items()}
    reader = log.reader(positions)
    left = arguments.limit
    try:
        while not stop and left != 0:
            records = reader.read(1000 if left is None else min(left, 1000), 0.2)
            for record in records:
                print(line_of(record))
            sys.stdout.flush()
            left = None if left is None else left - len(records)
            if arguments.exit_at_end and not records and reader.at_end() >= positions.keys():
                return
    finally:
        reader.close()


def line_of(record: Record) -> str:
    """One JSON line of a record; a value that is no JSON is shown as text."""
    row = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": record.timestamp_ms,
        "key": None if record.key is None else record.key.decode("utf-8", "replace"),
        "headers": {name: text.decode("utf-8", "replace") for name, text in record.headers},
        "value": _value(record.value),
    }
    return json.dumps(row, ensure_ascii=False)


def _value(value: bytes | None) -> object:
    if value is None:
        return None
    try:
        return json.loads(value)
    except ValueError:
        return value.decode("utf-8", "replace")
