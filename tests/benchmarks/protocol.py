"""How a peer is measured: the order of score, learn and observe stands here and nowhere else."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.benchmarks.peers.contract import Peer, World
from tests.benchmarks.streams import Stream

MEASURED_SHARE = 0.2
MOST_REFITS = 24  # of a peer in the measured part


@dataclass(frozen=True)
class Events:
    """A stream as indices; users and items are numbered in the order of their ids' UTF-8 bytes."""

    user: np.ndarray  # [N] int64
    item: np.ndarray  # [N] int64
    t: np.ndarray  # [N] int64 epoch ms, in order
    users: list[str]
    items: list[str]

    def __len__(self) -> int:
        return len(self.t)


@dataclass(frozen=True)
class Plan:
    """When to score and when to learn; `fit_at` and `measured_from` are event numbers."""

    k: int
    exclude_seen: bool
    measured_from: int
    fit_at: int  # the first fit sees all events before this one
    frozen: bool = False  # no weights move after the first fit; state goes on
    stale: int = 1  # events of a block are scored before any of them is observed


@dataclass
class Measured:
    """What a run gave."""

    lists: list[np.ndarray]  # of events measured_from, measured_from + 1, …: items, best first
    fit_seconds: float = 0.0
    measured_seconds: float = 0.0  # scoring, refits and observing of the measured part
    refit_every_ms: float | None = None  # the interval really used
    refits: list[float] = field(default_factory=list)  # seconds of each after the first fit


def prequential(peer: Peer, events: Events, plan: Plan, advance: Callable[[int], None] = lambda n: None) -> Measured:
    """Takes the events in blocks of `stale` (1: one by one). Before the first block that reaches `fit_at`, the first fit.

    1. score: a list for each measured event of the block, from what was observed before the block
    2. learn: a refit, where one is due; it sees what was observed before the block
    3. observe: each event of the block
    """
    user, item, t = events.user.tolist(), events.item.tolist(), events.t.tolist()
    out = Measured([], refit_every_ms=_interval(peer, events, plan))
    fitted_at: int | None = None
    measuring = 0.0
    for first in range(0, len(events), plan.stale):
        stop = min(first + plan.stale, len(events))
        if fitted_at is None and stop > plan.fit_at:
            out.fit_seconds, fitted_at = _timed(peer, t[first]), t[first]
        if not measuring and stop > plan.measured_from:
            measuring = time.perf_counter()
        for n in range(max(first, plan.measured_from), stop):
            out.lists.append(peer.recommend(user[n], t[n], plan.k))
        if fitted_at is not None and out.refit_every_ms and t[stop - 1] - fitted_at >= out.refit_every_ms:
            out.refits.append(_timed(peer, t[stop - 1]))
            fitted_at = t[stop - 1]
        for n in range(first, stop):
            peer.observe(user[n], item[n], t[n])
        advance(stop - first)
    out.measured_seconds = time.perf_counter() - measuring
    return out


def _interval(peer: Peer, events: Events, plan: Plan) -> float | None:
    """Event time between refits, ms: the peer's own, stretched so that at most MOST_REFITS fall into the measured part."""
    if plan.frozen or peer.refit_every_ms is None:
        return None
    span = float(events.t[-1] - events.t[plan.measured_from])
    return max(float(peer.refit_every_ms), span / MOST_REFITS)


def _timed(peer: Peer, now: int) -> float:
    started = time.perf_counter()
    peer.refit(now)
    return time.perf_counter() - started


def read_events(path: Path) -> Events:
    """A file of interactions in stable time order, as the judge numbers them."""
    table = pq.read_table(path, columns=["user_id", "item_id", "timestamp"])
    t = table["timestamp"].to_numpy()
    order = np.argsort(t, kind="stable")
    user, users = _indices(table["user_id"])
    item, items = _indices(table["item_id"])
    return Events(user[order], item[order], t[order], users, items)


def _indices(column: pa.ChunkedArray) -> tuple[np.ndarray, list[str]]:
    coded = column.cast(pa.string()).combine_chunks().dictionary_encode()
    ids = coded.dictionary.to_pylist()
    order = sorted(range(len(ids)), key=lambda n: ids[n])  # code points sort as their UTF-8 bytes do
    place = np.empty(len(ids), np.int64)
    place[order] = np.arange(len(ids))
    return place[coded.indices.to_numpy()], [ids[n] for n in order]


def plan_of(stream: Stream, events: Events) -> Plan:
    """The plan of a stream's flags. Where weights are frozen, the first fit is at that time quantile."""
    learn_until = stream.flag("--learn-until")
    first_measured = first_measured_of(stream, events.t)
    return Plan(
        k=int(stream.flag("--k") or 20),
        exclude_seen=stream.flag("--exclude-seen") is not None,
        measured_from=first_measured,
        fit_at=_at_time_quantile(events.t, float(learn_until)) if learn_until else first_measured,
        frozen=learn_until is not None,
        stale=int(stream.flag("--stale") or 1),
    )


def first_measured_of(stream: Stream, t: np.ndarray) -> int:
    """Number of the first event that the judge measures."""
    if "--after-time-quantile" in stream.judge:
        return _at_time_quantile(t, float(stream.judge[stream.judge.index("--after-time-quantile") + 1]))
    return int(len(t) * (1 - MEASURED_SHARE))


def _at_time_quantile(t: np.ndarray, quantile: float) -> int:
    """Number of the first event later than the quantile."""
    return int((t <= np.quantile(t, quantile)).sum())


def world_of(events: Events, plan: Plan, seed: int = 0) -> World:
    """What the peer may know beforehand."""
    return World(len(events.users), len(events.items), plan.exclude_seen, seed)


def write_lists(path: Path, measured: Measured, events: Events, plan: Plan) -> None:
    """Parquet of `event`, `items` for the judge: the measured events only."""
    sizes = [len(items) for items in measured.lists]
    offsets = pa.array(np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32))
    listed = pa.DictionaryArray.from_arrays(
        pa.array(np.concatenate(measured.lists).astype(np.int32)), pa.array(events.items, pa.string())
    )
    numbers = pa.array(np.arange(plan.measured_from, plan.measured_from + len(sizes)))
    lists = pa.ListArray.from_arrays(offsets, listed.cast(pa.string()))
    pq.write_table(pa.table({"event": numbers, "items": lists}), path)
