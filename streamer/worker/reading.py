"""Reads what is this worker's: interactions in one order, and changes of items and users."""

import math

from consumers.records import Record, TopicPartition
from streamer.pipeline.arrivals import Arrival
from streamer.pipeline.epoch import Change, Erasure
from streamer.pipeline.ingest import Intake
from streamer.runtime.clock import Clock
from streamer.settings import Settings
from streamer.state.stream_state import StreamState
from streamer.worker.catalogue import Catalogue
from streamer.worker.group import Group
from streamer.worker.topic_watch import TopicWatch

IDLE_S = 0.2  # how long a worker that has nothing to do waits for records


class Reading:
    """Decodes what comes and keeps it until epochs take it."""

    def __init__(
        self,
        settings: Settings,
        state: StreamState,
        intake: Intake,
        group: Group,
        catalogue: Catalogue,
        topics: TopicWatch,
        clock: Clock,
    ) -> None:
        self._state, self._intake, self._catalogue, self._topics = state, intake, catalogue, topics
        self._group, self._member, self._merge, self._clock = group, group.member, group.merge, clock
        self._most, self._interval_s = settings.max_epoch_events, settings.commit_interval_ms / 1000
        self._changes: list[Change] = []
        self._gathered = -math.inf  # when the last epoch's records were together
        self._paused: list[TopicPartition] = []
        self.ends_with_log = False  # the worker is to end once everything in the log is taken

    def read(self) -> None:
        """Gathers until a commit interval after the last time: what comes after a pause is taken at once."""
        self._pause_those_ahead()
        due = self._gathered + self._interval_s
        while True:
            wait_s = max(due - self._clock.monotonic(), 0.0) if len(self._merge) else self._idle_wait_s()
            records = self._member.read(self._most, wait_s)
            self._group.follow()
            self._admit(records)
            self._admit(self._catalogue.read(self._most))
            gathered = not records or self._clock.monotonic() >= due
            if gathered or self._merge.full(self._most):
                break
        self._gathered = self._clock.monotonic()
        self._topics.look_when_due()

    def arrivals(self, limit: int) -> list[Arrival]:
        """Up to so many interactions whose turn has come, in order; they are the next epoch's."""
        return self._merge.release(self._member.at_end(), limit)

    def changes(self, erasures: int) -> list[Change]:
        """The changes of items and users that have come, with no more than so many erasures among them."""
        taken = []
        for change in self._changes:
            erasures -= isinstance(change[1], Erasure)
            if erasures < 0:
                break
            taken.append(change)
        self._changes = self._changes[len(taken) :]
        return taken

    def positions(self) -> dict[TopicPartition, int]:
        """The offset up to which each partition of this worker is taken, markers of transactions counted."""
        read = {} if len(self._merge) else self._member.positions()
        taken = self._state.positions
        return {tp: max(read.get(tp, 0), taken.get(tp, 0)) for tp in self._merge.partitions()}

    def caught_up(self) -> bool:
        """Whether everything in the log is taken, by whomever: what is nobody's for a moment may come here yet."""
        ends = self._member.at_end() >= self._merge.partitions() and self._catalogue.at_end()
        waiting = len(self._merge) or len(self._group.takeover) or len(self._state.amendments)
        return not waiting and ends and self._group.others_caught_up()

    def _pause_those_ahead(self) -> None:
        """Pauses partitions that are far ahead, so that what is read is what they wait for."""
        full = self._merge.full(self._most)
        if full != self._paused:
            self._member.pause(full)
            self._paused = full

    def _idle_wait_s(self) -> float:
        busy = len(self._group.takeover) or len(self._state.amendments) or self._is_leaving()
        return 0.0 if busy else IDLE_S

    def _is_leaving(self) -> bool:
        """Whether nothing more is waited for: everything that is this worker's has been read, and it is to end then."""
        mine = self._merge.partitions()
        return self.ends_with_log and bool(mine) and self._member.at_end() >= mine

    def _admit(self, records: list[Record]) -> None:
        """Decodes records and queues them, interactions by partition."""
        now_ms = self._clock.now_ms()
        queues: dict[TopicPartition, list[Arrival]] = {}
        for record in records:
            if self._intake.is_interaction(record):
                queues.setdefault(record.topic_partition, []).append(self._intake.arrival(record, now_ms))
            else:
                self._changes.append(self._intake.change(record))
        for tp in queues.keys() & self._merge.partitions():  # not of one that was lost just now
            self._merge.add(tp, queues[tp])
