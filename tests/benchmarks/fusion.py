"""Content in the graph family: python -m tests.benchmarks.fusion SCRATCH writes FUSION.md.

LightGCN on what came before 80 % of movietweetings, without content and with titles (by WordLlama) and categories fused
in each way; with the words of titles hashed beside it, as the live model has them. Recall@20 is of the interactions that
the training holds out. Cold: the first ratings after that of films nobody had rated, by users whom the model knows, ranked
among all films that nobody had rated: the share whose film is among the first ten.
"""

import sys
import time
from itertools import product
from pathlib import Path

import numpy as np
import torch

from consumers.event_weights import EventWeights
from consumers.files.interactions import read_interactions, read_items
from streamer.embeddings.registry import read_version
from streamer.embeddings.training import Work, trained
from streamer.embeddings.training_data import gather_source, make_content
from streamer.features.item_content import hash_content
from streamer.settings import Settings
from tests.benchmarks.records import commit, machine
from tests.conftest import DATA
from tgn.family.fusion import FUSIONS, Fusion
from tgn.outside_vectors import SIZE

RESULTS = Path(__file__).parent / "FUSION.md"
SHARE, AT, PASSES = 0.8, 10, 8


def measured(scratch: Path, how: Fusion | None, hashed: bool) -> str:
    """One row of the table. hashed: words of titles are, in the place of WordLlama's vectors."""
    folder, started = DATA / "movietweetings", time.perf_counter()
    items = list(read_items(folder / "items.parquet"))
    known = gather_source(
        read_interactions(folder / "interactions.parquet"), EventWeights(Settings().event_weights), items
    )
    events = known.events
    until = int(events.t[int(len(events.t) * SHARE)])
    content = make_content(known, items) if how else None
    if hashed:
        content = np.zeros((len(known.items), SIZE), np.float32)
        content[known.items.encode([item.item_id for item in items])] = [hash_content(item) for item in items]
    work = Work("lightgcn", passes=PASSES, until_ms=until, fusion=how)
    manifest = trained(known, work, scratch, False, 1, lambda passes: None, content)
    users, vectors = read_version(scratch, manifest["version"])
    user = dict(zip(users.ids, users.vector, strict=True))
    item = dict(zip(vectors.ids, vectors.vector, strict=True))
    touched = set(events.item[events.t < until].tolist())
    cold = np.array([n for n in range(len(known.items)) if n not in touched])
    rows = np.array([item.get(known.items.ids[n], np.zeros(work.size)) for n in cold])
    place = {int(n): row for row, n in enumerate(cold)}
    hits, first = [], set[int]()
    for n in np.flatnonzero(events.t >= until).tolist():
        film = int(events.item[n])
        if film in touched or film in first:
            continue
        first.add(film)
        taste = user.get(known.users.ids[events.user[n]])
        if taste is not None:
            score = rows @ taste
            hits.append((score >= score[place[film]]).sum() <= AT)  # ties count against it
    return (
        f"| {how or 'none'}{', words hashed' if hashed else ''} | {manifest['recall']:.4f} | {np.mean(hits):.4f} | {len(hits):,} of {len(cold):,} films | "
        f"{AT / len(cold):.4f} | {time.perf_counter() - started:.0f} |"
    )


def main(scratch: Path) -> None:
    torch.set_num_threads(1)
    lines = ["| fusion | recall@20 | cold, HR@10 | first ratings | by chance | seconds |", "|---|---|---|---|---|---|"]
    for how, hashed in ((None, False), *product(FUSIONS, (False, True))):
        lines.append(measured(scratch, how, hashed))
        print(lines[-1], flush=True)
    head = ["# Content in the graph family", "", (__doc__ or "").split("\n\n", 1)[1].strip(), ""]
    RESULTS.write_text("\n".join([*head, f"Commit {commit()}, {machine()}, at most {PASSES} passes.", "", *lines, ""]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
