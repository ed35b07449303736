"""Where lists hold what came: python -m tests.benchmarks.breakdown [--streams a,b] writes BREAKDOWN.md.

Each stream is replayed with its flags and lists of 100. Of the measured events: the share whose item was in the first 1,
10, 20, 50, 100 places, and in the pool that the ranker orders (what it holds with next to no probability, below a
thousandth of chance, counts as missed), by how many events the user had before, by how many the item had, and by whether
the user had taken the item before. Then the first 1,000 events of the stream, with weights that begin
untrained, beside popularity decayed over a day. What is measured here is what Freshet says of itself, not the judge.
"""

import argparse
from pathlib import Path

import numpy as np

from consumers.files.interactions import read_interactions
from streamer.evaluation.paired_intervals import compare_ranks
from streamer.evaluation.replay import ReplayOptions, TakenChunk, replay
from streamer.evaluation.replay_trace import Trace, Tracer
from streamer.evaluation.segments import COUNTS, binned, earlier
from streamer.settings import Settings
from tests.benchmarks import records
from tests.benchmarks.protocol import first_measured_of
from tests.benchmarks.streams import STREAMS, Stream
from tgn.prequential import CHANCE

RESULTS = Path(__file__).with_name("BREAKDOWN.md")
AT, FIRST = (1, 10, 20, 50, 100), 1_000
PAIRS = (("first time", 0), ("repeat", 1))
HEAD = (
    "| | share of events | in the pool | "
    + " | ".join(f"HR@{at}" for at in AT)
    + " |\n|---|---|---|"
    + "---|" * len(AT)
)

Row = dict[str, float]


def trace_of(stream: Stream) -> tuple[Trace, np.ndarray]:
    """What a replay of the stream did, and for each event whether the pool held its item."""
    tracer, surprise = Tracer(), list[np.ndarray]()

    def watch(taken: TakenChunk) -> None:
        tracer.watch(taken)
        surprise.append(taken.outcome.surprise)

    learn_until = stream.flag("--learn-until")
    settings = Settings(k=max(AT), exclude_seen=stream.flag("--exclude-seen") is not None)
    options = ReplayOptions(learn_until=float(learn_until) if learn_until else None)
    replay(read_interactions(stream.file(records.FOLDER)), settings, options, watch=watch)
    trace = tracer.trace()
    return trace, in_pool(trace.item, np.concatenate(surprise))


def in_pool(item: np.ndarray, surprise: np.ndarray) -> np.ndarray:
    """[N] whether the pool held the item of each event, all of which were observed one by one.

    What it missed has P = CHANCE / (items known + 1) and no more; what adds less than a thousandth to that counts as missed.
    """
    first = earlier(item) == 0
    known = np.cumsum(first) - first + 1
    return np.asarray(surprise < np.log(known / CHANCE) - 1e-3)


def rows_of(trace: Trace, pooled: np.ndarray, first_measured: int) -> dict[str, dict[str, Row]]:
    """Group → name of its part → figures of the measured events."""
    measured = (trace.event >= first_measured) & (trace.rank >= 0)
    pair = earlier(trace.user.astype(np.int64) << 32 | trace.item)
    groups = {
        "": (np.zeros(len(pair), np.int64), (("all", 0),)),
        "events of the user before": (earlier(trace.user), COUNTS),
        "events of the item before": (earlier(trace.item), COUNTS),
        "the user and the item": (np.minimum(pair, 1), PAIRS),
    }
    found: dict[str, dict[str, Row]] = {}
    for group, (value, bins) in groups.items():
        for name, inside in binned(value, bins, measured):
            rank = trace.rank[inside]
            figures = {f"hr@{at}": float(((rank > 0) & (rank <= at)).mean()) for at in AT}
            share, held = float(inside.sum() / measured.sum()), float(pooled[inside].mean())
            found.setdefault(group, {})[name] = {"share": share, "pool": held, **figures}
    return found


def beginning(trace: Trace) -> Row:
    """HR@10 and NDCG@10 of the first measured events of a stream, by popularity, by us, and between them."""
    at = np.flatnonzero(trace.rank >= 0)[:FIRST]
    differences = compare_ranks(trace.popularity_rank[at], trace.rank[at], trace.user[at], max(AT))
    return {
        f"{d.metric} {name}": value
        for d in differences[:2]
        for name, value in zip(("popularity", "freshet", "low", "high"), (d.a, d.b, d.low, d.high), strict=True)
    }


def main() -> int:
    parser = argparse.ArgumentParser("python -m tests.benchmarks.breakdown", description="Writes BREAKDOWN.md.")
    alone = [name for name, stream in STREAMS.items() if stream.flag("--stale") is None]
    parser.add_argument("--streams", type=lambda text: text.split(","), default=alone, help=f"of {', '.join(alone)}")
    for name in parser.parse_args().streams:
        stream = STREAMS[name]
        if stream.missing():
            print(f"{name}: {stream.missing()}")
            continue
        trace, pooled = trace_of(stream)
        rows = rows_of(trace, pooled, first_measured_of(stream, trace.t))
        kept = {"part": "breakdown", "of": name, "rows": rows, "beginning": beginning(trace)}
        records.save(f"breakdown.{name}", kept)
        print(name, rows[""]["all"], kept["beginning"], flush=True)
    RESULTS.write_text(render())
    return 0


def render() -> str:
    """The page, of what was measured so far."""
    found = [record for name in STREAMS if (record := records.load(f"breakdown.{name}"))]
    commits = ", ".join(sorted({record["commit"] for record in found}))
    lines = [
        "# Where lists hold what came", "",
        f"`python -m tests.benchmarks.breakdown`, commit {commits}, {records.machine()}. "
        f"{' '.join(__doc__.split(chr(10))[2:]).strip()} Defaults, one seed.",
    ]  # fmt: skip
    for record in found:
        lines += ["", f"## {record['of']}", "", HEAD]
        for group, rows in record["rows"].items():
            lines += [f"| *{group}* | | | " + "| " * len(AT) + "|"] if group else []
            lines += [
                f"| {name} | {' | '.join(f'{value:.4f}' for value in row.values())} |" for name, row in rows.items()
            ]
    lines += [
        "",
        f"## The first {FIRST:,} events",
        "",
        "| stream | | popularity | Freshet | difference |",
        "|---|---|---|---|---|",
    ]
    for record in found:
        of = record["beginning"]
        for metric, title in (("hr@10", "HR@10"), ("ndcg@10", "NDCG@10")):
            mine, popular, low, high = (of[f"{metric} {name}"] for name in ("freshet", "popularity", "low", "high"))
            between = f"{mine - popular:+.4f} ({low:+.4f} to {high:+.4f})"
            lines.append(f"| {record['of']} | {title} | {popular:.4f} | {mine:.4f} | {between} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    raise SystemExit(main())
