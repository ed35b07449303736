"""Questions to one worker, over one connection that stays open."""

import asyncio
import time
from collections import deque
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

import msgspec

from consumers.decode_fields import UNDECODABLE
from streamer.asking.questions import QUESTIONS, Answer, Question
from streamer.web.answers import too_many
from streamer.web.workers.frames import (
    PROTOCOL,
    QUESTIONS_A_FRAME,
    QUESTIONS_PATH,
    AnswerFrame,
    FrameBuffer,
    QuestionFrame,
    frame_of,
)

MOST_WAITING = 2_000
ANSWER_TIMEOUT_S, CONNECT_TIMEOUT_S = 4.0, 1.0  # clients commonly wait for five seconds
LOOK_EVERY_S = 0.5  # for answers that do not come
AWAY_S = 0.25  # a worker that did not answer is not asked again for so long
MAX_HEAD_BYTES = 65_536
_Asked = tuple[Question, "asyncio.Future[Answer]"]
_decode = msgspec.msgpack.Decoder(AnswerFrame).decode


class WorkerAway(Exception):
    """The worker does not answer: it has ended, or is not ready."""


class WorkerLine:
    """Asks one worker. What is asked in one turn of the loop goes in one frame.

    Args:
        address: of the worker, http://HOST:PORT.
        key: an API key with the scope `admin`, where the worker asks for one.
    """

    def __init__(self, address: str, key: str | None = None) -> None:
        self._address, self._key = address, key
        self._waiting: deque[_Asked] = deque()
        self._count = 0  # of questions without an answer
        self._connection: _Connection | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._is_due = False  # whether what waits is to be sent in this turn
        self._away: tuple[float, str] = 0.0, ""  # until when, and why

    async def ask(self, question: Question) -> Answer:
        """The worker's answer. Raises WorkerAway, and ApiError 429 where too many questions wait for it already."""
        until, why = self._away
        if until > time.monotonic():
            raise WorkerAway(why)
        if self._count >= MOST_WAITING:
            raise too_many("too many questions wait already; ask again")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        self._waiting.append((question, future))
        self._count += 1
        if self._keeper is None:
            self._keeper = loop.create_task(self._keep())
        elif self._connection is not None and not self._is_due:
            self._is_due = True
            loop.call_soon(self._send)
        try:
            return await future
        finally:
            self._count -= 1

    async def _keep(self) -> None:
        """Opens the connection and keeps it until it breaks, an answer is overdue, or the loop ends."""
        connection, why = None, "the server ends"
        try:
            connection = await _open(self._address, self._key)
            self._connection = connection
            self._send()
            while not connection.lost.done():
                await asyncio.wait({connection.lost}, timeout=LOOK_EVERY_S)
                connection.check()
            why = f"the worker at {self._address} does not answer: {connection.lost.result()}"
        except (OSError, TimeoutError, ValueError) as error:
            why = f"the worker at {self._address} does not answer: {error or type(error).__name__}"
        except WorkerAway as error:
            why = f"the worker at {self._address} {error}"
        finally:
            self._connection, self._keeper = None, None
            self._away = time.monotonic() + AWAY_S, why
            asked, self._waiting = self._waiting, deque()
            if connection is not None:
                connection.close()
                asked = deque([*connection.unanswered(), *asked])
            _refuse(asked, why)

    def _send(self) -> None:
        """Sends what waits; nobody waits for what was cancelled."""
        self._is_due = False
        if self._connection is None:
            return
        asked, self._waiting = [one for one in self._waiting if not one[1].done()], deque()
        for first in range(0, len(asked), QUESTIONS_A_FRAME):
            self._connection.ask(asked[first : first + QUESTIONS_A_FRAME])


def _refuse(asked: Iterable[_Asked], why: str) -> None:
    for _, future in asked:
        if not future.done():
            future.set_exception(WorkerAway(why))


class _Frame:
    """Questions that are on their way, and when they have left."""

    def __init__(self, asked: list[_Asked]) -> None:
        self.asked, self.sent_at = asked, time.monotonic()


