"""Reads whole topics and goes on with them: partitions that are added, and how far behind the log the reader is."""

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from consumers.errors import PositionGone
from consumers.log import Closable, Log, Positions, Reader
from consumers.records import Record, TopicPartition
from streamer.runtime.clock import SYSTEM_CLOCK, Clock
from streamer.runtime.topics import end_positions

ASK_EVERY_S, NEW_TARGET_S = 1.0, 10.0

Place = Callable[[TopicPartition, int, int], int]
"""(partition, its start, its end) → the position to read it from."""


class TopicReader(Closable):
    """Reads every partition of some topics; those that are added later are read from where `place` says.

    Once a second it asks where the topics end. When everything before those ends was read, the reader was current at
    the moment of asking: `age_s` says how long ago that is, whatever it is that keeps it back.

    Args:
        known: the ids of topics from which the places are, see `Log.topic_ids`.

    Raises UnknownTopic, LogUnavailable, and PositionGone where a topic was made anew: it has another id than before,
    or ends before a position.
    """

    def __init__(
        self,
        log: Log,
        topics: Iterable[str],
        place: Place,
        known: Mapping[str, str] = MappingProxyType({}),
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._log, self._topics, self._first_position, self._clock = log, tuple(topics), place, clock
        self.ids = dict(known)
        self.check()
        self._current_at: float | None = None
        self._asked_at = self._clock.monotonic()
        self._target = self._ends()
        self._pending = True
        self._reader = log.reader(self._first_positions(self._target))

    def read(self, max_records: int, timeout_s: float) -> list[Record]:
        """See `Reader.read`. To read again says that what was read before has been taken."""
        self._follow_ends()
        try:
            return self._reader.read(max_records, timeout_s)
        except PositionGone:
            self.check()  # that the topic is another one says more
            raise

    def positions(self) -> dict[TopicPartition, int]:
        """The next offset to read of each partition."""
        return self._reader.positions()

    def at_end(self) -> bool:
        """Whether every partition has been read to its end, as far as the log showed when last asked."""
        return self._reader.at_end() >= self._target.keys()

    def age_s(self) -> float | None:
        """How long ago everything in the topics had been taken, s; None: never yet."""
        return None if self._current_at is None else self._clock.monotonic() - self._current_at

    def left(self) -> int:
        """Offsets between the positions and the ends last asked for, about."""
        positions = self.positions()
        return sum(max(end - positions.get(tp, 0), 0) for tp, end in self._target.items())

    def check(self) -> None:
        """Raises PositionGone where a topic is another one by now, and LogUnavailable.

        A consumer reads on in a topic made anew, at the offsets of the former one, until somebody asks for its id. Who
        cannot take back what it makes of records asks between reading them and making it.
        """
        ids = self._log.topic_ids(self._topics)
        for topic, id_ in ids.items():
            if self.ids.get(topic, id_) != id_:
                raise PositionGone(f"the topic {topic} was deleted and made anew")
        self.ids |= ids

    def close(self) -> None:
        self._reader.close()

    def _follow_ends(self) -> None:
        if self._pending:
            positions = self.positions()
            if all(positions[tp] >= end for tp, end in self._target.items()):
                self._pending, self._current_at = False, self._asked_at
        if self._clock.monotonic() - self._asked_at < (NEW_TARGET_S if self._pending else ASK_EVERY_S):
            return
        asked_at = self._clock.monotonic()
        self.check()
        ends, positions = self._ends(), self.positions()
        for tp, position in positions.items():
            if position > ends.get(tp, -1):
                raise PositionGone(f"{tp.topic}[{tp.partition}] ends before {position}: the topic was made anew")
        added = {tp: end for tp, end in ends.items() if tp not in positions}
        self._reader = widened(self._log, self._reader, self._first_positions(added))
        self._asked_at, self._target, self._pending = asked_at, ends, True

    def _ends(self) -> dict[TopicPartition, int]:
        return end_positions(self._log, *self._topics)

    def _first_positions(self, ends: dict[TopicPartition, int]) -> dict[TopicPartition, int]:
        starts = {topic: self._log.starts(topic) for topic in {tp.topic for tp in ends}}
        return {tp: self._first_position(tp, starts[tp.topic].get(tp.partition, 0), end) for tp, end in ends.items()}


def widened(log: Log, reader: Reader, added: Positions) -> Reader:
    """A reader in the place of `reader` that goes on where it is, and reads these partitions too."""
    if not added:
        return reader
    wider = log.reader({**reader.positions(), **added})
    reader.close()
    return wider
