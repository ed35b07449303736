"""Flags of commands that read a recorded stream, and what they say of it at first and of rows that are refused."""

import argparse
import codecs
import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from consumers.counted import counted
from consumers.errors import DataRefused
from consumers.files.first_look import FirstLook, look_at
from consumers.files.interactions import (
    Files,
    Nodes,
    Reading,
    Refusals,
    StreamFile,
    items_of_file,
    parts_of,
    read_file,
    users_of_file,
)
from consumers.files.presets import PRESETS
from consumers.files.reader import ALL_FORMATS
from consumers.schemas import Item, User
from streamer.cli.first_look import as_json, in_words, nodes_in_words
from streamer.cli.flags import add_event_weight_flag
from streamer.cli.hints import printable, with_whole_commands
from streamer.cli.numbers import count, quantile, share
from streamer.errors import UsageError
from streamer.features.topic_table import SessionMerge, read_topic
from streamer.runtime.time_units import all_like_seconds
from streamer.runtime.topics import open_log_of
from streamer.settings import Settings

LOUD_SHARE = 0.01  # of the rows; where more are refused, something is wrong with how the file is read


class Stream(NamedTuple):
    """A recorded stream that was read."""

    table: pa.Table  # as `consumers.files.interactions.read_interactions` gives it
    refused: dict[str, int]  # reason → rows
    settings: Settings  # with the weights of the event types that the source of the files is known to have
    look: FirstLook
    records: Mapping[int, bytes] = {}  # of refused rows, see `StreamFile`
    preset: str | None = None  # the source whose files they are like
    merges: tuple[SessionMerge, ...] = ()  # of a topic: sessions that are users', by rows of the table


def add_reading_flags(parser: argparse.ArgumentParser) -> None:
    """How files are read."""
    group = parser.add_argument_group("how files are read")
    group.add_argument(
        "--format", choices=ALL_FORMATS, help="format of the file, or whose export it is, where the file does not tell"
    )
    group.add_argument(
        "--columns",
        type=_names,
        metavar="NAMES",
        help="names of the columns in their order, where the file has no line of them: user_id,item_id,_,timestamp; "
        "_ is a column that nobody reads",
    )
    group.add_argument("--delimiter", type=_delimiter, metavar="TEXT", help="what is between the cells of a row")
    group.add_argument("--encoding", type=_encoding, help="encoding of the text, such as latin-1 (default utf-8)")
    group.add_argument(
        "--time-unit",
        choices=("s", "ms", "us", "ns"),
        help="unit of times that are numbers (default ms; s for MovieLens, RecBole and JODIE)",
    )
    group.add_argument(
        "--time-format",
        metavar="FORMAT",
        help="format of times that are neither numbers nor ISO 8601, as in strptime: %%m/%%d/%%Y %%I:%%M:%%S %%p",
    )
    group.add_argument(
        "--order",
        choices=("time", "file"),
        default="time",
        help="order of the rows: by their times, or as the file has them, which then needs no times (default time)",
    )
    group.add_argument("--event-type", metavar="TYPE", help="event type of every row, where no column says it")
    add_event_weight_flag(group)
    group.add_argument("--strict", action="store_true", help="end with exit code 3 where a row cannot be taken")
    group.add_argument("--dry-run", action="store_true", help="say what the files hold, and end")


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(","))


def _delimiter(text: str) -> str:
    """A delimiter, or one as a shell can write it: `\\t`, `tab`."""
    found = {"tab": "\t", "space": " "}.get(text, text.replace("\\t", "\t"))
    if not found or set(found) & set('\r\n"'):
        raise argparse.ArgumentTypeError(f"{text!r} cannot be between two cells")
    return found


def _encoding(text: str) -> str:
    try:
        return codecs.lookup(text).name
    except LookupError:
        raise argparse.ArgumentTypeError(f"{text!r} is no encoding; such as utf-8, latin-1, cp1252, utf-16") from None


def reading_of(arguments: argparse.Namespace, settings: Settings) -> Reading:
    """How the flags and the settings say that files are read."""
    return Reading(
        field_map=settings.field_map,
        format=arguments.format,
        names=arguments.columns,
        delimiter=arguments.delimiter,
        encoding=arguments.encoding,
        time_unit=arguments.time_unit,
        time_format=arguments.time_format,
        event_type=arguments.event_type,
        order=arguments.order,
        clock_skew_ms=settings.clock_skew_ms,
        max_record_bytes=settings.max_record_bytes,
    )


