"""What other workers have learned, as it is committed, until epochs add it."""

import logging
from collections import deque

from consumers.log import Closable, Log, Reader
from consumers.records import Record, TopicPartition
from streamer.pipeline.epoch import CommittedStep
from streamer.pipeline.frame import Unreadable
from streamer.pipeline.learned_record import decode_learned
from streamer.settings import Settings
from streamer.state.stream_state import StreamState
from streamer.worker.other_blocks import is_observing

AT_ONCE = 64  # steps that an epoch adds: some 20 ms
_MOST_WAITING = 4 * AT_ONCE  # more are not read meanwhile
_logger = logging.getLogger(__name__)


class OtherSteps(Closable):
    """Reads the steps of every seat but this one. On the embedded log, and where nobody observes, there are none."""

    def __init__(self, log: Log, settings: Settings, state: StreamState, seat: str) -> None:
        self._log, self._state, self._seat = log, state, seat
        self._tp = TopicPartition(settings.model_topic, 0)
        self.is_on = is_observing(settings)
        self._reader: Reader | None = None
        self._waiting: deque[CommittedStep] = deque()

    def __len__(self) -> int:
        """How many steps wait."""
        return len(self._waiting)

    def read(self, alone: bool) -> None:
        """Queues what has come; waits for nothing. alone: every partition is this worker's, and always was."""
        if not self.is_on or (alone and self._reader is None) or len(self._waiting) >= _MOST_WAITING:
            return
        if self._reader is None:
            start = self._log.starts(self._tp.topic).get(0, 0)
            self._reader = self._log.reader({self._tp: max(self._state.learning.position, start)})
        for record in self._reader.read(AT_ONCE, 0):
            step = read_step(record)
            if step is not None and step.record.seat != self._seat:
                self._waiting.append(step)

    def release(self) -> list[CommittedStep]:
        """The next ones, in the order of the topic."""
        return [self._waiting.popleft() for _ in range(min(AT_ONCE, len(self._waiting)))]

    def close(self) -> None:
        """Ends reading."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None


def read_step(record: Record) -> CommittedStep | None:
    """The step of a record; None for what is no step, which is said."""
    try:
        return CommittedStep(record.offset, decode_learned(record.value or b""))
    except Unreadable as error:
        _logger.warning("%s offset %d is no step, and is passed over: %s", record.topic, record.offset, error)
        return None
