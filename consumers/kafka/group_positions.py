"""Where a group is in partitions that come to a worker, and the end of what a dead worker left open on them."""

import logging
from collections.abc import Callable, Collection, Mapping
from typing import Any

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, Producer
from confluent_kafka import TopicPartition as KafkaPartition

from consumers.kafka.calls import answered, client, text_of
from consumers.kafka.seat import Seat, name_in
from consumers.records import TopicPartition

ASK_TIMEOUT_S = 1.0
END_TIMEOUT_S = 0.02  # of one look at whether the broker has ended a transaction; it goes on in the background
_logger = logging.getLogger(__name__)


class GroupPositions:
    """Asks for committed positions, beside which who committed them wrote its seat.

    A worker that dies within a commit leaves a transaction open, which the broker ends after its
    `transaction.timeout.ms`. Until then nobody can say where the group is in its partitions, nor read what is written
    to them later. So whoever gets the partitions takes the dead one's transactional seat for a moment, at which the
    broker ends the transaction. A worker that lives all the same loses what it was about to commit, and opens again.

    Args:
        admin: an AdminClient.
        group: names the group.
        claim: this worker's seat, which hears of the others' claims.
        transactional: librdkafka keys of a producer in the seat of this name; None: nobody has transactions.
    """

    def __init__(
        self, admin: Any, group: str, claim: Seat, transactional: Callable[[str], dict[str, Any]] | None
    ) -> None:
        self._admin, self._group, self._claim, self._transactional = admin, group, claim, transactional
        self._ending: dict[str, Any] = {}  # producers that take dead seats, by who committed there
        self._ended: set[str] = set()
        self._said: list[int] = []

    def ask(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """The committed position of each partition (−1: none), without those that an open transaction may still move.

        Raises Fenced where a newer process has this worker's seat, LogUnavailable where the broker does not answer.
        """
        self._claim.check()
        if self._transactional is not None:
            self._end_what_the_dead_left(partitions)
        positions = {tp: max(one.offset, -1) for tp, one in self._committed(partitions, True).items()}
        self._say(sorted(tp.partition for tp in partitions if tp not in positions))
        return positions

    def go_on(self) -> None:
        """Lets the broker end what is not ended yet; waits for nothing."""
        for committer, producer in list(self._ending.items()):
            try:
                producer.init_transactions(END_TIMEOUT_S)
            except KafkaException as error:
                if error.args[0].retriable():
                    continue
                _logger.warning(
                    "what %s left open is not ended here, but by the broker after its transaction.timeout.ms: %s",
                    name_in(committer), text_of(error),
                )  # fmt: skip
            del self._ending[committer]

    def _end_what_the_dead_left(self, partitions: Collection[TopicPartition]) -> None:
        former = {one.metadata for one in self._committed(partitions, False).values() if one.metadata}
        members = self._members()
        self._ended = {committer for committer in self._ended if name_in(committer) not in members}
        for committer in sorted(former - self._ended):
            if name_in(committer) in members or not self._claim.is_newest(committer):  # one that started again did so
                continue
            assert self._transactional is not None
            _logger.info("%s is no member of the group any more: what it left open is ended", name_in(committer))
            self._ending[committer] = client(Producer, self._transactional(name_in(committer)))
            self._ended.add(committer)
        self.go_on()

    def _say(self, waiting: list[int]) -> None:
        if waiting != self._said and waiting:
            _logger.info("partitions %s came; waiting for the end of a transaction that a worker left open", waiting)
        self._said = waiting

    @answered
    def _committed(self, partitions: Collection[TopicPartition], stable: bool) -> Mapping[TopicPartition, Any]:
        asked = [ConsumerGroupTopicPartitions(self._group, [KafkaPartition(*tp) for tp in sorted(partitions)])]
        found = self._admin.list_consumer_group_offsets(asked, require_stable=stable, request_timeout=ASK_TIMEOUT_S)
        answers = found[self._group].result(2 * ASK_TIMEOUT_S).topic_partitions
        return {TopicPartition(one.topic, one.partition): one for one in answers if one.error is None}

    @answered
    def _members(self) -> set[str]:
        """The seats that are in the group now."""
        found = self._admin.describe_consumer_groups([self._group], request_timeout=ASK_TIMEOUT_S)
        return {one.group_instance_id for one in found[self._group].result(2 * ASK_TIMEOUT_S).members}
