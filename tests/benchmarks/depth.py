"""How a graph model is trained, on MovieLens-100k: python -m tests.benchmarks.depth SCRATCH writes DEPTH.md.

Steps that a message goes, with and without what skips them; the graph whole, in METIS parts and on sampled neighbours;
one process and two. Each training is `freshet train`'s own; recall@20 is of the interactions that it holds out, of the
pass that it keeps. Likeness is the mean cosine of two items drawn at random: 1, and they have all become one.
"""

import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from streamer.embeddings.registry import read_version
from streamer.embeddings.training import Work, trained
from streamer.embeddings.training_data import Source
from streamer.runtime.progress import progress
from tests.benchmarks.family import source
from tests.benchmarks.records import commit, machine
from tests.benchmarks.streams import MOVIELENS, STREAMS

RESULTS = Path(__file__).parent / "DEPTH.md"
PASSES, PAIRS = 8, 20_000


class Trained(NamedTuple):
    """What a training came to."""

    recall: float
    likeness: float
    passes: int
    seconds: float


def train(known: Source, scratch: Path, processes: int, **work: Any) -> Trained:
    """One training."""
    started = time.perf_counter()
    manifest = trained(known, Work(passes=PASSES, **work), scratch, False, processes, lambda passes: None)
    seconds = time.perf_counter() - started
    vector = read_version(scratch, manifest["version"])[1].vector
    unit = vector / np.maximum(np.linalg.norm(vector, axis=1, keepdims=True), 1e-12)
    one, other = np.random.default_rng(0).integers(0, len(unit), (2, PAIRS))
    apart = one != other
    likeness = float((unit[one[apart]] * unit[other[apart]]).sum(1).mean())
    return Trained(manifest["recall"], likeness, manifest["passes"], seconds)


def table(title: str, rows: Iterable[tuple[str, Trained]]) -> list[str]:
    """A table as Markdown, printed as it grows."""
    lines = [f"| {title} | recall@20 | likeness | passes | seconds |", "|---|---|---|---|---|"]
    for name, row in rows:
        lines.append(f"| {name} | {row.recall:.4f} | {row.likeness:.3f} | {row.passes} | {row.seconds:.0f} |")
        print(lines[-1], flush=True)
    return [*lines, ""]


def main(scratch: Path) -> None:
    scratch.mkdir(parents=True, exist_ok=True)
    known = source(STREAMS[MOVIELENS], scratch)
    depths = [(model, layers, skip) for model in ("gcn", "lightgcn") for layers in (2, 4, 8) for skip in (True, False)]
    ways: dict[str, dict[str, Any]] = {
        "whole": {}, "4 METIS parts": {"parts": 4}, "25 neighbours a step": {"fan_out": 25},
    }  # fmt: skip
    with progress("depth", len(depths) + len(ways) + 2, unit="trainings") as advance:

        def one(threads: int, processes: int, **work: Any) -> Trained:
            torch.set_num_threads(threads)
            done = train(known, scratch, processes, **work)
            advance(1)
            return done

        lines = table(
            "model, steps, skip",
            (
                (
                    f"{model}, {layers}, {'with' if skip else 'without'}",
                    one(1, 1, model=model, layers=layers, skip=skip),
                )
                for model, layers, skip in depths
            ),
        )
        lines += table("lightgcn, 3 steps", ((name, one(1, 1, model="lightgcn", **way)) for name, way in ways.items()))
        lines += table(
            "lightgcn on two processors",
            ((f"{n} process{'es' * (n > 1)}", one(2, n, model="lightgcn", layers=2)) for n in (1, 2)),
        )
    head = ["# How a graph model is trained", "", (__doc__ or "").split("\n\n", 1)[1].strip(), ""]
    RESULTS.write_text("\n".join([*head, f"Commit {commit()}, {machine()}, at most {PASSES} passes.", "", *lines]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
