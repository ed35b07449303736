"""`freshet compare`: settings on one stream, and whether one of them is better than the first."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from consumers.counted import counted
from streamer.cli.flags import add_json_flag, add_setting_flags, settings_of
from streamer.cli.homes import say_without_effect
from streamer.cli.numbers import confidence
from streamer.cli.stream_flags import (
    Stream,
    add_measure_flags,
    add_reading_flags,
    catalogue_of,
    check_report_path,
    ends_here,
    read_stream,
    title_of,
    with_weights,
)
from streamer.errors import UsageError
from streamer.evaluation.paired_intervals import Discordance
from streamer.runtime.progress import progress

if TYPE_CHECKING:
    from streamer.evaluation.comparison import PairedComparison

EXAMPLE = "freshet compare today.toml candidate.toml interactions.parquet --exclude-seen"
READ_ALIKE = ("bootstrap", "log", "field_map", "interactions_topic")  # how the stream is read: one stream for all
POPULARITY = "popularity"
PEERS = ("last-item", "item-knn")
WORDS = (POPULARITY, *PEERS)  # in place of a file of settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source", nargs="+", metavar="A.toml B.toml … FILE | TOPIC",
        help="files of settings as in freshet.toml, an empty one is the defaults, each compared with the first; or the "
        f"words {POPULARITY} (decayed), last-item (what the user took last, again) and item-knn (cosines of items, "
        "counted at each event); then files of interactions, folders of them, or - for standard input; with --log or "
        "--bootstrap a topic",
    )  # fmt: skip
    add_reading_flags(parser)
    parser.add_argument("--items", type=Path, help="file of items, known from the start")
    parser.add_argument("--users", type=Path, help="file of users, known before they do anything")
    add_setting_flags(parser, "bootstrap", "log", "k", "exclude_seen", "seed", "field_map", "embeddings")
    add_measure_flags(parser)
    parser.add_argument(
        "--confidence",
        type=confidence,
        default=0.95,
        metavar="C",
        help="confidence of the intervals (default 0.95)",
    )
    parser.add_argument("--report", type=Path, help="HTML page to write, with plots of what was compared")
    add_json_flag(parser)


def run(arguments: argparse.Namespace) -> int:
    names, sources = _parted(arguments.source)
    files = [name for name in names if name not in WORDS]
    settings = [settings_of(arguments, Path(file)) for file in files]
    for file, mine in zip(files, settings, strict=True):
        for name in READ_ALIKE:
            if getattr(settings[0], name) != getattr(mine, name):
                raise UsageError(f"setting {name!r} differs between {files[0]} and {file}: it is one stream")
    check_report_path(arguments.report)
    say_without_effect(arguments, settings[0])
    stream = read_stream(arguments, settings[0], sources)
    items, users = catalogue_of(arguments, settings[0])
    if ends_here(arguments, stream):
        return 0
    settings = [with_weights(mine, stream.preset) for mine in settings]
    from streamer.evaluation import comparison  # the kernels load after the checks
    from streamer.evaluation.comparison_report import write_report
    from streamer.evaluation.replay import ReplayOptions

    options = ReplayOptions(
        learn_until=arguments.learn_until,
        stale=arguments.stale,
        measure_after=arguments.measure_after,
        merges=stream.merges,
    )
    found: dict[str, comparison.Contender] = {}
    for file, mine in zip(files, settings, strict=True):
        with progress("replay", len(stream.table)) as advance:
            found[file] = comparison.contender(file, mine, stream.table, options, items, users, advance)
    first = found[files[0]]
    for name in set(names) & {*PEERS}:
        with progress(name, len(first.trace.event)) as advance:
            found[name] = comparison.peer(name, first, len(stream.table), options, advance)
    found[POPULARITY] = comparison.popularity(first)
    source = str(stream.look.source)
    pairs = [comparison.compared(found[names[0]], found[name], source, arguments.confidence) for name in names[1:]]
    summaries = [_summary(pair, stream, arguments.confidence) for pair in pairs]
    if arguments.report:
        write_report(arguments.report, title_of(sources, stream), pairs, arguments.confidence, options)
    if arguments.json:
        print(json.dumps(summaries[0] if len(summaries) == 1 else {"comparisons": summaries}))
    else:
        print("\n\n".join(map(_text, summaries)))
    return 0


def _parted(given: Sequence[str]) -> tuple[list[str], list[str]]:
    """Which words name settings, and which the stream. Raises UsageError."""
    ends = next((n for n, name in enumerate(given) if not name.endswith(".toml") and name not in WORDS), len(given))
    ends = max(ends, 2)  # whatever their names are
    names, sources = list(given[:ends]), list(given[ends:])
    if not sources:
        raise UsageError("compare takes at least two files of settings, and then the stream")
    if len(set(names)) < len(names) or set(names) <= {*WORDS}:
        raise UsageError(f"{' '.join(names)}: what is compared differs in its name, and one is a file of settings")
    return names, sources


def _summary(pair: "PairedComparison", stream: Stream, confidence: float) -> dict[str, Any]:
    from streamer.evaluation.comparison import unlike

    return {
        "a": pair.a.name,
        "b": pair.b.name,
        "settings": unlike(pair.a.settings, pair.b.settings),
        "refused": stream.refused,
        "measured": int(pair.measured.sum()),
        "only_a": pair.only_a,
        "only_b": pair.only_b,
        "confidence": confidence,
        "quality": {
            d.metric: {
                "a": round(d.a, 5), "b": round(d.b, 5), "difference": round(d.difference, 5),
                "interval": [round(d.low, 5), round(d.high, 5)], "verdict": d.verdict,
            }
            for d in pair.differences
        },
        "hits": {"only_a": pair.hits.only_a, "only_b": pair.hits.only_b, "mcnemar_p": pair.hits.p},
    }  # fmt: skip


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
    lines.append(f"{counted(summary['measured'], 'event')}, each under both settings")
    hits = Discordance(*summary["hits"].values())
    lines.append(
        f"hits that only A has: {hits.only_a:,}, only B: {hits.only_b:,}; McNemar's p {hits.p_in_words}, were events "
        "independent"
    )
    if summary["only_a"] or summary["only_b"]:
        lines.append(f"left out: {summary['only_a']:,} measured under A only, {summary['only_b']:,} under B only")
    return "\n".join(lines)
