"""What a log holds: records at offsets of topic partitions."""

from typing import NamedTuple

import msgspec

from consumers.counted import counted
from consumers.errors import TopicConflict

Headers = tuple[tuple[str, bytes], ...]
ROW_HEADER = "freshet-row"  # of a record that `produce` sent: the number of its row in time order
INCARNATION_HEADER = "freshet-incarnation"  # of a manifest without a transaction: which start of its seat wrote it
RECORD_BYTES = 1_048_588
"""The largest record, as `size_of` counts, that a topic takes where it says nothing: Kafka's `max.message.bytes`."""


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
    """How a topic is created. `cleanup`: "delete", "compact" or "compact,delete"; `retention_ms` −1 is for ever;
    `shared`: several applications write to it, so where it exists its number of partitions stays what it is."""

    name: str
    partitions: int = 4
    cleanup: str = "delete"
    retention_ms: int = -1
    config: dict[str, str] = {}
    shared: bool = False

    def check_same(self, wanted: "TopicSpec") -> None:
        """Raises TopicConflict where the topic that exists, this one, is not the wanted one."""
        other_partitions = self.partitions != wanted.partitions and not wanted.shared
        if other_partitions or set(self.cleanup.split(",")) != set(wanted.cleanup.split(",")):
            raise TopicConflict(
                f"topic {self.name} exists with {counted(self.partitions, 'partition')} and cleanup {self.cleanup}, "
                f"not {wanted.partitions} and {wanted.cleanup}"
            )


def size_of(record: NewRecord) -> int:
    """What a record takes at most, uncompressed, in a batch of its own: that is what a broker compares, bytes."""
    batch, around, a_header = 61, 36, 10  # the batch's own header; varints at their longest
    headers = sum(len(name.encode()) + len(value) + a_header for name, value in record.headers)
    return batch + around + len(record.key or b"") + len(record.value or b"") + headers
