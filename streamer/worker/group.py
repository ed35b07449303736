"""The partitions of this worker: those that come are taken over first, those that go are let go of."""

import logging
from collections.abc import Mapping, Set
from typing import NamedTuple

from consumers.errors import LogUnavailable
from consumers.log import Committer, Log, Reader
from consumers.records import TopicPartition
from streamer.pipeline.ingest import Intake
from streamer.runtime.clock import Clock
from streamer.settings import Settings
from streamer.state.stream_state import StreamState
from streamer.worker.other_blocks import OtherBlocks
from streamer.worker.partition_merge import PartitionMerge
from streamer.worker.takeover import Takeover
from streamer.worker.topic_watch import TOPICS_EVERY_S, TopicWatch

BLOCKS_LATE_S = 2.0  # how long after its offsets the blocks of a transaction may be seen
ASK_GROUP_S = 0.5  # how often a worker that has nothing left asks whether the others have
_logger = logging.getLogger(__name__)


class Moves(NamedTuple):
    """Partitions that moved since the last epoch."""

    released: list[int]  # to another worker
    regained: list[int]  # from one, to which they had gone from here


class _ComingByBlocks(NamedTuple):
    """A partition that was gained, and whose blocks have not reached where the group is."""

    position: int  # next offset to observe
    committed: int  # where the group is
    since: float  # when it came there


