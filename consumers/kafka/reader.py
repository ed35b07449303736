"""Reading from a broker: records, and what the broker says of the end of a partition or of a consumer."""

import logging
import time
from collections.abc import Collection, Mapping
from typing import Any

from confluent_kafka import KafkaError
from confluent_kafka import TopicPartition as KafkaPartition

from consumers.errors import LogUnavailable, PositionGone
from consumers.kafka.calls import answered
from consumers.log import Closable, Positions
from consumers.records import Record, TopicPartition

_logger = logging.getLogger(__name__)


class KafkaReader(Closable):
    """See `consumers.log.Reader`: a consumer with a fixed assignment."""

    def __init__(self, consumer: Any, positions: Positions | None = None) -> None:
        self._consumer = consumer
        self._positions = dict(positions or {})
        self._at_end: set[TopicPartition] = set()
        self._ends: dict[
            TopicPartition, int
        ] = {}  # of those that have been at their end, markers of transactions counted
        self._paused: set[TopicPartition] = set()

    @answered
    def read(self, max_records: int, timeout_s: float) -> list[Record]:
        """See `Reader.read`. `consume(n, t)` would wait the whole of t for n messages, so: one, then what is there."""
        deadline = time.monotonic() + timeout_s
        while True:
            message = self._consumer.poll(max(0.0, deadline - time.monotonic()))
            if message is None:
                return []
            rest = self._consumer.consume(max_records - 1, 0) if max_records > 1 else []
            records = [record for m in (message, *rest) if (record := self._record_of(m))]
            read = {record.topic_partition: record.offset + 1 for record in records}
            self._positions |= read
            self._note_ends(read)
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
                self._ends[tp] = end

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
            self._ends[tp] = message.offset()
        elif error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            raise PositionGone(f"{tp.topic}[{tp.partition}] no longer holds the position to read from: {error.str()}")
        elif error.code() == KafkaError._FATAL:
            raise end_of(error)
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

    def positions(self) -> dict[TopicPartition, int]:
        """See `Reader.positions`: the end of a partition lies behind the markers of its transactions.

        Another thread may ask too.
        """
        return {
            tp: max(position, self._ends.get(tp, 0) if tp in self._at_end else 0)
            for tp, position in dict(self._positions).items()
        }

    def close(self) -> None:
        """Leaves the broker."""
        self._consumer.close()


class SeatKept(Exception):
    """The group keeps this worker's seat for one that has died, until that one's session ends (KIP-848)."""


class SeatTaken(Exception):
    """Another process has this worker's seat in the group: a newer one, or an older one that woke."""


def end_of(error: KafkaError) -> Exception:
    """Why a consumer can never go on. librdkafka gives the cause of a fatal error only in words: its own."""
    if KafkaError(KafkaError.FENCED_INSTANCE_ID).str() in error.str():
        return SeatTaken(error.str())
    if KafkaError(KafkaError.UNRELEASED_INSTANCE_ID).str() in error.str():
        return SeatKept(error.str())
    return LogUnavailable(f"the broker refused to go on: {error.str()}")
