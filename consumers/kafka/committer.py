"""The commit on a broker: one transaction of outputs, manifest and positions, the checkpoint behind it."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka import TopicPartition as KafkaPartition

from consumers.crash_points import happened
from consumers.errors import LogUnavailable
from consumers.kafka.calls import START_TIMEOUT_S, Deliveries, answered, client, produce, shut, text_of
from consumers.kafka.group_positions import GroupPositions
from consumers.kafka.seat import Seat
from consumers.log import Closable, Positions, StateDelta
from consumers.records import NewRecord, TopicPartition
from consumers.storage.checkpoint_store import StateStore, folder_secret, instance_id

TRANSACTION_TIMEOUT_MS = 30_000
GENERATION_TIMEOUT_S = 5.0  # how long a commit waits to hear of the group's new generation
COMMIT_TIMEOUT_S = 15.0  # a commit whose answer takes longer is left to the restart, which finds out what became of it
SAID_IN_POLLS = 5
_BEHIND = {  # the group has begun another generation, of which this member is to hear in a moment
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError.STALE_MEMBER_EPOCH,
}
_FENCED = {KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH}
_logger = logging.getLogger(__name__)


class KafkaCommitter(Closable):
    """See `consumers.log.Committer`.

    Opening it, in this order: (1) the state folder, which only one process has; (2) the claim of the seat, by which an
    older process of the same seat knows that it has lost; (3) `init_transactions`, which fences it, and aborts what a
    dead one left open; (4) whether the claim is still the last one, for this may be the process that has lost.

    While this process recovers, its group may take it for dead, and end what it left open, see `GroupPositions`: so (3)
    again before the first commit, when nothing can be open yet.

    Args:
        claim: gives the seat of a name.
        admin: an AdminClient, which stays open.
    """

    waits = True

    def __init__(
        self,
        producer: dict[str, Any],
        consumer: dict[str, Any],
        application: str,
        state: Path,
        exactly_once: bool,
        claim: Callable[[str], Seat],
        admin: Any,
    ) -> None:
        self._folder, self._exactly_once = state, exactly_once
        self.seat = instance_id(state)
        name = f"{application}-{self.seat}"
        self._producer_config = self._transactional(name, producer) if exactly_once else producer
        self._has_committed = False
        self._group_config = consumer | {"group.instance.id": name}
        self.assigned_by_broker = consumer.get("group.protocol") == "consumer"
        self.joined = self.leaving = False
        with ExitStack() as opened:
            self._store = StateStore(state)
            opened.callback(self._store.close)
            self._producer: Any = client(Producer, self._producer_config)
            opened.callback(self._drop_producer)
            self.group: Any = client(Consumer, self._group_config)
            opened.callback(self._leave)
            self.claim = claim(name)
            opened.callback(self.claim.close)
            self.claim.take()
            if self._exactly_once:
                self._take_transactions()
            self.of_group = GroupPositions(
                admin,
                application,
                self.claim,
                partial(self._transactional, producer=producer) if exactly_once else None,
            )
            self._opened = opened.pop_all()

    @staticmethod
    def _transactional(name: str, producer: dict[str, Any]) -> dict[str, Any]:
        """The keys of a producer with the transactions of a seat."""
        return {"transactional.id": name, "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS} | producer

    def _take_transactions(self) -> None:
        try:
            self._producer.init_transactions(START_TIMEOUT_S)
        except KafkaException as error:
            raise LogUnavailable(f"the broker gave no transactional seat: {text_of(error)}") from error
        self.claim.check()

    @answered
    def positions(self) -> dict[TopicPartition, int]:
        """See `Committer.positions`."""
        return committed_positions(self.group)

    def commit(self, outputs: Sequence[NewRecord], positions: Positions, state: StateDelta | None = None) -> None:
        """See `Committer.commit`. The effects, in this order:

        (1) a transaction is begun, (2) the outputs are produced, (3) the offsets are sent, (4) all of it is committed;
        (5) the checkpoint is written, if there is one. A crash before (4) leaves nothing, a crash after it leaves
        epochs whose manifests say how to take them again.
        """
        try:
            if self._exactly_once:
                self._commit_once_more(outputs, positions)
            else:
                self._commit_loosely(outputs, positions)
        except (KafkaException, LogUnavailable) as error:
            self.claim.check()  # a broker fences this process too where an older one of its seat woke and asked
            if isinstance(error, LogUnavailable):
                raise
            if error.args[0].code() in _FENCED:
                raise LogUnavailable("the group took this worker for dead and gave its partitions away") from error
            raise LogUnavailable(f"the commit failed: {text_of(error)}; going on from the last one") from error
        if state is not None:
            for _ in self.saving(state):  # (5)
                pass

    def saving(self, state: StateDelta) -> Iterator[None]:
        """See `Committer.saving`."""
        yield from self._store.saving(state)
        happened("checkpointed")

    def _leave(self) -> None:
        """Leaves the group, after what the client has to say of it.

        A client that is closed with a change of its partitions unsaid says it then, and never answers the call that
        lets go of them: closing would wait for ever.
        """
        self.leaving = True
        for _ in range(SAID_IN_POLLS):
            with suppress(KafkaException):
                self.group.poll(0.01)
        self.group.close()

    def new_consumer(self) -> Any:
        """Another consumer in the place of one that can go on no more."""
        self._leave()
        self.group = client(Consumer, self._group_config)
        self.leaving = False
        return self.group

    def _generation(self) -> Any:
        """With it the broker refuses the offsets of one whose partitions went to others.

        Who knows that the group gave it up has none to be refused by: such a commit would pass into a group that has
        become empty, or be taken for that of a fenced process. Asked in this order, for it may be lost in between.
        """
        generation = self.group.consumer_group_metadata()
        if self.joined and not self.group.memberid():
            raise LogUnavailable("the group has given this worker's partitions away; joining it again")
        return generation

    def _in_the_generation(self, commit: Callable[[], Any], undo: Callable[[], None] = lambda: None) -> None:
        """Commits, again where the group began another generation meanwhile.

        That is no less right: nobody else has a partition of this member before it has answered for it, in `read`.
        """
        deadline = time.monotonic() + GENERATION_TIMEOUT_S
        while True:
            try:
                commit()
                return
            except KafkaException as error:
                if error.args[0].code() not in _BEHIND or time.monotonic() > deadline:
                    raise
                undo()
            time.sleep(0.02)

    def _commit_once_more(self, outputs: Sequence[NewRecord], positions: Positions) -> None:
        """Commits in a transaction, and once more where the client says that it can only be aborted.

        So it says of one whose outputs came to the broker out of order, which happens where the one before was aborted
        with some on their way. That client sends no more; another one goes on in its place.
        """
        try:
            self._in_the_generation(lambda: self._commit_transaction(outputs, positions), self._abort)
        except KafkaException as error:
            if not error.args[0].txn_requires_abort() or error.args[0].code() in _FENCED | _BEHIND:
                raise
            _logger.warning("the commit is made again by another client: %s", text_of(error))
            self._has_committed = False
            self._in_the_generation(lambda: self._commit_transaction(outputs, positions), self._abort)

    def _abort(self) -> None:
        self._producer.abort_transaction(COMMIT_TIMEOUT_S)

    def _commit_transaction(self, outputs: Sequence[NewRecord], positions: Positions) -> None:
        producer = self._producer
        if not outputs and not positions:
            return
        if not self._has_committed:
            producer = self._take_transactions_again()
        deliveries = Deliveries()
        producer.begin_transaction()  # (1)
        happened("begun")
        with deliveries.refusals(producer):
            produce(producer, outputs[:1], deliveries)
            if outputs:
                happened("first output")
            produce(producer, outputs[1:], deliveries)  # (2)
            happened("outputs")
            offsets = [KafkaPartition(*tp, offset, self.claim.start) for tp, offset in positions.items()]
            if offsets:
                producer.send_offsets_to_transaction(offsets, self._generation(), COMMIT_TIMEOUT_S)  # (3)
            happened("offsets")
            self._finish_transaction()  # (4)
        happened("committed")

    def _take_transactions_again(self) -> Any:
        """Another producer in the place of one that has sent nothing, or sends nothing any more."""
        self.claim.check()
        self._producer = client(Producer, self._producer_config)
        self._take_transactions()
        self._has_committed = True
        return self._producer

    def _finish_transaction(self) -> None:
        """Waits for the commit as long as it may still succeed: giving up leaves its outcome to the restart."""
        deadline = time.monotonic() + COMMIT_TIMEOUT_S
        while True:
            try:
                self._producer.commit_transaction(COMMIT_TIMEOUT_S)
                return
            except KafkaException as error:
                if not error.args[0].retriable() or time.monotonic() > deadline:
                    raise
                _logger.warning("the commit is tried again: %s", text_of(error))

    def _commit_loosely(self, outputs: Sequence[NewRecord], positions: Positions) -> None:
        """At least once: the offsets follow the outputs, and a crash between them repeats those.

        No transaction refuses the outputs of one that has lost its seat: so it asks first, if it has not just done so,
        and again before the manifest. What was handed to the client then is sent all the same: the header says which
        start of the seat it is from, and of two manifests of one epoch that of the later start counts.
        """
        if positions:
            self._generation()
        last = [self.claim.signed(manifest) for manifest in outputs[-1:]]
        for part in (outputs[:-1], last):  # the manifest comes last: what it says was published is there
            if self.claim.is_due():
                self.claim.check()
            deliveries = Deliveries()
            produce(self._producer, part, deliveries)
            if self._producer.flush(COMMIT_TIMEOUT_S):
                raise LogUnavailable("lists were not acknowledged in time; going on from the last commit")
            deliveries.check()
        offsets = [KafkaPartition(*tp, offset) for tp, offset in positions.items()]
        if offsets:
            self._in_the_generation(lambda: self.group.commit(offsets=offsets, asynchronous=False))

    def load_state(self, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """See `Committer.load_state`."""
        return self._store.load(prefix)

    def discard_state(self) -> None:
        """See `Committer.discard_state`; the damaged files stay beside it."""
        self._store.discard()

    def purge_state(self) -> None:
        """See `Committer.purge_state`."""
        self._store.purge()

    def secret(self, held: bytes = b"") -> bytes:
        """See `Committer.secret`: beside the checkpoint in the state folder."""
        return folder_secret(self._folder, held)

    def close(self) -> None:
        """Frees the state folder and leaves the broker; the seat is kept."""
        self._opened.close()

    def _drop_producer(self) -> None:
        """Ends the producer; a transaction that is open is aborted by the next start, or by the broker.

        One with transactions ends with the last reference to it: see `shut`.
        """
        producer, self._producer = self._producer, None
        if not self._exactly_once:
            shut(producer)


def committed_positions(group: Any) -> dict[TopicPartition, int]:
    """The committed positions of every topic of the cluster: what a group has is known only by asking for it."""
    topics = group.list_topics(timeout=START_TIMEOUT_S).topics
    asked = [
        KafkaPartition(n, p) for n, meta in topics.items() if not n.startswith("__") for p in sorted(meta.partitions)
    ]
    committed = group.committed(asked, timeout=START_TIMEOUT_S)
    return {TopicPartition(c.topic, c.partition): c.offset for c in committed if c.offset >= 0}
