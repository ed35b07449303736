"""Decoded records of several partitions in one order: by event time across partitions, by offset within each."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from heapq import heapify, heappop, heapreplace
from math import inf
from typing import NamedTuple

from consumers.dead_letter import DeadLetter, Reason
from consumers.records import Record
from consumers.schemas import Interaction, Merge


class Arrival(NamedTuple):
    """A decoded record that waits for its turn."""

    timestamp: int  # event time, epoch ms; of a merge or a dead letter that of the record before it
    partition: int
    offset: int
    payload: Interaction | Merge | DeadLetter
    record: Record  # as it came


def refused_merge(arrival: Arrival) -> Arrival:
    """A merge that came to a worker that does not have the session's partition."""
    message = "the session's partition is another worker's; merging across workers is not possible yet"
    return arrival._replace(payload=DeadLetter(arrival.record, Reason.OTHER_WORKER, message))


def in_order(arrivals: Iterable[Arrival]) -> list[Arrival]:
    """Arrivals of any order as they are to be taken, see `merged`."""
    queues = defaultdict[int, list[Arrival]](list)
    for arrival in sorted(arrivals, key=lambda one: one.offset):
        queues[arrival.partition].append(arrival)
    return merged(queues.values())


def merged(queues: Iterable[Iterable[Arrival]], horizon: float = inf, limit: float = inf) -> list[Arrival]:
    """The first arrivals by (time, partition, offset); a late one counts as of the time its partition had reached.

    So a partition's own order is never changed, and the order depends on nothing but the records. What is merged costs
    the same however much waits behind it.

    Args:
        queues: of each partition, in the order of offsets.
        horizon: event time up to which arrivals are taken; a partition's later ones wait.
        limit: how many at most.
    """
    heads = list[tuple[int, int, Arrival, Iterator[Arrival]]]()
    for queue in queues:
        rest = iter(queue)
        first = next(rest, None)
        if first is not None and first.timestamp <= horizon:
            heads.append((max(first.timestamp, 0), first.partition, first, rest))
    heapify(heads)
    taken = list[Arrival]()
    while heads and len(taken) < limit:
        reached, partition, arrival, rest = heads[0]
        taken.append(arrival)
        following = next(rest, None)
        if following is None or following.timestamp > horizon:
            heappop(heads)
        else:
            heapreplace(heads, (max(reached, following.timestamp), partition, following, rest))
    return taken
