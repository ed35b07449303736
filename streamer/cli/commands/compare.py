"""`freshet compare`: two settings on one stream, and whether one of them is better."""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from streamer.cli.flags import add_json_flag, add_setting_flags, settings_of
from streamer.cli.homes import say_without_effect
from streamer.cli.stream_flags import add_measure_flags, add_reading_flags, check_measure_flags, read_stream
from streamer.errors import UsageError
from streamer.evaluation.paired_intervals import LEAST_EVENTS, LEAST_USERS, compare_ranks
from streamer.runtime.progress import progress
from streamer.settings import Settings

EXAMPLE = "freshet compare today.toml candidate.toml interactions.parquet --exclude-seen"
READ_ALIKE = ("bootstrap", "log", "field_map", "interactions_topic")  # how the stream is read: one stream for both

EXCLUDING = (
    "; exclude_seen differs: the setting that has it does not measure what the user had before, which leaves those "
    "events out of both"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "a", type=Path, metavar="A.toml", help="file of settings as in freshet.toml; an empty one is the defaults"
    )
    parser.add_argument("b", type=Path, metavar="B.toml", help="file of the other settings")
    parser.add_argument("source", metavar="STREAM", help="file of interactions, or with --log or --bootstrap a topic")
    add_reading_flags(parser)
    add_setting_flags(parser, "bootstrap", "log", "k", "exclude_seen", "seed", "field_map")
    add_measure_flags(parser)
    parser.add_argument(
        "--confidence", type=float, default=0.95, metavar="C", help="confidence of the intervals (default 0.95)"
    )
    add_json_flag(parser)


def run(arguments: argparse.Namespace) -> int:
    check_measure_flags(arguments)
    if not 0 < arguments.confidence < 1:
        raise UsageError(f"--confidence got {arguments.confidence}: it lies between 0 and 1")
    settings = [settings_of(arguments, file) for file in (arguments.a, arguments.b)]
    for name in READ_ALIKE:
        if getattr(settings[0], name) != getattr(settings[1], name):
            raise UsageError(f"setting {name!r} differs between {arguments.a} and {arguments.b}: it is one stream")
    say_without_effect(arguments, settings[0])
    table, refused = read_stream(arguments, settings[0])
    ranks, users = zip(*(_ranks(table, mine, arguments) for mine in settings), strict=True)
    both = (ranks[0] >= 0) & (ranks[1] >= 0)
    measured_users = len(np.unique(users[0][both]))
    if both.sum() < LEAST_EVENTS or measured_users < LEAST_USERS:
        raise UsageError(
            f"{arguments.source} has {both.sum()} events of {measured_users} users that are measured under both "
            f"settings: at least {LEAST_EVENTS} events of {LEAST_USERS} users are needed; see --after"
            + ("" if settings[0].exclude_seen == settings[1].exclude_seen else EXCLUDING)
        )
    differences = compare_ranks(
        ranks[0][both], ranks[1][both], users[0][both], min(mine.k for mine in settings), arguments.confidence,
        settings[0].seed,
    )  # fmt: skip
    summary = {
        "a": str(arguments.a),
        "b": str(arguments.b),
        "settings": _unlike(*settings),
        "refused": refused,
        "measured": int(both.sum()),
        "only_a": int((ranks[0] >= 0).sum() - both.sum()),
        "only_b": int((ranks[1] >= 0).sum() - both.sum()),
        "confidence": arguments.confidence,
        "quality": {
            d.metric: {
                "a": round(d.a, 5), "b": round(d.b, 5), "difference": round(d.difference, 5),
                "interval": [round(d.low, 5), round(d.high, 5)], "verdict": d.verdict,
            }
            for d in differences
        },
    }  # fmt: skip
    print(json.dumps(summary) if arguments.json else _text(summary))
    return 0


def _ranks(table: pa.Table, settings: Settings, arguments: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    """[events] rank of each measured event, else −1, and [events] its user's node index."""
    from streamer.evaluation.replay import ReplayOptions, first_measured, replay  # the kernels load after the checks
    from streamer.evaluation.replay_trace import Tracer

    options = ReplayOptions(
        learn_until=arguments.learn_until, stale=arguments.stale, measure_after=arguments.measure_after
    )
    tracer = Tracer()
    with progress("replay", len(table)) as advance:
        replay(table, settings, options, advance, tracer.watch)
    trace = tracer.trace()
    rank, user = np.full(len(table), -1, np.int64), np.full(len(table), -1, np.int64)
    late_enough = trace.event >= first_measured(len(table), options)
    rank[trace.event[late_enough]], user[trace.event] = trace.rank[late_enough], trace.user
    return rank, user


def _unlike(a: Settings, b: Settings) -> dict[str, list[Any]]:
    """Setting → [A's, B's], of those that differ and are no secret."""
    pairs = {name: [getattr(a, name), getattr(b, name)] for name in Settings.model_fields}
    hidden = {"api_key", "kafka"}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1] and name not in hidden}


def _text(summary: dict[str, Any]) -> str:
    """The summary for people."""
    percent = f"{100 * summary['confidence']:g} %"
    head = ("", "A", "B", "B − A", f"{percent} interval", "B is")
    rows = [
        (name.upper(), f"{q['a']:.5f}", f"{q['b']:.5f}", f"{q['difference']:+.5f}",
         f"{q['interval'][0]:+.5f} … {q['interval'][1]:+.5f}", q["verdict"])
        for name, q in summary["quality"].items()
    ]  # fmt: skip
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [f"A: {summary['a']}", f"B: {summary['b']}"]
    lines += [f"{name}: {a} in A, {b} in B" for name, (a, b) in summary["settings"].items()]
    lines += ["  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip() for row in (head, *rows)]
    lines.append(f"{summary['measured']:,} events, each under both settings")
    if summary["only_a"] or summary["only_b"]:
        lines.append(f"left out: {summary['only_a']:,} measured under A only, {summary['only_b']:,} under B only")
    return "\n".join(lines)
