"""The figures of a report: what a trace says of quality over time, by who asked, and by what was taken."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from streamer.evaluation.replay import TakenChunk
from streamer.evaluation.replay_trace import Trace, Tracer
from streamer.monitoring.prequential_quality import MEASURES, scores

WINDOWS = 60  # points of a line over time
COUNTS = (("0", 0), ("1", 1), ("2–4", 2), ("5–9", 5), ("10–49", 10), ("50–199", 50), ("200 or more", 200))
MINUTE_MS = 60_000
AGES = (
    ("in its first hour", 0), ("hour to day", 60 * MINUTE_MS), ("day to week", 1440 * MINUTE_MS),
    ("week to 30 days", 7 * 1440 * MINUTE_MS), ("older", 30 * 1440 * MINUTE_MS),
)  # fmt: skip


class Segment(NamedTuple):
    """Mean quality of the measured events that have something in common."""

    name: str
    events: int
    ours: dict[str, float]  # of MEASURES → mean
    popularity: dict[str, float]


class Windows(NamedTuple):
    """Quality in W windows of equally many events."""

    event: np.ndarray  # [W] number of the event in the window's middle
    ours: np.ndarray  # [W, 3] HR, NDCG, MRR
    popularity: np.ndarray  # [W, 3]


class ListWatcher:
    """Watches a replay for a report: the trace, which items are listed when, and how long chunks take."""

    def __init__(self, measured_from: int) -> None:
        self._tracer, self._measured_from = Tracer(), measured_from
        self.listings = np.zeros(0, np.int64)  # [I] places in the lists of measured events
        self.first_listed = np.zeros(0, np.int64)  # [I] event of an item's first listing; −1: never
        self.seconds: list[float] = []  # wall time of each chunk
        self.chunk_events: list[int] = []

    def watch(self, taken: TakenChunk) -> None:
        """Takes note of a chunk."""
        self._tracer.watch(taken)
        self.seconds.append(taken.seconds)
        self.chunk_events.append(len(taken.event))
        listed = taken.outcome.test.item  # [N, K], −1 past a list's end
        if not listed.size:
            return
        room = max(int(listed.max()) + 1 - len(self.listings), 0)
        self.listings = np.pad(self.listings, (0, room))
        self.first_listed = np.pad(self.first_listed, (0, room), constant_values=-1)
        row, column = np.nonzero(listed >= 0)
        items, place = np.unique(listed[row, column], return_index=True)
        fresh = self.first_listed[items] < 0
        self.first_listed[items[fresh]] = taken.event[row[place[fresh]]]
        measured = listed[taken.event >= self._measured_from]
        self.listings += np.bincount(measured[measured >= 0], minlength=len(self.listings))

    def trace(self) -> Trace:
        """The events noted so far."""
        return self._tracer.trace()


def windows(trace: Trace) -> Windows:
    """Quality over the whole stream, the part before the measured one too."""
    at = np.flatnonzero(trace.rank >= 0)
    parts = [part for part in np.array_split(at, min(WINDOWS, max(len(at) // 20, 1))) if len(part)]
    means = [[scores(ranks[part]).mean(axis=0) for part in parts] for ranks in (trace.rank, trace.popularity_rank)]
    middle = np.array([trace.event[part[len(part) // 2]] for part in parts], np.int64)
    return Windows(middle, *(np.array(mean).reshape(-1, len(MEASURES)) for mean in means))


def by_user_age(trace: Trace, measured: np.ndarray) -> list[Segment]:
    """By how many events the user had before. measured: [N] bool."""
    return _binned(trace, measured, earlier(trace.user), COUNTS)


def by_item_popularity(trace: Trace, measured: np.ndarray) -> list[Segment]:
    """By how many events the item had before."""
    return _binned(trace, measured, earlier(trace.item), COUNTS)


def by_item_age(trace: Trace, measured: np.ndarray) -> list[Segment]:
    """By the time since the item's first event; items without one before are left out."""
    order = np.argsort(trace.item, kind="stable")
    starts = np.diff(trace.item[order], prepend=-1) > 0
    first = np.empty_like(order)
    first[order] = order[np.maximum.accumulate(np.where(starts, np.arange(len(order)), 0))]
    age = trace.t - trace.t[first]
    return _binned(trace, measured & (first < np.arange(len(first))), age, AGES)


def by_pair(trace: Trace, measured: np.ndarray) -> list[Segment]:
    """By whether the user had taken this very item before."""
    pair = trace.user.astype(np.int64) << 32 | trace.item
    return _binned(trace, measured, np.minimum(earlier(pair), 1), (("new to the user", 0), ("taken before", 1)))


def rank_shares(trace: Trace, measured: np.ndarray, k: int) -> np.ndarray:
    """[k + 1] share of the measured events at ranks 1 … k, and last of those that were missed."""
    count = np.bincount(trace.rank[measured], minlength=k + 1)[: k + 1]
    return np.asarray(np.append(count[1:], count[0]) / max(count.sum(), 1))


def concentration(listings: np.ndarray, items: int) -> list[tuple[float, float]]:
    """(share of the `items` known, share of all listings that the most listed of them get)."""
    most = np.cumsum(np.sort(listings)[::-1])
    if not len(most) or not most[-1]:
        return []
    return [
        (share, float(most[min(max(round(share * items), 1), len(most)) - 1] / most[-1]))
        for share in (0.01, 0.05, 0.1, 0.25, 0.5)
    ]


def growth(first_event: np.ndarray, events: int) -> tuple[np.ndarray, np.ndarray]:
    """x, y of how many things had come by event x. first_event: event at which each thing came."""
    x = np.linspace(0, events, WINDOWS + 1).astype(np.int64)
    return x, np.searchsorted(np.sort(first_event), x, side="right")


def first_events(trace: Trace) -> np.ndarray:
    """Number of the event that each item came with."""
    return np.asarray(trace.event[earlier(trace.item) == 0])


def earlier(of: np.ndarray) -> np.ndarray:
    """[N] how many earlier entries are equal to this one."""
    order = np.argsort(of, kind="stable")
    starts = np.diff(of[order], prepend=-1) > 0
    place = np.arange(len(of))
    counts = np.empty(len(of), np.int64)
    counts[order] = place - np.maximum.accumulate(np.where(starts, place, 0))
    return counts


def _binned(trace: Trace, measured: np.ndarray, value: np.ndarray, bins: tuple[tuple[str, int], ...]) -> list[Segment]:
    """A group for each bin (name, lowest value) that has events."""
    groups = []
    for name, inside in binned(value, bins, measured):
        means = [
            dict(zip(MEASURES, scores(ranks[inside]).mean(axis=0).tolist(), strict=True))
            for ranks in (trace.rank, trace.popularity_rank)
        ]
        groups.append(Segment(name, int(inside.sum()), *means))
    return groups


def binned(
    value: np.ndarray, bins: tuple[tuple[str, int], ...], among: np.ndarray | bool = True
) -> Iterator[tuple[str, np.ndarray]]:
    """(name, [N] bool) of each bin (name, lowest value) that any of the values is in, of those in `among`."""
    bin_of = np.searchsorted([lowest for _, lowest in bins], value, side="right") - 1
    for n, (name, _) in enumerate(bins):
        inside = among & (bin_of == n)
        if inside.any():
            yield name, inside
