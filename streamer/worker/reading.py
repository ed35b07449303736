"""Reads what is this worker's: interactions in one order, and changes of items and users."""

import math
from collections.abc import Sequence

from consumers.records import Record, TopicPartition
from consumers.schemas import Merge
from streamer.asking.question_queue import QuestionQueue
from streamer.pipeline.arrivals import Arrival, refused_merge
from streamer.pipeline.epoch import Change, CommittedBlock, CommittedStep, Erasure
from streamer.pipeline.ingest import Intake
from streamer.runtime.clock import Clock
from streamer.settings import Settings
from streamer.state.stream_state import StreamState
from streamer.worker.group import Group
from streamer.worker.node_topics import NodeTopics
from streamer.worker.other_blocks import OtherBlocks
from streamer.worker.other_steps import OtherSteps
from streamer.worker.rules_topic import RulesTopic
from streamer.worker.step_pace import StepPace
from streamer.worker.topic_watch import TopicWatch

OBSERVED_AT_LEAST, OBSERVE_EVERY_S = 100, 0.05
OBSERVED_AT_ONCE = 5_000  # interactions of others that an epoch observes, about: some 30 ms
DECODED_AT_ONCE = 16  # records, before questions are answered: some .5 ms
IDLE_S = 0.2  # how long a worker that has nothing to do waits for records


