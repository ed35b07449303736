"""The Kafka home of the log, on confluent-kafka."""

import logging
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from threading import Lock
from typing import Any

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, Producer
from confluent_kafka import TopicCollection as Topics
from confluent_kafka import TopicPartition as KafkaPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, OffsetSpec, ResourceType  # type: ignore[attr-defined]

from consumers.counted import counted
from consumers.errors import LogUnavailable, RecordRefused, UnknownTopic
from consumers.kafka.calls import (
    ANSWER_TIMEOUT_S,
    LEADERLESS,
    START_TIMEOUT_S,
    answered,
    client,
    produce,
    refused,
    shut,
    text_of,
)
from consumers.kafka.committer import KafkaCommitter, committed_positions
from consumers.kafka.group import GroupReader
from consumers.kafka.reader import KafkaReader
from consumers.kafka.seat import Seat
from consumers.log import APPEND_TIMEOUT_S, Closable, Committer, Positions
from consumers.records import RECORD_BYTES, NewRecord, TopicPartition, TopicSpec
from consumers.storage.folder_state import FolderState

BATCH_BYTES, BATCH_OVERHEAD_BYTES = 1_000_000, 200
CREATE_TIMEOUT_S = 60.0  # until new topics are seen: a broker that has just started is slow at its first ones
WORKERS_TOPIC = "freshet.workers"
_UNKNOWN = {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError.TOPIC_AUTHORIZATION_FAILED}
_NO_ID = "AAAAAAAAAAAAAAAAAAAAAA"  # 16 bytes of zero
APPEND_POLL_S = 0.005
SESSION_TIMEOUT_MS = 10_000  # after which the partitions of a worker that died go to the others
HEARTBEAT_MS = 1_000  # how soon the others hear of it; librdkafka's own is three seconds
METADATA_EVERY_MS = 5_000  # how often a member looks for partitions that were added; librdkafka's own is five minutes
_OF_MEMBERS = {  # librdkafka checks them against one another; they mean nothing to who reads without a group
    "group.protocol",
    "partition.assignment.strategy",
    "session.timeout.ms",
    "heartbeat.interval.ms",
    "max.poll.interval.ms",
}
_logger = logging.getLogger(__name__)
_librdkafka = logging.getLogger("librdkafka")  # a line for every try to connect: on only where somebody asks for it
_librdkafka.setLevel(logging.CRITICAL + 1)  # what is fatal is raised as well