def beside(reading: Reading) -> Reading:
    """How files of items and users beside a stream are read: as their own names, or the stream's source, say."""
    preset = reading.format if reading.format in PRESETS else None
    return Reading(
        field_map=reading.field_map, format=preset, clock_skew_ms=reading.clock_skew_ms,
        max_record_bytes=reading.max_record_bytes, beside=True,
    )  # fmt: skip


def read_stream(arguments: argparse.Namespace, settings: Settings, sources: Sequence[str] = ()) -> Stream:
    """The files or the topic that `sources`, or else `arguments.source`, name; a first look at them goes to stderr.

    Raises DataRefused where no row is good, or with --strict one is refused; UnknownTopic; UsageError.
    """
    named = sources or arguments.source
    names = [named] if isinstance(named, str) else list(named)
    if not (settings.bootstrap or getattr(arguments, "log", None)):
        return stream_of_files(arguments, settings, [Path(name) for name in names])
    if len(names) > 1:
        raise UsageError(f"{' '.join(names)}: one topic is read at a time")
    with open_log_of(settings) as log:
        table, merges = read_topic(log, names[0], settings)
    refused = dict(Counter(map(str, table["reason"].drop_null().to_pylist())).most_common())
    look = replace(look_at(names[0], table, Refusals()), refused=refused)
    _say_look(arguments, look, settings)
    say_refused(names[0], refused, len(table), arguments.strict)
    _say_times(look, "send epoch milliseconds")
    return Stream(table, refused, settings, look, merges=merges)


def stream_of_files(arguments: argparse.Namespace, settings: Settings, files: Files) -> Stream:
    """Files of interactions; a first look at them and what is refused go to stderr. Raises as `read_stream` does."""
    reading = reading_of(arguments, settings)
    found, look = look_at_files(files, reading)
    settings = with_weights(settings, found.preset)
    _say_look(arguments, look, settings)
    _check(look, reading, arguments)
    return Stream(found.table, found.refusals.counts(), settings, look, found.records, found.preset)


def held_out_of(arguments: argparse.Namespace, settings: Settings) -> pa.Table | None:
    """The interactions that --ask names, read as those of the stream are. Raises DataRefused."""
    if arguments.ask is None:
        return None
    reading = reading_of(arguments, settings)
    found, look = look_at_files(arguments.ask, reading)
    _say_look(arguments, look, settings)
    _check(look, reading, arguments)
    return found.table


def look_at_files(files: Files, reading: Reading) -> tuple[StreamFile, FirstLook]:
    """Files of interactions and a first look at them. Raises DataRefused."""
    parts = parts_of(files)
    found = read_file(parts, reading)
    where = str(parts[0]) if len(parts) == 1 else f"{parts[0]} and {len(parts) - 1:,} more"
    if not len(found.table):
        kind = ": it has no row"
        if left := sum(one.left_out for one in found.opened):
            kind = f" of interactions: its {counted(left, 'row', verb='are')} of another kind"
        raise DataRefused(f"{where} is empty{kind}")
    return found, found.look(where)


def with_weights(settings: Settings, preset: str | None) -> Settings:
    """The settings with weights for the event types of a source that they do not name."""
    named = {name.casefold() for name in settings.event_weights}
    theirs = PRESETS[preset].weights if preset else {}
    more = {name: weight for name, weight in theirs.items() if name.casefold() not in named}
    return settings.model_copy(update={"event_weights": settings.event_weights | more}) if more else settings


def _say_look(arguments: argparse.Namespace, look: FirstLook, settings: Settings) -> None:
    if not arguments.json:
        print("\n".join(map(printable, in_words(look, settings.event_weights))), file=sys.stderr)


def ends_here(arguments: argparse.Namespace, stream: Stream) -> bool:
    """Whether the command was to look only; with --json it says then what it saw."""
    if arguments.dry_run and arguments.json:
        print(json.dumps(as_json(stream.look, stream.settings.event_weights)))
    return bool(arguments.dry_run)


def _check(look: FirstLook, reading: Reading, arguments: argparse.Namespace) -> None:
    """Says what may be wrong with a stream of files. Raises DataRefused as `say_refused` does."""
    mend = " or ".join(look.mend) if sum(look.refused.values()) > LOUD_SHARE * look.rows else ""
    first = look.first_refused + (f"; did you mean {mend}" if mend else "")
    argv = getattr(arguments, "argv", ())
    if sum(look.refused.values()) < look.rows and not arguments.strict:  # else it is told with the error
        first = with_whole_commands(first, argv)
    say_refused(look.source, look.refused, look.rows, arguments.strict, first)
    for question in look.open:
        _say(f"{look.source}: {question}")
    if reading.time_unit is None and look.order != "file":
        _say_times(look, with_whole_commands("did you mean --time-unit s", argv))


