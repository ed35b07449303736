"""How a peer is measured: the order of score, learn and observe stands here and nowhere else."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from streamer.evaluation.peers.contract import Peer, World

MOST_REFITS = 24  # of a peer in the measured part


@dataclass(frozen=True)
class PeerEvents:
    """A stream as indices, in order."""

    user: np.ndarray  # [N] int64
    item: np.ndarray  # [N] int64
    t: np.ndarray  # [N] int64 epoch ms, in order
    users: list[str]  # ids by index; no peer reads them
    items: list[str]

    def __len__(self) -> int:
        return len(self.t)


@dataclass(frozen=True)
class PeerPlan:
    """When to score and when to learn; `fit_at` and `measured_from` are event numbers."""

    k: int
    exclude_seen: bool
    measured_from: int
    fit_at: int  # the first fit sees all events before this one
    frozen: bool = False  # no weights move after the first fit; state goes on
    stale: int = 1  # events of a block are scored before any of them is observed


@dataclass
class PeerLists:
    """What a run gave."""

    lists: list[np.ndarray]  # of events measured_from, measured_from + 1, …: items, best first
    fit_seconds: float = 0.0
    measured_seconds: float = 0.0  # scoring, refits and observing of the measured part
    refit_every_ms: float | None = None  # the interval really used
    refits: list[float] = field(default_factory=list)  # seconds of each after the first fit


def prequential(
    peer: Peer, events: PeerEvents, plan: PeerPlan, advance: Callable[[int], None] = lambda n: None
) -> PeerLists:
    """Takes the events in blocks of `stale`, 1: one by one. Before the first one that reaches `fit_at`, the first fit.

    1. score: a list for each measured event of the block, from what was observed before the block
    2. learn: a refit, where one is due; it sees what was observed before the block
    3. observe: each event of the block
    """
    user, item, t = events.user.tolist(), events.item.tolist(), events.t.tolist()
    out = PeerLists([], refit_every_ms=_interval(peer, events, plan))
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


def _interval(peer: Peer, events: PeerEvents, plan: PeerPlan) -> float | None:
    """Event time between refits, ms: the peer's own, stretched so that MOST_REFITS at most are in the measured part."""
    if plan.frozen or peer.refit_every_ms is None:
        return None
    span = float(events.t[-1] - events.t[plan.measured_from])
    return max(float(peer.refit_every_ms), span / MOST_REFITS)


def _timed(peer: Peer, now: int) -> float:
    started = time.perf_counter()
    peer.refit(now)
    return time.perf_counter() - started


def world_of(events: PeerEvents, plan: PeerPlan, seed: int = 0) -> World:
    """What the peer may know beforehand."""
    return World(len(events.users), len(events.items), plan.exclude_seen, seed)
