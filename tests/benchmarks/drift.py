"""A sudden change of taste: python -m tests.benchmarks.drift [--streams a,b] [--seeds 0,1,2]

Replays real streams as they are and with the item ids of their second half permuted at random, repeats left out where
the benchmark leaves them out, and prints as Markdown when the alarm came and how fast quality recovered.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from consumers.files.interactions import read_interactions
from streamer.evaluation.replay import ReplayOptions, TakenChunk, replay
from streamer.monitoring.drift import Alarm
from streamer.monitoring.prequential_quality import AT
from streamer.settings import Settings
from tests.benchmarks.streams import STREAMS, Stream

MOST_EVENTS = 300_000  # of a stream; the rest is left out
LEVEL = 10_000  # measured events before the change whose HR@10 is the level
WINDOW = 500  # measured events of a trailing mean
SOON = 2_000  # events within which quality is to be back
BACK = 0.9  # of the level


class Run(NamedTuple):
    """What a replay measured."""

    event: np.ndarray  # [N] number of each measured event
    hit: np.ndarray  # [N] 1: among the first AT
    alarms: list[Alarm]


def permuted(table: pa.Table, seed: int) -> pa.Table:
    """The same stream with the item ids of its second half permuted among all item ids."""
    ids, item = np.unique(np.array(table["item_id"].to_pylist(), object), return_inverse=True)
    half = len(table) // 2
    item[half:] = np.random.default_rng(seed).permutation(len(ids))[item[half:]]
    place = table.column_names.index("item_id")
    return table.set_column(place, "item_id", pa.chunked_array([pa.array(ids[item].tolist())]))


def measure(stream: Stream, table: pa.Table) -> Run:
    """Replays a table."""
    event, hit = [], []

    def watch(taken: TakenChunk) -> None:
        rank = taken.outcome.rank
        measured = rank >= 0
        event.append(taken.event[measured])
        hit.append((rank[measured] > 0) & (rank[measured] <= AT))

    settings = Settings.load(exclude_seen=stream.flag("--exclude-seen") is not None)
    result = replay(table, settings, ReplayOptions(), watch=watch)
    return Run(np.concatenate(event), np.concatenate(hit).astype(float), result.drift)


def recovery(run: Run, change: int, level: float | Run) -> int | None:
    """Events after the change until WINDOW measured ones on end, all of them after it, have BACK of the level.

    The level is a figure, or that of another run's events at the same place.
    """
    end, mine = _trailing(run, change)
    theirs = level if isinstance(level, float) else np.interp(end, *_trailing(level, change))
    back = np.flatnonzero(mine >= BACK * theirs)
    return int(end[back[0]]) - change + 1 if len(back) else None


def _trailing(run: Run, change: int) -> tuple[np.ndarray, np.ndarray]:
    """The last event and the HR@10 of each WINDOW after the change."""
    after = run.event >= change
    sums = np.concatenate([[0.0], np.cumsum(run.hit[after])])
    return run.event[after][WINDOW - 1 :], (sums[WINDOW:] - sums[:-WINDOW]) / WINDOW


def between(run: Run, first: int, end: int) -> float:
    """HR@10 of a stretch of events."""
    return float(run.hit[(run.event >= first) & (run.event < end)].mean())


def report(name: str, seeds: Sequence[int], scratch: Path) -> str:
    """Replays one stream as it is and with every seed."""
    stream = STREAMS[name]
    table = read_interactions(stream.file(scratch)).slice(0, MOST_EVENTS)
    change, plain = len(table) // 2, measure(stream, table)
    level = float(plain.hit[plain.event < change][-LEVEL:].mean())
    soon = between(plain, change + SOON - WINDOW, change + SOON)
    lines = [
        f"## {name}",
        "",
        f"{len(table):,} events, changed at {change:,}. As it is: {len(plain.alarms)} alarms; HR@10 of the {LEVEL:,} measured "
        f"events before {level:.3f}, of the {WINDOW} after {between(plain, change, change + WINDOW):.3f}, of events "
        f"{SOON - WINDOW + 1:,} to {SOON:,} after {soon:.3f}.",
        "",
        f"| seed | alarm after | begin placed at | log loss | HR@10 of {WINDOW} after | of {SOON - WINDOW + 1:,} to {SOON:,} "
        f"| back at {BACK:.0%} of before | of the stream as it is there | other alarms |",
        "|" + "---|" * 9,
    ]
    for seed in seeds:
        run = measure(stream, permuted(table, seed))
        after = [alarm for alarm in run.alarms if alarm.event >= change]
        alarm = ["none", "", ""]
        if after:
            first = after[0]
            alarm = [
                f"{first.event - change + 1:,}",
                f"{first.since - change:+,}",
                f"{first.before:.2f} → {first.after:.2f}",
            ]
        cells = [
            str(seed),
            *alarm,
            f"{between(run, change, change + WINDOW):.3f}",
            f"{between(run, change + SOON - WINDOW, change + SOON):.3f}",
            *(_events(recovery(run, change, to)) for to in (level, plain)),
            f"{len(run.alarms) - len(after)} before, {len(after[1:])} after",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _events(count: int | None) -> str:
    return "never" if count is None else f"{count:,}"


def main() -> int:
    parser = argparse.ArgumentParser("python -m tests.benchmarks.drift", description="A sudden change of taste.")
    parser.add_argument("--streams", default="movietweetings", help=f"of {', '.join(STREAMS)}")
    parser.add_argument("--seeds", default="0,1,2", help="of the permutations")
    arguments = parser.parse_args()
    names = arguments.streams.split(",")
    if unknown := [name for name in names if name not in STREAMS]:
        parser.error(f"no stream {', '.join(unknown)}; there are {', '.join(STREAMS)}")
    for name in names:
        if reason := STREAMS[name].missing():
            print(f"{name}: {reason}")
            continue
        with TemporaryDirectory() as scratch:
            print(report(name, [int(seed) for seed in arguments.seeds.split(",")], Path(scratch)), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