class InputReader:
    """Decodes what comes and keeps it until epochs take it.

    Args: queue: whose questions are answered while it waits.
    """

    def __init__(
        self,
        settings: Settings,
        state: StreamState,
        intake: Intake,
        group: Group,
        blocks: OtherBlocks,
        steps: OtherSteps,
        catalogue: NodeTopics,
        rules: RulesTopic,
        topics: TopicWatch,
        clock: Clock,
        queue: QuestionQueue | None = None,
    ) -> None:
        self._state, self._intake, self._catalogue, self._topics = state, intake, catalogue, topics
        self._group, self._member, self._merge, self._clock = group, group.member, group.merge, clock
        self._most, self._interval_s = settings.max_epoch_events, settings.commit_interval_ms / 1000
        self._queue, self._rules, self._blocks, self._steps = queue, rules, blocks, steps
        self._changes: list[Change] = []
        self._observed_at = -math.inf
        self._step_pace = StepPace(clock)
        self._gathered = -math.inf  # when the last epoch's records were together
        self._paused: list[TopicPartition] = []
        self.ends_with_log = False  # the worker is to end once everything in the log is taken

    @property
    def shared(self) -> int:
        """How many partitions others may observe."""
        return self._blocks.partitions

    def read(self) -> None:
        """Gathers until a commit interval after the last time: what comes after a pause is taken at once."""
        self._group.join()
        self._pause_those_ahead()
        due = self._gathered + self._interval_s
        while True:
            wait_s = max(due - self._clock.monotonic(), 0.0) if len(self._merge) else self._idle_wait_s()
            records = self._read(wait_s)
            self._group.follow()
            self._admit(records)
            self._admit(self._catalogue.read(self._most))
            self._blocks.read()
            self._steps.read(self._is_alone())
            gathered = not records or self._clock.monotonic() >= due
            if gathered or self._merge.full(self._most):
                break
        self._gathered = self._clock.monotonic()
        self._topics.look_when_due()

    def _read(self, wait_s: float) -> list[Record]:
        """What comes within so long; questions are answered meanwhile."""
        queue, until = self._queue, self._clock.monotonic() + wait_s
        if queue is None:
            return self._member.read(self._most, wait_s)
        while True:
            queue.serve()
            left_s = max(until - self._clock.monotonic(), 0.0)
            records = self._member.read(self._most, 0.0 if queue.waiting else min(left_s, queue.patience_s()))
            if records or not left_s:
                return records

    def arrivals(self, limit: int) -> list[Arrival]:
        """Up to so many interactions whose turn has come, in order; they are the next epoch's."""
        return self._merge.release(self._member.at_end(), limit)

    def observed(self, arrivals: Sequence[Arrival]) -> list[CommittedBlock]:
        """What other workers admitted that the next epoch takes, before these interactions.

        Who has interactions of its own to catch up with takes no later ones of others before them. To begin costs as
        much as a hundred interactions: fewer wait for a moment.
        """
        now = self._clock.monotonic()
        if len(self._blocks) < OBSERVED_AT_LEAST and now < self._observed_at + OBSERVE_EVERY_S:
            return []
        self._observed_at = now
        caught_up = not len(self._merge) and self._member.at_end() >= self._merge.partitions()
        first_ms = arrivals[0].timestamp if arrivals else 0
        return self._blocks.release(math.inf if caught_up else max(self._state.clock_ms, first_ms), OBSERVED_AT_ONCE)

    def learned(self) -> list[CommittedStep]:
        """What other workers learned that the next epoch adds."""
        return self._steps.release()

    def keeps(self, learned: Sequence[CommittedStep] = ()) -> int:
        """From how many interactions at least a step is made; 0: nobody is there who would add it."""
        if not self._steps.is_on or (self._is_alone() and not learned):
            return 0
        return self._step_pace.least(self._state.learning)

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
        """The offset up to which each partition of this worker is taken, markers of transactions counted.

        Those that came and are not open yet are among them.
        """
        read = {} if len(self._merge) else self._member.positions()
        taken = self._state.positions
        mine = self._merge.partitions() | self._group.not_open()
        return {tp: max(read.get(tp, 0), taken.get(tp, 0)) for tp in mine}

    def caught_up(self) -> bool:
        """Whether everything in the log is taken, by whomever: what is nobody's for a moment may come here yet."""
        ends = self._member.at_end() >= self._merge.partitions() and self._catalogue.at_end()
        waiting = len(self._merge) or self._group.coming() or len(self._state.repairs)
        return not waiting and ends and self._group.others_caught_up() and self._blocks.at_end()

    def _is_alone(self) -> bool:
        """Whether no other worker is known: this one has all partitions, or none and has observed nothing."""
        own, partitions = self._group.partitions()
        everything = len(own) == partitions if own else not self._state.observed
        return everything and not self._state.learning.seats

    def _pause_those_ahead(self) -> None:
        """Pauses partitions that are far ahead, so that what is read is what they wait for."""
        full = self._merge.full(self._most)
        if full != self._paused:
            self._member.pause(full)
            self._paused = full

    def _idle_wait_s(self) -> float:
        """How long to wait for records where none wait: not past the time at which others' blocks are due."""
        if not self._group.has_joined:
            return OBSERVE_EVERY_S
        if self._group.coming() or len(self._state.repairs) or self._is_leaving():
            return 0.0
        if not len(self._blocks):
            return IDLE_S
        due = self._observed_at + OBSERVE_EVERY_S if len(self._blocks) < OBSERVED_AT_LEAST else -math.inf
        return max(due - self._clock.monotonic(), 0.0)

    def _is_leaving(self) -> bool:
        """Whether nothing more is waited for: everything that is this worker's has been read, and it is to end then."""
        mine = self._merge.partitions()
        return self.ends_with_log and bool(mine) and self._member.at_end() >= mine

    def _admit(self, records: list[Record]) -> None:
        """Decodes records and queues them, interactions by partition."""
        now_ms = self._clock.now_ms()
        queues: dict[TopicPartition, list[Arrival]] = {}
        for n, record in enumerate(records, 1):
            if self._queue is not None and not n % DECODED_AT_ONCE:
                self._queue.serve()
            if self._intake.is_interaction(record):
                queues.setdefault(record.topic_partition, []).append(self._arrival(record, now_ms))
            elif self._rules.is_of(record):
                self._rules.take(record)
            else:
                self._changes.append(self._intake.change(record))
        for tp in queues.keys() & self._merge.partitions():  # not of one that was lost just now
            self._merge.add(tp, queues[tp])

    def _arrival(self, record: Record, now_ms: int) -> Arrival:
        """A decoded record; a merge of a session whose partition is another worker's is refused."""
        arrival = self._intake.arrival(record, now_ms)
        if not isinstance(arrival.payload, Merge):
            return arrival
        mine = {tp.partition for tp in self._merge.partitions() | self._group.coming()}
        return arrival if mine >= set(map(int, arrival.payload.upto)) else refused_merge(arrival)
