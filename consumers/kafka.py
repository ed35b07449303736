"""The Kafka home of the log: confluent-kafka, one transaction a commit, the checkpoint behind it."""

import logging
import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

from confluent_kafka import OFFSET_END, Consumer, KafkaError, KafkaException, Producer
from confluent_kafka import TopicPartition as KafkaPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType  # type: ignore[attr-defined]

from consumers.effects import happened
from consumers.errors import Fenced, LogUnavailable, PositionGone, TopicConflict, UnknownTopic
from consumers.log import Committer, Positions, StateDelta
from consumers.records import NewRecord, Record, TopicPartition, TopicSpec
from consumers.state_store import StateStore, instance_id
from consumers.stored_state import FolderState

START_TIMEOUT_S = 15.0
APPEND_TIMEOUT_S = 60.0
TRANSACTION_TIMEOUT_MS = 30_000
SESSION_TIMEOUT_MS = 10_000  # after which the partitions of a worker that died go to the others
JOIN_AGAIN_S = 1.0  # how often a seat is asked for that the group still keeps for a worker that died
POSITIONS_TIMEOUT_S = 1.0  # what a worker that died left open is asked for again, and other partitions go on meanwhile
GENERATION_TIMEOUT_S = 5.0  # how long a commit waits to hear of the group's new generation
COMMIT_TIMEOUT_S = 15.0  # a commit whose answer takes longer is left to the restart, which finds out what became of it
_FENCED = {KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.PRODUCER_FENCED}
_BEHIND = {  # the group has begun another generation, of which this member is to hear in a moment
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError.STALE_MEMBER_EPOCH,
}
_LEADERLESS = {KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE}
_logger = logging.getLogger(__name__)
_librdkafka = logging.getLogger("librdkafka")  # a line for every try to connect: on only where somebody asks for it
_librdkafka.setLevel(logging.CRITICAL + 1)  # what is fatal is raised as well


Answer = TypeVar("Answer")


def _answered(call: Callable[..., Answer]) -> Callable[..., Answer]:
    """A question to the broker: asked again while a partition finds its leader; else its failure is LogUnavailable."""

    @wraps(call)
    def answered(*arguments: Any, **named: Any) -> Answer:
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                return call(*arguments, **named)
            except KafkaException as error:
                if error.args[0].code() not in _LEADERLESS or time.monotonic() > deadline:
                    raise LogUnavailable(f"the broker does not answer: {_text(error)}") from error
            time.sleep(0.1)

    return answered


