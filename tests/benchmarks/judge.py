"""The judge: a program outside this repository that scores files of lists and shares no code with what made them."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.benchmarks.streams import Stream
from tests.conftest import DATA

JUDGE = DATA.parent / "tools" / "score_lists.py"


def require_judge() -> None:
    """Ends the bench where there is no judge: we do not score ourselves."""
    if not JUDGE.is_file():
        raise SystemExit(
            "the quality benchmark needs the judge, ../shared/tools/score_lists.py beside this checkout; it is not there"
        )


def judge(stream: Stream, interactions: Path, lists: Path) -> dict[str, float]:
    """What the judge says of the lists: mrr, hr@10, ndcg@10 and its counts."""
    verdict = _verdict(interactions, lists, *stream.judge)
    if verdict["lists_with_seen_item"]:
        raise SystemExit(f"{lists.name}: {verdict['lists_with_seen_item']} lists name an item that its user had taken")
    return verdict


def judge_held_out(observed: Path, asked: Path, lists: Path, scratch: Path, at: Sequence[int]) -> dict[str, float]:
    """What the judge says of lists of interactions that were held out: `event` is the row of `asked`.

    The items that their users had are those of `observed`; none of them may be listed.
    """
    parts = [pq.read_table(file, columns=["user_id", "item_id"]) for file in (observed, asked)]
    made = pq.read_table(lists, columns=["event", "items"])
    numbers = pa.array(made["event"].to_numpy() + len(parts[0]))
    chosen = np.arange(len(parts[1])) + len(parts[0])
    return judge_rows(pa.concat_tables(parts), made.set_column(0, "event", numbers), chosen, scratch, at, "--no-repeat")


def judge_rows(
    events: pa.Table, made: pa.Table, chosen: np.ndarray, scratch: Path, at: Sequence[int], *rules: str
) -> dict[str, float]:
    """What the judge says of the lists of some events alone.

    It measures the end of a stream, so it is given all the others first, then the chosen ones, with their places as times.

    Args:
        events: user_id, item_id.
        made: event, the row of `events`, and items.
        chosen: [N] rows of `events`.
        scratch: folder for what the judge is given.
        at: numbers of places to measure.
        rules: more flags of the judge.
    """
    others = np.setdiff1d(np.arange(len(events)), chosen)
    order = np.concatenate([others, chosen])
    place = np.empty(len(events), np.int64)
    place[order] = np.arange(len(events))
    files = [scratch / f"judged.{name}.parquet" for name in ("interactions", "lists")]
    pair = events.select(["user_id", "item_id"]).take(pa.array(order))
    pq.write_table(pair.append_column("timestamp", pa.array(np.arange(len(events)))), files[0])
    mine = made.filter(pa.array(np.isin(made["event"].to_numpy(), chosen)))
    numbers = pa.array(place[mine["event"].to_numpy()])
    pq.write_table(mine.set_column(mine.column_names.index("event"), "event", numbers), files[1])
    share = str((len(others) + 0.5) / len(events))  # a half, since the judge rounds down
    verdict = _verdict(*files, "--after", share, "--at", *map(str, at), *rules)
    if verdict["events"] != len(chosen) or verdict["lists_with_seen_item"]:
        raise SystemExit(f"{len(chosen)} lists were to be judged; the judge says {verdict}")
    return verdict


def _verdict(interactions: Path, lists: Path, *flags: str) -> dict[str, float]:
    command = [sys.executable, str(JUDGE), str(interactions), str(lists), *flags]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"the judge refused {lists.name}: {done.stderr.strip() or done.stdout.strip()}")
    verdict: dict[str, float] = json.loads(done.stdout)
    return verdict
