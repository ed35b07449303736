"""Retrieval against the exact answer: python -m tests.benchmarks.retrieval [--streams a,b] writes RETRIEVAL.md.

A stream is taken with everything on; in its last fifth, every STEP events, the items nearest to the next event's user are
looked for three ways in one state: among all known items (exact), among those that `tgn.retrieval` scans, and by faiss'
IVFFlat over all of them, its vectors replaced as items change. IVFFlat has the embeddings alone and gives MORE times as
many, of which the nearest are chosen with popularity. Recall is the share of the exact nearest that a way finds; `held`
how often the event's item is among them. Times are of one thread, one query at a time.
"""

import argparse
import time
from pathlib import Path
from typing import Any, NamedTuple

import faiss
import numpy as np

from consumers.files.interactions import read_interactions
from streamer.engine.engine import Columns, Engine
from streamer.settings import Settings
from tests.benchmarks.records import FOLDER, commit, machine
from tests.benchmarks.streams import STREAMS
from tgn.config import ModelConfig
from tgn.item_embedding import embed
from tgn.model import Model
from tgn.retrieval import ORIGIN, USED, best, scan

RESULTS = Path(__file__).parent / "RETRIEVAL.md"
STEP = 100  # events between two looks
NEAREST = ModelConfig().retrieved
MORE = 4
PROBES = (8, 32)  # of the lists that IVFFlat divides the vectors into
HEAD = (
    "| stream | items | scanned | recall of the scan | {probes} | held: exact | scan | µs: exact | scan | {times} | µs to "
    "replace a vector | vectors an event changes |"
)


class Exact:
    """All items as rows [e's counterpart, standing]: the inner product with [e, w] is what the scan orders by."""

    def __init__(self, model: Model) -> None:
        self._model, self._scale_ms = model, model.config.popularity_scales_ms[-1]
        self._origin = int(model.active.hand[ORIGIN])

    def rows(self, items: np.ndarray) -> np.ndarray:
        """[N, D + 1]"""
        graph = self._model.graph.items
        standing = graph.log_popularity[items, -1] + (graph.last_time[items] - self._origin) / self._scale_ms
        return np.concatenate([self._model.embeddings.candidate[items], standing[:, None]], axis=1, dtype=np.float32)

    def known(self) -> np.ndarray:
        """Items that have been seen."""
        events = self._model.graph.items.events[: len(self._model.items)]
        return np.flatnonzero(events > 0)

    def query(self, taste: np.ndarray) -> np.ndarray:
        """[D + 1]"""
        weight = max(float(self._model.popularity.weight[2:].sum()), 0.0) / 4  # as `tgn.retrieval.scan` does
        return np.append(taste, np.float32(weight)).astype(np.float32)


class Neighbours:
    """faiss IVFFlat with vectors replaced in place."""

    def __init__(self, vectors: np.ndarray, ids: np.ndarray) -> None:
        self.lists = max(int(4 * len(ids) ** 0.5), 1)
        quantizer = faiss.IndexFlatIP(vectors.shape[1])
        self._index: Any = faiss.IndexIVFFlat(quantizer, vectors.shape[1], self.lists, faiss.METRIC_INNER_PRODUCT)
        self._index.train(vectors)
        self._index.add_with_ids(vectors, ids)

    def replace(self, vectors: np.ndarray, ids: np.ndarray) -> None:
        """The items' vectors are these now."""
        self._index.remove_ids(ids)
        self._index.add_with_ids(vectors, ids)

    def nearest(self, query: np.ndarray, probes: int) -> np.ndarray:
        """[MORE · NEAREST] ids or fewer."""
        self._index.nprobe = probes
        found: np.ndarray = self._index.search(query[None], MORE * NEAREST)[1][0]
        return found[found >= 0]


class Looks(NamedTuple):
    """What the looks at one stream gave, one entry a look."""

    scan: list[float]
    probes: list[list[float]]  # by place in PROBES
    held: list[tuple[bool, bool]]  # exact, scan
    exact_s: list[float]
    scan_s: list[float]
    probe_s: list[list[float]]
    replace_s: list[float]  # of one vector
    changed: list[float]  # vectors an event


