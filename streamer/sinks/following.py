"""A sink: writes the records of some topics to a store, from where the store is, whatever goes away meanwhile."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Protocol

from consumers.counted import counted
from consumers.errors import LogUnavailable, PositionGone, Transient, UnknownTopic
from consumers.log import Closable, Log, Positions
from consumers.records import Record, TopicPartition
from streamer.runtime.signals import StopRequest
from streamer.runtime.supervisor import supervise
from streamer.runtime.topic_reader import TopicReader
from streamer.settings import Settings
from streamer.worker.log_reach import bounds_of, gone, stop_where_gone

RECORDS_A_TRANSACTION = 5_000
_logger = logging.getLogger(__name__)


class FollowingStore(Closable, Protocol):
    """What follows the log, and knows how far it is."""

    def positions(self) -> Positions:
        """The next offset of each partition that has been read."""

    def topic_ids(self) -> dict[str, str]:
        """Of the topics that the positions are from, what tells each from one that was made anew."""

    def forget(self, partitions: Iterable[TopicPartition]) -> None:
        """Forgets how much of these partitions is in it: they are others now, to be read from their first record."""

    def counts(self) -> Mapping[str, int]:
        """How much of each kind is in it."""


class Sink(Closable, ABC):
    """Writes the records of some topics to a store, from where the store is.

    Bad records of the topics that producers write are the worker's to report; here they are passed over.

    Args:
        topics: those that it reads.

    Raises PositionGone where the log no longer has, or never had, what comes after the store, unless the settings say
    to go on with what there is.
    """

    def __init__(self, log: Log, store: FollowingStore, settings: Settings, topics: tuple[str, ...]) -> None:
        self._settings = settings
        known = _meet_log(log, store, settings, topics)
        self._reader = TopicReader(log, topics, lambda tp, start, end: max(start, known.get(tp, 0)), store.topic_ids())
        self.write([], known, self._reader.ids)  # a store of before has no ids

    @abstractmethod
    def write(self, records: list[Record], positions: Positions, topic_ids: dict[str, str]) -> None:
        """One transaction: what the records say, and the positions after it. topic_ids: see `Log.topic_ids`."""

    def step(self, wait_s: float = 1.0) -> int:
        """One transaction; how many records it took.

        Raises the error of a store that is unavailable, LogUnavailable, and PositionGone where a topic was made anew
        meanwhile.
        """
        try:
            records = self._reader.read(RECORDS_A_TRANSACTION, wait_s)
            if records:
                self._reader.check()  # what is made of them could not be told from what the former topic's made
        except PositionGone as error:
            if self._settings.on_position_gone == "stop":
                raise PositionGone(f'{error}; set on_position_gone = "earliest" to go on with what there is') from None
            raise LogUnavailable(f"{error}; opening it again") from error
        if records:
            ends = {TopicPartition(one.topic, one.partition): one.offset + 1 for one in records}
            self.write(records, ends, self._reader.ids)
        return len(records)

    def left(self) -> int:
        """How many offsets of the log lie before its end still, about."""
        return self._reader.left()

    def at_end(self) -> bool:
        """Whether everything in the log has been read."""
        return self._reader.at_end()

    def close(self) -> None:
        self._reader.close()


def follow(
    opened: Callable[[], AbstractContextManager[Sink]],
    stop: StopRequest,
    exit_at_end: bool,
    advance: Callable[[int], None],
) -> None:
    """Keeps a store in step until `stop`, or until everything in the log is in it.

    Where the log or the store goes away it goes on from the positions of the store; see `supervise`.

    Args:
        opened: opens a sink, with its log and its store, and closes them.
        advance: told the number of records of each transaction.

    Raises what `opened` raises at the first try, and PositionGone; see `Sink`.
    """
    total, said = 0, -1

    def run(sink: Sink) -> None:
        nonlocal total, said
        while not stop:
            taken = sink.step()
            total += taken
            advance(taken)
            if taken or not sink.at_end():
                continue
            if exit_at_end:
                return
            if total != said:
                said = total
                _logger.info("everything in the log is in the store, %s so far; following it", counted(total, "record"))

    supervise(opened, run, stop, achieved=lambda: total, retried=(Transient, UnknownTopic))


def _meet_log(log: Log, store: FollowingStore, settings: Settings, topics: tuple[str, ...]) -> Positions:
    """Where to go on, which the log has; see `streamer.worker.log_reach.meet_log`."""
    has, positions = bounds_of(log, *topics), store.positions()
    at = {tp: position for tp, position in positions.items() if tp.topic in topics}
    lost = gone(settings, has, at, store.topic_ids())
    stop_where_gone(settings, lost)
    for topic, partition, found in lost:
        former = [tp for tp in at if tp.topic == topic and partition in (None, tp.partition)]
        dropped = sum(has.starts[tp] - at[tp] for tp in former if at[tp] <= has.starts.get(tp, -1))
        if partition is None or not dropped:  # another topic of that name
            _logger.warning("%s: going on at its first record; what the store has of the former one stays", found)
            store.forget(former)
        else:
            _logger.warning("%s: going on at the first one, %s lost", found, counted(dropped, "record", verb="are"))
    return store.positions()