class _Connection(asyncio.Protocol):
    """The front's end of a line. `lost`: done once it is closed, with the reason; `opened`: once questions may go."""

    def __init__(self, head: bytes) -> None:
        loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[None] = loop.create_future()
        self.lost: asyncio.Future[str] = loop.create_future()
        self._request, self._head, self._is_open = head, bytearray(), False
        self._buffer, self._number = FrameBuffer(), 0
        self._frames: dict[int, _Frame] = {}

    def ask(self, asked: list[_Asked]) -> None:
        """Sends questions in a frame."""
        self._number += 1
        self._frames[self._number] = _Frame(asked)
        body = QUESTIONS.dump_json([question for question, _ in asked], exclude_none=True)
        self._transport.write(frame_of(QuestionFrame(self._number, body)))

    def unanswered(self) -> list[_Asked]:
        """What was asked and has no answer."""
        return [one for frame in self._frames.values() for one in frame.asked]

    def check(self) -> None:
        """Raises TimeoutError where an answer is overdue."""
        oldest = next(iter(self._frames.values()), None)
        if oldest is not None and oldest.sent_at < time.monotonic() - ANSWER_TIMEOUT_S:
            raise TimeoutError(f"no answer for {ANSWER_TIMEOUT_S:g} s")

    def close(self) -> None:
        self._transport.close()

    # asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if not self._is_open:
            data = self._opening(data)
        try:
            for message in self._buffer.frames(data):
                self._take(_decode(message))
        except (LookupError, *UNDECODABLE) as error:
            self._end(f"it answers with nonsense: {error}")

    def connection_lost(self, error: Exception | None) -> None:
        self._end(str(error or "the connection was closed"))

    def _opening(self, data: bytes) -> bytes:
        """Reads the answer to the request that opens the line; what comes behind it."""
        self._head += data
        head, end, rest = self._head.partition(b"\r\n\r\n")
        if not end and len(head) < MAX_HEAD_BYTES:
            return b""
        status = bytes(head[9:12]).decode("latin-1")
        if status == "101":
            self._is_open = True
            self.opened.set_result(None)
            return bytes(rest)
        if not self.opened.done():
            self.opened.set_exception(WorkerAway(f"refuses questions with {status}: {bytes(rest[:200])!r}"))
        return b""

    def _take(self, told: AnswerFrame) -> None:
        asked = self._frames.pop(told.number).asked
        if len(told.answers) != len(asked):
            _refuse(asked, f"the worker has {len(told.answers)} answers to {len(asked)} questions")
            return
        for (_, future), (status, body) in zip(asked, told.answers, strict=True):
            if not future.done():
                future.set_result(Answer(status, body))

    def _end(self, why: str) -> None:
        if not self.lost.done():
            self.lost.set_result(why)
        if not self.opened.done():
            self.opened.set_exception(ConnectionResetError(why))


async def _open(address: str, key: str | None) -> _Connection:
    """A line to the worker at an address. Raises OSError, TimeoutError, WorkerAway."""
    parts = urlsplit(address)
    is_encrypted = parts.scheme == "https"
    fields = {"Host": parts.netloc, "Connection": "Upgrade", "Upgrade": PROTOCOL}
    if key is not None:
        fields["X-API-Key"] = key
    head = f"GET {QUESTIONS_PATH} HTTP/1.1\r\n" + "".join(f"{name}: {text}\r\n" for name, text in fields.items())
    port = parts.port or (443 if is_encrypted else 80)
    async with asyncio.timeout(CONNECT_TIMEOUT_S):
        made: tuple[Any, _Connection] = await asyncio.get_running_loop().create_connection(
            lambda: _Connection(f"{head}\r\n".encode()), parts.hostname or "", port, ssl=is_encrypted or None
        )
    connection = made[1]
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            await connection.opened
    except BaseException:
        connection.close()
        raise
    return connection
