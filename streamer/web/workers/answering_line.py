"""The worker's end of a line: questions of a front in frames, answers as soon as they are there."""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from functools import partial

import msgspec
from pydantic import ValidationError

from consumers.decode_fields import UNDECODABLE, why_undecodable
from streamer.asking.question_queue import NotReady, QuestionQueue, Reply
from streamer.asking.questions import QUESTIONS, Answer, Question
from streamer.web.answers import ApiError
from streamer.web.parameters import refusal
from streamer.web.workers.frames import QUESTIONS_A_FRAME, AnswerFrame, FrameBuffer, HandedOver, QuestionFrame, frame_of

NOT_READY = 503
_logger = logging.getLogger(__name__)
_decode = msgspec.msgpack.Decoder(QuestionFrame).decode


class AnsweringLine(HandedOver):
    """Has questions answered by the worker of this process. Answers come in the order in which they are ready.

    Args: limit: bytes of a frame.
    """

    def __init__(self, queue: QuestionQueue, limit: int) -> None:
        self._queue, self._buffer = queue, FrameBuffer(limit)
        self._loop = asyncio.get_running_loop()
        self._asked: set[Future[list[Reply]]] = set()
        self._told: deque[bytes] = deque()  # frames to send; the worker's thread appends
        self._is_woken = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        try:
            for message in self._buffer.frames(data):
                self._ask(_decode(message))
        except UNDECODABLE as error:
            _logger.warning("a front is hung up on: %s", why_undecodable(error))
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self.when_lost()
        for future in list(self._asked):  # nobody waits for them
            future.cancel()

    def shutdown(self) -> None:
        """Hangs up: the server ends."""
        self._transport.close()

    def _ask(self, frame: QuestionFrame) -> None:
        try:
            questions = QUESTIONS.validate_json(frame.questions)
        except ValidationError as error:
            count = len(msgspec.json.decode(frame.questions, type=list[msgspec.Raw]))
            self._send(frame.number, [_answer_of(refusal(error, "field"))] * count)
            return
        if len(questions) > QUESTIONS_A_FRAME:
            raise ValueError(f"{len(questions)} questions at once; {QUESTIONS_A_FRAME} at most")
        future = self._queue.ask(questions)
        self._asked.add(future)
        future.add_done_callback(partial(self._answered, frame.number, questions))

    def _answered(self, number: int, questions: Sequence[Question], future: "Future[list[Reply]]") -> None:
        """On the worker's thread, which wakes the loop once for all the answers that it has by then."""
        self._asked.discard(future)
        try:
            replies = future.result()
        except CancelledError:
            return
        self._send(number, [_answer(question, reply) for question, reply in zip(questions, replies, strict=True)])

    def _send(self, number: int, answers: Sequence[Answer]) -> None:
        self._told.append(frame_of(AnswerFrame(number, [(status, body) for status, body in answers])))
        if not self._is_woken:
            self._is_woken = True
            with suppress(RuntimeError):  # the loop has ended, and who asked with it
                self._loop.call_soon_threadsafe(self._flush)

    def _flush(self) -> None:
        self._is_woken = False  # before: what is appended from here on wakes it again
        told = []
        while self._told:
            told.append(self._told.popleft())
        if not self._transport.is_closing():
            self._transport.write(b"".join(told))


def _answer(question: Question, reply: Reply) -> Answer:
    """One answer; what befell it is no matter to the others."""
    if isinstance(reply, Answer):
        return reply
    if isinstance(reply, NotReady):
        return _answer_of(ApiError(NOT_READY, "not-ready", str(reply)))
    _logger.error("a question of kind %s has no answer", question.kind, exc_info=reply)
    return _answer_of(ApiError(500, "internal", "this is a fault of the server; its log says more"))


def _answer_of(error: ApiError) -> Answer:
    return Answer(error.status, msgspec.json.encode(error.body))
