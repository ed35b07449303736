"""What a broker says about itself and about our rights, for `freshet doctor`. Asks, and changes nothing."""

import re
import time
from collections.abc import Collection, Mapping
from contextlib import closing
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka import TopicCollection as Topics
from confluent_kafka import TopicPartition as KafkaPartition
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType  # type: ignore[attr-defined]

from consumers.errors import LogUnavailable
from consumers.kafka.calls import COORDINATORLESS, client, shut, text_of
from consumers.log import Closable
from consumers.records import TopicPartition

TIMEOUT_S = 15.0
TRANSACTION_TIMEOUT_MS = 60_000
_DENIED = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
}


class Broker(NamedTuple):
    """A cluster, seen from the broker that answered."""

    brokers: int
    version: str | None  # as near as it tells, None where we may not ask for its configuration
    too_old: bool  # before 3.7


class Since(NamedTuple):
    """Where a transaction began, and when, by the record's timestamp."""

    offset: int
    timestamp_ms: int


class KafkaProbe(Closable):
    """Asks over a connection of its own, until it is closed. Raises LogUnavailable where no broker answers."""

    def __init__(self, bootstrap: str, config: Mapping[str, Any]) -> None:
        self._config = {"bootstrap.servers": bootstrap, "log_level": 0, "retry.backoff.ms": 20, **config}
        self._admin: Any = client(AdminClient, self._config)

    def close(self) -> None:
        """Closes the connection."""
        shut(self._admin)

    def broker(self) -> Broker:
        """How many brokers, and of which version."""
        cluster = self._ask(self._admin.describe_cluster(request_timeout=TIMEOUT_S))
        version = self._version(str(cluster.nodes[0].id))
        return Broker(len(cluster.nodes), version, version is not None and _number(version) < (3, 7))

    def _version(self, broker: str) -> str | None:
        """Brokers do not tell their version, but its settings come and go: KIP-896, 932 and 1071 brought these."""
        resource = ConfigResource(ResourceType.BROKER, broker)
        try:
            settings = self._ask(self._admin.describe_configs([resource], request_timeout=TIMEOUT_S)[resource])
        except PermissionError:
            return None
        if "inter.broker.protocol.version" in settings:  # up to 3.9: "3.7-IV4"
            return str(settings["inter.broker.protocol.version"].value).partition("-")[0]
        return "4.1 or newer" if "group.streams.max.size" in settings else "4.0"

    def topic_rights(self, topics: Collection[str]) -> dict[str, set[str]]:
        """What we may do with each topic, as ACLs name it, in capitals; without topics that are not there."""
        found = self._admin.describe_topics(
            Topics(list(topics)), include_authorized_operations=True, request_timeout=TIMEOUT_S
        )
        rights = {}
        for topic, answer in found.items():
            try:
                rights[topic] = _names(self._ask(answer))
            except PermissionError:
                rights[topic] = set()
            except LookupError:
                continue
        return rights

    def replication(self, topics: Collection[str]) -> dict[str, int]:
        """Copies of each topic's partitions, the least of them."""
        metadata = self._admin.list_topics(timeout=TIMEOUT_S).topics
        there = {topic: metadata[topic] for topic in topics if topic in metadata}
        return {t: min((len(p.replicas) for p in meta.partitions.values()), default=0) for t, meta in there.items()}

    def group_rights(self, group: str) -> set[str]:
        """What we may do with a consumer group."""
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            asked = self._admin.describe_consumer_groups(
                [group], include_authorized_operations=True, request_timeout=TIMEOUT_S
            )
            try:
                return _names(self._ask(asked[group]))
            except PermissionError:
                return set()
            except LookupError:  # KIP-848's brokers know no group before somebody was in it; then ACLs tell nothing yet
                return {"READ"}
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise LogUnavailable(f"nobody coordinates the group {group} yet; ask again") from None
            time.sleep(0.1)

    def members(self, group: str) -> list[frozenset[TopicPartition]]:
        """The partitions of each member of a group; none where nobody is in it, or we may not know."""
        try:
            found = self._ask(self._admin.describe_consumer_groups([group], request_timeout=TIMEOUT_S)[group])
        except (PermissionError, LookupError, BlockingIOError):
            return []
        shares = [one.assignment.topic_partitions for one in found.members if one.assignment is not None]
        return [frozenset(TopicPartition(tp.topic, tp.partition) for tp in share) for share in shares]

    def open_transactions(self, topics: Collection[str]) -> dict[TopicPartition, Since]:
        """The first record of the oldest open transaction of each partition that has one."""
        with (
            closing(self._reader("read_uncommitted")) as everything,
            closing(self._reader("read_committed")) as committed,
        ):
            return self._open_transactions(topics, everything, committed)

    def _open_transactions(
        self, topics: Collection[str], everything: Any, committed: Any
    ) -> dict[TopicPartition, Since]:
        found = {}
        try:
            for topic, meta in self._admin.list_topics(timeout=TIMEOUT_S).topics.items():
                for partition in sorted(meta.partitions) if topic in topics else ():
                    tp = KafkaPartition(topic, partition)
                    end = everything.get_watermark_offsets(tp, timeout=TIMEOUT_S)[1]
                    stable = committed.get_watermark_offsets(tp, timeout=TIMEOUT_S)[1]
                    if stable < end and (since := self._read_at(everything, topic, partition, stable)):
                        found[TopicPartition(topic, partition)] = since
            return found
        except KafkaException as error:
            raise LogUnavailable(f"the broker does not answer: {text_of(error)}") from error

    def _reader(self, isolation_level: str) -> Any:
        own = {"group.id": "freshet-doctor", "enable.auto.commit": False, "isolation.level": isolation_level}
        return client(Consumer, {**self._config, **own})

    @staticmethod
    def _read_at(reader: Any, topic: str, partition: int, offset: int) -> Since | None:
        reader.assign([KafkaPartition(topic, partition, offset)])
        message = reader.poll(TIMEOUT_S)
        return None if message is None or message.error() else Since(message.offset(), message.timestamp()[1])

    def may_open_transactions(self, transactional_id: str) -> str | None:
        """Why the broker gives no transaction; None: it does. Takes a transactional id that nobody else has."""
        producer = Producer(
            {
                **self._config,
                "transactional.id": transactional_id,
                "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS,
            }
        )
        try:
            producer.init_transactions(TIMEOUT_S)
        except KafkaException as error:
            return str(error.args[0].str())
        return None

    def _ask(self, answer: Any) -> Any:
        try:
            return answer.result(TIMEOUT_S)
        except TimeoutError as error:
            raise LogUnavailable(f"the broker does not answer within {TIMEOUT_S:.0f} s") from error
        except KafkaException as error:
            code = error.args[0].code()
            if code in _DENIED:
                raise PermissionError(error.args[0].str()) from error
            if code in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.GROUP_ID_NOT_FOUND):
                raise LookupError(error.args[0].str()) from error
            if code in COORDINATORLESS:
                raise BlockingIOError from error
            raise LogUnavailable(f"the broker does not answer: {error.args[0].str()}") from error


def _names(description: Any) -> set[str]:
    return {operation.name for operation in description.authorized_operations or ()}


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])
