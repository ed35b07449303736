"""Flags of commands that read a recorded stream, and what they say of rows that could not be taken."""

import argparse
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from consumers.errors import DataRefused
from consumers.files.interactions import FORMATS, Nodes, Reading, StreamFile, items_of_file, read_file, users_of_file
from consumers.schemas import Item, User
from streamer.errors import UsageError
from streamer.features.topic_table import read_topic
from streamer.runtime.time_units import all_like_seconds
from streamer.runtime.topics import open_log_of
from streamer.settings import Settings

LOUD_SHARE = 0.01  # of the rows; where more are refused, something is wrong with how the file is read


class Stream(NamedTuple):
    """A recorded stream that was read."""

    table: pa.Table  # as `consumers.files.interactions.read_interactions` gives it
    refused: dict[str, int]  # reason → rows


def add_reading_flags(parser: argparse.ArgumentParser) -> None:
    """How a file is read."""
    parser.add_argument("--format", choices=FORMATS, help="format of the file, where its name and content do not tell")
    parser.add_argument(
        "--columns",
        type=_names,
        metavar="NAMES",
        help="names of the columns in their order, where the file has no line of them: user_id,item_id,timestamp",
    )
    parser.add_argument(
        "--time-unit",
        choices=("s", "ms", "us", "ns"),
        help="unit of times that are numbers (default ms; s for MovieLens, RecBole and JODIE)",
    )
    parser.add_argument(
        "--time-format",
        metavar="FORMAT",
        help="format of times that are neither numbers nor ISO 8601, as in strptime: %%m/%%d/%%Y %%I:%%M:%%S %%p",
    )
    parser.add_argument("--strict", action="store_true", help="end with exit code 3 where a row cannot be taken")


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(","))


def reading_of(arguments: argparse.Namespace, settings: Settings) -> Reading:
    """How the flags and the settings say that a file of interactions is read."""
    return Reading(
        field_map=settings.field_map,
        names=arguments.columns,
        time_unit=arguments.time_unit,
        time_format=arguments.time_format,
        clock_skew_ms=settings.clock_skew_ms,
        max_record_bytes=settings.max_record_bytes,
    )


def read_stream(arguments: argparse.Namespace, settings: Settings) -> Stream:
    """The file or topic that `arguments.source` names, and what of it was refused, which is said on stderr.

    Raises DataRefused where no row is good, or with --strict one is refused; UnknownTopic.
    """
    if not (settings.bootstrap or getattr(arguments, "log", None)):
        found = stream_of_file(
            Path(arguments.source), reading_of(arguments, settings), arguments.format, arguments.strict
        )
        return Stream(found.table, found.refusals.counts())
    with open_log_of(settings) as log:
        table = read_topic(log, arguments.source, settings)
    refused = dict(Counter(map(str, table["reason"].drop_null().to_pylist())).most_common())
    say_refused(arguments.source, refused, len(table), arguments.strict)
    _say_seconds(arguments.source, _times_of(table), "send epoch milliseconds")
    return Stream(table, refused)


def stream_of_file(path: Path, reading: Reading, format_: str | None = None, strict: bool = False) -> StreamFile:
    """A file of interactions; what is refused is said on stderr. Raises DataRefused as `read_stream` does."""
    found = read_file(path, reading, format_)
    if not len(found.table):
        raise DataRefused(f"{path} is empty: it has no row")
    refusals = found.refusals
    first = refusals.first() if refusals.rows else ""
    say_refused(path, refusals.counts(), len(found.table), strict, first)
    if reading.time_unit is None:
        _say_seconds(path, _times_of(found.table), "read them with --time-unit s")
    return found


def items_of(path: Path | None, strict: bool = False, **reading: Any) -> list[Item]:
    """The items of a file; what is refused or left out is said on stderr. Raises DataRefused."""
    return _known(path, items_of_file(path, **reading), strict) if path else []


def users_of(path: Path | None, strict: bool = False, **reading: Any) -> list[User]:
    """The users of a file, likewise."""
    return _known(path, users_of_file(path, **reading), strict) if path else []


def _known(path: Path, nodes: Nodes[Any], strict: bool) -> list[Any]:
    say_nodes(path, nodes, strict)
    return nodes.known()


def say_nodes(path: Path, nodes: Nodes[Any], strict: bool) -> None:
    """Says what of a file of items or users could not be taken. Raises DataRefused as `say_refused` does."""
    refusals = nodes.refusals
    first = refusals.first() if refusals.rows else ""
    say_refused(path, refusals.counts(), len(nodes.entries) + len(refusals.rows), strict, first)
    if nodes.warnings:
        _say(f"{path}: {len(nodes.warnings):,} fields are left out; the first: {nodes.warnings[0]}")
    times = [node.timestamp for node in nodes.known() if node.timestamp is not None]
    _say_seconds(path, times, "give them in milliseconds, or in ISO 8601")


def say_refused(source: object, refused: dict[str, int], rows: int, strict: bool, first: str = "") -> None:
    """Says on stderr how many rows were refused, and why. Raises DataRefused where all were, or `strict` and any."""
    total = sum(refused.values())
    if not total:
        return
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in refused.items())
    text = f"{source}: {total:,} of {rows:,} rows refused: {reasons}" + (f"; the first: {first}" if first else "")
    if total == rows or strict:
        raise DataRefused(text)
    _say(("warning: " if total > LOUD_SHARE * rows else "") + text)


def _times_of(table: pa.Table) -> list[int]:
    """The first and the last time of a table of interactions; nothing where no row has one."""
    times = pc.min_max(table["timestamp"]).as_py()
    return [] if times["min"] is None else list(times.values())


def _say_seconds(source: object, times_ms: Iterable[int], mend: str) -> None:
    if span := all_like_seconds(times_ms):
        _say(f"warning: every time of {source} lies {span}: these look like seconds; {mend}")


def _say(text: str) -> None:
    print(f"freshet: {text}", file=sys.stderr)


def add_measure_flags(parser: argparse.ArgumentParser) -> None:
    """How a stream is measured: flags that `compare` has too."""
    parser.add_argument(
        "--learn-until",
        type=float,
        metavar="Q",
        help="time quantile after which nothing is learned (default: learn to the end)",
    )
    parser.add_argument(
        "--stale",
        type=int,
        default=1,
        metavar="N",
        help="number of events scored before the first of them is observed (default 1)",
    )
    add_after_flag(parser)


def add_after_flag(parser: argparse.ArgumentParser) -> None:
    """Which events are measured."""
    parser.add_argument(
        "--after", "--measure-after", dest="measure_after", type=float, default=0.8, metavar="F",
        help="share of the events before the measured ones (default 0.8)",
    )  # fmt: skip


def check_after_flag(arguments: argparse.Namespace) -> None:
    """Raises UsageError."""
    if not 0 <= arguments.measure_after < 1:
        raise UsageError(f"--after got {arguments.measure_after}: a share lies between 0 and 1")


def check_measure_flags(arguments: argparse.Namespace) -> None:
    """Raises UsageError."""
    if arguments.learn_until is not None and not 0 <= arguments.learn_until <= 1:
        raise UsageError(f"--learn-until got {arguments.learn_until}: a quantile lies between 0 and 1")
    check_after_flag(arguments)
    if arguments.stale < 1:
        raise UsageError(f"--stale got {arguments.stale}: at least 1")