class KafkaLog:
    """A `consumers.log.Log` on a broker.

    Args: state: the folder of the checkpoint and of this worker's identity; config: librdkafka keys on top of ours;
    exactly_once: False gives up the transaction: a crash may then repeat lists; group_protocol: "classic", or
    "consumer" for KIP-848.
    Raises LogUnavailable when no broker answers within START_TIMEOUT_S.
    """

    def __init__(
        self,
        bootstrap: str,
        state: Path,
        config: Mapping[str, Any],
        exactly_once: bool = True,
        group_protocol: str = "classic",
    ) -> None:
        self._state, self._exactly_once, self._group_protocol = state, exactly_once, group_protocol
        self._config = {
            "bootstrap.servers": bootstrap,
            "retry.backoff.ms": 20,  # librdkafka's 100 ms default shows in every transaction (CONCURRENT_TRANSACTIONS)
            "retry.backoff.max.ms": 1000,
            "reconnect.backoff.max.ms": 2000,
            "logger": _librdkafka,
            "error_cb": BrokerAway(bootstrap),
            **config,
        }
        self._admin = AdminClient(dict(self._config))
        self._producer: Any = None
        self._client: Any = Consumer(self._consumer_config("freshet-metadata"))
        try:
            self._admin.list_topics(timeout=START_TIMEOUT_S)
        except KafkaException as error:
            self._client.close()
            raise LogUnavailable(f"no broker answers at {bootstrap}: {_text(error)}") from error

    @_answered
    def create(self, specs: Iterable[TopicSpec]) -> list[str]:
        """See `Log.create`."""
        wanted, have = {spec.name: spec for spec in specs}, self.topics()
        for name in wanted.keys() & have.keys():
            _check_same(have[name], wanted[name])
        missing = [spec for name, spec in wanted.items() if name not in have]
        if not missing:
            return []
        new = [NewTopic(spec.name, spec.partitions, -1, config=_topic_config(spec)) for spec in missing]
        for name, future in self._admin.create_topics(new, operation_timeout=30).items():
            try:
                future.result()
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise LogUnavailable(f"topic {name} could not be created: {_text(error)}") from error
        self._wait_visible(missing)
        return [spec.name for spec in missing]

    def _wait_visible(self, specs: Sequence[TopicSpec]) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            have = self._admin.list_topics(timeout=START_TIMEOUT_S).topics
            if all(spec.name in have and len(have[spec.name].partitions) == spec.partitions for spec in specs):
                return
            time.sleep(0.05)
        raise LogUnavailable("new topics did not become visible; see the broker's log")

    @_answered
    def topics(self) -> dict[str, TopicSpec]:
        """See `Log.topics`."""
        listed = self._admin.list_topics(timeout=START_TIMEOUT_S).topics
        names = [name for name in listed if not name.startswith("__")]
        resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
        configs = self._admin.describe_configs(resources) if names else {}
        specs = {}
        for resource, future in configs.items():
            config, name = future.result(), resource.name
            cleanup, retention_ms = config["cleanup.policy"].value, int(config["retention.ms"].value)
            specs[name] = TopicSpec(name, len(listed[name].partitions), cleanup, retention_ms)
        return specs

    @_answered
    def starts(self, topic: str) -> dict[int, int]:
        """See `Log.starts`."""
        return {p: self._watermarks(topic, p)[0] for p in self._partitions(topic)}

    @_answered
    def ends(self, topic: str) -> dict[int, int]:
        """See `Log.ends`; a committed transaction's marker takes an offset of its own."""
        return {p: self._watermarks(topic, p)[1] for p in self._partitions(topic)}

    @_answered
    def append(self, records: Sequence[NewRecord]) -> None:
        """See `Log.append`."""
        known = self._admin.list_topics(timeout=START_TIMEOUT_S).topics if self._producer is None else None
        for topic in {record.topic for record in records} if known is not None else ():
            if topic not in known:  # type: ignore[operator]
                raise _unknown(topic)
        if self._producer is None:
            self._producer = Producer(self._producer_config())
        failures: list[KafkaError] = []
        _produce(self._producer, records, lambda error, _: failures.append(error) if error else None)
        left = self._producer.flush(APPEND_TIMEOUT_S)
        if failures and failures[0].code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC):
            raise _unknown(records[0].topic)
        if failures or left:
            raise LogUnavailable(f"{left + len(failures)} records were not acknowledged: {failures[:1]}")

    def reader(self, positions: Positions) -> "KafkaReader":
        """See `Log.reader`."""
        for topic in {tp.topic for tp in positions}:
            self._partitions(topic)
        consumer: Any = Consumer(self._consumer_config("freshet-reader"))
        consumer.assign([KafkaPartition(*tp, offset) for tp, offset in positions.items()])
        return KafkaReader(consumer)

    def subscribe(self, committer: Committer, positions: Positions) -> "GroupReader":
        """See `Log.subscribe`: cooperative rebalancing, with static membership."""
        assert isinstance(committer, KafkaCommitter), "a committer of this log"
        (topic,) = {tp.topic for tp in positions}
        return GroupReader(committer, topic)

    def committer(self, application: str) -> "KafkaCommitter":
        """See `Log.committer`."""
        return KafkaCommitter(
            self._producer_config(),
            _membership(self._group_protocol) | self._consumer_config(application),
            application,
            self._state,
            self._exactly_once,
        )

    def stored_state(self, application: str) -> FolderState:
        """See `Log.stored_state`."""
        return FolderState(self._state, lambda: self._committed(application))

    @_answered
    def _committed(self, application: str) -> dict[TopicPartition, int]:
        """What a group has committed, asked without joining it."""
        group: Any = Consumer(self._consumer_config(application))
        try:
            return _committed(group)
        finally:
            group.close()

    def close(self) -> None:
        """Sends what is buffered and closes the connections."""
        if self._producer is not None:
            self._producer.flush(APPEND_TIMEOUT_S)
        self._client.close()

    def _partitions(self, topic: str) -> list[int]:
        metadata = self._admin.list_topics(topic, timeout=START_TIMEOUT_S).topics[topic]
        if metadata.error is not None:
            raise _unknown(topic)
        return sorted(metadata.partitions)

    def _watermarks(self, topic: str, partition: int) -> tuple[int, int]:
        low, high = self._client.get_watermark_offsets(KafkaPartition(topic, partition), timeout=START_TIMEOUT_S)
        return low, high

    def _consumer_config(self, group: str) -> dict[str, Any]:
        return {
            "group.id": group,
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 10,
            "allow.auto.create.topics": False,
        } | self._config

    def _producer_config(self) -> dict[str, Any]:
        return {
            "linger.ms": 1,
            "acks": "all",
            "enable.idempotence": True,
            "partitioner": "murmur2_random",
            "compression.type": "lz4",
            "message.max.bytes": 10_000_000,
            "queue.buffering.max.messages": 1_000_000,
        } | self._config


