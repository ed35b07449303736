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
from typing import TypeVar

from streamer.asking.questions import Answer, Question

QUESTIONS_AT_ONCE = 16  # answered between two pieces of work: more of them would keep the stream waiting
MOST_WAITING = 10_000
OFTEN_S, SELDOM_S = 0.001, 0.005
"""How long the worker waits for records before it looks for questions again: while they come, and while none come."""
STILL_ASKING_S = 1.0
NOT_READY = "the worker is not ready: it starts, recovers, or waits for its log; ask again"

Result = TypeVar("Result")


class NotReady(Exception):
    """No worker answers now."""


class Desk:
    """Takes questions from any thread, and has them answered on the worker's.

    It outlives the workers of a process: while there is none, questions are refused.

    `address`: where other processes ask, None where none do; set before a worker opens.
    """

    def __init__(self) -> None:
        self.address: str | None = None
        self._changed = threading.Condition()
        self._waiting: deque[tuple[Question, Future[Answer]]] = deque()
        self._answer: Callable[[Sequence[Question]], list[Answer]] | None = None
        self._asked_at = -STILL_ASKING_S
        self._pool = ThreadPoolExecutor(1, "commit")

    # any thread

    def ask(self, question: Question) -> Future[Answer]:
        """The answer to come.

        Raises, out of the future, NotReady where no worker answers, or so many questions wait that this one would
        come too late.
        """
        future: Future[Answer] = Future()
        with self._changed:
            if self._answer is None or len(self._waiting) >= MOST_WAITING:
                future.set_exception(NotReady(NOT_READY))
                return future
            self._waiting.append((question, future))
            self._changed.notify()
        return future

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
        for _, future in refused:
            if future.set_running_or_notify_cancel():
                future.set_exception(NotReady(NOT_READY))

    def serve(self) -> None:
        """Answers what waits, but no more than a few: the stream goes on in between."""
        if not self._waiting:
            return
        self._asked_at = time.monotonic()
        with self._changed:
            answer, some = self._answer, min(len(self._waiting), QUESTIONS_AT_ONCE)
            asked = [self._waiting.popleft() for _ in range(some)]
        asked = [(question, future) for question, future in asked if future.set_running_or_notify_cancel()]
        if not asked or answer is None:
            return
        try:
            answers = answer([question for question, _ in asked])
        except Exception:  # of one of them: who asked it is told, the others are answered, the worker goes on
            for question, future in asked:
                _settle(future, answer, question)
            return
        for (_, future), given in zip(asked, answers, strict=True):
            future.set_result(given)

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


def _settle(future: Future[Answer], answer: Callable[[Sequence[Question]], list[Answer]], question: Question) -> None:
    """Gives a future the answer to its question, or what goes wrong."""
    try:
        [given] = answer([question])
    except Exception as error:
        future.set_exception(error)
    else:
        future.set_result(given)
