"""`freshet replay`: the live engine over a file or a topic, for evaluation."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from streamer.cli.flags import add_json_flag, add_setting_flags, settings_of
from streamer.cli.numbers import part
from streamer.cli.producing import Pace
from streamer.cli.spans import moment_ms, parse_speed, span_ms
from streamer.cli.stream_flags import (
    add_measure_flags,
    add_reading_flags,
    catalogue_of,
    check_report_path,
    ends_here,
    held_out_of,
    read_stream,
    title_of,
)
from streamer.errors import UsageError
from streamer.runtime.progress import progress
from streamer.settings import Settings

if TYPE_CHECKING:
    import pyarrow as pa

    from consumers.schemas import Item
    from streamer.evaluation.reordering import ArrivedRows
    from streamer.lists.rules import Rules

PACED_CHUNK = 50  # events taken at once where they are due at their times
EXAMPLE = "freshet replay interactions.parquet --k 20 --lists-out lists.parquet --json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source", nargs="+", metavar="FILE | TOPIC",
        help="files of interactions, folders of them, or - for standard input; with --log or --bootstrap a topic",
    )  # fmt: skip
    add_reading_flags(parser)
    add_setting_flags(
        parser,
        "bootstrap",
        "log",
        "k",
        "exclude_seen",
        "request_context",
        "seed",
        "field_map",
        "window",
        "every_item_below",
        "without",
        "embeddings",
    )
    parser.add_argument("--items", type=Path, help="file of items, known from the start")
    parser.add_argument("--users", type=Path, help="file of users, known before they do anything")
    parser.add_argument(
        "--rules", type=Path, metavar="FILE",
        help="file of rules that all lists obey, those that are measured too: what they leave out is missed",
    )  # fmt: skip
    parser.add_argument(
        "--lists-out",
        type=Path,
        help="Parquet file to write the test lists to: event, items, user_id, timestamp, scores, sources",
    )
    parser.add_argument(
        "--last-lists-out", type=Path, help="Parquet file to write each user's last published list to: user_id, items"
    )
    add_measure_flags(parser)
    _add_arrival_flags(parser)
    parser.add_argument(
        "--ask",
        type=Path,
        metavar="FILE",
        help="file of interactions that are held out: a list is made for each at its time, and none is observed; "
        "--lists-out has these lists alone, numbered by the rows of FILE",
    )
    parser.add_argument(
        "--observe-only", action="store_true", help="take events into the state without scoring or learning"
    )
    parser.add_argument("--report", type=Path, help="HTML page to write, with plots of what was measured")
    add_json_flag(parser)


def _add_arrival_flags(parser: argparse.ArgumentParser) -> None:
    """What of the stream arrives, and when."""
    group = parser.add_argument_group("what arrives, and when")
    group.add_argument("--from", dest="from_", metavar="TIME", help="time before which events are left out")
    group.add_argument("--to", metavar="TIME", help="time from which on events are left out")
    group.add_argument(
        "--speed", default="max", metavar="10x",
        help="speed of event time against wall time: 10x, 1x or max (default max)",
    )  # fmt: skip
    group.add_argument(
        "--lag", metavar="SPAN",
        help="span of event time, such as 1h, at whose end its events are observed: its lists know nothing of them",
    )  # fmt: skip
    group.add_argument("--late", type=part, default=0.0, metavar="SHARE", help="share of the events that arrive late")
    group.add_argument(
        "--late-by", default="1h", metavar="SPAN", help="span of event time by which they are late at most (default 1h)"
    )
    group.add_argument(
        "--duplicates", type=part, default=0.0, metavar="SHARE", help="share of the events that arrive twice"
    )


def _arrived(arguments: argparse.Namespace, table: "pa.Table", seed: int) -> "ArrivedRows":
    """The rows in the order in which the flags let them arrive. Raises UsageError."""
    from streamer.evaluation.reordering import all_rows, between, with_duplicates, with_lateness

    ends = {"--from": arguments.from_, "--to": arguments.to}
    from_ms, to_ms = (None if text is None else moment_ms(flag, text) for flag, text in ends.items())
    rows = between(all_rows(table), from_ms, to_ms)
    if not len(rows.table):
        raise UsageError("--from, --to: no event lies between them")
    if arguments.late:
        rows = with_lateness(rows, arguments.late, span_ms("--late-by", arguments.late_by), seed)
    return with_duplicates(rows, arguments.duplicates, seed) if arguments.duplicates else rows


def _rules_of(arguments: argparse.Namespace, settings: Settings) -> "Rules | None":
    """The rules that --rules gives for the surface of the settings. Raises RulesRefused, UsageError."""
    if arguments.rules is None:
        return None
    from streamer.cli.rule_files import read_rule_file

    every = {rules.surface: rules for rules in read_rule_file(str(arguments.rules))}
    surface = settings.surface
    if surface not in every and len(every) > 1:
        those = f"{arguments.rules} has rules of {', '.join(every)}, and none of {surface!r}"
        raise UsageError(f"--rules: {those}: name one of them with --set surface=NAME")
    rules = every.pop(surface) if surface in every else every.popitem()[1]
    if rules.surface != surface:
        print(f"freshet: warning: {rules.surface}: all lists of the replay follow its rules", file=sys.stderr)
    if every:
        print(f"freshet: rules of {', '.join(every)} are left out: lists are those of {surface}", file=sys.stderr)
    if (arguments.stale > 1 or arguments.lag) and not rules.same_for_block():
        raise UsageError("--stale, --lag: these rules are looked at anew for each event, so state has to be fresh")
    return rules


def _warnings(rules: "Rules", items: "list[Item]", table: "pa.Table") -> list[dict[str, str]]:
    """What of the rules can have no effect on this stream; said on stderr too."""
    import pyarrow.compute as pc

    from streamer.cli.rule_files import KnownItems, say_warnings

    known = KnownItems(items, pc.unique(table["item_id"]).to_pylist())
    known.check([rules])
    warnings = known.warnings([rules], rules.surface)
    say_warnings(warnings)
    return warnings


def run(arguments: argparse.Namespace) -> int:
    if (arguments.stale > 1 or arguments.lag) and arguments.last_lists_out:
        raise UsageError("--last-lists-out needs fresh state: leave out --stale and --lag")
    if arguments.stale > 1 and arguments.lag:
        raise UsageError("--stale, --lag: choose one")
    if arguments.ask and arguments.rules:
        raise UsageError("--ask: lists that are asked for here follow no rules: leave out --rules")
    if arguments.ask and (arguments.observe_only or arguments.learn_until is not None):
        raise UsageError("--ask is answered by a model that learns: leave out --observe-only and --learn-until")
    speed, lag_ms = parse_speed(arguments.speed), span_ms("--lag", arguments.lag) if arguments.lag else None
    if arguments.report and arguments.observe_only:
        raise UsageError("--report needs lists to report on: leave out --observe-only")
    check_report_path(arguments.report)
    settings = settings_of(arguments)
    rules = _rules_of(arguments, settings)
    stream = read_stream(arguments, settings)
    table, settings = stream.table, stream.settings
    items, users = catalogue_of(arguments, settings)
    held_out = held_out_of(arguments, settings)
    warnings = [] if rules is None else _warnings(rules, items, table)
    if ends_here(arguments, stream):
        return 0
    table, number = _arrived(arguments, table, settings.seed)
    from streamer.engine.engine import Engine
    from streamer.evaluation import report
    from streamer.evaluation.replay import ReplayOptions, first_measured, replay
    from streamer.evaluation.segments import ListWatcher
    from streamer.monitoring import drift  # the kernels load after the file has been checked

    chunk = PACED_CHUNK if speed else report.CHUNK if arguments.report else None
    pace = Pace(None, speed)
    options = ReplayOptions(
        lists_out=arguments.lists_out,
        last_lists_out=arguments.last_lists_out,
        learn_until=arguments.learn_until,
        stale=arguments.stale,
        lag_ms=lag_ms,
        measure_after=arguments.measure_after,
        score=not arguments.observe_only,
        chunk=chunk,
        number=number,
        pace=(lambda t: pace.wait(0, t)) if speed else None,
        ask=held_out,
        merges=stream.merges,
    )
    watcher = ListWatcher(first_measured(len(table), options)) if arguments.report else None
    if rules is not None and rules.k is not None:
        settings = settings.model_copy(update={"k": rules.k})
    engine = Engine(settings)
    with progress("replay", len(table)) as advance:
        watch = watcher.watch if watcher else lambda taken: None
        result = replay(table, settings, options, advance, watch, engine, items, users, rules)
    if watcher:
        if not drift.available():
            print(f"freshet: the report has no drift alarms: {drift.OFF}", file=sys.stderr)
        name = title_of(arguments.source, stream)
        report.write_report(arguments.report, name, settings, options, result, watcher)
    if result.quality.events and not result.filled:
        why = f"the rules of {arguments.rules} leave nothing" if rules else "no item may be listed when it is asked for"
        print(f"freshet: warning: every list is empty, and the figures are 0 therefore: {why}", file=sys.stderr)
    summary = {
        "events": result.events,
        "users": result.users,
        "items": result.items,
        "dead": dict(result.dead),
        "refused": stream.refused,
        "order": stream.look.order,
        "duplicates": result.duplicates,
        "merged": result.merged,
        "taken_back": result.retractions.taken_back if result.retractions else 0,
        "measured": result.quality.events,
        "refused_measured": result.refused_measured,
        "seconds": round(result.seconds, 3),
        "events_per_second": round(result.events / result.seconds) if result.seconds else 0,
        "quality": {name: round(ours, 5) for name, (ours, _) in result.quality.figures(settings.k).items()},
        "popularity": {name: round(theirs, 5) for name, (_, theirs) in result.quality.figures(settings.k).items()},
        "drift": [alarm._asdict() for alarm in result.drift] if drift.available() else None,
    }
    if rules is not None and arguments.json:
        summary["warnings"] = warnings
    if result.asked:
        asked = result.asked
        summary["asked"] = {"lists": len(asked.rank)} | {name: round(x, 5) for name, x in asked.figures().items()}
    print(json.dumps(summary) if arguments.json else _text(summary))
    return 0


def _text(summary: dict[str, object]) -> str:
    """The summary for people."""
    if summary["refused_measured"]:
        said = "refused rows of the measured part are left out; `evaluate` counts them as misses"
        summary = summary | {"refused_measured": f"{summary['refused_measured']} {said}"}
    if summary["order"] == "time":
        summary = {name: value for name, value in summary.items() if name != "order"}
    width = max(map(len, summary))
    return "\n".join(f"{name:<{width}}  {value}" for name, value in summary.items())