class BrokerAway:
    """Says once in a while that no broker answers; librdkafka waits with back-off and goes on by itself."""

    EVERY_S = 30.0

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._said = time.monotonic() - self.EVERY_S + START_TIMEOUT_S  # a start that fails has its own message

    def __call__(self, error: KafkaError) -> None:
        if error.code() == KafkaError._ALL_BROKERS_DOWN and time.monotonic() - self._said > self.EVERY_S:
            self._said = time.monotonic()
            _logger.warning("no broker answers at %s; waiting for it", self._bootstrap)


class KafkaReader:
    """See `consumers.log.Reader`: a consumer with a fixed assignment."""

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer
        self._at_end: set[TopicPartition] = set()
        self._paused: set[TopicPartition] = set()

    @_answered
    def read(self, max_records: int, timeout_s: float) -> list[Record]:
        """See `Reader.read`. `consume(n, t)` would wait the whole of t for n messages, so: one, then what is there."""
        deadline = time.monotonic() + timeout_s
        while True:
            message = self._consumer.poll(max(0.0, deadline - time.monotonic()))
            if message is None:
                return []
            rest = self._consumer.consume(max_records - 1, 0) if max_records > 1 else []
            records = [record for m in (message, *rest) if (record := self._record_of(m))]
            self._note_ends({record.topic_partition: record.offset + 1 for record in records})
            if records or time.monotonic() >= deadline:
                return records

    def _note_ends(self, read: Mapping[TopicPartition, int]) -> None:
        """A partition whose last record was read is at its end, by what the broker said of it in the same answer.

        The event that says so too comes an answer later, and until then the others would be held back.
        """
        for tp, position in read.items():
            _, end = self._consumer.get_watermark_offsets(KafkaPartition(*tp), cached=True)
            if position >= end > 0:
                self._at_end.add(tp)

    def _record_of(self, message: Any) -> Record | None:
        tp = TopicPartition(message.topic(), message.partition())
        error = message.error()
        if error is None:
            self._at_end.discard(tp)
            headers = tuple((name, value or b"") for name, value in message.headers() or ())
            _, timestamp_ms = message.timestamp()
            return Record(*tp, message.offset(), message.key(), message.value(), headers, timestamp_ms)
        if error.code() == KafkaError._PARTITION_EOF:
            self._at_end.add(tp)
        elif error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            raise PositionGone(f"{tp.topic}[{tp.partition}] no longer holds the position to read from: {error.str()}")
        elif error.code() == KafkaError._FATAL:
            raise _end_of(error)
        elif error.code() == KafkaError._MAX_POLL_EXCEEDED:
            _logger.warning("this worker was silent for too long for its group, and joins it again: %s", error.str())
        else:  # librdkafka reconnects by itself
            _logger.warning("reading goes on when the broker is back: %s", error.str())
        return None

    def pause(self, partitions: Collection[TopicPartition]) -> None:
        """See `Reader.pause`."""
        wanted = set(partitions)
        self._consumer.resume([KafkaPartition(*tp) for tp in self._paused - wanted])
        self._consumer.pause([KafkaPartition(*tp) for tp in wanted - self._paused])
        self._paused = wanted

    def at_end(self) -> frozenset[TopicPartition]:
        """See `Reader.at_end`."""
        return frozenset(self._at_end)

    def close(self) -> None:
        """Leaves the broker."""
        self._consumer.close()


