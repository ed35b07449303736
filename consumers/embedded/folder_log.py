"""The embedded log of a folder, whoever has it open: it outlives the process that serves it.

Where that process ends, the next call finds the one that has the folder open now, or opens the folder itself, and goes
on: readers from where they are, an append with its number, so that one whose answer was lost is not repeated.
"""

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TypeVar
from uuid import uuid4

from consumers.embedded.log import EmbeddedLog
from consumers.embedded.remote_log import RemoteLog
from consumers.embedded.sole_member import SoleMember
from consumers.errors import LogBusy, LogUnavailable, OwnerGone
from consumers.log import APPEND_TIMEOUT_S, Closable, Committer, Positions, Reader, StoredState
from consumers.records import NewRecord, Record, TopicPartition, TopicSpec

OPEN_S, REOPEN_S = 3.0, 15.0  # how long one that has the folder and does not answer is waited for, first and later
FIRST_WAIT_S, LONGEST_WAIT_S = 0.05, 1.0
TRIES = 5  # of one call, each with another owner
Home = EmbeddedLog | RemoteLog
Answer = TypeVar("Answer")
_logger = logging.getLogger(__name__)


class FolderLog(Closable):
    """A `consumers.log.Log` that changes from one owner to the next.

    Committers and stored states do not: theirs raise OwnerGone, and whoever holds one begins again from its last
    commit. Args: opened: opens the folder, or connects to who has it open. Raises what that raises.
    """

    def __init__(self, opened: Callable[[], Home]) -> None:
        self._opened = opened
        self._changing, self._appending = threading.Lock(), threading.Lock()
        self._closed = False
        self._client, self._appends = uuid4().hex, 0
        self._log: Home = self._open(OPEN_S)

    def create(self, specs: Iterable[TopicSpec]) -> list[str]:
        """See `Log.create`."""
        wanted = list(specs)
        return self.ask(lambda log: log.create(wanted))

    def topic_names(self) -> set[str]:
        """See `Log.topic_names`."""
        return self.ask(lambda log: log.topic_names())

    def topics(self, names: Collection[str] | None = None) -> dict[str, TopicSpec]:
        """See `Log.topics`."""
        return self.ask(lambda log: log.topics(names))

    def topic_ids(self, topics: Iterable[str]) -> dict[str, str]:
        """See `Log.topic_ids`."""
        wanted = list(topics)
        return self.ask(lambda log: log.topic_ids(wanted))

    def claim(self, application: str, topics: Collection[str]) -> None:
        """See `Log.claim`."""
        self.ask(lambda log: log.claim(application, topics))

    def starts(self, topic: str) -> dict[int, int]:
        """See `Log.starts`."""
        return self.ask(lambda log: log.starts(topic))

    def ends(self, topic: str) -> dict[int, int]:
        """See `Log.ends`."""
        return self.ask(lambda log: log.ends(topic))

    def append(self, records: Sequence[NewRecord], timeout_s: float = APPEND_TIMEOUT_S) -> None:
        """See `Log.append`: once, also where an owner ends in the midst of it."""
        with self._appending:
            self._appends += 1
            once = self._client, self._appends
            self.ask(lambda log: log.append(records, once=once))

    def record_limits(self, topics: Iterable[str]) -> dict[str, int]:
        """See `Log.record_limits`."""
        wanted = list(topics)
        return self.ask(lambda log: log.record_limits(wanted))

    def reader(self, positions: Positions) -> "FolderReader":
        """See `Log.reader`."""
        return FolderReader(self, positions)

    def subscribe(self, committer: Committer, positions: Positions) -> SoleMember:
        """See `Log.subscribe`: this process has them all."""
        return SoleMember(self.reader(positions), positions)

    def committer(self, application: str) -> Committer:
        """See `Log.committer`."""
        return self.ask(lambda log: log.committer(application))

    def stored_state(self, application: str) -> StoredState:
        """See `Log.stored_state`."""
        return self.ask(lambda log: log.stored_state(application))

    def close(self) -> None:
        """Lets go of the folder, or of its owner; readers that wait are woken."""
        self._closed = True
        with self._changing:
            try:
                if self._appends:
                    self._log.forget(self._client)
            except LogUnavailable as error:
                _logger.debug("the owner forgets the appends of this process by itself: %s", error)
            self._log.close()

    def ask(self, question: Callable[[Home], Answer]) -> Answer:
        """What the log answers, by whoever has it open."""
        for tries_left in reversed(range(TRIES)):
            log = self._log
            try:
                return question(log)
            except (OwnerGone, LogBusy):
                if not tries_left:
                    raise
                self._change_from(log)
        raise AssertionError("the last try returns or raises")

    def _change_from(self, gone: Home) -> None:
        with self._changing:
            if self._closed:
                raise LogUnavailable("the log was closed")
            if self._log is not gone:
                return  # another thread has changed already
            gone.close()
            self._log = self._open(REOPEN_S)
            who = "this process has it open now" if isinstance(self._log, EmbeddedLog) else "another has it open now"
            _logger.info("the process that had the log open has ended; %s", who)

    def _open(self, within_s: float) -> Home:
        deadline, wait_s = time.monotonic() + within_s, FIRST_WAIT_S
        while True:
            try:
                return self._opened()
            except LogBusy:
                if self._closed or time.monotonic() > deadline:
                    raise
            time.sleep(wait_s)
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)


class FolderReader(Closable):
    """See `consumers.log.Reader`."""

    def __init__(self, log: FolderLog, positions: Positions) -> None:
        self._log, self._positions = log, dict(positions)
        self._paused: tuple[TopicPartition, ...] = ()
        self._reader = self._open()

    def _open(self) -> Reader:
        reader: Reader = self._log.ask(lambda log: log.reader(self._positions))
        if self._paused:
            reader.pause(self._paused)
        return reader

    def read(self, max_records: int, timeout_s: float) -> list[Record]:
        """See `Reader.read`; where the owner has ended it may return before the time."""
        try:
            records = self._reader.read(max_records, timeout_s)
        except OwnerGone:
            self._reader.close()
            self._reader = self._open()
            return []
        for record in records:
            self._positions[record.topic_partition] = record.offset + 1
        return records

    def pause(self, partitions: Collection[TopicPartition]) -> None:
        """See `Reader.pause`."""
        self._paused = tuple(partitions)
        try:
            self._reader.pause(self._paused)
        except OwnerGone:  # the next read opens it again, paused
            return

    def at_end(self) -> frozenset[TopicPartition]:
        """See `Reader.at_end`."""
        return self._reader.at_end()

    def positions(self) -> dict[TopicPartition, int]:
        """See `Reader.positions`; where the owner has ended, those of the last record."""
        try:
            return self._reader.positions()
        except OwnerGone:
            return dict(self._positions)

    def close(self) -> None:
        """See `Reader.close`."""
        self._reader.close()
