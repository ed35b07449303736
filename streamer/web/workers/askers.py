"""Who answers questions: the worker of this process, or the one that owns the user's partition."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from streamer.asking.question_queue import NotReady, QuestionQueue, Reply
from streamer.asking.questions import Answer, Question, key
from streamer.web.workers.directory import WorkerDirectory
from streamer.web.workers.line import ANSWER_TIMEOUT_S, WorkerAway, WorkerLine

MISDIRECTED, NOT_READY = 421, 503
START_ONE = "no worker is known that answers questions: start one with `freshet run --api-port 8766`"
STARTING = "the worker is not ready yet: ask again once /readyz says so"
MOVING_S = 1.0  # how long it may take until the log tells where a partition has gone


class NobodyAnswers(Exception):
    """No worker answers a question now, with the reason."""


class NoWorkers(NobodyAnswers):
    """No worker is there that answers questions."""


class Asker(Protocol):
    """Has questions answered."""

    async def ask(self, question: Question) -> Answer:
        """The answer. Raises NobodyAnswers, and ApiError 429 where too many questions wait already."""

    async def ask_each(self, question: Question) -> dict[str, Answer]:
        """The answer of each worker by its address, of those that answer."""


class Nobody(Asker):
    """Where published lists are all that there is."""

    async def ask(self, question: Question) -> Answer:
        """Raises NoWorkers."""
        raise NoWorkers("no worker can be asked here")

    async def ask_each(self, question: Question) -> dict[str, Answer]:
        """Nothing."""
        return {}


class LocalAsker(Asker):
    """Asks the worker of this process."""

    def __init__(self, queue: QuestionQueue) -> None:
        self._queue = queue

    async def ask(self, question: Question) -> Answer:
        """See `Asker.ask`."""
        [reply] = await self.ask_together([question])
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def ask_together(self, questions: Sequence[Question]) -> list[Reply]:
        """The reply to each: its answer, or what `ask` raises for it."""
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                replies = await asyncio.wrap_future(self._queue.ask(questions))
        except TimeoutError:
            return [NobodyAnswers(f"the worker has not answered for {ANSWER_TIMEOUT_S:g} s")] * len(questions)
        return [NobodyAnswers(str(reply)) if isinstance(reply, NotReady) else reply for reply in replies]

    async def ask_each(self, question: Question) -> dict[str, Answer]:
        """See `Asker.ask_each`."""
        try:
            return {"": await self.ask(question)}
        except NobodyAnswers:
            return {}


class AskerToCome(Asker):
    """Asks another, but nothing of one worker until it may: what every worker says of itself costs nothing.

    `is_open`: whether it may; set from any thread. Args: until_then: what whoever asks before is told.
    """

    def __init__(self, asker: Asker, until_then: str) -> None:
        self.is_open = False
        self._asker, self._until_then = asker, until_then

    async def ask(self, question: Question) -> Answer:
        """See `Asker.ask`."""
        if not self.is_open:
            raise NoWorkers(self._until_then)
        return await self._asker.ask(question)

    async def ask_each(self, question: Question) -> dict[str, Answer]:
        """See `Asker.ask_each`."""
        return await self._asker.ask_each(question)


class RemoteAsker(Asker):
    """Asks the worker that owns the user's partition.

    One that has lost the partition meanwhile, or does not answer, is no reason to give up: it is looked again who owns
    it, and asked once more.

    Args:
        api_key: with the scope `admin`, where workers ask for one.
        advice: what who asks is told where there is no worker.
    """

    def __init__(self, workers: WorkerDirectory, api_key: str | None = None, advice: str = START_ONE) -> None:
        self._workers, self._key, self._advice = workers, api_key, advice
        self._lines: dict[str, WorkerLine] = {}

    async def ask(self, question: Question) -> Answer:
        """See `Asker.ask`."""
        user = key(question)
        address = self._workers.address_of(user)
        if address is None:
            if not self._workers.addresses():
                raise NoWorkers(self._advice)
            raise NobodyAnswers("no worker owns the user's partition now")
        try:
            return await self._ask_at(address, question)
        except _Elsewhere:
            address = await self._workers.look_again(user, address, MOVING_S)
        except WorkerAway as error:
            address = self._workers.address_of(user, but=address)
            if address is None:
                raise NobodyAnswers(str(error)) from None
        if address is None:
            raise NobodyAnswers("the user's partition is on its way to another worker")
        try:
            return await self._ask_at(address, question)
        except (WorkerAway, _Elsewhere) as error:
            raise NobodyAnswers(str(error)) from None

    async def ask_each(self, question: Question) -> dict[str, Answer]:
        """See `Asker.ask_each`."""
        addresses = list(self._workers.addresses())
        answers = await asyncio.gather(*(self._ask_at(a, question) for a in addresses), return_exceptions=True)
        return {a: answer for a, answer in zip(addresses, answers, strict=True) if isinstance(answer, Answer)}

    async def _ask_at(self, address: str, question: Question) -> Answer:
        line = self._lines.get(address)
        if line is None:
            line = self._lines[address] = WorkerLine(address, self._key)
        answer = await line.ask(question)
        if answer.status == MISDIRECTED:
            raise _Elsewhere(f"the worker at {address} does not own the user's partition")
        if answer.status == NOT_READY:
            raise WorkerAway(f"the worker at {address} is not ready")
        return answer


class _Elsewhere(Exception):
    """A worker was asked that does not own the user's partition."""
