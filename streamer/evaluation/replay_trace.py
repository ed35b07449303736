"""What a replay did, event by event: what comparisons and reports are made from."""

from typing import NamedTuple

import numpy as np

from streamer.evaluation.replay import TakenChunk


class Trace(NamedTuple):
    """The N events that counted, in order."""

    event: np.ndarray  # [N] int64 number of the event in the stream
    user: np.ndarray  # [N] int32 node index
    item: np.ndarray  # [N] int32
    t: np.ndarray  # [N] int64 epoch ms
    rank: np.ndarray  # [N] int32 as in Outcome
    popularity_rank: np.ndarray  # [N] int32


class Tracer:
    """Watches a replay and keeps its trace: 32 bytes an event."""

    def __init__(self) -> None:
        self._chunks: list[Trace] = []

    def watch(self, taken: TakenChunk) -> None:
        """Takes note of a chunk."""
        columns, outcome = taken.columns, taken.outcome
        self._chunks.append(
            Trace(
                event=taken.event,
                user=columns.user,
                item=columns.item,
                t=columns.t,
                rank=outcome.rank,
                popularity_rank=outcome.popularity_rank,
            )
        )

    def trace(self) -> Trace:
        """Everything noted so far."""
        if not self._chunks:
            return Trace(*(np.zeros(0, np.int64) for _ in Trace._fields))
        return Trace(*map(np.concatenate, zip(*self._chunks, strict=True)))