def measure(name: str) -> str:
    """One row of the table."""
    stream = STREAMS[name]
    table = read_interactions(stream.file(FOLDER))
    engine = Engine(Settings(exclude_seen=stream.flag("--exclude-seen") is not None))
    columns = engine.encode_table(table, np.ones(len(table), np.float32))
    first = int(0.8 * len(table))
    _take(engine, columns, 0, first)
    exact = Exact(engine.model)
    ids = exact.known()
    index = Neighbours(exact.rows(ids)[:, :-1].copy(), ids)
    engine.model.embeddings.dirty[:] = 0
    engine.model.graph.items.dirty[:] = 0
    looks = Looks([], [[] for _ in PROBES], [], [], [], [[] for _ in PROBES], [], [])
    for start in range(first, len(table) - STEP, STEP):
        if engine.model.graph.users.events[columns.user[start]]:
            _look(engine.model, exact, index, int(columns.user[start]), int(columns.item[start]), looks)
        _take(engine, columns, start, start + STEP)
        _follow(engine.model, exact, index, looks)
    mean = [f"{np.mean(values):.3f}" for values in (looks.scan, *looks.probes)]
    held = np.mean(looks.held, axis=0)
    times = [f"{np.median(values) * 1e6:,.0f}" for values in (looks.exact_s, looks.scan_s, *looks.probe_s)]
    return (
        f"| {name} | {len(exact.known()):,} | {int(engine.model.active.hand[USED]):,} | {' | '.join(mean)} | {held[0]:.3f} | "
        f"{held[1]:.3f} | {' | '.join(times)} | {np.median(looks.replace_s) * 1e6:.1f} | {np.mean(looks.changed):.1f} |"
    )


def _take(engine: Engine, columns: Columns, start: int, end: int) -> None:
    for n in range(start, end, 5_000):
        engine.take(Columns(*(column[n : min(n + 5_000, end)] for column in columns)), publish=False)


def _look(model: Model, exact: Exact, index: Neighbours, user: int, item: int, looks: Looks) -> None:
    taste = np.zeros(model.config.embedding, np.float32)
    embed(model.embeddings, model.graph.users, np.int32(user), taste)
    ids = exact.known()
    rows, query = exact.rows(ids), exact.query(taste)
    started = time.perf_counter()
    score = rows @ query
    nearest = ids[np.argpartition(-score, min(NEAREST, len(ids) - 1))[:NEAREST]]
    looks.exact_s.append(time.perf_counter() - started)
    found = np.zeros(model.config.active, np.int32)
    started = time.perf_counter()
    scan(model.active, model.popularity, taste)
    found = found[: best(model.active, found, NEAREST)]
    looks.scan_s.append(time.perf_counter() - started)
    looks.scan.append(np.isin(nearest, found).mean())
    looks.held.append((item in nearest, item in found))
    for n, probes in enumerate(PROBES):
        started = time.perf_counter()
        near = index.nearest(taste, probes)
        near = near[np.argsort(-(rows[np.searchsorted(ids, near)] @ query))[:NEAREST]]
        looks.probe_s[n].append(time.perf_counter() - started)
        looks.probes[n].append(np.isin(nearest, near).mean())


def _follow(model: Model, exact: Exact, index: Neighbours, looks: Looks) -> None:
    changed = np.flatnonzero(model.embeddings.dirty | model.graph.items.dirty)
    changed = changed[model.graph.items.events[changed] > 0]
    vectors = exact.rows(changed)[:, :-1].copy()
    started = time.perf_counter()
    index.replace(vectors, changed)
    looks.replace_s.append((time.perf_counter() - started) / len(changed))
    looks.changed.append(len(changed) / STEP)
    model.embeddings.dirty[:] = 0
    model.graph.items.dirty[:] = 0


def main() -> int:
    parser = argparse.ArgumentParser("python -m tests.benchmarks.retrieval")
    parser.add_argument("--streams", default="deskdrop,amazon-beauty,movietweetings,globo-news")
    faiss.omp_set_num_threads(1)
    head = HEAD.format(
        probes=" | ".join(f"IVFFlat, {n} lists" for n in PROBES), times=" | ".join(f"IVFFlat {n}" for n in PROBES)
    )
    lines = [head, "|---" * (head.count("|") - 1) + "|"]
    for name in parser.parse_args().streams.split(","):
        lines.append(measure(name))
        print(lines[-1], flush=True)
    RESULTS.write_text(
        f"# Retrieval against the exact answer\n\n`python -m tests.benchmarks.retrieval`, the {NEAREST} nearest items, "
        f"commit {commit()}, {machine()}.\n\n" + "\n".join(lines) + "\n"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
