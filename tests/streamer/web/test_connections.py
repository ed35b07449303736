"""What comes over a connection, byte by byte, and how much of it is held."""

import json
import socket
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from streamer.web import limits
from streamer.web.limits import MAX_HELD_BYTES
from streamer.web.server import WebServer
from tests.waiting import scaled

HOST = b"Host: localhost\r\n"
UPGRADE = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
GET = b"GET /a%20b?q=1 HTTP/1.1\r\n"
POST = b"POST /a HTTP/1.1\r\n"
ONE = b"Content-Length: 3\r\n"
PIECES = b"Transfer-Encoding: chunked\r\n"
AAA, AAA_IN_PIECES = b"aaa", b"1\r\na\r\n2\r\naa\r\n0\r\n\r\n"


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Tells what was asked."""
    request = Request(scope, receive)
    told = {
        "method": request.method, "path": scope["path"], "query": scope["query_string"].decode(),
        "body": (await request.body()).decode(), "fields": sorted({name for name, _ in request.headers.items()}),
    }  # fmt: skip
    await JSONResponse(told)(scope, receive, send)


class Wire:
    """One connection."""

    def __init__(self, server: WebServer) -> None:
        self._socket = socket.create_connection(
            ("127.0.0.1", int(server.address.rpartition(":")[2])), timeout=scaled(10)
        )
        self._answers = self._socket.makefile("rb")

    def close(self) -> None:
        self._answers.close()
        self._socket.close()

    def send(self, data: bytes, piece: int | None = None) -> None:
        """As it is, or so many bytes at a time."""
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for first in range(0, len(data), piece or len(data)):
            self._socket.sendall(data[first : first + (piece or len(data))])

    def answer(self) -> tuple[int, dict[str, Any]]:
        """Status and body of the next answer; 0 where the connection has ended."""
        line = self._answers.readline()
        if not line:
            return 0, {}
        fields = {}
        while (text := self._answers.readline().strip()) != b"":
            name, _, value = text.partition(b": ")
            fields[name.lower()] = value
        return int(line.split()[1]), json.loads(self._answers.read(int(fields[b"content-length"])))


@pytest.fixture(scope="module")
def server() -> Iterator[WebServer]:
    server = WebServer(echo, "127.0.0.1", 0)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def wire(server: WebServer) -> Iterator[Wire]:
    with closing(Wire(server)) as wire:
        yield wire


@pytest.mark.parametrize("piece", [None, 1, 7])
@pytest.mark.parametrize(
    ("sent", "method", "body"),
    [
        (GET + HOST + b"\r\n", "GET", ""),
        (POST + HOST + ONE + b"\r\n" + AAA, "POST", "aaa"),
        (POST + HOST + PIECES + b"\r\n" + AAA_IN_PIECES, "POST", "aaa"),
        (GET + HOST + UPGRADE + b"\r\n", "GET", ""),
        (POST + HOST + UPGRADE + ONE + b"\r\n" + AAA, "POST", "aaa"),
        (POST + UPGRADE + HOST + PIECES + b"\r\n" + AAA_IN_PIECES, "POST", "aaa"),
    ],
)
def test_requests_are_answered_however_they_come(
    wire: Wire, sent: bytes, method: str, body: str, piece: int | None
) -> None:
    """Several on one connection; one that would rather have another protocol is answered in this one."""
    wire.send(sent * 3, piece)
    for _ in range(3):
        status, told = wire.answer()
        assert (status, told["method"], told["body"]) == (200, method, body)
        assert (told["path"], told["query"]) == (("/a b", "q=1") if method == "GET" else ("/a", ""))


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (b"nonsense\r\n\r\n", 400, "bad-request"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "bad-request"),
        (b"GET /\xff HTTP/1.1\r\n" + HOST + b"\r\n", 400, "bad-request"),
        (b"GET / HTTP/1.1\r\nA : b\r\n\r\n", 400, "bad-request"),
        (b"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n", 400, "bad-request"),
        (b"GET / HTTP/1.1\r\nA: \x00\r\n\r\n", 400, "bad-request"),
        (POST + HOST + ONE + PIECES + b"\r\n" + AAA_IN_PIECES, 400, "bad-request"),
        (POST + HOST + ONE + b"Content-Length: 4\r\n\r\n" + AAA, 400, "bad-request"),
        (POST + HOST + PIECES + b"\r\nx\r\n", 400, "bad-request"),
        (b"CONNECT localhost:80 HTTP/1.1\r\n" + HOST + b"\r\n", 501, "method-not-implemented"),
        (b"BREW / HTTP/1.1\r\n" + HOST + b"\r\n", 501, "method-not-implemented"),
    ],
)
@pytest.mark.parametrize("before", [b"", GET + HOST + b"\r\n"])
def test_what_is_no_request_is_refused_and_the_connection_ends(
    wire: Wire, sent: bytes, status: int, code: str, before: bytes
) -> None:
    if before:
        wire.send(before)
        assert wire.answer()[0] == 200
    wire.send(sent)
    refused, told = wire.answer()
    assert (refused, told["error"]["code"]) == (status, code)
    assert wire.answer() == (0, {})


@pytest.mark.parametrize(
    "begun",
    [
        b"GET /",
        b"GET / HTTP/1.1\r\nX: ",
        b"GET / HTTP/1.1\r\n" + b"X",
        POST + HOST + PIECES + b"\r\n0\r\nX: ",
        POST + HOST + PIECES + b"\r\n1;",
    ],
)
def test_headers_without_an_end_are_not_held(wire: Wire, begun: bytes) -> None:
    wire.send(begun)
    sent = [0]

    def go_on() -> None:
        while sent[0] < 100 * MAX_HELD_BYTES:
            wire.send(b"x" * 1024)
            sent[0] += 1024

    with pytest.raises(ConnectionError):
        go_on()
    assert sent[0] >= MAX_HELD_BYTES - 1024


def test_many_requests_in_one_piece_are_no_long_header(wire: Wire) -> None:
    one = POST + HOST + b"Content-Length: 30000\r\n\r\n" + b"a" * 30_000
    wire.send(one * 20 + GET)
    for _ in range(20):
        status, told = wire.answer()
        assert (status, len(told["body"])) == (200, 30_000)
    wire.send(HOST + b"\r\n")
    assert wire.answer()[0] == 200


def test_a_trailer_is_no_header(wire: Wire) -> None:
    wire.send(POST + HOST + PIECES + b"\r\n1\r\na\r\n0\r\nX-API-Key: k\r\n\r\n")
    status, told = wire.answer()
    assert (status, told["body"]) == (200, "a")
    assert "x-api-key" not in told["fields"]


def test_an_idle_connection_is_kept_while_there_is_room(server: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FEW_LEFT_KEEP_ALIVE_S", 1)
    ask = GET + HOST + b"\r\n"
    with closing(Wire(server)) as kept:
        kept.send(ask)
        assert kept.answer()[0] == 200
        monkeypatch.setattr(limits, "free_descriptors", lambda: limits.RESERVE)
        monkeypatch.setattr(limits.BoundedProtocol, "open_now", limits.RESERVE)
        with closing(Wire(server)) as silent:
            assert silent.answer() == (0, {})
        with closing(Wire(server)) as short:
            short.send(ask)
            assert short.answer()[0] == 200
            assert short.answer() == (0, {})
        kept.send(ask)
        assert kept.answer()[0] == 200
