"""Where questions wait until the worker's thread answers them.

A worker reads and writes one state on one thread. Whoever asks from another thread leaves a question here, and the
worker answers it between two pieces of its own work: between two calls of a kernel, while it waits for records, and
while a commit is on its way to the log.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, TypeAlias, TypeVar

from streamer.asking.questions import Answer, Question

QUESTIONS_AT_ONCE = 8
"""Answered between two pieces of work, of which one takes two interactions: where questions never end, at least one
interaction is taken for every four of them."""
TOGETHER = 4  # answered in one go, as many as a kernel lists in one call: who was first does not wait for all
MOST_WAITING = 10_000
OFTEN_S, SELDOM_S = 0.001, 0.005
"""How long the worker waits for records before it looks for questions again: while they come, and while none come."""
STILL_ASKING_S = 1.0
NOT_READY = "the worker is not ready: it starts, recovers, or waits for its log; ask again"

Result = TypeVar("Result")
Reply: TypeAlias = Answer | Exception
"""The answer to a question, or what went wrong with it, and with no other."""


class NotReady(Exception):
    """No worker answers now."""


class _Together:
    """Questions that are asked at once, and their replies so far."""

    def __init__(self, questions: Sequence[Question]) -> None:
        self.future: Future[list[Reply]] = Future()
        self._replies: list[Reply | None] = [None] * len(questions)
        self._left = len(questions)
        self._begun = False

    def is_waited_for(self) -> bool:
        """Whether anybody waits for a reply; nobody can say no more from then on."""
        if not self._begun and not self.future.cancelled():
            self._begun = self.future.set_running_or_notify_cancel()
        return self._begun

    def take(self, place: int, reply: Reply) -> None:
        """The reply to one of them; with the last one the future has all."""
        self._replies[place] = reply
        self._left -= 1
        if not self._left:
            self.future.set_result([one for one in self._replies if one is not None])


class _WaitingQuestion(NamedTuple):
    """A question that waits."""

    question: Question
    together: _Together
    place: int


class QuestionQueue:
    """Takes questions from any thread, and has them answered on the worker's.

    It outlives the workers of a process: while there is none, questions are refused.

    `address`: where other processes ask, None where none do; set before a worker opens.
    """

    def __init__(self) -> None:
        self.address: str | None = None
        self._changed = threading.Condition()
        self._waiting: deque[_WaitingQuestion] = deque()
        self._answer: Callable[[Sequence[Question]], list[Answer]] | None = None
        self._asked_at = -STILL_ASKING_S
        self._pool = ThreadPoolExecutor(1, "commit")

    # any thread

    def ask(self, questions: Sequence[Question]) -> Future[list[Reply]]:
        """The replies to come, in order; together they wake who asks once.

        One is NotReady where no worker answers, or so many questions wait that these would come too late.
        """
        together = _Together(questions)
        if not questions:
            together.future.set_result([])
            return together.future
        with self._changed:
            if self._answer is None or len(self._waiting) >= MOST_WAITING:
                together.future.set_result([NotReady(NOT_READY)] * len(questions))
                return together.future
            self._waiting.extend(
                _WaitingQuestion(question, together, place) for place, question in enumerate(questions)
            )
            self._changed.notify()
        return together.future

    @property
    def waiting(self) -> int:
        """How many questions wait."""
        return len(self._waiting)

    # the worker's thread

    def open(self, answer: Callable[[Sequence[Question]], list[Answer]]) -> None:
        """From here on a worker answers, by this function: several questions that wait, in order."""
        with self._changed:
            self._answer = answer

    def close(self) -> None:
        """The worker ends: what waits is refused, and so is what comes until the next one opens."""
        with self._changed:
            self._answer = None
            refused, self._waiting = self._waiting, deque()
        for _, together, place in refused:
            if together.is_waited_for():
                together.take(place, NotReady(NOT_READY))

    def serve(self) -> None:
        """Answers what waits, what comes meanwhile too, but no more than a few: the stream goes on in between."""
        for _ in range(0, QUESTIONS_AT_ONCE, TOGETHER):
            if not self._waiting:
                return
            self._serve_some()

    def _serve_some(self) -> None:
        self._asked_at = time.monotonic()
        with self._changed:
            answer, some = self._answer, min(len(self._waiting), TOGETHER)
            asked = [self._waiting.popleft() for _ in range(some)]
        asked = [one for one in asked if one.together.is_waited_for()]
        if not asked or answer is None:
            return
        replies: list[Reply]
        try:
            replies = list(answer([one.question for one in asked]))
        except Exception:  # of one of them: who asked it is told, the others are answered, the worker goes on
            replies = [_reply(answer, one.question) for one in asked]
        for (_, together, place), reply in zip(asked, replies, strict=True):
            together.take(place, reply)

    def patience_s(self) -> float:
        """How long the worker may wait for something else before it looks here again."""
        return OFTEN_S if time.monotonic() - self._asked_at < STILL_ASKING_S else SELDOM_S

    def serve_during(self, work: Callable[[], Result]) -> Result:
        """Does what only waits, such as a commit, on another thread, and answers meanwhile; raises what it raises."""
        done = self._pool.submit(work)
        done.add_done_callback(lambda _: self._wake())
        while not done.done():
            self.serve()
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or done.done(), SELDOM_S)
        return done.result()

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify()


def _reply(answer: Callable[[Sequence[Question]], list[Answer]], question: Question) -> Reply:
    try:
        [given] = answer([question])
    except Exception as error:
        return error
    return given
