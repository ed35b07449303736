"""Filters of every selectivity: python -m tests.benchmarks.selectivity [--asked N] writes SELECTIVITY.md.

The shop of `tests.benchmarks.asked`: 100,000 items, a tenth, a hundredth, a thousandth of them in a bucket that a filter
names. 300,000 events are taken, weights learned from the last 100,000; then lists of 20 are asked for users of further
events whose item the filter lets pass, and judged by that item. `all scored` is the same model with every item that
passes scored, in the place of the candidates that are gathered. CPU ms of the worker's thread.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

from streamer.asking.answers import Answers
from streamer.engine.engine import Columns
from streamer.runtime.clock import SYSTEM_CLOCK
from tests.benchmarks.asked import SHOP_ITEMS, TAKEN, shop, state_of
from tests.benchmarks.curve_page import page_of
from tests.streamer.asking.asked_world import question
from tgn import selection

RESULTS = Path(__file__).parent / "SELECTIVITY.md"
SHARES = (1, 10, 100, 1_000)  # one in so many items passes
LEARNED, MORE, K = 100_000, 400_000, 20


def text_of(share: int) -> str | None:
    """The filter that one in so many items passes."""
    return None if share == 1 else f'"of {share}" in item.buckets'


def asked(answers: Answers, users: list[str], text: str | None) -> tuple[np.ndarray, list[list[str]]]:
    """CPU ms [N] and the list of each user."""
    took, lists = [], []
    for user in [users[0], *users]:  # the first one makes the mask
        started = time.thread_time_ns()
        answer = answers.answer(question("list", user_id=user, k=K, filter=text))
        took.append((time.thread_time_ns() - started) / 1e6)
        assert answer.status == 200, answer.body
        lists.append([item["item_id"] for item in json.loads(answer.body)["items"]])
    return np.array(took[1:]), lists[1:]


def ndcg(lists: list[list[str]], items: list[str]) -> np.ndarray:
    """[N] of the lists, each by its one item."""
    return np.array([1 / np.log2(own.index(i) + 2) if i in own else 0.0 for own, i in zip(lists, items, strict=True)])


def main() -> int:
    parser = argparse.ArgumentParser("python -m tests.benchmarks.selectivity")
    parser.add_argument("--asked", type=int, default=1_000, help="lists of each filter")
    given = parser.parse_args()
    whole = shop(TAKEN + MORE)
    table, rest = whole.slice(0, TAKEN), whole.slice(TAKEN)
    state = state_of(table.slice(0, TAKEN - LEARNED), records=True)
    columns = state.engine.encode_table(table.slice(TAKEN - LEARNED), np.ones(LEARNED, np.float32))
    for at in range(0, LEARNED, 5_000):
        state.engine.take(Columns(*(column[at : at + 5_000] for column in columns)), publish=False)
    state.clock_ms = int(columns.t.max())
    few, users, items = selection.ALL_SCORED, rest["user_id"].to_pylist(), rest["item_id"].to_pylist()
    lines = [
        "| passes | items | lists | p50, ms | p99, ms | full | NDCG@20 | all scored | p50, ms | items in both |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for share in SHARES:
        at = [n for n, item in enumerate(items) if int(item[1:]) % share == 0][: given.asked]
        who, what = [users[n] for n in at], [items[n] for n in at]
        took, lists = asked(Answers(state, state.settings, SYSTEM_CLOCK), who, text_of(share))
        selection.ALL_SCORED = SHOP_ITEMS
        try:  # without a filter it is one that all pass
            every = "true" if share == 1 else text_of(share)
            slow, best = asked(Answers(state, state.settings, SYSTEM_CLOCK), who, every)
        finally:
            selection.ALL_SCORED = few
        gap = ndcg(lists, what) - ndcg(best, what)
        full = np.mean([len(own) == K for own in lists])
        both = np.mean([len({*a} & {*b}) / max(len(b), 1) for a, b in zip(lists, best, strict=True)])
        lines.append(
            f"| {1 / share:.1%} | {SHOP_ITEMS // share:,} | {len(at):,} | {np.median(took):.2f} | "
            f"{np.quantile(took, 0.99):.2f} | {full:.1%} | {ndcg(lists, what).mean():.4f} | "
            f"{ndcg(best, what).mean():.4f} ({gap.mean():+.4f} ± {gap.std() / len(gap) ** 0.5:.4f}) | "
            f"{np.median(slow):.2f} | {both:.1%} |"
        )
        print(lines[-1], flush=True)
    command = "python -m tests.benchmarks.selectivity"
    RESULTS.write_text(page_of("Filters of every selectivity", __doc__ or "", command, ["", *lines]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
