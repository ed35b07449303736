"""Records of several partitions in one order: by event time across partitions, by offset within each."""

from collections import Counter, deque
from collections.abc import Sequence

from consumers.records import TopicPartition
from streamer.pipeline.arrivals import Arrival, merged
from streamer.runtime.clock import SYSTEM_CLOCK, Clock


class PartitionMerge:
    """Merges partition heads by (timestamp, partition, offset).

    An empty partition that is not at its end holds the others back for at most `alignment_ms`: records of it that are
    older than theirs may be on their way.
    """

    def __init__(self, alignment_ms: int, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._waiting: dict[TopicPartition, deque[Arrival]] = {}
        self._reached: dict[TopicPartition, int] = {}  # the latest event time read of each
        self._alignment_s = alignment_ms / 1000
        self._held_since: float | None = None
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def open(self, tp: TopicPartition) -> None:
        """Merges this partition too from now on, with nothing of it waiting."""
        self.drop(tp)
        self._waiting[tp], self._reached[tp] = deque(), 0

    def drop(self, tp: TopicPartition) -> None:
        """Forgets a partition and what waits of it."""
        self._size -= len(self._waiting.pop(tp, ()))
        self._reached.pop(tp, None)

    def partitions(self) -> frozenset[TopicPartition]:
        """Those that are merged."""
        return frozenset(self._waiting)

    def add(self, tp: TopicPartition, arrivals: Sequence[Arrival]) -> None:
        """Queues records of one partition, in offset order. What comes in restarts the wait for what does not."""
        self._held_since = None
        self._waiting[tp].extend(arrivals)
        self._reached[tp] = max([self._reached[tp], *(arrival.timestamp for arrival in arrivals)])
        self._size += len(arrivals)

    def full(self, limit: int) -> list[TopicPartition]:
        """The partitions that have `limit` records waiting: reading more of them would only fill memory."""
        return [tp for tp, waiting in self._waiting.items() if len(waiting) >= limit]

    def release(self, at_end: frozenset[TopicPartition], limit: int) -> list[Arrival]:
        """Up to `limit` records whose turn has come, in the order in which they are to be taken."""
        horizon = self._horizon(at_end)
        if horizon is None:
            return []
        released = merged(self._waiting.values(), horizon, limit)
        counts = Counter(arrival.partition for arrival in released)
        for tp, waiting in self._waiting.items():
            for _ in range(counts[tp.partition]):
                waiting.popleft()
        self._size -= len(released)
        return released

    def _horizon(self, at_end: frozenset[TopicPartition]) -> float | None:
        """The event time up to which no open partition can still bring anything older; None: wait.

        What comes late counts as of the time its partition had reached.
        """
        open_ = [tp for tp in self._waiting if tp not in at_end]
        if all(self._waiting[tp] for tp in open_):
            self._held_since = None
            return min((self._reached[tp] for tp in open_), default=float("inf"))
        now = self._clock.monotonic()
        if self._held_since is None:
            self._held_since = now
        return None if now - self._held_since < self._alignment_s else float("inf")