class _SeatKept(Exception):
    """The group keeps this worker's seat for one that has died, until that one's session ends (KIP-848)."""


def _end_of(error: KafkaError) -> Exception:
    """Why a consumer can never go on. librdkafka gives the cause of a fatal error only in words: its own."""
    if KafkaError(KafkaError.FENCED_INSTANCE_ID).str() in error.str():
        return Fenced("another process took this worker's seat in the group; this one stops")
    if KafkaError(KafkaError.UNRELEASED_INSTANCE_ID).str() in error.str():
        return _SeatKept(error.str())
    return LogUnavailable(f"the broker refused to go on: {error.str()}")


class GroupReader(KafkaReader):
    """See `consumers.log.Member`: a consumer whose partitions come and go, one by one.

    The group calls back within `read`, when no epoch is half done: what was taken is committed, what was only read is
    read again by the next owner. So a partition is let go at once. The callbacks only note what happened: an error in
    one would leave through whatever call was being answered.
    """

    def __init__(self, committer: "KafkaCommitter", topic: str) -> None:
        super().__init__(committer.group)
        self._committer, self._topic = committer, topic
        self._held: set[TopicPartition] = set()  # ours, by the group's last word
        self._new: set[TopicPartition] = set()  # of them, not told by `changes` yet
        self._lost: set[TopicPartition] = set()  # not told yet; may be ours again
        self._begun: set[TopicPartition] = set()
        self._waiting_for_seat = self._had_seat = False
        self._ask_at = 0.0  # when the group may be asked for positions again
        self._waiting_for_positions = False
        self._deal_again = False
        self._join()

    def _join(self) -> None:
        self._subscribe(self._topic)
        self._committer.joined = True

    def _subscribe(self, topic: str) -> None:
        self._consumer.subscribe([topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke)

    def _ask_for_a_deal(self) -> None:
        """Makes the group share out the partitions once more, each keeping what it has.

        A static member that died between giving up a partition and saying so gets its old assignment back without a
        rebalance, and the partition would be nobody's. A pattern in the place of the topic's name makes for one.
        """
        self._deal_again = False
        self._subscribe(f"^{re.escape(self._topic)}$")

    def read(self, max_records: int, timeout_s: float) -> list[Record]:
        """See `Reader.read`."""
        try:
            records = super().read(max_records, timeout_s)
        except _SeatKept as error:
            if self._had_seat:  # lost while this process was silent, and not free any more
                raise Fenced("another process took this worker's seat in the group; this one stops") from error
            self._join_again()
            return []
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
        gained = self._committed_of_new() if self._new and time.monotonic() >= self._ask_at else {}
        self._new -= gained.keys()
        return gained, lost

    def _committed_of_new(self) -> dict[TopicPartition, int]:
        """Nothing while the broker has no stable answer: a worker that died may have left a commit undecided."""
        asked = [KafkaPartition(*tp) for tp in sorted(self._new)]
        try:
            answer = self._consumer.committed(asked, timeout=POSITIONS_TIMEOUT_S)
        except KafkaException as error:
            if not self._waiting_for_positions:
                _logger.info("partitions came whose positions are not known yet; waiting: %s", _text(error))
            self._waiting_for_positions = True
            self._ask_at = time.monotonic() + POSITIONS_TIMEOUT_S
            return {}
        self._waiting_for_positions = False
        return {TopicPartition(c.topic, c.partition): max(c.offset, -1) for c in answer if c.error is None}

    @_answered
    def begin(self, partition: TopicPartition, position: int) -> None:
        """See `Member.begin`."""
        if partition not in self._held or partition in self._new | self._lost:
            return
        self._consumer.incremental_unassign([KafkaPartition(*partition)])
        self._consumer.incremental_assign([KafkaPartition(*partition, position)])
        self._consumer.resume([KafkaPartition(*partition)])  # a pause outlives an assignment
        self._begun.add(partition)

    def pause(self, partitions: Collection[TopicPartition]) -> None:
        """See `Reader.pause`."""
        super().pause([tp for tp in partitions if tp in self._begun])

    def close(self) -> None:
        """Nothing: the consumer is the committer's, which leaves the group."""

    def _on_assign(self, consumer: Any, partitions: list[KafkaPartition]) -> None:
        consumer.incremental_assign([KafkaPartition(p.topic, p.partition, OFFSET_END) for p in partitions])
        consumer.pause(partitions)  # until `begin`
        came = {TopicPartition(p.topic, p.partition) for p in partitions}
        self._held |= came
        self._new |= came
        self._deal_again = not self._had_seat and not self._committer.assigned_by_broker
        self._had_seat, self._waiting_for_seat = True, False

    def _on_revoke(self, consumer: Any, partitions: list[KafkaPartition]) -> None:
        happened("revoked")
        consumer.incremental_unassign(partitions)
        gone = {TopicPartition(p.topic, p.partition) for p in partitions}
        for known in (self._held, self._new, self._begun, self._at_end, self._paused):
            known -= gone
        self._lost |= gone


class KafkaCommitter:
    """See `consumers.log.Committer`.

    Opening it, in this order: (1) the state folder, which only one process has; (2) `init_transactions`, which fences
    and aborts what a dead one of the same seat left open; (3) the committed positions, which nobody can move now.
    """

    def __init__(
        self,
        producer: dict[str, Any],
        consumer: dict[str, Any],
        application: str,
        state: Path,
        exactly_once: bool,
    ) -> None:
        self._store = StateStore(state)
        self._exactly_once = exactly_once
        self.seat = instance_id(state)
        transactional = {
            "transactional.id": f"{application}-{self.seat}",
            "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS,
        } | producer
        self._producer: Any = Producer(transactional if exactly_once else producer)
        self._group_config = consumer | {"group.instance.id": f"{application}-{self.seat}"}
        self.group: Any = Consumer(self._group_config)
        self.assigned_by_broker = consumer.get("group.protocol") == "consumer"
        self.joined = False
        self._transaction_timeout_s = transactional["transaction.timeout.ms"] / 1000
        self._begun = time.monotonic()  # when the last transaction was
        try:
            if exactly_once:
                self._producer.init_transactions(START_TIMEOUT_S)
        except KafkaException as error:
            self.close()
            raise LogUnavailable(f"the broker gave no transactional seat: {_text(error)}") from error

    @_answered
    def positions(self) -> dict[TopicPartition, int]:
        """See `Committer.positions`."""
        return _committed(self.group)

    def commit(self, outputs: Sequence[NewRecord], positions: Positions, state: StateDelta | None = None) -> None:
        """See `Committer.commit`. The effects, in this order:

        (1) a transaction is begun, (2) the outputs are produced, (3) the offsets are sent, (4) all of it is committed;
        (5) the checkpoint is written, if there is one. A crash before (4) leaves nothing, a crash after it leaves
        epochs whose manifests say how to take them again.
        """
        try:
            if self._exactly_once:
                self._in_the_generation(lambda: self._commit_transaction(outputs, positions), self._abort)
            else:
                self._commit_loosely(outputs, positions)
        except KafkaException as error:
            if self._is_fenced(error.args[0].code()):
                raise Fenced("another process took over this application; this one stops") from error
            raise LogUnavailable(f"the commit failed: {_text(error)}; going on from the last one") from error
        if state is not None:
            self._store.write(state, positions)  # (5)
            happened("checkpointed")

    def new_consumer(self) -> Any:
        """Another consumer in the place of one that can go on no more."""
        self.group.close()
        self.group = Consumer(self._group_config)
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

    def _is_fenced(self, code: int) -> bool:
        """Whether another process has this one's seat.

        A broker says the same to one whose transaction it gave up, after a silence in the midst of it. Then starting
        again finds out: who starts last has the seat.
        """
        gave_up = self._exactly_once and time.monotonic() - self._begun > self._transaction_timeout_s
        return code == KafkaError.FENCED_INSTANCE_ID or (code in _FENCED and not gave_up)

    def _abort(self) -> None:
        self._producer.abort_transaction(COMMIT_TIMEOUT_S)

    def _commit_transaction(self, outputs: Sequence[NewRecord], positions: Positions) -> None:
        producer = self._producer
        if not outputs and not positions:
            return
        producer.begin_transaction()  # (1)
        self._begun = time.monotonic()
        happened("begun")
        _produce(producer, outputs[:1])
        if outputs:
            happened("first output")
        _produce(producer, outputs[1:])  # (2)
        happened("outputs")
        offsets = [KafkaPartition(*tp, offset) for tp, offset in positions.items()]
        if offsets:
            producer.send_offsets_to_transaction(offsets, self._generation(), COMMIT_TIMEOUT_S)  # (3)
        happened("offsets")
        self._finish_transaction()  # (4)
        happened("committed")

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
                _logger.warning("the commit is tried again: %s", _text(error))

    def _commit_loosely(self, outputs: Sequence[NewRecord], positions: Positions) -> None:
        """At least once: the offsets follow the outputs, and a crash between them repeats those."""
        if positions:
            self._generation()
        _produce(self._producer, outputs)
        if self._producer.flush(COMMIT_TIMEOUT_S):
            raise LogUnavailable("lists were not acknowledged in time; going on from the last commit")
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

    def close(self) -> None:
        """Frees the state folder and leaves the broker; the seat is kept."""
        self.group.close()
        self._store.close()


def _committed(group: Any) -> dict[TopicPartition, int]:
    """The committed positions of every topic of the cluster: what a group has is known only by asking for it."""
    topics = group.list_topics(timeout=START_TIMEOUT_S).topics
    asked = [
        KafkaPartition(n, p) for n, meta in topics.items() if not n.startswith("__") for p in sorted(meta.partitions)
    ]
    committed = group.committed(asked, timeout=START_TIMEOUT_S)
    return {TopicPartition(c.topic, c.partition): c.offset for c in committed if c.offset >= 0}


def _membership(protocol: str) -> dict[str, Any]:
    """How a worker is a member of its group."""
    if protocol == "consumer":  # KIP-848: the broker assigns, and knows the session's timeout
        return {"group.protocol": "consumer"}
    return {"partition.assignment.strategy": "cooperative-sticky", "session.timeout.ms": SESSION_TIMEOUT_MS}


def _produce(producer: Any, records: Sequence[NewRecord], delivered: Any = None) -> None:
    for record in records:
        arguments: dict[str, Any] = {"key": record.key, "value": record.value}
        if record.headers:
            arguments["headers"] = list(record.headers)
        if record.partition is not None:
            arguments["partition"] = record.partition
        if delivered is not None:
            arguments["on_delivery"] = delivered
        while True:
            try:
                producer.produce(record.topic, **arguments)
                break
            except BufferError:  # the local queue is full: wait for acknowledgements
                producer.poll(0.05)
    producer.poll(0)


def _topic_config(spec: TopicSpec) -> dict[str, str]:
    return {"cleanup.policy": spec.cleanup, "retention.ms": str(spec.retention_ms)} | spec.config


def _check_same(have: TopicSpec, wanted: TopicSpec) -> None:
    if (have.partitions, set(have.cleanup.split(","))) != (wanted.partitions, set(wanted.cleanup.split(","))):
        raise TopicConflict(
            f"topic {have.name} exists with {have.partitions} partitions and cleanup {have.cleanup}, "
            f"not {wanted.partitions} and {wanted.cleanup}"
        )


def _unknown(topic: str) -> UnknownTopic:
    return UnknownTopic(f"there is no topic {topic}; create it with `freshet topics create`")


def _text(error: KafkaException) -> str:
    return str(error.args[0].str() if isinstance(error.args[0], KafkaError) else error)