class KafkaLog(Closable):
    """A `consumers.log.Log` on a broker.

    Args:
        bootstrap: HOST:PORT[,HOST:PORT] of brokers.
        state: the folder of the checkpoint and of this worker's identity.
        config: librdkafka keys on top of ours.
        exactly_once: False gives up the transaction: a crash may then repeat lists.
        group_protocol: "classic", or "consumer" for KIP-848.
        workers_topic: where workers claim their seats.

    Raises LogUnavailable when no broker answers within START_TIMEOUT_S.
    """

    def __init__(
        self,
        bootstrap: str,
        state: Path,
        config: Mapping[str, Any],
        exactly_once: bool = True,
        group_protocol: str = "classic",
        workers_topic: str = WORKERS_TOPIC,
    ) -> None:
        self._state, self._exactly_once, self._group_protocol = state, exactly_once, group_protocol
        self._workers_topic = workers_topic
        away = BrokerAway(bootstrap)
        self._config = {
            "bootstrap.servers": bootstrap,
            "retry.backoff.ms": 20,  # librdkafka's 100 ms default shows in every transaction (CONCURRENT_TRANSACTIONS)
            "retry.backoff.max.ms": 1000,
            "reconnect.backoff.max.ms": 2000,
            "logger": _librdkafka,
            "error_cb": away,
            **config,
        }
        self._admin = client(AdminClient, self._config)
        self._producer: Any = None
        self._making = Lock()  # of a producer: threads that append share one
        self._batch_bytes = BATCH_BYTES  # of a producer: no topic may refuse a batch of records that it takes singly
        try:
            self._admin.list_topics(timeout=START_TIMEOUT_S)
        except KafkaException as error:
            self._admin.poll(0)  # it says why
            shut(self._admin)
            raise LogUnavailable(f"no broker answers at {bootstrap}: {away.cause or text_of(error)}") from error

    @answered
    def create(self, specs: Iterable[TopicSpec]) -> list[str]:
        """See `Log.create`."""
        wanted = {spec.name: spec for spec in specs}
        have = self.topics(wanted)
        for name in wanted.keys() & have.keys():
            have[name].check_same(wanted[name])
        missing = [spec for name, spec in wanted.items() if name not in have]
        if missing:
            self._create(missing)
        return [spec.name for spec in missing]

    def _create(self, missing: Sequence[TopicSpec]) -> None:
        new = [NewTopic(spec.name, spec.partitions, -1, config=_topic_config(spec)) for spec in missing]
        for name, future in self._admin.create_topics(new, operation_timeout=30).items():
            try:
                future.result(CREATE_TIMEOUT_S)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise LogUnavailable(f"topic {name} could not be created: {text_of(error)}") from error
        self._wait_visible(missing)

    def _wait_visible(self, specs: Sequence[TopicSpec]) -> None:
        deadline = time.monotonic() + CREATE_TIMEOUT_S
        while time.monotonic() < deadline:
            have = self._described([spec.name for spec in specs])
            if all(spec.name in have and len(have[spec.name].partitions) == spec.partitions for spec in specs):
                return
            time.sleep(0.05)
        raise LogUnavailable("new topics did not become visible; see the broker's log")

    @answered
    def topic_names(self) -> set[str]:
        """See `Log.topic_names`."""
        listed = self._admin.list_topics(timeout=START_TIMEOUT_S).topics
        return {name for name in listed if not name.startswith("__")}

    @answered
    def topics(self, names: Collection[str] | None = None) -> dict[str, TopicSpec]:
        """See `Log.topics`."""
        described = self._described(self.topic_names() if names is None else names)
        resources = [ConfigResource(ResourceType.TOPIC, name) for name in described]
        configs = self._admin.describe_configs(resources, request_timeout=START_TIMEOUT_S) if described else {}
        specs = {}
        for resource, future in configs.items():
            try:
                config, name = future.result(ANSWER_TIMEOUT_S), resource.name
            except KafkaException as error:
                if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                    continue  # it was deleted after it was listed
                raise
            cleanup, retention_ms = config["cleanup.policy"].value, int(config["retention.ms"].value)
            specs[name] = TopicSpec(name, len(described[name].partitions), cleanup, retention_ms)
        return specs

    @answered
    def topic_ids(self, topics: Iterable[str]) -> dict[str, str]:
        """See `Log.topic_ids`: KIP-516's, which a broker before 2.8 does not give."""
        ids = {topic: str(described.topic_id) for topic, described in self._described(topics).items()}
        return {topic: id_ for topic, id_ in ids.items() if id_ != _NO_ID}

    def _described(self, topics: Iterable[str], timeout_s: float = START_TIMEOUT_S) -> dict[str, Any]:
        """What the broker says of those of these topics that are there."""
        names, found = list(topics), {}
        asked = self._admin.describe_topics(Topics(names), request_timeout=timeout_s) if names else {}
        for name, answer in asked.items():
            try:
                found[name] = answer.result(ANSWER_TIMEOUT_S)
            except KafkaException as error:
                if error.args[0].code() not in _UNKNOWN:
                    raise
        return found

    def claim(self, application: str, topics: Collection[str]) -> None:
        """See `Log.claim`: a broker does not know; the epochs themselves name their application."""

    @answered
    def starts(self, topic: str) -> dict[int, int]:
        """See `Log.starts`."""
        return self._offsets(topic, OffsetSpec.earliest())  # type: ignore[no-untyped-call]

    @answered
    def ends(self, topic: str) -> dict[int, int]:
        """See `Log.ends`; a committed transaction's marker takes an offset of its own."""
        return self._offsets(topic, OffsetSpec.latest())  # type: ignore[no-untyped-call]

    @answered
    def append(self, records: Sequence[NewRecord], timeout_s: float = APPEND_TIMEOUT_S) -> None:
        """See `Log.append`."""
        deadline = time.monotonic() + timeout_s
        producer = self._shared_producer({record.topic for record in records}, timeout_s)
        taken, failures = 0, list[tuple[KafkaError, str]]()

        def delivered(error: KafkaError | None, message: Any) -> None:
            nonlocal taken
            if error is None:
                taken += 1
            else:
                failures.append((error, message.topic()))

        try:
            produce(producer, records, delivered)
        except RecordRefused:
            self._give_up(producer)
            raise
        while taken < len(records) and not failures and time.monotonic() < deadline:
            producer.poll(APPEND_POLL_S)  # short: another thread may be the one that hears of these records
        if taken == len(records):
            return
        error, topic = failures[0] if failures else (None, "")
        self._give_up(producer)
        if error and error.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC):
            raise _unknown(topic)
        if error and (refusal := refused(error, topic)):
            raise refusal
        why = error.str() if error else f"no broker answered within {timeout_s:g} s"
        raise LogUnavailable(f"{counted(len(records), 'record', verb='were')} not acknowledged: {why}")

    def _shared_producer(self, topics: Collection[str], timeout_s: float) -> Any:
        """The producer of everything that is appended; the first to need one makes it, with a look at its topics."""
        if not self._making.acquire(timeout=timeout_s):
            raise LogUnavailable(f"no broker answered within {timeout_s:g} s")
        try:
            if self._producer is None:
                known = self._described(topics, min(START_TIMEOUT_S, timeout_s))
                for topic in topics:
                    if topic not in known:
                        raise _unknown(topic)
                self.record_limits(topics)
                self._producer = client(Producer, self._producer_config())
            return self._producer
        finally:
            self._making.release()

    def _give_up(self, producer: Any) -> None:
        """Drops what a producer has not sent, so that it does not come after its sender was told that it failed."""
        if self._producer is producer:  # the next one begins without a gap in its sequence
            self._producer = None
        shut(producer)

    @answered
    def record_limits(self, topics: Iterable[str]) -> dict[str, int]:
        """See `Log.record_limits`; Kafka's default for a topic that this client may not ask about."""
        most = int(self._producer_config()["message.max.bytes"])
        resources = [ConfigResource(ResourceType.TOPIC, topic) for topic in sorted(set(topics))]
        limits = {}
        configs = self._admin.describe_configs(resources, request_timeout=START_TIMEOUT_S) if resources else {}
        for resource, future in configs.items():
            try:
                limit = int(future.result(ANSWER_TIMEOUT_S)["max.message.bytes"].value)
            except (KafkaException, TimeoutError) as error:
                _logger.debug("the limit of %s is taken to be Kafka's default: %s", resource.name, error)
                limit = RECORD_BYTES
            limits[resource.name] = min(limit, most)
            self._batch_bytes = min(self._batch_bytes, limit - BATCH_OVERHEAD_BYTES)
        return limits

    @answered
    def reader(self, positions: Positions) -> KafkaReader:
        """See `Log.reader`."""
        for topic in {tp.topic for tp in positions}:
            self._partitions(topic)
        consumer: Any = client(Consumer, self._consumer_config("freshet-reader"))
        consumer.assign([KafkaPartition(*tp, offset) for tp, offset in positions.items()])
        return KafkaReader(consumer, positions)

    def subscribe(self, committer: Committer, positions: Positions) -> GroupReader:
        """See `Log.subscribe`: cooperative rebalancing, with static membership."""
        assert isinstance(committer, KafkaCommitter), "a committer of this log"
        (topic,) = {tp.topic for tp in positions}
        return GroupReader(committer, topic)

    def committer(self, application: str) -> KafkaCommitter:
        """See `Log.committer`."""
        self._make_workers_topic()
        return KafkaCommitter(
            self._producer_config(),
            _membership(self._group_protocol) | self._consumer_config(application, is_member=True),
            application,
            self._state,
            self._exactly_once,
            self._seat,
            self._admin,
        )

    @answered
    def _make_workers_topic(self) -> None:
        """Makes the topic of the seats' claims where it is missing: `freshet topics create` once made none."""
        if not self._described([self._workers_topic]):
            self._create([TopicSpec(self._workers_topic, 1, "compact")])

    def _seat(self, name: str) -> Seat:
        config = self._consumer_config("freshet-metadata")
        return Seat(name, self._state, self._workers_topic, config, self.append)

    def stored_state(self, application: str) -> FolderState:
        """See `Log.stored_state`."""
        return FolderState(self._state, lambda: self._committed(application))

    @answered
    def _committed(self, application: str) -> dict[TopicPartition, int]:
        """What a group has committed, asked without joining it."""
        with closing(client(Consumer, self._consumer_config(application))) as group:
            return committed_positions(group)

    def close(self) -> None:
        """Sends what is buffered and closes the connections."""
        if self._producer is not None:
            self._producer.flush(APPEND_TIMEOUT_S)
        shut(self._admin)  # whoever would make another producer asks it first
        if self._producer is not None:
            self._give_up(self._producer)

    def _partitions(self, topic: str) -> list[int]:
        metadata = self._admin.list_topics(topic, timeout=START_TIMEOUT_S).topics[topic]
        if metadata.error is not None and metadata.error.code() not in LEADERLESS:
            raise _unknown(topic)
        if metadata.error is not None:
            raise KafkaException(metadata.error)
        return sorted(metadata.partitions)

    def _offsets(self, topic: str, which: Any) -> dict[int, int]:
        """An offset of each partition, by one question a broker: `serve` asks every second, for hundreds of them."""
        asked = {KafkaPartition(topic, p): which for p in self._partitions(topic)}
        answers = self._admin.list_offsets(
            asked, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=START_TIMEOUT_S
        )
        try:
            return {tp.partition: answer.result(ANSWER_TIMEOUT_S).offset for tp, answer in answers.items()}
        except KafkaException as error:
            if error.args[0].code() == KafkaError._NOENT:  # what librdkafka says where a partition has no leader
                raise KafkaException(KafkaError(KafkaError.LEADER_NOT_AVAILABLE)) from error
            raise

    def _consumer_config(self, group: str, is_member: bool = False) -> dict[str, Any]:
        own = self._config if is_member else {key: v for key, v in self._config.items() if key not in _OF_MEMBERS}
        return {
            "group.id": group,
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 10,
            "allow.auto.create.topics": False,
        } | own

    def _producer_config(self) -> dict[str, Any]:
        return {
            "linger.ms": 1,
            "acks": "all",
            "enable.idempotence": True,
            "partitioner": "murmur2_random",
            "compression.type": "lz4",
            "message.max.bytes": 10_000_000,
            "batch.size": self._batch_bytes,
            "queue.buffering.max.messages": 1_000_000,
        } | self._config


