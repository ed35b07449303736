"""Similar items among very many, by an index and exactly: python -m tests.benchmarks.similar [--items N …] writes SIMILAR.md.

Made-up catalogues, whose vectors of content are points around the middles of 2,000 kinds; nobody has taken anything. The
same questions, of 20 items each, are asked of one state with and without the index of faiss. CPU ms of the worker's
thread. Recall is the share of the exact answer's items that the index gives; `of the score` what its items' cosines add
up to beside those of the exact ones.
"""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from streamer.asking import near_items
from streamer.asking.answers import Answers
from streamer.runtime.clock import SYSTEM_CLOCK
from streamer.settings import Settings
from streamer.state.stream_state import StreamState
from tests.benchmarks.curve_page import page_of
from tests.streamer.asking.asked_world import question
from tgn.graph import LISTED
from tgn.outside_vectors import SIZE, describe

RESULTS = Path(__file__).parent / "SIMILAR.md"
KINDS, ASKED, K, APART = 2_000, 200, 20, 0.15


def state_of(items: int) -> StreamState:
    """A catalogue that nobody has touched."""
    state, rng = StreamState(Settings()), np.random.default_rng(0)
    model = state.engine.model
    model.items.encode([f"i{n}" for n in range(items)])
    model.make_room(0)
    graph = model.graph.items
    graph.first_time[:items], graph.alive[:items] = 1_700_000_000_000, LISTED
    middles = rng.normal(size=(KINDS, SIZE))
    middles /= np.linalg.norm(middles, axis=1, keepdims=True)
    for begin in range(0, items, 100_000):
        nodes = np.arange(begin, min(begin + 100_000, items))
        rows = middles[rng.integers(0, KINDS, len(nodes))] + APART * rng.normal(size=(len(nodes), SIZE))
        describe(model.content, nodes, (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32))
    state.clock_ms = 1_700_000_000_000
    return state


def asked(answers: Answers, items: list[str]) -> tuple[np.ndarray, list[dict[str, float]]]:
    """CPU ms [N], and the scores of each answer's items."""
    took, found = [], []
    for item in items:
        started = time.thread_time_ns()
        answer = answers.answer(question("similar", item_id=item, k=K))
        took.append((time.thread_time_ns() - started) / 1e6)
        found.append({one["item_id"]: one["score"] for one in json.loads(answer.body)["items"]})
    return np.array(took), found


def measure(items: int) -> Iterator[str]:
    """Rows of one catalogue."""
    state = state_of(items)
    answers = Answers(state, state.settings, SYSTEM_CLOCK)
    names = [f"i{n}" for n in np.random.default_rng(1).integers(0, items, ASKED)]
    large, near_items.LARGE = near_items.LARGE, 1 << 62
    asked(answers, names[:3])
    exact_ms, exact = asked(answers, names)
    near_items.LARGE = large
    started = time.process_time()
    asked(answers, names[:1])
    for near in answers._neighbours._near.values():
        near.wait()
    built_s = time.process_time() - started
    asked(answers, names[:3])
    index_ms, by_index = asked(answers, names)
    recall = np.mean([len(a.keys() & b.keys()) / K for a, b in zip(exact, by_index, strict=True)])
    score = sum(sum(b.values()) for b in by_index) / sum(sum(a.values()) for a in exact)
    yield (
        f"| {items:,} | {np.median(exact_ms):.2f} | {np.quantile(exact_ms, 0.99):.2f} | {np.median(index_ms):.2f} | "
        f"{np.quantile(index_ms, 0.99):.2f} | {recall:.3f} | {score:.4f} | {built_s:.1f} |"
    )


def main() -> int:
    parser = argparse.ArgumentParser("python -m tests.benchmarks.similar")
    parser.add_argument("--items", type=int, nargs="*", default=[120_000, 300_000, 1_000_000])
    lines = [
        "| items | exact, p50, ms | p99 | by the index, p50 | p99 | recall@20 | of the score | building it, CPU s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for items in parser.parse_args().items:
        lines += measure(items)
        print(lines[-1], flush=True)
    command = "python -m tests.benchmarks.similar"
    RESULTS.write_text(page_of("Similar items among very many", __doc__ or "", command, ["", *lines]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
