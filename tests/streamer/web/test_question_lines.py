"""The line between a front and a worker: frames in any pieces, and peers that say something else."""

import asyncio
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from urllib.parse import urlsplit

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.asking.question_queue import QuestionQueue
from streamer.asking.questions import Answer, Question, StatusQuestion
from streamer.settings import Settings
from streamer.web.server import WebServer
from streamer.web.worker_api import worker_app
from streamer.web.workers import line
from streamer.web.workers.frames import PROTOCOL, QUESTIONS_PATH, AnswerFrame, FrameBuffer, QuestionFrame, frame_of
from streamer.web.workers.line import WorkerAway, WorkerLine
from streamer.worker.prometheus import RunMetrics
from tests.waiting import until

UPGRADE = f"Connection: Upgrade\r\nUpgrade: {PROTOCOL}\r\n"


@contextmanager
def serving(settings: Settings, answer: Callable[[Sequence[Question]], list[Answer]] | None = None) -> Iterator[str]:
    """The address of a worker's API; without `answer` nobody answers what is asked there."""
    queue = QuestionQueue()
    queue.open(answer or (lambda questions: [Answer(200, b"{}") for _ in questions]))
    server = WebServer(worker_app(settings, queue, RunMetrics(settings)), "127.0.0.1", 0)
    server.start()
    try:
        yield server.address
    finally:
        queue.close()
        server.stop()


def connected(address: str) -> socket.socket:
    parts = urlsplit(address)
    return socket.create_connection((parts.hostname or "", parts.port or 0), 10)


def asked_to_open(connection: socket.socket, fields: str = UPGRADE) -> bytes:
    """What a request to open a line is answered with."""
    connection.sendall(f"GET {QUESTIONS_PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\n{fields}\r\n".encode())
    return connection.recv(65_536)


@given(st.lists(st.binary(max_size=300), max_size=8), st.lists(st.integers(1, 40), min_size=1, max_size=40))
def test_frames_are_the_same_in_any_pieces(bodies: list[bytes], sizes: list[int]) -> None:
    stream = b"".join(frame_of(QuestionFrame(n, body)) for n, body in enumerate(bodies))
    buffer, found, first, n = FrameBuffer(), list[bytes](), 0, 0
    while first < len(stream):
        end = first + sizes[n % len(sizes)]
        found += buffer.frames(stream[first:end])
        first, n = end, n + 1
    assert [frame_of(QuestionFrame(n, body))[4:] for n, body in enumerate(bodies)] == found


def test_a_frame_that_is_too_long_is_refused_before_it_has_come() -> None:
    with pytest.raises(ValueError, match="1,001 bytes; 1,000 at most"):
        list(FrameBuffer(1_000).frames((1_001).to_bytes(4, "big")))


@pytest.mark.parametrize(
    ("fields", "status"),
    [("", b"426"), ("Connection: Upgrade\r\nUpgrade: h2c\r\n", b"426"), (UPGRADE, b"101")],
    ids=["no upgrade", "another protocol", "the line"],
)
def test_a_line_is_opened_for_who_asks_for_it(settings: Settings, fields: str, status: bytes) -> None:
    with serving(settings) as address, closing(connected(address)) as connection:
        assert asked_to_open(connection, fields)[9:12] == status


def test_a_key_opens_it(settings: Settings) -> None:
    with serving(settings.model_copy(update={"api_key": "secret"})) as address:
        for key, status in (("X-API-Key: wrong\r\n", b"401"), ("X-API-Key: secret\r\n", b"101")):
            with closing(connected(address)) as connection:
                assert asked_to_open(connection, UPGRADE + key)[9:12] == status


@pytest.mark.parametrize(
    "sent",
    [b"GET / HTTP/1.1\r\n\r\n", b"\x00\x00\x00\x03abc", frame_of(QuestionFrame(1, b'[{"kind":"status"}]' * 2))],
    ids=["http", "no msgpack", "no json"],
)
def test_a_front_that_says_something_else_harms_nobody(settings: Settings, sent: bytes) -> None:
    with serving(settings) as address, closing(connected(address)) as connection:
        asked_to_open(connection)
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        connection.recv(65_536)  # it is hung up on, or told of a fault
        with closing(connected(address)) as another:
            assert asked_to_open(another)[9:12] == b"101"


def test_a_question_that_a_worker_does_not_know_is_400(settings: Settings) -> None:
    with serving(settings) as address, closing(connected(address)) as connection:
        asked_to_open(connection)
        connection.sendall(frame_of(QuestionFrame(7, b'[{"kind":"to-come"}]')))
        told = FrameBuffer()
        found = list[bytes]()
        while not found:
            found += told.frames(connection.recv(65_536))
        [(status, body)] = msgspec.msgpack.decode(found[0], type=AnswerFrame).answers
        assert (status, b"to-come" in body) == (400, True)


def test_a_worker_that_stands_still_is_given_up_on(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line, "ANSWER_TIMEOUT_S", 0.3)
    monkeypatch.setattr(line, "LOOK_EVERY_S", 0.05)
    with serving(settings) as address, pytest.raises(WorkerAway, match="no answer for"):
        asyncio.run(WorkerLine(address).ask(StatusQuestion()))  # no thread answers what waits


@pytest.mark.parametrize(
    ("told", "why"),
    [
        (b"HTTP/1.1 404 Not Found\r\n\r\n", "404"),
        (b"HTTP/1.1 101 \r\n\r\n\x00\x00\x00\x03abc", "nonsense"),
        (b"HTTP/1.1 101 \r\n\r\n" + frame_of(AnswerFrame(99, [(200, b"{}")])), "nonsense"),
        (b"HTTP/1.1 101 \r\n\r\n" + frame_of(AnswerFrame(1, [])), "0 answers to 1 questions"),
        (b"", "closed"),
    ],
    ids=["another server", "no msgpack", "what nobody asked", "too few answers", "hangs up"],
)
def test_a_peer_that_is_no_worker_is_away(told: bytes, why: str) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer):
            await reader.readuntil(b"\r\n\r\n")
            head, end, rest = told.partition(b"\r\n\r\n")
            writer.write(head + end)
            if rest:
                await reader.read(1)  # of the first question
                writer.write(rest)
            if told:
                await reader.read()  # until the front hangs up

    async def ask() -> None:
        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            await WorkerLine(f"http://127.0.0.1:{port}").ask(StatusQuestion())

    with pytest.raises(WorkerAway, match=why):
        asyncio.run(ask())


def test_what_a_front_no_longer_waits_for_is_not_answered(settings: Settings) -> None:
    queue, answered = QuestionQueue(), list[Question]()

    def answer(questions: Sequence[Question]) -> list[Answer]:
        answered.extend(questions)
        return [Answer(200, b"{}") for _ in questions]

    queue.open(answer)
    server = WebServer(worker_app(settings, queue, RunMetrics(settings)), "127.0.0.1", 0)
    server.start()
    try:
        with closing(connected(server.address)) as connection:
            asked_to_open(connection)
            connection.sendall(frame_of(QuestionFrame(1, b'[{"kind":"status"}]')))
            until(lambda: queue.waiting == 1)
            waits = queue._waiting[0].together.future
        until(waits.cancelled)
        queue.serve()
        assert not answered
    finally:
        queue.close()
        server.stop()
