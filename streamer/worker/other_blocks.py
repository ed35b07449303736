"""Blocks of the partitions that other workers have, as they are committed, until epochs take them."""

import logging
from collections import deque
from collections.abc import Set

from consumers.log import Closable, Log, Reader
from consumers.records import Record, TopicPartition
from streamer.pipeline.epoch import CommittedBlock
from streamer.pipeline.frame import Unreadable
from streamer.pipeline.observed_block import decode_block
from streamer.pipeline.sharing import is_of_topic
from streamer.runtime.topics import create_missing
from streamer.settings import Settings
from streamer.state.stream_state import StreamState

LOOK_BACK, FARTHER = 256, 16  # offsets before the end of a partition, and how much more where that is too few
HELD_EVENTS = 20_000  # of one partition that wait; more are not read meanwhile
_MOST_RECORDS = 1_000
_logger = logging.getLogger(__name__)


class OtherBlocks(Closable):
    """Reads blocks of the partitions that this worker has not opened; decides nothing but when they are taken.

    partitions: how many the topic has; 0: nobody observes, on the embedded log and where it is not wanted.
    """

    def __init__(self, log: Log, settings: Settings, state: StreamState) -> None:
        self._log, self._settings, self._state = log, settings, state
        self.partitions = len(log.ends(settings.observed_topic)) if is_observing(settings) else 0
        self._reader: Reader | None = None
        self._own: Set[int] | None = None
        self._waiting: dict[int, deque[CommittedBlock]] = {}
        self._events: dict[int, int] = {}  # how many interactions wait, by partition
        self._reached: dict[int, int] = {}  # offset of `interactions` that the last block which waits reaches
        self._gaps: set[int] = set()  # partitions whose blocks begin later than the state
        self._were_at_end: set[TopicPartition] = set()

    def __len__(self) -> int:
        """How many interactions wait."""
        return sum(self._events.values())

    def follow(self, own: Set[int]) -> None:
        """Reads the blocks of all partitions but these, which are this worker's."""
        if own == self._own or not self.partitions:
            return
        self._own = set(own)
        others = [partition for partition in range(self.partitions) if partition not in own]
        going_on = {tp.partition: at for tp, at in self._reader.positions().items()} if self._reader else {}
        positions = {self._tp(one): going_on[one] if one in going_on else self._find(one) for one in others}
        self.close()
        self._reader = self._log.reader(positions) if positions else None
        for known in (self._waiting, self._events, self._reached):
            for partition in known.keys() & own:
                del known[partition]
        self._gaps -= own

    def follow_added(self) -> None:
        """Reads, and lets be written, blocks on partitions that were added to their topic."""
        if not self.partitions or (there := len(self._log.ends(self._settings.observed_topic))) == self.partitions:
            return
        self.partitions, own, self._own = there, self._own, None
        if own is not None:
            self.follow(own)

    def read(self) -> None:
        """Queues what has come; waits for nothing."""
        if self._reader is None:
            return
        self._reader.pause([self._tp(one) for one, events in self._events.items() if events > HELD_EVENTS])
        for record in self._reader.read(_MOST_RECORDS, 0):
            self._queue(record)
        self._were_at_end |= self._reader.at_end()

    def release(self, horizon_ms: float, limit: int) -> list[CommittedBlock]:
        """Blocks whose last interaction is no later than the horizon, with about `limit` interactions at most."""
        taken = list[CommittedBlock]()
        while limit > 0:
            heads = [(_last_ms(queue[0]), partition) for partition, queue in self._waiting.items() if queue]
            last_ms, partition = min(heads, default=(0, -1))
            if partition < 0 or last_ms > horizon_ms:
                break
            taken.append(self._waiting[partition].popleft())
            events = len(taken[-1].block.t)
            self._events[partition] -= events
            limit -= max(events, 1)
        return sorted(taken, key=lambda one: one[:2])

    def at_end(self) -> bool:
        """Whether every block has been taken, as far as the log showed when last asked."""
        return not any(self._waiting.values()) and all(self._is_at_end(one) for one in self._others())

    def were_at_end(self) -> bool:
        """Whether all blocks that were there have been read, and next to none of them wait."""
        return len(self) < HELD_EVENTS // 10 and self._were_at_end >= {self._tp(one) for one in self._others()}

    def lacks(self, partition: int) -> bool:
        """Whether no block goes on where the state is, as far as the log showed when last asked."""
        if partition >= self.partitions or partition in self._gaps:
            return True
        return not self._waiting.get(partition) and self._is_at_end(partition)

    def close(self) -> None:
        """Ends reading."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _tp(self, partition: int) -> TopicPartition:
        return TopicPartition(self._settings.observed_topic, partition)

    def _others(self) -> list[int]:
        return [] if self._reader is None else [tp.partition for tp in self._reader.positions()]

    def _is_at_end(self, partition: int) -> bool:
        return self._reader is not None and self._tp(partition) in self._reader.at_end()

    def _position(self, partition: int) -> int:
        return self._state.positions.get(TopicPartition(self._settings.interactions_topic, partition), 0)

    def _queue(self, record: Record) -> None:
        if not is_of_topic(record, self._state.topic_ids.get(self._settings.interactions_topic, "")):
            return  # positions in a topic that was made anew since
        block, partition = read_block(record), record.partition
        if block is None or partition in self._gaps:
            return
        reached = max(self._reached.get(partition, 0), self._position(partition))
        if block.block.end <= reached:  # this worker's own, or one that came twice
            return
        if block.block.start > reached and self._holds(partition, reached):
            _logger.warning(
                "partition %d is not observed: its blocks begin at %d, the state is at %d; it is taken from its "
                "records where it comes here",
                partition, block.block.start, reached,
            )  # fmt: skip
            self._gaps.add(partition)
            return
        self._waiting.setdefault(partition, deque()).append(block)
        self._events[partition] = self._events.get(partition, 0) + len(block.block.t)
        self._reached[partition] = block.block.end

    def _holds(self, partition: int, offset: int) -> bool:
        """Whether the log still has the interactions of a partition from an offset on."""
        return self._log.starts(self._settings.interactions_topic).get(partition, 0) <= offset

    def _find(self, partition: int) -> int:
        """Where to begin: at a block that is not later than the state, and not long before.

        The state knows the next block, unless the partition was this worker's meanwhile: its own blocks lie between.
        """
        topic, position = self._settings.observed_topic, self._position(partition)
        start, end = self._log.starts(topic).get(partition, 0), self._log.ends(topic).get(partition, 0)
        known, back = max(self._state.observed.get(partition, 0), start), LOOK_BACK
        while end - back > known:
            found = self._first_from(partition, end - back)
            if found is not None and found.block.start <= position:
                return found.at
            back *= FARTHER
        return min(known, end)

    def _first_from(self, partition: int, offset: int) -> CommittedBlock | None:
        tp = self._tp(partition)
        with self._log.reader({tp: offset}) as reader:
            while True:
                for record in reader.read(1, 0.2):
                    if block := read_block(record):
                        return block
                if tp in reader.at_end():
                    return None


def read_block(record: Record) -> CommittedBlock | None:
    """The block of a record; None for what is no block, which is said."""
    try:
        return CommittedBlock(record.partition, record.offset, decode_block(record.value or b""))
    except Unreadable as error:
        place = record.topic, record.partition, record.offset
        _logger.warning("%s[%d] offset %d is no block, and is passed over: %s", *place, error)
        return None


def is_observing(settings: Settings) -> bool:
    """Whether workers observe one another: the embedded log has one."""
    return settings.observe and settings.bootstrap is not None


def make_topics(log: Log, settings: Settings) -> None:
    """Makes the topics of blocks, with the partitions of the interactions, and of steps where they are missing."""
    if is_observing(settings):
        partitions = len(log.ends(settings.interactions_topic))
        create_missing(log, settings, partitions, names=(settings.observed_topic, settings.model_topic))


def _last_ms(waiting: CommittedBlock) -> int:
    t = waiting.block.t
    return int(t[-1]) if len(t) else 0