class BrokerAway:
    """Says once in a while that no broker answers; librdkafka waits with back-off and goes on by itself."""

    EVERY_S = 30.0

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._said = time.monotonic() - self.EVERY_S + START_TIMEOUT_S  # a start that fails has its own message
        self.cause: str | None = None  # why no connection comes about, where a broker or the resolver says it

    def __call__(self, error: KafkaError) -> None:
        if error.code() in (KafkaError._AUTHENTICATION, KafkaError._SSL, KafkaError._RESOLVE):
            self.cause = error.str()
        if error.code() == KafkaError._ALL_BROKERS_DOWN and time.monotonic() - self._said > self.EVERY_S:
            self._said = time.monotonic()
            why = f": {self.cause}" if self.cause else ""
            _logger.warning("no broker answers at %s%s; waiting for it", self._bootstrap, why)


def _membership(protocol: str) -> dict[str, Any]:
    """How a worker is a member of its group."""
    if protocol == "consumer":  # KIP-848: the broker assigns, and knows the session's timeout
        return {"group.protocol": "consumer"}
    return {
        "partition.assignment.strategy": "cooperative-sticky",
        "session.timeout.ms": SESSION_TIMEOUT_MS,
        "heartbeat.interval.ms": HEARTBEAT_MS,
        "topic.metadata.refresh.interval.ms": METADATA_EVERY_MS,
    }


def _topic_config(spec: TopicSpec) -> dict[str, str]:
    return {"cleanup.policy": spec.cleanup, "retention.ms": str(spec.retention_ms)} | spec.config


def _unknown(topic: str) -> UnknownTopic:
    return UnknownTopic(f"there is no topic {topic}; create it with `freshet topics create`")
