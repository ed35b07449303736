"""RESULTS.md: the records as Markdown, whatever of them is there."""

import math
from pathlib import Path

from tests.benchmarks import ranks, records
from tests.benchmarks.quality import OURS, WITHOUT
from tests.benchmarks.records import Record
from tests.benchmarks.streams import STREAMS, Stream

RESULTS = Path(__file__).with_name("RESULTS.md")
TITLES = {"hr@10": "HR@10", "ndcg@10": "NDCG@10", "mrr": "MRR"}
HOW = """\
Every list was made before its event was known, over the full catalogue, and judged by `../shared/tools/score_lists.py`,
which shares no code with this repository: an item that is not in the list is a miss, a tie never favours the truth.

- **Freshet**: `freshet replay` with the defaults. events/s: all events of the file over the wall time of the whole
  command, lists written; where others work on the machine, as on 2026-12-01, it says little: the table of speed counts.
- **Peers** (`peers/`, one thread): they observe every event; lists, and refits after the first, happen in the measured
  part only. events/s: measured events over the time for lists, refits and observing there; the first fit, on everything
  before, stands apart. Refits come at the named interval, stretched so that at most 24 fall into the measured part.
  Where repeats are off, last item and EdgeBank have nothing of their own to say and are decayed popularity.
- **wikipedia**: the first fit is at the 0.70 quantile of time, and no weight moves after it: the constants of popularity,
  EdgeBank and item-kNN, the items' factors of ALS, all weights of GRU4Rec, SASRec and TGN. State goes on per event
  (per 200 in `wikipedia-stale`): counts, edges, users' items, TGN's memory, and the vectors of ISGD, which have no other
  state.
- Settings that a peer's authors leave open (τ of popularity; how many items item-kNN reads, their fading and the damping
  λ; ISGD's rate; softmax over all items or over 2,048 drawn ones corrected by logQ, dropout and passes of GRU4Rec and SASRec)
  are chosen on the last tenth of each stream before the first fit. GRU4Rec and SASRec of 00607f5+ ("fixed form") drew
  negatives evenly, all items where there are at most 4,000, and made 3 to 20 passes with dropout .2. What is
  chosen now is better on foursquare-nyc and amazon-beauty, where it is the softmax over all items, not on MovieLens-100k.
- LightGCN, refit each midnight, is in [FAMILY](FAMILY.md)."""

OUTSIDE = """\
## Beside published tables

In protocols of others, as nearly as the data allows, each with what differs: [Amazon Beauty, leave-one-out](LEAVE_ONE_OUT.md),
[Foursquare NYC check-ins](CHECK_INS.md), [tgbl-wiki with TGB's own evaluator](TGBL_WIKI.md)."""


def render() -> str:
    """The whole page."""
    found = records.load_all()
    sections = [_head(found), "## Quality", HOW]
    sections += [_stream_section(stream, found) for stream in STREAMS.values()]
    sections += [_before(found), OUTSIDE, _ablations(found), _speed(), _left_out(found)]
    return "\n\n".join(section for section in sections if section) + "\n"


def _head(found: list[Record]) -> str:
    def distinct(key: str) -> str:
        return ", ".join(sorted({record[key] for record in found})) or "nothing measured yet"

    return (
        "# Results\n\n"
        f"`make bench`, or `python -m tests.benchmarks [quality] [speed] [--streams A,B] [--peers X,Y]` for a part.\n"
        f"Machine: {distinct('machine')}. Dates: {distinct('date')}. Commits: {distinct('commit')}; a + means that the "
        "working tree differed."
    )


def _stream_section(stream: Stream, found: list[Record]) -> str:
    here = [r for r in found if r.get("stream") == stream.name and "mrr" in r and not r["row"].startswith(WITHOUT)]
    if not here:
        return ""
    first = stream.metrics[0]
    peers = sorted((r for r in here if not r["row"].startswith(OURS)), key=lambda r: -r[first])
    ours = [r for r in here if r["row"].startswith(OURS)]
    lines = [
        f"### {stream.name}",
        "",
        f"`freshet replay {' '.join(stream.flags)}`, judge `{' '.join(stream.judge) or 'with its defaults'}`, "
        f"{here[0]['events']:,} measured events. {_aim(stream)}",
        "",
        "| | HR@10 | NDCG@10 | MRR | events/s | learning | commit |",
        "|---|---|---|---|---|---|---|",
        *(_row(record) for record in ours + peers),
    ]
    if len(ours) > 1:
        values = [record[first] for record in ours]
        spread = f"{_number(min(values))} to {_number(max(values))}"
        lines += ["", f"{TITLES[first]} over {len(ours)} seeds: mean {_number(sum(values) / len(values))}, {spread}."]
    return "\n".join(lines)


