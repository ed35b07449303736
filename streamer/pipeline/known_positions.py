"""Up to where a list knows each partition."""

from collections.abc import Mapping, Sequence

import numpy as np

from consumers.records import TopicPartition
from streamer.pipeline.epoch import EpochInput
from streamer.pipeline.event_order import Placed
from tgn.graph import I64


def by_partition(positions: Mapping[TopicPartition, int], topic: str) -> dict[str, int]:
    """The positions of one topic as records name them."""
    return {str(tp.partition): offset for tp, offset in sorted(positions.items()) if tp.topic == topic}


def places_in(taken: Sequence[Placed], epoch: EpochInput) -> I64:
    """[N] which of the epoch's arrivals each taken one is."""
    if len(taken) == len(epoch.arrivals):
        return np.arange(len(taken))
    place = {(a.partition, a.offset): n for n, a in enumerate(epoch.arrivals)}
    return np.array([place[p.arrival.partition, p.arrival.offset] for p in taken])


def positions_after(
    taken: Sequence[Placed], which: I64, epoch: EpochInput, before: Mapping[TopicPartition, int], topic: str
) -> dict[int, dict[str, int]]:
    """What lists knew: the next offset of every partition after those of the taken events, by their places."""
    reached = by_partition(before, topic)
    after, start = dict[int, dict[str, int]](), 0
    for n, place in zip(which.tolist(), places_in(taken, epoch)[which].tolist(), strict=True):
        for arrival in epoch.arrivals[start : place + 1]:
            partition = str(arrival.partition)
            if partition not in reached:  # they stay in order
                reached = dict(sorted((reached | {partition: 0}).items(), key=lambda entry: int(entry[0])))
            reached[partition] = arrival.offset + 1
        after[n], start = reached.copy(), place + 1
    return after
