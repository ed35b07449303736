"""tgbl-wiki before two judges: python -m tests.benchmarks.tgbl_wiki [TGB_PYTHON] writes TGBL_WIKI.md.

The first 70 % of the time is for training, after which no weight moves; the last 15 % are measured, every page ranked. State
goes on with each event, or 200 events late, as a batch of 200 has it: leaderboards have both kinds side by side. The judges are
../shared/tools/score_lists.py and, where TGB_PYTHON is a Python that has py-tgb, TGB's own evaluator.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from consumers.files.interactions import read_interactions
from streamer.evaluation.replay import ReplayOptions, replay
from streamer.settings import Settings
from tests.benchmarks import records
from tests.benchmarks.judge import judge, require_judge
from tests.benchmarks.protocol import first_measured_of, read_events
from tests.benchmarks.streams import STREAMS, Stream

RESULTS = Path(__file__).with_name("TGBL_WIKI.md")
ROWS = {"state per event": "wikipedia", "state 200 events late": "wikipedia-stale"}
PUBLISHED = (  # test MRR and state, as ../shared/research/anchors-2.md has them
    ("race_link v4 (2026, not submitted)", ".8353", "per event"),
    ("smoothed counts (2026)", ".8284 / .741", "per event / 200 late"),
    ("TPNet", ".827", "leaderboard"),
    ("LocalGlobal heuristic", ".821", "leaderboard"),
    ("HyperEvent", ".810", "leaderboard"),
    ("DyGFormer", ".798", "leaderboard"),
    ("NAT", ".749", "leaderboard"),
    ("TNCN", ".718", "200 late"),
    ("Base3", ".681", "200 late"),
)
CAVEATS = """\
- TGB's file of negatives is on a server that was not reached. For tgbl-wiki it names every other page for each edge, less what
  the same user edited at the same time, so the negatives here are made by that rule: 999 pages but those.
- Pages that are in no list are tied below all others: a page that nobody has edited yet. TGB's evaluator gives a tie the mean
  of its places, score_lists.py counts what is in no list as 0; on these edges that makes no difference in four digits.
- The data are those of JODIE, without edge features, which Freshet does not read."""


def cases(stream: Stream, lists: Path, out: Path) -> None:
    """What TGB's evaluator is given: a score of each page for each measured edge."""
    events = read_events(stream.file(records.FOLDER))
    first = first_measured_of(stream, events.t)
    made = pq.read_table(lists, columns=["event", "items", "scores"], filters=pc.field("event") >= first)
    made = made.sort_by("event").combine_chunks()
    listed, edge = made["items"].combine_chunks(), np.arange(len(made))
    page = pc.index_in(listed.flatten(), pa.array(events.items)).to_numpy()
    values = made["scores"].combine_chunks().flatten().to_numpy()
    scores = np.full((len(made), len(events.items)), np.finfo(np.float32).min, np.float32)
    scores[np.repeat(edge, pc.list_value_length(listed).to_numpy()), page] = values
    user, item, t = (column[first:] for column in (events.user, events.item, events.t))
    order = np.lexsort((t, user))
    also = []
    for group in np.split(order, np.flatnonzero(np.diff(user[order]) | np.diff(t[order])) + 1):
        also += [(a, item[b]) for a in group.tolist() for b in group.tolist() if item[a] != item[b]]
    np.savez(out, items=scores, right=item, also=np.array(also, np.int64).reshape(-1, 2))


def main(tgb_python: str | None) -> int:
    require_judge()
    found: dict[str, dict[str, dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, stream_name in ROWS.items():
            stream, lists = STREAMS[stream_name], Path(folder) / "lists.parquet"
            if stream.missing():
                raise SystemExit(stream.missing())
            file = stream.file(records.FOLDER)
            options = ReplayOptions(lists_out=lists, learn_until=0.70, stale=int(stream.flag("--stale") or 1))
            replay(read_interactions(file), Settings(k=1000), options)
            found[name] = {"score_lists.py": judge(stream, file, lists)}
            if tgb_python:
                cases(stream, lists, Path(folder) / "cases.npz")
                command = [tgb_python, str(Path(__file__).with_name("tgb_judge.py")), str(Path(folder) / "cases.npz")]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                found[name]["py-tgb's Evaluator"] = json.loads(done.stdout.splitlines()[-1])
            print(name, found[name], flush=True)
    records.save("tgbl-wiki", {"part": "outside", "rows": found})
    RESULTS.write_text(render(found))
    return 0


def render(found: dict[str, dict[str, dict[str, float]]]) -> str:
    """The page."""
    lines = [
        f"| **Freshet**, {name} | {verdict['mrr']:.4f} | {verdict.get('hr@10', verdict.get('hits@10', np.nan)):.4f} | {judged} |"
        for name, verdicts in found.items()
        for judged, verdict in verdicts.items()
    ]
    edges = int(next(iter(found.values()))["score_lists.py"]["events"])
    return "\n".join([
        "# tgbl-wiki", "",
        f"`python -m tests.benchmarks.tgbl_wiki TGB_PYTHON`, commit {records.commit()}, {records.machine()}. "
        f"{' '.join(__doc__.split(chr(10))[2:])}{edges:,} edges, defaults, one seed.", "",
        "| | test MRR | hits@10 | judge, or state |", "|---|---|---|---|", *lines,
        *(f"| {name} | {mrr} | | {state} |" for name, mrr, state in PUBLISHED), "", CAVEATS, "",
    ])  # fmt: skip


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else None))
