"""The graph family along real streams: python -m tests.benchmarks.family SCRATCH [MODEL …] writes FAMILY.md.

Each MODEL is trained on what came before 20, 40, 60, 80 and 90 % of each stream, with the items' and users' records as
context nodes; MODEL-daily on what came before the last fifth, then each midnight anew, begun from the day before. Three things are judged on the last fifth: the model by itself (its newest version, all items), the live
model as it is, and the live model with the versions. What is trained is kept in SCRATCH, which a second run goes on with.
"""

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from consumers.event_weights import EventWeights
from consumers.files.interactions import read_interactions, read_items, read_users
from streamer.cli.commands.train import MODELS
from streamer.cli.demo_data import movielens_100k
from streamer.embeddings.training import Work, find_until_ms, trained
from streamer.embeddings.training_data import Source, gather_source
from streamer.embeddings.warm_start import begun_from
from streamer.engine.engine import Engine
from streamer.evaluation.peers.contract import DAY_MS, Peer
from streamer.evaluation.replay import ReplayOptions, replay
from streamer.runtime.progress import progress
from streamer.settings import Settings
from tests.benchmarks.judge import judge, require_judge
from tests.benchmarks.peers import make_peer
from tests.benchmarks.peers.family import Family
from tests.benchmarks.protocol import MEASURED_SHARE, plan_of, prequential, read_events, world_of, write_lists
from tests.benchmarks.records import commit, machine
from tests.benchmarks.streams import MOVIELENS, STREAMS, Stream
from tests.conftest import DATA

RESULTS = Path(__file__).parent / "FAMILY.md"
ON = ("movietweetings", "foursquare-nyc", "amazon-beauty", MOVIELENS)
SHARES = (0.2, 0.4, 0.6, 0.8, 0.9)  # of the events, before each training
PASSES, DAILY_PASSES = 5, 2
DAILY = "-daily"
PEERS = ("decayed-popularity", "item-knn", "als")
LIVE = "live"


class Row(NamedTuple):
    """One cell of the table."""

    hr: float
    ndcg: float
    train_seconds: float | None = None

    def __str__(self) -> str:
        seconds = f", {self.train_seconds:,.0f} s" if self.train_seconds else ""
        return f"{self.hr:.4f} / {self.ndcg:.4f}{seconds}"


def source(stream: Stream, scratch: Path) -> Source:
    """The stream with all that is known of its items and users."""
    table = read_interactions(stream.file(scratch))
    if stream.folder == MOVIELENS:
        files = movielens_100k()
        items, users = read_items(files.items), read_users(files.users)
    else:
        file = DATA / stream.folder / "items.parquet"
        items, users = read_items(file) if file.is_file() else (), ()
    return gather_source(table, EventWeights(Settings().event_weights), items, users)


def train(stream: Stream, model: str, scratch: Path) -> float:
    """Trains what is not there yet; the seconds of all of it."""
    folder = scratch / stream.name / model
    done = folder / "seconds.json"
    if not done.is_file():
        known = source(stream, scratch)
        started = time.perf_counter()
        for work in works(model, known.events.t):
            if model.endswith(DAILY):
                work = replace(work, begun=begun_from(folder, asdict(work), find_until_ms(work, known)))
            trained(known, work, folder, False, 1, lambda passes: None)
        done.write_text(json.dumps(time.perf_counter() - started))
    return float(json.loads(done.read_text()))


