"""The judge: a program outside this repository that scores files of lists and shares no code with what made them."""

import json
import subprocess
import sys
from pathlib import Path

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
    command = [sys.executable, str(JUDGE), str(interactions), str(lists), *stream.judge]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"the judge refused {lists.name}: {done.stderr.strip() or done.stdout.strip()}")
    verdict: dict[str, float] = json.loads(done.stdout)
    if verdict["lists_with_seen_item"]:
        raise SystemExit(f"{lists.name}: {verdict['lists_with_seen_item']} lists name an item that its user had taken")
    return verdict
