"""Amazon Beauty, leave-one-out, full ranking: python -m tests.benchmarks.leave_one_out [SCRATCH] writes LEAVE_ONE_OUT.md.

The stream is replayed in time order. The last event of each user is held out: its list is asked for at its own time, from
the state of that moment, and it is never observed. What the user had before is in no list; every other item is ranked.
The lists are judged by ../shared/tools/score_lists.py.
"""

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from consumers.files.interactions import read_interactions
from streamer.evaluation.replay import ReplayOptions, replay
from streamer.settings import Settings
from tests.benchmarks import records
from tests.benchmarks.judge import judge_held_out, require_judge
from tests.benchmarks.protocol import Events, read_events
from tests.conftest import DATA

RESULTS = Path(__file__).with_name("LEAVE_ONE_OUT.md")
STREAM = DATA / "amazon-beauty" / "interactions.parquet"
DAY_MS, SHUFFLES, AT = 86_400_000, 5, (10, 5, 20)
PUBLISHED = (  # Recall@10, NDCG@10, as ../shared/research/anchors-2.md has them
    ("SASRec, binary cross-entropy (in the TIGER paper)", 0.0605, 0.0318),
    ("TIGER", 0.0648, 0.0384),
    ("SASRec, full cross-entropy, same-day reviews shuffled", 0.0709, 0.0346),
    ("ActionPiece", 0.0775, 0.0424),
    ("SASRec, full cross-entropy, the usual order of same-day reviews", 0.0810, 0.0457),
    ("BARGE (2026)", 0.0927, 0.0547),
    ("the best of the eSASRec team", 0.0928, 0.0531),
    ("FADE, a language model of 0.6 B weights (2026, a draft)", 0.1088, 0.0616),
)
CAVEATS = """\
- Published models train for many passes over the events of all users but the last two of each, whatever their time: they
  learn from what others did later. Freshet passes once over the stream, and no list knows anything later than its request;
  the first users meet an untrained model.
- Freshet is told when a list is asked for, so it knows what is popular then; SASRec and its successors are not. The rows
  without popularity, and those asked right after the event before, say what is left without that.
- The event before the last is learned from; SASRec reads it and does not learn from it. One row leaves it out of what
  weights learn from; counts have it in any case.
- 43 % of the last events are of the same day as the event before, and days are all that the times say. The order within a
  day is that of the file, of which S3-Rec's agrees on the last item of 72 % of the users, so published figures and these are
  of the same events for most users, not all. Where days are shuffled, so is which event is a user's last."""


class Split(NamedTuple):
    """A stream in an order, and which of its rows are held out. Times are days and, in ms, the place within the day."""

    user: np.ndarray  # [N] int64
    item: np.ndarray  # [N] int64
    t: np.ndarray  # [N] int64, rising
    held: np.ndarray  # [N] bool: the last event of its user
    before: np.ndarray  # [N] int64 row of the same user's event before, −1: none

    def table(self, rows: np.ndarray, t: np.ndarray | None = None) -> pa.Table:
        """Some rows as a file of interactions has them."""
        ids = {"user_id": self.user[rows], "item_id": self.item[rows]}
        columns = {name: pa.array(column.astype(str).tolist()) for name, column in ids.items()}
        times = self.t[rows] if t is None else t
        return pa.table(columns | {"event_type": ["review"] * len(times), "timestamp": times})


