"""Questions to one worker, over a few connections that stay open."""

import asyncio
import time
from collections.abc import Iterable
from contextlib import suppress
from urllib.parse import urlsplit

import httptools
import msgspec

from streamer.asking.questions import QUESTIONS, Answer, Question
from streamer.web.answers import too_many

QUESTIONS_PATH = "/internal/questions"
QUESTIONS_A_REQUEST, MOST_WAITING = 100, 2_000
CONNECTIONS = 4
ANSWER_TIMEOUT_S, CONNECT_TIMEOUT_S = 5.0, 1.0
AWAY_S = 0.25  # a worker that did not answer is not asked again for so long
READ_BYTES = 1 << 18
Waiting = tuple[Question, "asyncio.Future[Answer]"]


class WorkerAway(Exception):
    """The worker does not answer: it has ended, or is not ready."""


class AnswerText(msgspec.Struct):
    """An answer as a worker sends it. `body`: JSON as it is."""

    status: int
    body: msgspec.Raw


_decode = msgspec.json.Decoder(list[AnswerText]).decode


class WorkerLine:
    """Asks one worker. A few requests are on their way at a time; questions that come meanwhile go with the next one.

    Args:
        address: of the worker, http://HOST:PORT.
        key: an API key with the scope `admin`, where the worker asks for one.
    """

    def __init__(self, address: str, key: str | None = None) -> None:
        self._connections = [_WorkerConnection(address, key) for _ in range(CONNECTIONS)]
        self._waiting: asyncio.Queue[Waiting] = asyncio.Queue()
        self._senders: list[asyncio.Task[None]] = []
        self._away: tuple[float, str] = 0.0, ""  # until when, and why

    async def ask(self, question: Question) -> Answer:
        """The worker's answer. Raises WorkerAway, and ApiError 429 where too many questions wait for it already."""
        until, why = self._away
        if until > time.monotonic():
            raise WorkerAway(why)
        if self._waiting.qsize() >= MOST_WAITING:
            raise too_many("too many questions wait already; ask again")
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait((question, future))
        if not self._senders:
            self._senders = [asyncio.create_task(self._send(connection)) for connection in self._connections]
        return await future

    async def _send(self, connection: "_WorkerConnection") -> None:
        """Sends what waits, as long as the loop runs; at its end it hangs up."""
        batch: list[Waiting] = []
        try:
            while True:
                batch = self._with_others(await self._waiting.get())
                if batch:
                    await self._send_batch(connection, batch)
        finally:
            connection.close()
            self._senders = [task for task in self._senders if task is not asyncio.current_task()]
            _refuse([*batch, *self._take(MOST_WAITING)], "the server ends")

    async def _send_batch(self, connection: "_WorkerConnection", batch: list[Waiting]) -> None:
        try:
            answers = await connection.ask([question for question, _ in batch])
        except WorkerAway as error:
            self._away = time.monotonic() + AWAY_S, str(error)
            _refuse([*batch, *self._take(MOST_WAITING)], str(error))
            return
        for (_, future), answer in zip(batch, answers, strict=True):
            if not future.done():
                future.set_result(answer)

    def _with_others(self, first: Waiting) -> list[Waiting]:
        """What goes with the next request; nobody waits for what was cancelled."""
        batch = [first, *self._take(QUESTIONS_A_REQUEST - 1)]
        return [(question, future) for question, future in batch if not future.done()]

    def _take(self, most: int) -> list[Waiting]:
        return [self._waiting.get_nowait() for _ in range(min(most, self._waiting.qsize()))]


def _refuse(waiting: Iterable[Waiting], why: str) -> None:
    for _, future in waiting:
        if not future.done():
            future.set_exception(WorkerAway(why))


class _WorkerConnection:
    """One HTTP connection to a worker, opened when it is needed, and again where the worker has closed it."""

    def __init__(self, address: str, key: str | None) -> None:
        parts = urlsplit(address)
        self._encrypted = parts.scheme == "https"
        self._host, self._port = parts.hostname or "", parts.port or (443 if self._encrypted else 80)
        self._address = address
        fields = {"Host": parts.netloc, "Content-Type": "application/json"}
        if key is not None:
            fields["X-API-Key"] = key
        self._head = f"POST {QUESTIONS_PATH} HTTP/1.1\r\n" + "".join(f"{n}: {text}\r\n" for n, text in fields.items())
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, questions: list[Question]) -> list[Answer]:
        """One answer for each question. Raises WorkerAway."""
        body = QUESTIONS.dump_json(questions, exclude_none=True)
        was_open = self._streams is not None
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                try:
                    status, answer = await self._post(body)
                except (OSError, httptools.HttpParserError):
                    self.close()
                    if not was_open:
                        raise
                    status, answer = await self._post(body)  # it was closed while nobody asked
        except (OSError, httptools.HttpParserError, TimeoutError) as error:
            self.close()
            why = str(error) or type(error).__name__
            raise WorkerAway(f"the worker at {self._address} does not answer: {why}") from None
        except BaseException:  # cancelled half-way
            self.close()
            raise
        if status != 200:
            raise WorkerAway(f"the worker at {self._address} refuses questions with {status}: {answer[:200]!r}")
        try:
            told = _decode(answer)
        except msgspec.DecodeError as error:
            raise WorkerAway(f"the worker at {self._address} answers with nonsense: {error}") from None
        if len(told) != len(questions):
            raise WorkerAway(f"the worker at {self._address} has {len(told)} answers to {len(questions)} questions")
        return [Answer(one.status, bytes(one.body)) for one in told]

    def close(self) -> None:
        if self._streams is not None:
            with suppress(RuntimeError):  # the loop may have ended
                self._streams[1].close()
            self._streams = None

    async def _post(self, body: bytes) -> tuple[int, bytes]:
        """The status and the body of the answer."""
        reader, writer = self._streams or await self._open()
        writer.write(f"{self._head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        answer = _HttpAnswer()
        parser = httptools.HttpResponseParser(answer)
        while not answer.is_complete:
            part = await reader.read(READ_BYTES)
            if not part:
                raise ConnectionResetError("the connection was closed")
            parser.feed_data(part)
        if answer.is_last:
            self.close()
        return parser.get_status_code(), bytes(answer.body)

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            self._streams = await asyncio.open_connection(
                self._host, self._port, limit=READ_BYTES, ssl=self._encrypted or None
            )
        return self._streams


class _HttpAnswer:
    """What a parser tells of an answer."""

    def __init__(self) -> None:
        self.body, self.is_complete, self.is_last = bytearray(), False, False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.is_last |= name.lower() == b"connection" and value.lower() == b"close"

    def on_body(self, part: bytes) -> None:
        self.body += part

    def on_message_complete(self) -> None:
        self.is_complete = True