def works(model: str, t: np.ndarray) -> list[Work]:
    """What to train along a stream of these times, one after the other."""
    name = model.removesuffix(DAILY)
    if name == model:
        return [Work(name, passes=PASSES, until_ms=int(t[int(len(t) * share)])) for share in SHARES]
    measured = t[int(len(t) * (1 - MEASURED_SHARE)) :]
    midnights = np.unique(measured // DAY_MS)[1:] * DAY_MS
    first = Work(name, passes=PASSES, until_ms=int(measured[0]))
    return [first, *(Work(name, passes=DAILY_PASSES, until_ms=int(midnight)) for midnight in midnights)]


def by_itself(stream: Stream, name: str, scratch: Path) -> Row:
    """A peer, or a model of the family, before the judge."""
    file = stream.file(scratch)
    events = read_events(file)
    plan = plan_of(stream, events)
    world = world_of(events, plan)
    peer: Peer
    if name.removesuffix(DAILY) in MODELS:
        peer = Family(world, events.users, events.items, scratch / stream.name / name)
    else:
        peer = make_peer(name, world)
    lists = scratch / f"{stream.name}.{name}.lists.parquet"
    write_lists(lists, prequential(peer, events, plan), events, plan)
    verdict = judge(stream, file, lists)
    lists.unlink()
    return Row(verdict["hr@10"], verdict["ndcg@10"])


def live(stream: Stream, scratch: Path, versions: Path | None) -> Row:
    """The live model before the judge, with the versions of a folder."""
    settings = Settings(k=20, exclude_seen="--exclude-seen" in stream.flags, embeddings=versions)
    file, lists = stream.file(scratch), scratch / f"{stream.name}.live.lists.parquet"
    replay(read_interactions(file), settings, ReplayOptions(lists_out=lists), engine=Engine(settings))
    verdict = judge(stream, file, lists)
    lists.unlink()
    return Row(verdict["hr@10"], verdict["ndcg@10"])


Found = dict[str, dict[str, Row]]  # row → stream → what it reached


def rows(models: list[str], scratch: Path, found: Found) -> Iterator[tuple[str, str, Row]]:
    """(stream, row, what it reached), each that is not found yet, as soon as it is measured."""
    for name in ON:
        stream = STREAMS[name]
        if stream.missing():
            print(f"{name}: {stream.missing()}", flush=True)
            continue
        for peer in PEERS:
            if name not in found.get(peer, ()):
                yield name, peer, by_itself(stream, peer, scratch)
        if name not in found.get(LIVE, ()):
            yield name, LIVE, live(stream, scratch, None)
        for model in models:
            if name in found.get(f"{LIVE} + {model}", ()):
                continue
            seconds = train(stream, model, scratch)
            yield name, model, by_itself(stream, model, scratch)._replace(train_seconds=seconds)
            yield name, f"{LIVE} + {model}", live(stream, scratch, scratch / stream.name / model)


def main(scratch: Path, models: list[str]) -> None:
    require_judge()
    torch.set_num_threads(1)
    scratch.mkdir(parents=True, exist_ok=True)
    kept = scratch / "rows.json"
    found: Found = {}
    if kept.is_file():
        found = {n: {s: Row(*row) for s, row in of.items()} for n, of in json.loads(kept.read_text()).items()}
    every = len(ON) * (len(PEERS) + 1 + 2 * len(models))
    with progress("family", every - sum(map(len, found.values())), unit="rows") as advance:
        for stream, name, row in rows(models, scratch, found):
            found.setdefault(name, {})[stream] = row
            print(f"{stream}: {name}: {row}", flush=True)
            kept.write_text(json.dumps(found))
            advance(1)
    RESULTS.write_text(render(found, models))


def render(found: Found, models: list[str]) -> str:
    """The table as Markdown."""
    names = [*PEERS, *models, LIVE, *(f"{LIVE} + {model}" for model in models)]
    lines = ["| |" + "|".join(ON) + "|", "|---" * (len(ON) + 1) + "|"]
    lines += [
        f"| {name} |" + "|".join(str(found.get(name, {}).get(stream, "")) for stream in ON) + "|" for name in names
    ]
    return (
        "# The graph family along four streams\n\n"
        f"`python -m tests.benchmarks.family SCRATCH {' '.join(models)}`, commit {commit()}, {machine()}. HR@10 / NDCG@10 "
        "of the outside judge on the last fifth, every item ranked. "
        f"Each model of the family is trained {len(SHARES)} times ({', '.join(f'{share:.0%}' for share in SHARES)} of the "
        f"events, {PASSES} passes, one thread; seconds of all beside it), with `{DAILY}` at 80 % and then each midnight, "
        f"begun from the day before, {DAILY_PASSES} passes. "
        "Whom a version does not know gets decayed popularity: most users of the last fifth of MovieLens-100k have just "
        "come.\n\n" + "\n".join(lines) + "\n"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:] or list(MODELS))