def split(events: Events, seed: int | None) -> Split:
    """The stream as in the file, or with the events of each day shuffled."""
    shuffled = np.arange(len(events)) if seed is None else np.random.default_rng(seed).permutation(len(events))
    order = shuffled[np.argsort(events.t[shuffled] // DAY_MS, kind="stable")]
    day = events.t[order] // DAY_MS
    starts = np.flatnonzero(np.diff(day, prepend=-1))
    place = np.arange(len(day)) - np.repeat(starts, np.diff(np.append(starts, len(day))))
    user = events.user[order]
    by_user = np.argsort(user, kind="stable")
    same = user[by_user][1:] == user[by_user][:-1]
    held, before = np.ones(len(user), bool), np.full(len(user), -1)
    held[by_user[:-1][same]] = False
    before[by_user[1:][same]] = by_user[:-1][same]
    return Split(user, events.item[order], day * DAY_MS + place, held, before)


def measure(of: Split, scratch: Path, when: str = "own", learned: str = "all", **settings: object) -> dict[str, float]:
    """What the judge says of the lists of the held-out events.

    when: their own time; right after the event "before" of the same user; the "end" of the stream.
    learned: from "all" that is observed, or not from the last observed event of a user ("but-one").
    """
    rows = np.flatnonzero(of.held)
    asked_at = of.t[rows]
    if when == "before":
        asked_at = np.where(of.before[rows] >= 0, of.t[of.before[rows]], asked_at)
    elif when == "end":
        asked_at = np.full(len(rows), of.t[-1])
    rows = rows[np.argsort(asked_at, kind="stable")]
    files = [scratch / f"{name}.parquet" for name in ("observed", "asked", "lists")]
    pq.write_table(of.table(np.flatnonzero(~of.held)), files[0])
    pq.write_table(of.table(rows, np.sort(asked_at)), files[1])
    weights_see = np.ones(len(of.user), bool)
    if learned == "but-one":
        weights_see[of.before[rows][of.before[rows] >= 0]] = False
    options = ReplayOptions(lists_out=files[2], ask=read_interactions(files[1]), learned=weights_see[~of.held])
    replay(read_interactions(files[0]), Settings(k=20, exclude_seen=True, **settings), options)
    return judge_held_out(*files, scratch, AT)


Runs = list[Callable[[Events, Path], dict[str, float]]]
IN_FILE, SHUFFLED = "same-day order as in the file", "same-day order shuffled"


def _run(seed: int | None = None, **how: Any) -> Callable[[Events, Path], dict[str, float]]:
    return lambda events, scratch: measure(split(events, seed), scratch, **how)


ROWS: dict[str, Runs] = {
    IN_FILE: [_run()],
    "the event before the last is not learned from": [_run(learned="but-one")],
    "without popularity": [_run(without=("popularity",))],
    "asked right after the event before, which is all that it knows": [_run(when="before")],
    "all asked at the end of the stream": [_run(when="end")],
    SHUFFLED: [_run(seed) for seed in range(1, SHUFFLES + 1)],
}


def main(scratch: Path) -> int:
    """Makes each run that SCRATCH does not have yet."""
    require_judge()
    if not STREAM.is_file():
        raise SystemExit("the real stream amazon-beauty is not on this machine")
    kept = scratch / "rows.json"
    found: dict[str, list[dict[str, float]]] = json.loads(kept.read_text()) if kept.is_file() else {}
    events = read_events(STREAM)
    for name, runs in ROWS.items():
        verdicts = found.setdefault(name, [])
        for run in runs[len(verdicts) :]:
            verdicts.append(run(events, scratch))
            kept.write_text(json.dumps(found))
        print(_row(name, verdicts), flush=True)
    records.save("leave-one-out", {"part": "outside", "rows": found})
    RESULTS.write_text(render(found))
    return 0


def render(found: dict[str, list[dict[str, float]]]) -> str:
    """The page."""
    asked = int(next(iter(found.values()))[0]["events"])
    published = [f"| {name} | {recall:.4f} | {ndcg:.4f} | | | | |" for name, recall, ndcg in PUBLISHED]
    return "\n".join([
        "# Amazon Beauty, leave-one-out", "",
        f"`python -m tests.benchmarks.leave_one_out`, commit {records.commit()}, {records.machine()}. "
        f"{' '.join(__doc__.split(chr(10))[2:])}{asked:,} users, ids only, defaults, one seed.", "",
        "| | Recall@10 | NDCG@10 | Recall@5 | NDCG@5 | Recall@20 | NDCG@20 |", "|---|---|---|---|---|---|---|",
        *(_row(f"**Freshet**, {name}", verdicts) for name, verdicts in found.items()), *published, "",
        "Published figures are those of the papers, or of those who ran the models again.", "", CAVEATS, "",
    ])  # fmt: skip


def _row(name: str, verdicts: list[dict[str, float]]) -> str:
    cells = []
    for at in AT:
        for metric in ("hr", "ndcg"):
            values = [verdict[f"{metric}@{at}"] for verdict in verdicts]
            spread = f" ({min(values):.4f} to {max(values):.4f}, {len(values)} times)" if len(values) > 1 else ""
            cells.append(f"{np.mean(values):.4f}{spread}")
    return f"| {name} | {' | '.join(cells)} |"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as own:
        sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(own)))
