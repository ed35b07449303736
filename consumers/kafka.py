"""The Kafka home of the log, on confluent-kafka."""

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka import TopicPartition as KafkaPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType  # type: ignore[attr-defined]

from consumers.errors import LogUnavailable, TopicConflict, UnknownTopic
from consumers.kafka_calls import START_TIMEOUT_S, answered, client, produce, text_of
from consumers.kafka_commit import KafkaCommitter, committed_positions
from consumers.kafka_group import GroupReader
from consumers.kafka_reader import KafkaReader
from consumers.log import Committer, Positions
from consumers.records import NewRecord, TopicPartition, TopicSpec
from consumers.stored_state import FolderState

APPEND_TIMEOUT_S = 60.0
SESSION_TIMEOUT_MS = 10_000  # after which the partitions of a worker that died go to the others
_logger = logging.getLogger(__name__)
_librdkafka = logging.getLogger("librdkafka")  # a line for every try to connect: on only where somebody asks for it
_librdkafka.setLevel(logging.CRITICAL + 1)  # what is fatal is raised as well


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
        self._client: Any = client(Consumer, self._consumer_config("freshet-metadata"))
        try:
            self._admin.list_topics(timeout=START_TIMEOUT_S)
        except KafkaException as error:
            self._client.close()
            raise LogUnavailable(f"no broker answers at {bootstrap}: {away.cause or text_of(error)}") from error

    @answered
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
                    raise LogUnavailable(f"topic {name} could not be created: {text_of(error)}") from error
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

    @answered
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

    @answered
    def starts(self, topic: str) -> dict[int, int]:
        """See `Log.starts`."""
        return {p: self._watermarks(topic, p)[0] for p in self._partitions(topic)}

    @answered
    def ends(self, topic: str) -> dict[int, int]:
        """See `Log.ends`; a committed transaction's marker takes an offset of its own."""
        return {p: self._watermarks(topic, p)[1] for p in self._partitions(topic)}

    @answered
    def append(self, records: Sequence[NewRecord]) -> None:
        """See `Log.append`."""
        known = self._admin.list_topics(timeout=START_TIMEOUT_S).topics if self._producer is None else None
        for topic in {record.topic for record in records} if known is not None else ():
            if topic not in known:  # type: ignore[operator]
                raise _unknown(topic)
        if self._producer is None:
            self._producer = client(Producer, self._producer_config())
        failures: list[KafkaError] = []
        produce(self._producer, records, lambda error, _: failures.append(error) if error else None)
        left = self._producer.flush(APPEND_TIMEOUT_S)
        if failures and failures[0].code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC):
            raise _unknown(records[0].topic)
        if failures or left:
            raise LogUnavailable(f"{left + len(failures)} records were not acknowledged: {failures[:1]}")

    def reader(self, positions: Positions) -> KafkaReader:
        """See `Log.reader`."""
        for topic in {tp.topic for tp in positions}:
            self._partitions(topic)
        consumer: Any = client(Consumer, self._consumer_config("freshet-reader"))
        consumer.assign([KafkaPartition(*tp, offset) for tp, offset in positions.items()])
        return KafkaReader(consumer)

    def subscribe(self, committer: Committer, positions: Positions) -> GroupReader:
        """See `Log.subscribe`: cooperative rebalancing, with static membership."""
        assert isinstance(committer, KafkaCommitter), "a committer of this log"
        (topic,) = {tp.topic for tp in positions}
        return GroupReader(committer, topic)

    def committer(self, application: str) -> KafkaCommitter:
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

    @answered
    def _committed(self, application: str) -> dict[TopicPartition, int]:
        """What a group has committed, asked without joining it."""
        group: Any = client(Consumer, self._consumer_config(application))
        try:
            return committed_positions(group)
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
    return {"partition.assignment.strategy": "cooperative-sticky", "session.timeout.ms": SESSION_TIMEOUT_MS}


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
