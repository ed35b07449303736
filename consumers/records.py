"""What a log holds: records at offsets of topic partitions."""

from typing import NamedTuple

import msgspec

Headers = tuple[tuple[str, bytes], ...]


class TopicPartition(NamedTuple):
    """One partition of one topic."""

    topic: str
    partition: int


class Record(msgspec.Struct, frozen=True, gc=False):
    """A record read from a log. `value` None is a tombstone; `b""` is a value.

    `offset` is the log's; `timestamp_ms` is when the record was appended (epoch ms), never event time.
    """

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp_ms: int

    @property
    def topic_partition(self) -> TopicPartition:
        return TopicPartition(self.topic, self.partition)


class NewRecord(msgspec.Struct, frozen=True, gc=False):
    """A record to append. Without `partition` the key decides it, without both it goes round."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    partition: int | None = None


class TopicSpec(msgspec.Struct, frozen=True):
    """How a topic is created. `cleanup`: "delete", "compact" or "compact,delete"; `retention_ms` −1 is for ever."""

    name: str
    partitions: int = 4
    cleanup: str = "delete"
    retention_ms: int = -1
    config: dict[str, str] = {}
