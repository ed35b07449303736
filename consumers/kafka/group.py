"""Reading as a member of a group: partitions come and go, one by one."""

import logging
import re
import time
from collections.abc import Collection
from contextlib import suppress
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka import TopicPartition as KafkaPartition

from consumers.crash_points import happened
from consumers.errors import Fenced, LogUnavailable
from consumers.kafka.calls import answered
from consumers.kafka.committer import KafkaCommitter
from consumers.kafka.reader import KafkaReader, SeatKept, SeatTaken
from consumers.records import Record, TopicPartition

JOIN_AGAIN_S = 1.0  # how often a seat is asked for that the group still keeps for a worker that died
ASK_AGAIN_S = 0.1  # how often it is asked where the group is in partitions that came; others go on meanwhile
_logger = logging.getLogger(__name__)


class GroupReader(KafkaReader):
    """See `consumers.log.Member`: a consumer whose partitions come and go, one by one.

    The group calls back within `read`, when no epoch is half done: what was taken is committed, what was only read is
    read again by the next owner. So a partition is let go at once. The callbacks only note what happened: an error in
    one would leave through whatever call was being answered.

    Who was silent for long may have lost its seat to a newer process, and asks for the seat's claim before it reads,
    joins again, takes over a partition or says a word.
    """

    def __init__(self, committer: KafkaCommitter, topic: str) -> None:
        super().__init__(committer.group)
        self._committer, self._topic = committer, topic
        self._held: set[TopicPartition] = set()  # ours, by the group's last word
        self._new: set[TopicPartition] = set()  # of them, not told by `changes` yet
        self._lost: set[TopicPartition] = set()  # not told yet; may be ours again
        self._begun: set[TopicPartition] = set()
        self._waiting_for_seat = self._had_seat = False
        self._fenced: Fenced | None = None  # noted by a callback
        self._ask_at = 0.0  # when the group may be asked for positions again
        self._deal_again = False
        self._has_joined = False

    def join(self) -> None:
        """See `Member.join`."""
        if not self._has_joined:
            self._has_joined = True
            self._join()

    def _join(self) -> None:
        self._subscribe(self._topic)
        self._committer.joined = True

    def _subscribe(self, topic: str) -> None:
        self._consumer.subscribe([topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost)

    def _ask_for_a_deal(self) -> None:
        """Makes the group share out the partitions once more, each keeping what it has.

        A static member that died between giving up a partition and saying so gets its old assignment back without a
        rebalance, and the partition would be nobody's. A pattern in the place of the topic's name makes for one.
        """
        self._deal_again = False
        self._subscribe(f"^{re.escape(self._topic)}$")

    def read(self, max_records: int, timeout_s: float) -> list[Record]:
        """See `Reader.read`. Raises Fenced where a newer process has the seat."""
        self._committer.claim.glance()
        try:
            records = super().read(max_records, timeout_s)
        except (SeatKept, SeatTaken, LogUnavailable) as error:
            if isinstance(error, SeatKept) and not self._had_seat:
                self._join_again()
                return []
            self._committer.claim.check()
            if isinstance(error, LogUnavailable):
                raise
            raise LogUnavailable("an older process asked for this worker's seat in the group") from error
        if self._fenced:
            raise self._fenced
        if self._deal_again:
            self._ask_for_a_deal()
        if self._lost:
            records = [record for record in records if record.topic_partition not in self._lost]
        return records

    def _join_again(self) -> None:
        """Asks for the seat once more, with another consumer: one that met a fatal error stays dead."""
        if not self._waiting_for_seat:
            _logger.warning("the group keeps this worker's seat until the session of the one before ends; waiting")
        self._waiting_for_seat = True
        time.sleep(JOIN_AGAIN_S)
        self._consumer = self._committer.new_consumer()
        self._join()

    def changes(self) -> tuple[dict[TopicPartition, int], frozenset[TopicPartition]]:
        """See `Member.changes`."""
        lost, self._lost = frozenset(self._lost), set()
        self._committer.of_group.go_on()
        gained = self._committed_of_new() if self._new and time.monotonic() >= self._ask_at else {}
        self._new -= gained.keys()
        return gained, lost

    def expected(self) -> frozenset[TopicPartition]:
        """See `Member.expected`."""
        return frozenset(self._new)

    def has_assignment(self) -> bool:
        """See `Member.has_assignment`."""
        return self._had_seat

    def _committed_of_new(self) -> dict[TopicPartition, int]:
        """Nothing of those that are asked for again: a worker that died may have left a commit undecided."""
        self._ask_at = time.monotonic() + ASK_AGAIN_S
        try:
            return self._committer.of_group.ask(self._new)
        except LogUnavailable as error:
            _logger.debug("it is asked later where the group is: %s", error)
            return {}

    def _record_of(self, message: Any) -> Record | None:
        """What went wrong after a newer process has started is no word to the operator.

        Nothing of a partition that has not begun: it was fetched before its pause.
        """
        error = message.error()
        if error is not None and error.code() != KafkaError._PARTITION_EOF:
            self._committer.claim.glance()
        tp = TopicPartition(message.topic(), message.partition())
        return None if tp in self._held and tp not in self._begun else super()._record_of(message)

    @answered
    def begin(self, partition: TopicPartition, position: int) -> None:
        """See `Member.begin`."""
        if partition not in self._held or partition in self._new | self._lost:
            return
        self._consumer.incremental_unassign([KafkaPartition(*partition)])
        self._consumer.incremental_assign([KafkaPartition(*partition, position)])
        self._consumer.resume([KafkaPartition(*partition)])  # a pause outlives an assignment
        self._begun.add(partition)
        self._positions[partition] = position

    def pause(self, partitions: Collection[TopicPartition]) -> None:
        """See `Reader.pause`."""
        super().pause([tp for tp in partitions if tp in self._begun])

    def close(self) -> None:
        """Nothing: the consumer is the committer's, which leaves the group."""

    def _on_assign(self, consumer: Any, partitions: list[KafkaPartition]) -> None:
        # From an offset. For the end librdkafka would have to ask, and where the answer comes after `begin` it goes on
        # from there: what lies between is passed over, without a word.
        consumer.incremental_assign([KafkaPartition(p.topic, p.partition, 0) for p in partitions])
        consumer.pause(partitions)  # until `begin`
        came = {TopicPartition(p.topic, p.partition) for p in partitions}
        self._held |= came
        self._new |= came
        self._deal_again = not self._had_seat and not self._committer.assigned_by_broker
        self._had_seat, self._waiting_for_seat = True, False

    def _on_lost(self, consumer: Any, partitions: list[KafkaPartition]) -> None:
        """After a silence. Letting go of them makes the client join again at once: never in a newer process's seat."""
        if not self._committer.leaving:  # who closes joins no more, and a client that closes answers no other call
            self._stay_away_if_fenced(consumer)
        self._on_revoke(consumer, partitions)

    def _stay_away_if_fenced(self, consumer: Any) -> None:
        try:
            self._committer.claim.check()
        except Fenced as error:
            self._fenced = error
            with suppress(KafkaException):  # the client may have met a fatal error before
                consumer.unsubscribe()
        except LogUnavailable:
            pass  # asked again before anything that the group gives is taken

    def _on_revoke(self, consumer: Any, partitions: list[KafkaPartition]) -> None:
        happened("revoked")
        consumer.incremental_unassign(partitions)
        gone = {TopicPartition(p.topic, p.partition) for p in partitions}
        for known in (self._held, self._new, self._begun, self._at_end, self._paused):
            known -= gone
        for partition in gone:
            self._positions.pop(partition, None)
        self._lost |= gone
