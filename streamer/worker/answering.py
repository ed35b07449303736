"""A worker as those who ask see it: which questions are its, what its answers leave on the log, where it is found."""

import logging
import math
from collections import deque
from collections.abc import Callable, Collection, Sequence

import msgspec

from consumers.counted import counted
from consumers.log import Log
from consumers.partitioner import partition_of
from consumers.records import NewRecord, size_of
from consumers.schemas import WorkerAddress
from streamer.asking.answers import Answers
from streamer.asking.question_queue import QuestionQueue
from streamer.asking.questions import Answer, ListQuestion, Question, key
from streamer.runtime.clock import Clock
from streamer.runtime.topics import create_missing
from streamer.settings import Settings
from streamer.state.stream_state import StreamState

HEARTBEAT_S = 2.0
MOST_ASKED = 10_000  # lists that wait for a commit
NOT_MINE = b'{"error":{"code":"not-mine","message":"another worker owns this user\'s partition"}}'
_logger = logging.getLogger(__name__)
_encode = msgspec.json.Encoder().encode


class Answering:
    """Answers what is asked of one worker.

    Args:
        seat: names the worker.
        address: where its API listens; None: nobody finds it, as in a process that asks itself.
        partitions: those of the interactions topic that are the worker's, and how many there are.
        limit: the largest record that the topic of lists takes, bytes.
    """

    def __init__(
        self,
        answers: Answers,
        settings: Settings,
        seat: str,
        address: str | None,
        partitions: Callable[[], tuple[Collection[int], int]],
        limit: int,
        clock: Clock,
    ) -> None:
        self._answers, self._settings, self._seat, self._address = answers, settings, seat, address
        self._partitions, self._limit, self._clock = partitions, limit, clock
        self._asked: deque[NewRecord] = deque()
        self._dropped = 0
        self._said: WorkerAddress | None = None
        self._said_at = -math.inf

    def warm_up(self) -> None:
        """Loads the kernel of lists, so that the first question takes no longer, some 75 ms; changes nothing.

        Not in a process that asks itself, as a demo, where that kernel may be on its way yet.
        """
        if self._address is not None:
            self._answers.answer(ListQuestion.model_validate({}))

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        """The answer to each; 421 where the user is another worker's."""
        are_mine = self._are_mine(questions)
        answers = iter(self._answers.answer_all([one for one, mine in zip(questions, are_mine, strict=True) if mine]))
        found = [next(answers) if mine else Answer(421, NOT_MINE) for mine in are_mine]
        for question, answer in zip(questions, found, strict=True):
            if isinstance(question, ListQuestion) and answer.status == 200:
                self._note(question.user_id, answer.body)
        return found

    def records(self) -> list[NewRecord]:
        """What is to go to the log with the next commit: lists that were asked for, and where this worker is found."""
        self._answers.clock.keep()  # an epoch may have moved it
        records, self._asked = list(self._asked), deque()
        if self._dropped:
            dropped = counted(self._dropped, "list", verb="are")
            _logger.warning("%s not on %s: too many, or too long", dropped, self._settings.lists_topic)
            self._dropped = 0
        return records + self._announcement()

    def _are_mine(self, questions: Sequence[Question]) -> list[bool]:
        """Whether each is about a user of this worker's partitions, or about nobody."""
        mine, count = self._partitions()
        if len(mine) == count:
            return [True] * len(questions)
        users = map(key, questions)
        return [user is None or partition_of(user.encode(), count) in mine for user in users]

    def _note(self, user: str | None, body: bytes) -> None:
        record = NewRecord(self._settings.lists_topic, (user or "").encode(), body)
        if len(self._asked) < MOST_ASKED and size_of(record) <= self._limit:
            self._asked.append(record)
        else:
            self._dropped += 1

    def _announcement(self) -> list[NewRecord]:
        if self._address is None:
            return []
        mine, count = self._partitions()
        now = self._clock.monotonic()
        value = WorkerAddress(
            seat=self._seat, address=self._address, partitions=sorted(mine), of=count, at_ms=self._clock.now_ms()
        )
        if self._said is not None and now < self._said_at + HEARTBEAT_S and value.partitions == self._said.partitions:
            return []
        self._said, self._said_at = value, now
        name = f"{self._settings.application}-{self._seat}/address"
        return [NewRecord(self._settings.workers_topic, name.encode(), _encode(value), partition=0)]


def answering_at(
    queue: QuestionQueue,
    log: Log,
    settings: Settings,
    state: StreamState,
    seat: str,
    partitions: Callable[[], tuple[Collection[int], int]],
    clock: Clock,
) -> Answering:
    """What answers the questions of a queue, by a state; makes the topics that it writes to where they are missing."""
    lists = settings.lists_topic
    create_missing(log, settings, names=(lists, settings.workers_topic))
    return Answering(
        Answers(state, settings, clock),
        settings,
        seat,
        queue.address,
        partitions,
        log.record_limits((lists,))[lists],
        clock,
    )