def _say_times(look: FirstLook, mend: str) -> None:
    times = [time for time in (look.first_ms, look.last_ms) if time is not None]
    _say_seconds(look.source, times, mend)


def title_of(sources: Sequence[str], stream: Stream) -> str:
    """The name of a stream in the title of a report."""
    name = "/".join(Path(sources[0]).parts[-2:])
    name += f" and {len(sources) - 1} more" if len(sources) > 1 else ""
    return name + (" (times are made up, of the order of its rows)" if stream.look.order == "file" else "")


def check_report_path(path: Path | None) -> None:
    """Raises UsageError where there is no folder for a report."""
    if path and not path.parent.is_dir():
        raise UsageError(f"--report got {path}: there is no folder {path.parent}")


def items_of(path: Path | None, strict: bool = False, reading: Reading | None = None, quiet: bool = True) -> list[Item]:
    """The items of a file; what is refused or left out is said on stderr. Raises DataRefused."""
    return _known(path, items_of_file(path, reading), strict, quiet) if path else []


def users_of(path: Path | None, strict: bool = False, reading: Reading | None = None, quiet: bool = True) -> list[User]:
    """The users of a file, likewise."""
    return _known(path, users_of_file(path, reading), strict, quiet) if path else []


def catalogue_of(arguments: argparse.Namespace, settings: Settings) -> tuple[list[Item], list[User]]:
    """The items and users that --items and --users name, each with a first look at it. Raises DataRefused."""
    reading = beside(reading_of(arguments, settings))
    strict, quiet = arguments.strict, arguments.json
    return items_of(arguments.items, strict, reading, quiet), users_of(arguments.users, strict, reading, quiet)


def _known(path: Path, nodes: Nodes[Any], strict: bool, quiet: bool) -> list[Any]:
    say_nodes(path, nodes, strict, quiet)
    return nodes.known()


def say_nodes(where: object, nodes: Nodes[Any], strict: bool, quiet: bool = True) -> None:
    """Says what a file of items or users holds, unless `quiet`, and what of it could not be taken.

    Raises DataRefused as `say_refused` does.
    """
    refusals = nodes.refusals
    first = refusals.first() if refusals.rows else ""
    if not quiet:
        print("\n".join(map(printable, nodes_in_words(where, nodes))), file=sys.stderr)
    say_refused(where, refusals.counts(), len(nodes.entries) + len(refusals.rows), strict, first)
    for question in nodes.opened[0].matched.open if nodes.opened else ():
        _say(f"{where}: {question}")
    if nodes.warnings:
        _say(f"{where}: {counted(len(nodes.warnings), 'field', verb='are')} left out; the first: {nodes.warnings[0]}")
    times = [node.timestamp for node in nodes.known() if node.timestamp is not None]
    _say_seconds(where, times, "give them in milliseconds, or in ISO 8601")


def say_refused(source: object, refused: dict[str, int], rows: int, strict: bool, first: str = "") -> None:
    """Says on stderr how many rows were refused, and why. Raises DataRefused where all were, or `strict` and any."""
    total = sum(refused.values())
    if not total:
        return
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in refused.items())
    text = f"{source}: {total:,} of {counted(rows, 'row')} refused: {reasons}" + (
        f"; the first: {first}" if first else ""
    )
    if total == rows or strict:
        raise DataRefused(text)
    _say(("warning: " if total > LOUD_SHARE * rows else "") + text)


def _say_seconds(source: object, times_ms: Iterable[int], mend: str) -> None:
    if span := all_like_seconds(times_ms):
        _say(f"warning: every time of {source} lies {span}: these look like seconds; {mend}")


def _say(text: str) -> None:
    print(f"freshet: {printable(text)}", file=sys.stderr)


def add_measure_flags(parser: argparse.ArgumentParser) -> None:
    """How a stream is measured: flags that `compare` has too."""
    parser.add_argument(
        "--learn-until",
        type=quantile,
        metavar="Q",
        help="time quantile after which nothing is learned (default: learn to the end)",
    )
    parser.add_argument(
        "--stale",
        type=count,
        default=1,
        metavar="N",
        help="number of events scored before the first of them is observed (default 1)",
    )
    add_after_flag(parser)


def add_after_flag(parser: argparse.ArgumentParser) -> None:
    """Which events are measured."""
    parser.add_argument(
        "--after", "--measure-after", dest="measure_after", type=share, default=0.8, metavar="F",
        help="share of the events before the measured ones (default 0.8)",
    )  # fmt: skip
