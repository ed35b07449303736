"""`freshet tail`: prints a topic as it grows."""

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from consumers.decode_fields import UNDECODABLE, decode_json
from consumers.records import Record, TopicPartition
from streamer.cli.flags import add_json_flag, add_setting_flags, settings_of
from streamer.cli.numbers import count
from streamer.runtime.signals import StopRequest
from streamer.runtime.supervisor import supervise
from streamer.runtime.topic_reader import TopicReader
from streamer.runtime.topics import open_existing_log
from streamer.settings import Settings

EXAMPLE = "freshet tail recommendations --bootstrap localhost:9092"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("topic", help="topic to print: interactions, recommendations, quality, interactions.dead, …")
    add_setting_flags(parser, "bootstrap", "log")
    add_json_flag(parser, "one JSON object a record, as without this flag")
    parser.add_argument("--from-end", action="store_true", help="print only what comes from now on")
    parser.add_argument("--exit-at-end", action="store_true", help="stop where the topic ends now")
    parser.add_argument("--limit", type=count, metavar="N", help="number of records after which it stops")


def run(arguments: argparse.Namespace) -> int:
    stop, settings = StopRequest(), settings_of(arguments)
    tail = Tail(arguments, stop)
    supervise(lambda: tail.opened(settings), tail.run, stop)
    return 0


class Tail:
    """Prints a topic from where it was when it began; where the log goes away, it goes on after the last record."""

    def __init__(self, arguments: argparse.Namespace, stop: StopRequest) -> None:
        self._topic, self._from_end, self._exit_at_end = arguments.topic, arguments.from_end, arguments.exit_at_end
        self._left: int | None = arguments.limit
        self._stop = stop
        self._positions: dict[TopicPartition, int] | None = None  # None: nothing was printed yet

    @contextmanager
    def opened(self, settings: Settings) -> Iterator[TopicReader]:
        """A reader of the topic. Raises LogUnavailable, UnknownTopic."""
        with open_existing_log(settings) as log, TopicReader(log, [self._topic], self._first_position) as reader:
            self._positions = reader.positions()
            yield reader

    def _first_position(self, tp: TopicPartition, start: int, end: int) -> int:
        """A partition that is added later is printed from its start."""
        if self._positions is None:
            return end if self._from_end else start
        return self._positions.get(tp, start)

    def run(self, reader: TopicReader) -> None:
        """Prints until it is to stop, or there is nothing left to print."""
        assert self._positions is not None
        while not self._stop and self._left != 0:
            records = reader.read(1000 if self._left is None else min(self._left, 1000), 0.2)
            for record in records:
                print(format_line(record))
                self._positions[record.topic_partition] = record.offset + 1
            sys.stdout.flush()
            self._left = None if self._left is None else self._left - len(records)
            if self._exit_at_end and not records and reader.at_end():
                return


def format_line(record: Record) -> str:
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
        return decode_json(value, too_large=str)
    except UNDECODABLE:
        return value.decode("utf-8", "replace")