def _aim(stream: Stream) -> str:
    names = " / ".join(TITLES[metric] for metric in stream.metrics)
    bar, goal = (" / ".join(map(_number, values)) for values in (stream.bar, stream.goal))
    return f"{names}: bar {bar}, goal {goal}."


def _row(record: Record) -> str:
    name = f"**{record['row']}**" if record["row"].startswith(OURS) else record["row"]
    metrics = " | ".join(_number(record[metric]) for metric in TITLES)
    return f"| {name} | {metrics} | {record['events_per_second']:,.0f} | {_learning(record)} | {record['commit']} |"


def _learning(record: Record) -> str:
    if record["row"].startswith(OURS):
        return "every event"
    words = [f"first fit {record['fit_seconds']:,.0f} s"]
    if record["refits"]:
        hours = record["refit_every_s"] / 3600
        words.append(f"{record['refits']} refits, every {hours:,.1f} h, {record['refit_seconds']:,.0f} s together")
    return ", ".join([*words, *([record["chosen"]] if record["chosen"] else [])])


def _before(found: list[Record]) -> str:
    """Our rows against those of the version before, event by event."""
    rows = [r for r in found if "paired" in r and not r["row"].startswith(WITHOUT)]
    if not rows:
        return ""
    cells = (
        (r["stream"], r["row"], r["paired"]["commit"], TITLES[metric], ranks.in_words(r["paired"], metric))
        for r in rows
        for metric in STREAMS[r["stream"]].metrics
    )
    return "\n".join([
        "## Against the version before", "",
        "Difference of the same events under both, with an interval of 95 % that knows that events of one user, and of one "
        "time, resemble each other. McNemar's p takes them for independent.", "",
        "| stream | row | before | | difference |", "|---|---|---|---|---|", *(f"| {' | '.join(row)} |" for row in cells),
    ])  # fmt: skip


def _ablations(found: list[Record]) -> str:
    """What each part of the model is worth: the metric without it, and the difference."""
    without = [r for r in found if r.get("row", "").startswith(WITHOUT) and "mrr" in r]
    full = {r["stream"]: r for r in found if r.get("row") == OURS and "mrr" in r}
    streams = [stream for stream in STREAMS.values() if any(r["stream"] == stream.name for r in without)]
    if not streams:
        return ""
    cells = {(r["row"], r["stream"]): _difference(r, full.get(r["stream"])) for r in without}
    lines = [
        "## Without a part",
        "",
        "The first metric of each stream without the part, and in brackets what the part brings, with its interval "
        "where the ranks of both are kept. Last what it brings on average, the streams taken for independent.",
        "",
        f"| without | {' | '.join(f'{s.name}, {TITLES[s.metrics[0]]}' for s in streams)} | on average |",
        "|---" * (len(streams) + 2) + "|",
    ]
    for row in dict.fromkeys(r["row"] for r in without):
        values = " | ".join(cells.get((row, stream.name), "") for stream in streams)
        lines.append(
            f"| {row.removeprefix(WITHOUT)} | {values} | {_average([r for r in without if r['row'] == row])} |"
        )
    return "\n".join(lines)


def _average(without: list[Record]) -> str:
    """What a part brings over the streams whose ranks are kept, and its interval."""
    paired = [r["paired"]["differences"][STREAMS[r["stream"]].metrics[0]] for r in without if "paired" in r]
    if not paired:
        return ""
    mean = 0 - sum(d["difference"] for d in paired) / len(paired)
    half = math.hypot(*((d["high"] - d["low"]) / 2 for d in paired)) / len(paired)
    return f"{mean:+.4f}, {mean - half:+.4f} to {mean + half:+.4f}, of {len(paired)}"


def _difference(without: Record, full: Record | None) -> str:
    metric = STREAMS[without["stream"]].metrics[0]
    if paired := without.get("paired"):
        d = paired["differences"][metric]
        brings = f" ({0 - d['difference']:+.4f}, {0 - d['high']:+.4f} to {0 - d['low']:+.4f})"
    else:
        brings = f" ({full[metric] - without[metric]:+.4f})" if full else ""
    return _number(without[metric]) + brings


def _speed() -> str:
    record = records.load("speed")
    return f"{record['markdown'].strip()}\n\nMeasured at {record['commit']}, {record['date']}." if record else ""


def _left_out(found: list[Record]) -> str:
    skipped = [f"- {r['stream']}: {r['row']}: {r['skipped']}" for r in found if "skipped" in r]
    return "\n".join(["## Left out", "", *skipped]) if skipped else ""


def _number(value: float) -> str:
    return f"{value:.4f}".removeprefix("0")
