"""Takeover after a rebalance: what the former owner of a gained partition took is taken into this state too.

Nothing of it is published. It goes on in pieces between the epochs of the partitions that are here already, so that
these wait for a piece at most; a partition is read and published for once it has been taken over.
"""

import logging
from dataclasses import dataclass

from consumers.counted import counted
from consumers.errors import PositionGone
from consumers.log import Log, Reader
from consumers.records import TopicPartition
from streamer.pipeline.arrivals import Arrival
from streamer.pipeline.ingest import Intake
from streamer.runtime.clock import SYSTEM_CLOCK, Clock

CHUNK = 1_000  # records taken between two epochs of the other partitions
_logger = logging.getLogger(__name__)


@dataclass
class _Partition:
    position: int  # next offset to take
    committed: int  # where the group goes on
    reader: Reader


class Takeover:
    """Partitions on their way into the state, one after the other.

    Args:
        chunk: the most records of one piece.
        from_start: where the log no longer has the next record, the first that it has follows, and that is said; else
            PositionGone.
    """

    def __init__(self, log: Log, intake: Intake, chunk: int, from_start: bool, clock: Clock = SYSTEM_CLOCK) -> None:
        self._log, self._intake, self._clock = log, intake, clock
        self._chunk, self._from_start = min(chunk, CHUNK), from_start
        self._coming: dict[TopicPartition, _Partition] = {}

    def __len__(self) -> int:
        return len(self._coming)

    def partitions(self) -> frozenset[TopicPartition]:
        """Those on their way."""
        return frozenset(self._coming)

    def begin(self, tp: TopicPartition, position: int, committed: int) -> None:
        """Puts a partition in line: `position` is where the state is, `committed` where the group goes on."""
        _logger.info("partition %d: taking over %s", tp.partition, counted(committed - position, "interaction"))
        start = self._log.starts(tp.topic)[tp.partition]
        if start > position:
            gone = f"{tp.topic}[{tp.partition}] begins at {start}, the state goes on at {position}"
            if not self._from_start:
                raise PositionGone(f'{gone}; set on_position_gone = "earliest" to go on with what there is')
            _logger.warning("%s: %s lost to it", gone, counted(start - position, "record", verb="are"))
            position = min(start, committed)
        self._coming[tp] = _Partition(position, committed, self._log.reader({tp: position}))

    def drop(self, tp: TopicPartition) -> None:
        """Another worker has the partition now: what was taken of it stays."""
        if partition := self._coming.pop(tp, None):
            partition.reader.close()
            if left := partition.committed - partition.position:
                _logger.info("partition %d: gone with %d interactions not taken over", tp.partition, left)

    def next(self) -> list[Arrival]:
        """A piece of the first partition; empty where nothing has come yet.

        What lies in the future by the wall clock is refused now as it was then: it would move the clock of the state.
        """
        if not self._coming:
            return []
        tp, partition = next(iter(self._coming.items()))
        records = [r for r in partition.reader.read(self._chunk, 0.05) if r.offset < partition.committed]
        if records:
            partition.position = records[-1].offset + 1
        elif tp in partition.reader.at_end():
            partition.position = partition.committed  # the log ends before: there is nothing more to take
        now_ms = self._clock.now_ms()
        return [self._intake.arrival(record, now_ms) for record in records]

    def finished(self) -> dict[TopicPartition, int]:
        """The partitions that the state has caught up with since the last call, and where the group goes on."""
        done = {tp: p.committed for tp, p in self._coming.items() if p.position >= p.committed}
        for tp in done:
            self.drop(tp)
        return done

    def close(self) -> None:
        """Closes what is open."""
        for tp in list(self._coming):
            self.drop(tp)
