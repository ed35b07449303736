"""Who has a seat of a group on a broker: whoever started last.

A process that starts appends a claim under the seat's name to a topic that every process reads, before it takes
anything. The last claim of a seat in that topic says who has it, whatever the speed of the processes: one that wakes
after a newer one has started finds the newer claim, and ends. A process that opens the log again claims nothing anew.
"""

import logging
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException
from confluent_kafka import TopicPartition as KafkaPartition

from consumers.decode_fields import UNDECODABLE
from consumers.errors import Fenced, LogUnavailable
from consumers.kafka.calls import answered, client
from consumers.records import INCARNATION_HEADER, NewRecord
from consumers.schemas import SeatClaim

ANSWER_TIMEOUT_S = 5.0
GLANCE_TIMEOUT_S = 1.0
GLANCE_EVERY_S = 2.0
_logger = logging.getLogger(__name__)
_decode = msgspec.json.Decoder(SeatClaim).decode
_claimed: dict[tuple[str, Path], SeatClaim] = {}  # by this process; a log that is opened again goes on with its claim


class Seat:
    """The seat `name`, whose claims lie on partition 0 of `topic`.

    Args:
        name: names the seat on the broker: the application and the id of the state folder.
        state: the state folder.
        topic: the topic of the claims, compacted; it exists.
        consumer: librdkafka keys of a consumer.
        append: appends records; durable when it returns.
    """

    def __init__(
        self,
        name: str,
        state: Path,
        topic: str,
        consumer: Mapping[str, Any],
        append: Callable[[Sequence[NewRecord]], None],
    ) -> None:
        self._name, self._key, self._append = name, (name, state.resolve()), append
        self._topic, self._position = topic, 0  # next offset to read
        self._newest: SeatClaim | None = None
        self._starts: dict[str, str] = {}  # the last one known of every other seat
        self._looked = self._glanced = time.monotonic()
        self._consumer: Any = client(Consumer, {**consumer, "enable.partition.eof": True})

    def take(self) -> None:
        """Claims the seat, unless this process did so before. Raises Fenced where another one has claimed it since."""
        self._read()
        if self._mine is None or self._newest is None:  # it has just started; or the topic was emptied
            claim = SeatClaim(
                seat=self._name,
                incarnation=1 + max(known.incarnation if known else 0 for known in (self._newest, self._mine)),
                instance=uuid4().hex,
                host=socket.gethostname(),
                pid=os.getpid(),
            )
            self._append([NewRecord(self._topic, self._name.encode(), msgspec.json.encode(claim), partition=0)])
            _claimed[self._key] = claim
            self._read()
        self._refuse()

    def check(self) -> None:
        """Raises Fenced where a later start claimed the seat, LogUnavailable where the broker does not answer."""
        self._read()
        self._refuse()

    def glance(self) -> None:
        """Checks now and then: an idle process hears of it too, and one that was frozen hears at once.

        A broker that does not answer is left to whoever needs an answer.
        """
        if time.monotonic() - self._glanced < GLANCE_EVERY_S:
            return
        self._glanced = time.monotonic()
        try:
            self._ask(GLANCE_TIMEOUT_S)
        except (KafkaException, LogUnavailable) as error:
            _logger.debug("who has the seat is asked later: %s", error)
        self._refuse()

    def signed(self, record: NewRecord) -> NewRecord:
        """The record with the number of this start in a header. The seat has been taken."""
        assert self._mine is not None
        incarnation = str(self._mine.incarnation).encode()
        return msgspec.structs.replace(record, headers=(*record.headers, (INCARNATION_HEADER, incarnation)))

    @property
    def start(self) -> str:
        """Names this start of the seat: what it commits bears it. The seat has been taken."""
        assert self._mine is not None
        return _start(self._mine)

    def is_newest(self, start: str) -> bool:
        """Whether no later start of another seat is known, as of the last answer."""
        return self._starts.get(name_in(start), start) == start

    def is_due(self) -> bool:
        """Whether the last answer is some time old."""
        return time.monotonic() - self._looked > GLANCE_EVERY_S

    @property
    def _mine(self) -> SeatClaim | None:
        return _claimed.get(self._key)

    def _refuse(self) -> None:
        newest, mine = self._newest, self._mine
        if newest is not None and mine is not None and newest.instance != mine.instance:
            raise Fenced(
                f"another process took this worker's seat: process {newest.pid} on {newest.host}, "
                f"start {newest.incarnation} of it; this one stops"
            )

    @answered
    def _read(self) -> None:
        self._ask(ANSWER_TIMEOUT_S)

    def _ask(self, timeout_s: float) -> None:
        """Reads what was claimed since; nothing is fetched while there is nothing."""
        asked = time.monotonic()
        deadline = asked + timeout_s
        partition = KafkaPartition(self._topic, 0)
        start, end = self._consumer.get_watermark_offsets(partition, timeout=timeout_s)
        if end < self._position:  # the topic was made anew
            self._position, self._newest, self._starts = start, None, {}
        if self._position < end:
            self._fetch(max(self._position, start), end, deadline)
        self._looked = asked

    def _fetch(self, start: int, end: int, deadline: float) -> None:
        self._consumer.assign([KafkaPartition(self._topic, 0, start)])
        try:
            while self._position < end:
                message = self._consumer.poll(max(0.0, deadline - time.monotonic()))
                if message is None and time.monotonic() > deadline:
                    raise LogUnavailable(f"the broker does not answer: {self._topic} could not be read in time")
                if message is not None:
                    self._note(message)
        finally:
            self._consumer.unassign()

    def _note(self, message: Any) -> None:
        error = message.error()
        if error is None:
            self._position = message.offset() + 1
            self._note_claim((message.key() or b"").decode(errors="replace"), message)
        elif error.code() == KafkaError._PARTITION_EOF:
            self._position = max(self._position, message.offset())
        elif not error.retriable():
            raise KafkaException(error)

    def _note_claim(self, name: str, message: Any) -> None:
        if name.endswith("/address"):  # where a worker answers
            return
        try:
            claim = _decode(message.value() or b"")
        except UNDECODABLE:
            if name == self._name:
                _logger.warning("offset %d of %s holds no claim of a seat", message.offset(), self._topic)
            return
        if name == self._name:
            self._newest = claim
        else:
            self._starts[name] = _start(claim)

    def close(self) -> None:
        """Leaves the broker; the claim stays."""
        self._consumer.close()


def _start(claim: SeatClaim) -> str:
    return f"{claim.seat}/{claim.incarnation}"


def name_in(start: str) -> str:
    """The seat of a start, see `Seat.start`."""
    return start.rpartition("/")[0]
