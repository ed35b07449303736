"""Settings, decayed popularity and peers on one stream: whether one is better than another, event by event."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from consumers.counted import counted
from consumers.schemas import Item, User
from streamer.engine.engine import Engine
from streamer.errors import UsageError
from streamer.evaluation.paired_intervals import (
    LEAST_EVENTS,
    LEAST_USERS,
    Difference,
    Discordance,
    compare_ranks,
    discordance,
)
from streamer.evaluation.peers.contract import Peer, World
from streamer.evaluation.peers.measuring import PeerEvents, PeerPlan, prequential
from streamer.evaluation.replay import ReplayOptions, first_measured, replay
from streamer.evaluation.replay_trace import Trace, Tracer
from streamer.evaluation.segments import earlier
from streamer.settings import Settings

MOST_ITEMS = 30_000  # of item-knn, which has a number for each two of them
PEER_CLASSES = {"last-item": "last_item.LastItem", "item-knn": "item_knn.ItemKNN"}


@dataclass(frozen=True)
class Contender:
    """What one of those that are compared did with the N events that counted under its settings."""

    name: str
    settings: Settings
    trace: Trace  # of all of them; rank −1: not measured


class PairedComparison(NamedTuple):
    """B against A, over the events that both measured."""

    a: Contender
    b: Contender
    trace: Trace  # of the events of A: `rank` is that of B, `popularity_rank` that of A
    measured: np.ndarray  # [N] bool: which both measured
    only_a: int  # events that A measured, and B did not
    only_b: int
    differences: list[Difference]
    hits: Discordance


def contender(
    name: str,
    settings: Settings,
    table: pa.Table,
    options: ReplayOptions,
    items: Iterable[Item] = (),
    users: Iterable[User] = (),
    advance: Callable[[int], None] = lambda n: None,
) -> Contender:
    """Replays the stream under settings."""
    tracer, engine = Tracer(), Engine(settings)
    for user in users:
        engine.describe(user)
    replay(table, settings, options, advance, tracer.watch, engine, items)
    trace = tracer.trace()
    early = trace.event < first_measured(len(table), options)
    ranks = (np.where(early, -1, rank).astype(np.int32) for rank in (trace.rank, trace.popularity_rank))
    return Contender(name, settings, Trace(*trace[:4], *ranks))


def popularity(under: Contender) -> Contender:
    """Decayed popularity over the events that a contender measured."""
    return replace(under, name="popularity", trace=under.trace._replace(rank=under.trace.popularity_rank))


def peer(
    name: str, under: Contender, events: int, options: ReplayOptions, advance: Callable[[int], None] = lambda n: None
) -> Contender:
    """A peer, one of PEER_CLASSES, over those of a stream's events that counted for a contender. Raises UsageError."""
    trace, settings = under.trace, under.settings
    users, items = (int(column.max(initial=-1)) + 1 for column in (trace.user, trace.item))
    if name == "item-knn" and items > MOST_ITEMS:
        raise UsageError(f"{name} has a number for each two items: {items:,} are more than {MOST_ITEMS:,}")
    module, cls = PEER_CLASSES[name].split(".")
    make: Callable[[World], Peer] = getattr(import_module(f"streamer.evaluation.peers.{module}"), cls)
    t = np.maximum.accumulate(trace.t) if len(trace.t) else trace.t
    taken = PeerEvents(trace.user.astype(np.int64), trace.item.astype(np.int64), t, [], [])
    measured_from = int(np.searchsorted(trace.event, first_measured(events, options)))
    fit_at, until = measured_from, options.learn_until
    if until is not None:
        fit_at = int(np.searchsorted(t, np.quantile(t, until), "right"))
    plan = PeerPlan(
        settings.k, settings.exclude_seen, measured_from, fit_at, frozen=until is not None, stale=options.stale
    )
    found = prequential(make(World(users, items, settings.exclude_seen, settings.seed)), taken, plan, advance)
    rank = np.full(len(trace.event), -1, np.int32)
    for n, listed in enumerate(found.lists, measured_from):
        hit = np.flatnonzero(listed == trace.item[n])
        rank[n] = hit[0] + 1 if len(hit) else 0
    if settings.exclude_seen:
        rank[earlier(trace.user.astype(np.int64) << 32 | trace.item) > 0] = -1
    return Contender(name, settings, trace._replace(rank=rank))


def compared(a: Contender, b: Contender, source: str, confidence: float) -> PairedComparison:
    """What B is against A. Raises UsageError where too few events are measured under both."""
    of_b = np.full(1 + max(int(one.trace.event.max(initial=-1)) for one in (a, b)), -1, np.int32)
    of_b[b.trace.event] = b.trace.rank
    mine, theirs = a.trace.rank, of_b[a.trace.event]
    both = (mine >= 0) & (theirs >= 0)
    users = len(np.unique(a.trace.user[both]))
    if both.sum() < LEAST_EVENTS or users < LEAST_USERS:
        raise UsageError(
            f"{source} has {counted(int(both.sum()), 'event')} of {counted(users, 'user')} measured under both: "
            f"at least {LEAST_EVENTS} events of {LEAST_USERS} users are needed; see --after"
            + ("" if a.settings.exclude_seen == b.settings.exclude_seen else EXCLUDING)
        )
    k, user = min(a.settings.k, b.settings.k), a.trace.user[both]
    return PairedComparison(
        a=a,
        b=b,
        trace=a.trace._replace(rank=np.where(both, theirs, -1), popularity_rank=np.where(both, mine, -1)),
        measured=both,
        only_a=int((mine >= 0).sum() - both.sum()),
        only_b=int((b.trace.rank >= 0).sum() - both.sum()),
        differences=compare_ranks(mine[both], theirs[both], user, k, confidence, a.settings.seed),
        hits=discordance(mine[both], theirs[both], k),
    )


def unlike(a: Settings, b: Settings) -> dict[str, Sequence[object]]:
    """Setting → [A's, B's], of those that differ and are no secret."""
    pairs = {name: [getattr(a, name), getattr(b, name)] for name in Settings.model_fields}
    hidden = {"api_key", "kafka"}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1] and name not in hidden}


EXCLUDING = (
    "; exclude_seen differs: the setting that has it does not measure what the user had before, which leaves those "
    "events out of both"
)
