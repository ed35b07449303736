"""`freshet replay`: the live engine over a file or a topic, for evaluation."""

import argparse
import json
import sys
from pathlib import Path

from streamer.cli.flags import add_json_flag, add_setting_flags, settings_of
from streamer.cli.stream_flags import (
    add_measure_flags,
    add_reading_flags,
    check_measure_flags,
    items_of,
    read_stream,
    users_of,
)
from streamer.errors import UsageError
from streamer.runtime.progress import progress

EXAMPLE = "freshet replay interactions.parquet --k 20 --lists-out lists.parquet --json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", help="file of interactions, or with --log or --bootstrap a topic")
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
    parser.add_argument("--lists-out", type=Path, help="Parquet file to write the test lists to: event, items")
    parser.add_argument(
        "--last-lists-out", type=Path, help="Parquet file to write each user's last published list to: user_id, items"
    )
    add_measure_flags(parser)
    parser.add_argument(
        "--observe-only", action="store_true", help="take events into the state without scoring or learning"
    )
    parser.add_argument("--report", type=Path, help="HTML page to write, with plots of what was measured")
    add_json_flag(parser)


def run(arguments: argparse.Namespace) -> int:
    check_measure_flags(arguments)
    if arguments.stale > 1 and arguments.last_lists_out:
        raise UsageError("--last-lists-out needs fresh state: leave out --stale")
    if arguments.report and arguments.observe_only:
        raise UsageError("--report needs lists to report on: leave out --observe-only")
    if arguments.report and not arguments.report.parent.is_dir():
        raise UsageError(f"--report got {arguments.report}: there is no folder {arguments.report.parent}")
    settings = settings_of(arguments)
    table, refused = read_stream(arguments, settings)
    items, users = items_of(arguments.items, arguments.strict), users_of(arguments.users, arguments.strict)
    from streamer.engine.engine import Engine
    from streamer.evaluation import report
    from streamer.evaluation.replay import ReplayOptions, first_measured, replay
    from streamer.evaluation.segments import ListWatcher
    from streamer.monitoring import drift  # the kernels load after the file has been checked

    options = ReplayOptions(
        arguments.lists_out, arguments.last_lists_out, arguments.learn_until, arguments.stale, arguments.measure_after,
        not arguments.observe_only, report.CHUNK if arguments.report else None,
    )  # fmt: skip
    watcher = ListWatcher(first_measured(len(table), options)) if arguments.report else None
    engine = Engine(settings)
    for item in items:
        engine.introduce(item, 0)
    for user in users:
        engine.describe(user)
    with progress("replay", len(table)) as advance:
        result = replay(table, settings, options, advance, watcher.watch if watcher else lambda taken: None, engine)
    if watcher:
        if not drift.available():
            print(f"freshet: the report has no drift alarms: {drift.OFF}", file=sys.stderr)
        name = "/".join(Path(arguments.source).parts[-2:])
        report.write_report(arguments.report, name, settings, options, result, watcher)
    summary = {
        "events": result.events,
        "users": result.users,
        "items": result.items,
        "dead": dict(result.dead),
        "refused": refused,
        "duplicates": result.duplicates,
        "taken_back": result.retractions.taken_back if result.retractions else 0,
        "measured": result.quality.events,
        "refused_measured": result.refused_measured,
        "seconds": round(result.seconds, 3),
        "events_per_second": round(result.events / result.seconds) if result.seconds else 0,
        "quality": {name: round(ours, 5) for name, (ours, _) in result.quality.figures(settings.k).items()},
        "popularity": {name: round(theirs, 5) for name, (_, theirs) in result.quality.figures(settings.k).items()},
        "drift": [alarm._asdict() for alarm in result.drift] if drift.available() else None,
    }
    print(json.dumps(summary) if arguments.json else _text(summary))
    return 0


def _text(summary: dict[str, object]) -> str:
    """The summary for people."""
    if summary["refused_measured"]:
        said = "refused rows of the measured part are left out; `evaluate` counts them as misses"
        summary = summary | {"refused_measured": f"{summary['refused_measured']} {said}"}
    width = max(map(len, summary))
    return "\n".join(f"{name:<{width}}  {value}" for name, value in summary.items())
