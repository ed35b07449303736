"""Positions as they are written: rows of topic, partition and position, or by topic and partition as JSON has them."""

from collections.abc import Iterable, Mapping

import msgspec

from consumers.log import Positions
from consumers.records import TopicPartition

Rows = list[tuple[str, int, int]]
ByTopic = dict[str, dict[str, int]]


def to_rows(positions: Positions) -> Rows:
    """Rows of topic, partition and position."""
    return [(*tp, position) for tp, position in positions.items()]


def from_rows(rows: Iterable[tuple[str, int, int]]) -> dict[TopicPartition, int]:
    """The positions that `to_rows` wrote."""
    return {TopicPartition(topic, partition): position for topic, partition, position in rows}


def pack(positions: Positions) -> bytes:
    """The rows as msgpack."""
    return msgspec.msgpack.encode(to_rows(positions))


def unpack(packed: bytes | None) -> dict[TopicPartition, int]:
    """The positions that `pack` wrote; without any, none."""
    return from_rows(msgspec.msgpack.decode(packed)) if packed else {}


def by_topic(positions: Positions) -> ByTopic:
    """Topic → partition → position, in order, as manifests and JSON have it."""
    found: ByTopic = {}
    for tp, position in sorted(positions.items()):
        found.setdefault(tp.topic, {})[str(tp.partition)] = position
    return found


def from_topics(topics: Mapping[str, Mapping[str, int]]) -> dict[TopicPartition, int]:
    """The positions that `by_topic` wrote."""
    return {TopicPartition(topic, int(p)): position for topic, parts in topics.items() for p, position in parts.items()}
