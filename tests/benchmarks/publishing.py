"""Publish when it matters: python -m tests.benchmarks.publishing [--streams a,b] [--events N] writes PUBLISHING.md.

A stream is replayed, and the list of a user is made anew after each of the user's events. It is published where its
distance from the one published last is over `publish_distance` (one minus rank-biased overlap; 0: any change). What a
subscriber holds at the user's next event is judged by what the user then takes, over the last fifth of the events.
Beside it stands the list asked for at that moment. Bytes are those of the records on `recommendations`, without headers.
One pass serves all distances: what is published changes no list.
"""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from consumers.files.interactions import read_interactions
from consumers.schemas import AsOf
from streamer.engine.engine import Columns, Engine
from streamer.evaluation import measures
from streamer.evaluation.replay import ReplayOptions, TakenChunk, first_measured, replay
from streamer.lists.distance import distance
from streamer.lists.publisher import Publisher
from streamer.settings import Settings
from tests.benchmarks.curve_page import write_page
from tests.benchmarks.records import FOLDER
from tests.benchmarks.streams import STREAMS
from tgn.graph import I32
from tgn.prequential import Outcome

RESULTS = Path(__file__).parent / "PUBLISHING.md"
DISTANCES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
K, JUDGED, CHUNK, SAMPLED = (
    20,
    10,
    2_000,
    5,
)  # items of a list; of them in NDCG; events; lists a chunk whose bytes count


class EveryList(Engine):
    """Publishes after every event, as a worker does whose epochs have one event of a user each."""

    def take(self, columns: Columns, **more: Any) -> Outcome:
        return super().take(columns, **more | {"publish": np.ones(len(columns.user), np.uint8)})


class Held:
    """What subscribers hold where lists are published from a distance on."""

    def __init__(self, threshold: float) -> None:
        self.threshold, self.published = threshold, 0
        self._lists = np.full((0, K), -1, np.int32)  # [U, K]
        self.ndcg: list[np.ndarray] = []
        self.apart: list[np.ndarray] = []
        self.had: list[np.ndarray] = []  # whether there was a list at all

    def take(self, users: I32, items: I32, lists: I32, measured: np.ndarray) -> None:
        """Events [N] of users who are all different: what each held is judged, then the list after the event comes."""
        if int(users.max()) >= len(self._lists):
            more = 2 * int(users.max()) + 1 - len(self._lists)
            self._lists = np.concatenate([self._lists, np.full((more, K), -1, np.int32)])
        held = self._lists[users]
        apart = distance(held, lists)
        hits = held[measured, :JUDGED] == items[measured, None]
        self.ndcg.append(measures.ndcg(hits, np.ones(len(hits), np.int64)))
        self.apart.append(apart[measured])
        self.had.append(held[measured, 0] >= 0)
        sent = (apart > self.threshold) | (held[:, 0] < 0)
        self.published += int(sent.sum())
        self._lists[users[sent]] = lists[sent]


class Watcher:
    """Follows a replay for every distance."""

    def __init__(self, settings: Settings, engine: Engine, first: int) -> None:
        self._engine, self._first = engine, first
        self._publisher = Publisher(settings, engine.model, lambda user: {})
        self.held = [Held(threshold) for threshold in DISTANCES]
        self.asked: list[np.ndarray] = []
        self.bytes: list[int] = []

    def watch(self, chunk: TakenChunk) -> None:
        """Takes a chunk in rounds, each with one event of each of its users."""
        columns, lists = chunk.columns, _padded(chunk.outcome.published.item)
        measured = chunk.event >= self._first
        asked = measures.ndcg(
            _padded(chunk.outcome.test.item)[:, :JUDGED] == columns.item[:, None], np.ones(len(lists), np.int64)
        )
        for n in range(0, len(columns.user), max(1, len(columns.user) // SAMPLED)):
            user, as_of = (
                self._engine.model.users.ids[columns.user[n]],
                AsOf(int(columns.t[n]), {"0": int(chunk.event[n])}),
            )
            record = self._publisher.make_list(f"0-{chunk.event[n]}", user, as_of, chunk.outcome, n)
            self.bytes.append(len(record.key or b"") + len(record.value or b""))
        turn = _turns(columns.user)
        for round_ in range(int(turn.max()) + 1):
            rows = np.flatnonzero(turn == round_)
            self.asked.append(asked[rows[measured[rows]]])
            for held in self.held:
                held.take(columns.user[rows], columns.item[rows], lists[rows], measured[rows])


def _padded(items: I32) -> I32:
    return np.pad(items, ((0, 0), (0, K - items.shape[1])), constant_values=-1) if items.shape[1] < K else items[:, :K]


def _turns(users: I32) -> np.ndarray:
    """[N] how many events of the same user come before each."""
    order = np.argsort(users, kind="stable")
    starts = np.flatnonzero(np.diff(users[order], prepend=-1))
    turn = np.empty(len(users), np.int64)
    turn[order] = np.arange(len(users)) - np.repeat(starts, np.diff([*starts, len(users)]))
    return turn


def measure(name: str, events: int) -> Iterator[str]:
    """The part of one stream."""
    stream, started = STREAMS[name], time.process_time()
    table = read_interactions(stream.file(FOLDER)).slice(0, events)
    settings = Settings(exclude_seen=stream.flag("--exclude-seen") is not None, k=K)
    engine = EveryList(settings)
    with tempfile.TemporaryDirectory() as folder:
        options = ReplayOptions(chunk=CHUNK, last_lists_out=Path(folder) / "last")
        watcher = Watcher(settings, engine, first_measured(len(table), options))
        replay(table, settings, options, watch=watcher.watch, engine=engine)
    asked, each = np.concatenate(watcher.asked), float(np.mean(watcher.bytes))
    every, held = watcher.held[0], np.concatenate(watcher.held[0].ndcg)
    whole, had = held.mean(), np.concatenate(every.had)
    yield f"\n## {name}\n"
    yield (
        f"{len(table):,} events, lists of {K}; a record has {each:,.0f} bytes. NDCG@{JUDGED} of the list asked for at "
        f"each of the last {len(asked):,} events: {asked.mean():.4f}; where a list is held ({had.mean():.0%} of them) "
        f"{asked[had].mean():.4f}, and the one held {held[had].mean():.4f}. {time.process_time() - started:.0f} s of CPU.\n"
    )
    yield "| `publish_distance` | lists published | MB | of the bytes | NDCG@10 of what is held | lost | distance from the newest, mean |"
    yield "|---|---|---|---|---|---|---|"
    for held in watcher.held:
        ndcg = np.concatenate(held.ndcg)
        yield (
            f"| {held.threshold:g} | {held.published:,} | {held.published * each / 1e6:,.1f} | "
            f"{held.published / every.published:.1%} | {ndcg.mean():.4f} | {1 - ndcg.mean() / whole:.1%} | "
            f"{np.concatenate(held.apart).mean():.3f} |"
        )


if __name__ == "__main__":
    raise SystemExit(write_page("publishing", "Publish when it matters", __doc__ or "", measure, RESULTS))
