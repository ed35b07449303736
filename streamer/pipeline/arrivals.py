"""Decoded records of several partitions in one order: by event time across partitions, by offset within each."""

from typing import NamedTuple

from consumers.dead_letter import DeadLetter
from consumers.records import Record
from consumers.schemas import Interaction


class Arrival(NamedTuple):
    """A decoded record that waits for its turn."""

    timestamp: int  # event time, epoch ms; of a dead letter that of the record before it
    partition: int
    offset: int
    payload: Interaction | DeadLetter
    record: Record  # as it came


def in_order(arrivals: list[Arrival]) -> list[Arrival]:
    """By (time, partition, offset), where a late record counts as of the time its partition had reached.

    So a partition's own order is never changed, and the order depends on nothing but the records.
    """
    reached: dict[int, int] = {}
    keyed = []
    for arrival in sorted(arrivals, key=lambda a: (a.partition, a.offset)):
        timestamp = max(arrival.timestamp, reached.get(arrival.partition, 0))
        reached[arrival.partition] = timestamp
        keyed.append((timestamp, arrival.partition, arrival.offset, arrival))
    keyed.sort(key=lambda entry: entry[:3])
    return [entry[3] for entry in keyed]