class Group:
    """Follows which partitions of the interactions topic are this worker's.

    `member` reads them, `merge` has what was read of them, `takeover` those on their way here.

    Args:
        intake: decodes what is taken over.
        topics: looked at where partitions come.
        blocks: what other workers admit.
        moved: partitions that go on elsewhere than the checkpoint said, of our own will.
    """

    def __init__(
        self,
        log: Log,
        settings: Settings,
        state: StreamState,
        committer: Committer,
        intake: Intake,
        topics: TopicWatch,
        blocks: OtherBlocks,
        moved: Set[TopicPartition],
        clock: Clock,
    ) -> None:
        self._log, self._topic, self._state, self._committer = log, settings.interactions_topic, state, committer
        self._topics, self._blocks, self._moved, self._clock = topics, blocks, moved, clock
        self._observed: dict[TopicPartition, _ComingByBlocks] = {}  # gained, and their last blocks are on their way
        mine = {tp: position for tp, position in state.positions.items() if tp.topic == self._topic}
        from_start = settings.on_position_gone == "earliest"
        self.has_joined = False
        self._blocks_are_committed = settings.delivery == "exactly-once"
        self.member = log.subscribe(committer, mine)
        self.merge = PartitionMerge(settings.alignment_ms, clock)
        self.takeover = Takeover(log, intake, settings.max_epoch_events, from_start, clock)
        self._of = 0  # how many partitions the topic had when some came
        self._released: set[int] = set()
        lists = state.listed, *state.beside.values()
        self._former = set[int]().union(*(one.published_for() for one in lists))  # before this start
        self._regained: set[int] = set()
        self._absent: dict[TopicPartition, int] = {}  # gained, and not in the topic: with the committed position
        self._ask_absent_at = self._ask_others_at = clock.monotonic()

    def follow(self) -> None:
        """Lets go of partitions that went to another worker, and takes over those that came."""
        gained, lost = self.member.changes()
        if gained:
            self._topics.look()
        for tp in lost:
            self._let_go(tp)
        for tp, committed in sorted(self._existing(gained).items()):
            self._gain(tp, committed)
        if self._former and self.member.has_assignment():
            self._let_go_of_former()
        self._follow_blocks()

    def join(self) -> None:
        """Asks for partitions, once what other workers have admitted is observed.

        Whoever gets a partition sooner leaves its users without lists for as long as that takes. Who had it goes on
        with it meanwhile. Where blocks may be of epochs that were never committed, those of this worker's own last one
        would be taken for what it has taken: there it asks at once.
        """
        if self.has_joined:
            return
        self._follow_blocks()
        self.has_joined = not self._blocks_are_committed or self._blocks.were_at_end()
        if self.has_joined:
            self.member.join()

    def _follow_blocks(self) -> None:
        own = {tp.partition for tp in self.merge.partitions()}
        if own or self._observed or self._blocks_are_committed:
            self._blocks.follow(own)

    def is_assigned(self) -> bool:
        """Whether it is known which users are this worker's: since its start the group has said it, or it had none."""
        return not self._former

    def coming(self) -> frozenset[TopicPartition]:
        """Partitions that are this worker's and not in its state up to where the group is."""
        return self.takeover.partitions() | self._observed.keys()

    def not_open(self) -> frozenset[TopicPartition]:
        """Partitions that are this worker's, and for whose users it makes no lists yet."""
        return self.coming() | self.member.expected()

    def partitions(self) -> tuple[frozenset[int], int]:
        """Those whose users are this worker's now, and how many the topic has."""
        return frozenset(tp.partition for tp in self.merge.partitions()), self._of

    def moves(self) -> Moves:
        """Those since the last call, which the next epoch is told."""
        moves = Moves(sorted(self._released), sorted(self._regained))
        self._released, self._regained = set(), set()
        return moves

    def open_taken_over(self) -> None:
        """Reads those partitions that have been taken over, and publishes for their users, from here on."""
        for tp, committed in self.takeover.finished().items():
            self._open(tp, committed)
        for tp in list(self._observed):
            self._open_observed(tp)
        self._follow_blocks()

    def _open_observed(self, tp: TopicPartition) -> None:
        """Opens a partition whose blocks have reached where the group is; where they do not, its records are read."""
        coming, position, now = self._observed[tp], self._state.positions.get(tp, 0), self._clock.monotonic()
        if position > coming.position:
            self._observed[tp] = coming._replace(position=position, since=now)
        if position >= coming.committed:
            del self._observed[tp]
            self._open(tp, position)
        elif self._blocks.lacks(tp.partition) and now > coming.since + BLOCKS_LATE_S:
            del self._observed[tp]
            self.takeover.begin(tp, position, coming.committed)

    def others_caught_up(self) -> bool:
        """Whether the group has taken everything of the partitions that are not here; asked now and then."""
        mine = self.merge.partitions()
        others = {tp for tp in self._state.positions if tp.topic == self._topic and tp not in mine}
        if not others or self._clock.monotonic() < self._ask_others_at:
            return not others
        try:
            starts, committed = self._log.starts(self._topic), self._committer.positions()
            there = {tp for tp in others if tp.partition in starts}  # a topic made anew may have fewer
            with self._log.reader({tp: max(committed.get(tp, 0), starts[tp.partition]) for tp in there}) as left:
                return _is_at_end(left, there)
        except LogUnavailable as error:  # also where a worker that died left its last commit undecided
            _logger.debug("it is asked later what the group has taken: %s", error)
            return False
        finally:
            self._ask_others_at = self._clock.monotonic() + ASK_GROUP_S

    def close(self) -> None:
        """Leaves the group."""
        self.takeover.close()
        self.member.close()

    def _let_go(self, tp: TopicPartition) -> None:
        self._absent.pop(tp, None)
        self.merge.drop(tp)
        self.takeover.drop(tp)
        self._observed.pop(tp, None)
        if tp.partition not in self._released:
            _logger.info("partition %d went away, at %d", tp.partition, self._state.positions.get(tp, 0))
        self._released.add(tp.partition)
        self._regained.discard(tp.partition)

    def _let_go_of_former(self) -> None:
        """Others may publish by now for users of partitions that were this worker's before it started, and are not."""
        here = {tp.partition for tp in self.merge.partitions() | self.not_open()}
        gone = sorted(self._former - here)
        if gone:
            _logger.info("partitions %s were this worker's, and are another's", gone)
        self._released |= set(gone)
        self._former = set()

    def _gain(self, tp: TopicPartition, committed: int) -> None:
        self._released.discard(tp.partition)
        if self._state.listed.is_away(tp.partition):
            self._regained.add(tp.partition)
        position = self._state.positions.setdefault(tp, 0)
        if 0 <= committed < position and tp not in self._moved:
            _logger.warning(
                "the group's offset of %s[%d] was set back to %d; the state goes on at %d, for what lies between "
                "is in it and its lists are published; `freshet checkpoint rebuild` takes the whole log again",
                *tp, committed, position,
            )  # fmt: skip
        if position < committed and self._blocks.partitions:
            _logger.info("partition %d: taking over %d interactions from blocks", tp.partition, committed - position)
            self._observed[tp] = _ComingByBlocks(position, committed, self._clock.monotonic())
        elif position < committed:
            self.takeover.begin(tp, position, committed)
        else:
            self._open(tp, position)

    def _open(self, tp: TopicPartition, position: int) -> None:
        """Takes a partition from here on, and publishes for its users."""
        self.merge.open(tp)
        self.member.begin(tp, position)
        _logger.info("partition %d came: lists are made for its users, from %d on", tp.partition, position)

    def _existing(self, gained: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """Those that the topic has, now or since they were gained.

        A group that knows a topic from before it was made anew with fewer partitions gives out the former ones too.
        """
        if not gained and (not self._absent or self._clock.monotonic() < self._ask_absent_at):
            return {}
        self._absent |= gained
        known = self._log.starts(self._topic)
        self._of = len(known)
        there = {tp: committed for tp, committed in self._absent.items() if tp.partition in known}
        self._absent = {tp: committed for tp, committed in self._absent.items() if tp not in there}
        self._ask_absent_at = self._clock.monotonic() + TOPICS_EVERY_S
        return there


def _is_at_end(reader: Reader, partitions: Set[TopicPartition]) -> bool:
    """Whether there is nothing to read, not even after a moment."""
    for _ in range(10):
        if reader.read(1, 0.1):
            return False
        if reader.at_end() >= partitions:
            return True
    return False
