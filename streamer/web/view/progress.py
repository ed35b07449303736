"""How many interactions are on the log, and how far the workers' committed epochs are behind them."""

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

MARK_EVERY_MS, MARKS = 250, 20_000  # at least 83 minutes of marks; what is further behind is told as that


class Lag(NamedTuple):
    """What no committed epoch has taken yet. `ms`: how long the first of it has been waiting; 0 where nothing waits."""

    records: int
    ms: int


@dataclass
class _ReadPartition:
    start: int  # of the log, when it was read first
    end: int  # next offset to read
    committed: int | None = None
    marks: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=MARKS))  # offset, append time in ms


class LogProgress:
    """Offsets of the interactions topic, by partition. One thread notes them, any thread asks."""

    def __init__(self) -> None:
        self._partitions: dict[int, _ReadPartition] = {}

    def clear(self) -> None:
        """Forgets all partitions: the topics are read anew."""
        self._partitions.clear()

    def placed(self, partition: int, start: int, position: int) -> None:
        """A partition will be read from `position`; the log has it from `start`. Told again with a new reader."""
        known = self._partitions.get(partition)
        if known is None or known.end != position:
            committed = known.committed if known is not None and known.end <= position else None
            self._partitions[partition] = _ReadPartition(start, position, committed)

    def appended(self, partition: int, offset: int, at_ms: int) -> None:
        """A record was read."""
        read = self._partitions.setdefault(partition, _ReadPartition(offset, offset))
        read.end = offset + 1
        if not read.marks or at_ms - read.marks[-1][1] >= MARK_EVERY_MS:
            read.marks.append((offset, at_ms))

    def committed(self, partition: int, position: int) -> None:
        """An epoch ended at a position."""
        read = self._partitions.setdefault(partition, _ReadPartition(position, position))
        read.committed = max(position, read.committed or 0)
        while len(read.marks) > 1 and read.marks[1][0] <= read.committed:  # the first may stand before what waits
            read.marks.popleft()

    def records(self) -> int:
        """How many interactions there are on the log, those of before the first one that was read too."""
        return sum(read.end - read.start for read in list(self._partitions.values()))

    def lag(self, now_ms: int) -> Lag | None:
        """What waits; None while no epoch has been seen that ends on any of the partitions."""
        partitions = list(self._partitions.values())
        if all(read.committed is None for read in partitions):
            return None
        waiting, oldest_ms = 0, now_ms
        for read in partitions:
            left = read.end - (read.start if read.committed is None else read.committed)
            if left > 0:
                waiting += left
                oldest_ms = min(oldest_ms, read.marks[0][1] if read.marks else now_ms)
        return Lag(waiting, max(now_ms - oldest_ms, 0))
