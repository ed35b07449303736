"""What one client may take: time for headers, an open connection, a descriptor."""

import asyncio
import json
import logging
import os
import re
import resource
import time
from functools import partial
from http import HTTPStatus
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.wsproto_impl import WSProtocol

from streamer.web.answers import ApiError
from streamer.web.workers.frames import LINE, PROTOCOL, HandedOver

RESERVE = 16  # descriptors that are kept for what the process itself opens
ACCEPTED_AT_ONCE = 1  # a turn of the loop: it takes five turns until one that is refused is closed
STREAM_RESERVE = RESERVE + 8  # those without a stream go on for a while
REFUSED_S = 1.0  # a client that is one too many may take so long to ask
STALLED_S = 30.0  # a client that reads nothing for so long is cut off
KEEP_ALIVE_S, FEW_LEFT_KEEP_ALIVE_S = 75, 5
"""How long a connection stays open without a request: one made while half of the descriptors are free, and others."""
MAX_HELD_BYTES = 65_536  # of headers that are not complete
SAY_EVERY_S = 30.0
SOCKET_PATH = "/v1/ws"  # the one path that is a WebSocket; on others a client that asks for one gets HTTP
MAX_MESSAGE_BYTES = 1_000_000  # of a WebSocket
_SOCKETS = re.compile(rf"(/ns/[^/]+)?{SOCKET_PATH}".encode())
_ONE_TOO_MANY = ApiError(503, "too-many-connections", "the server has as many connections as it can hold")
_REQUEST_LINE = re.compile(
    rb"(?!(?:GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS) )[!#$%&'*+.^_`|~\w-]+ [!-~]+ HTTP/1\.[01]\r\n"
)
_UNKNOWN_METHOD = ApiError(501, "method-not-implemented", "there is no such method here")
_NO_HTTP = ApiError(400, "bad-request", "this is no HTTP request")
_HEADERS_TOO_LARGE = ApiError(431, "headers-too-large", f"the headers are longer than {MAX_HELD_BYTES} bytes")
_logger = logging.getLogger(__name__)


class Limiter:
    """Counts open event streams and WebSockets against a setting and against the descriptors that are left."""

    def __init__(self, max_streams: int) -> None:
        self._max_streams = max_streams
        self._streams = 0
        self._said = -SAY_EVERY_S

    def open_stream(self) -> None:
        """Takes a place; `close_stream` gives it back. Raises ApiError 503 where there is none."""
        if self._streams >= self._max_streams:
            self._refuse(f"{self._streams} streams are open, as many as `max_streams` allows")
        without_streams = free_descriptors() + BoundedProtocol.open_now  # connections that ask and go are no reason
        if without_streams - self._streams <= STREAM_RESERVE:
            self._refuse("the limit of open files leaves no room for another stream")
        self._streams += 1

    def close_stream(self) -> None:
        """Gives a place back."""
        self._streams -= 1

    def _refuse(self, message: str) -> None:
        if time.monotonic() - self._said > SAY_EVERY_S:
            self._said = time.monotonic()
            _logger.warning("%s; further ones are refused", message)
        raise ApiError(503, "too-many-streams", message, headers={"Retry-After": "5"})


def free_descriptors() -> int:
    """How many files and connections this process may still open."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    for folder in ("/proc/self/fd", "/dev/fd"):
        try:
            return limit - len(os.listdir(folder))
        except OSError as error:
            if error.errno == 24:  # EMFILE: not even this one
                return 0
    return limit


def said_once(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """The loop's handler of exceptions: connections that cannot be accepted are a line once in a while."""
    error = context.get("exception")
    if not (isinstance(error, OSError) and "accept" in str(context.get("message", ""))):
        loop.default_exception_handler(context)
        return
    if time.monotonic() - getattr(loop, "_freshet_said", -SAY_EVERY_S) > SAY_EVERY_S:
        loop._freshet_said = time.monotonic()  # type: ignore[attr-defined]
        _logger.warning("connections cannot be accepted: %s", error.strerror)


class _CutOffWhereStalled(asyncio.Protocol):
    """Cuts off a client that reads nothing."""

    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport
    _stalled: asyncio.TimerHandle | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        self._reads_again()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled = self.loop.call_later(STALLED_S, self.transport.abort)

    def resume_writing(self) -> None:
        self._reads_again()
        super().resume_writing()

    def _reads_again(self) -> None:
        if self._stalled:
            self._stalled.cancel()
            self._stalled = None


class BoundedProtocol(_CutOffWhereStalled, HttpToolsProtocol):
    """uvicorn's protocol with limits: of time and size for headers, of time for a client that reads nothing, and of
    descriptors.

    uvicorn has none of them. Its own refusals are in plain text; here they are JSON like all others.
    """

    request_timeout_s = 20.0
    _waiting: asyncio.TimerHandle | None = None
    _in_head = False  # a request has begun, and its headers are not complete
    _held_bytes = 0  # came since the last part of a request that was complete
    open_now = 0  # connections of this process
    _refused = False
    _wants_line = False  # the request that is on its way asks for a line of questions
    _said = -SAY_EVERY_S  # of the class: once for all connections

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        BoundedProtocol.open_now += 1
        free = free_descriptors()
        self.timeout_keep_alive = KEEP_ALIVE_S if free > BoundedProtocol.open_now else FEW_LEFT_KEEP_ALIVE_S
        if free >= RESERVE:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
            return
        if time.monotonic() - BoundedProtocol._said > SAY_EVERY_S:
            BoundedProtocol._said = time.monotonic()
            _logger.warning("the limit of open files is reached; connections are refused until some are closed")
        if free < RESERVE // 2:
            self._refuse(_ONE_TOO_MANY)  # before it asks: some clients do not see this answer
        else:
            self._refused = True
            self._waiting = self.loop.call_later(REFUSED_S, self._refuse, _ONE_TOO_MANY)

    def connection_lost(self, exc: Exception | None) -> None:
        BoundedProtocol.open_now -= 1
        self._unset_keepalive_if_required()
        if self._waiting:
            self._waiting.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self._refused:
            self._refuse(_ONE_TOO_MANY)
            return
        self._unset_keepalive_if_required()
        self._held_bytes += len(data)
        try:
            self._parse(data)
        except httptools.HttpParserError:
            self._refuse(_UNKNOWN_METHOD if _REQUEST_LINE.match(data) else _NO_HTTP)
            return
        if self._held_bytes > MAX_HELD_BYTES:
            self._refuse(_HEADERS_TOO_LARGE)
        elif self.transport.get_protocol() is self:
            self._wait_for_headers()

    def on_message_begin(self) -> None:
        self._in_head, self._held_bytes = True, 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # and no trailer
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head, self._held_bytes = False, 0
        if self._wants_line:
            self.scope["extensions"] = {LINE: self._hand_over_line}  # type: ignore[dict-item]
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._held_bytes = 0
        super().on_body(body)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._in_head:  # the beginning of another request
            self._wait_for_headers()

    def _should_upgrade(self) -> bool:
        """Asked of a request that wants another protocol: uvicorn passes it over, and `_parse` sees what it is."""
        return True

    def _parse(self, data: bytes) -> None:
        """Parses what came. Raises HttpParserError.

        A request that wants another protocol where there is none, as Java's client does of each, is taken as if it did
        not: of such a one the parser takes the body for something else than a request's.
        """
        while data:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                rest = data[upgrade.args[0] :]
                if self.scope["method"] == "CONNECT":
                    raise httptools.HttpParserError("this is no proxy") from None
                if self._wants_socket():
                    self._hand_over(rest)
                    return
                data = self._head_without_upgrade() + rest
                self._wants_line = self._get_upgrade() == PROTOCOL.encode()

    def _wants_socket(self) -> bool:
        """Whether the request is for the WebSocket, and everything before it has been answered."""
        at_endpoint = self.scope["method"] == "GET" and bool(_SOCKETS.fullmatch(self.url.partition(b"?")[0]))
        is_next = self.cycle is None or (self.cycle.response_complete and not self.pipeline)
        fields = dict(self.headers)  # one without a key, or of another version, gets the answer of the path
        is_handshake = b"sec-websocket-key" in fields and fields.get(b"sec-websocket-version") == b"13"
        wanted = is_handshake and self._get_upgrade() == b"websocket" and self._should_upgrade_to_ws()
        return at_endpoint and is_next and wanted

    def _hand_over(self, rest: bytes) -> None:
        """The connection is a `BoundedSocket`'s from here on, which notices its end. rest: what came behind."""
        if self._waiting:
            self._waiting.cancel()
        self.handle_websocket_upgrade()
        if rest:
            self.transport.get_protocol().data_received(rest)  # type: ignore[attr-defined]

    def _hand_over_line(self, protocol: HandedOver) -> None:
        """Opens a line of questions in place of an answer; it is no client's connection from here on."""
        self.cycle.disconnected = True  # uvicorn sends nothing more
        self._unset_keepalive_if_required()
        if self._waiting:
            self._waiting.cancel()
        BoundedProtocol.open_now -= 1
        self.connections.discard(self)
        self.connections.add(protocol)  # type: ignore[arg-type]
        protocol.when_lost = partial(self.connections.discard, protocol)
        self.transport.write(
            f"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: {PROTOCOL}\r\n\r\n".encode()
        )
        self.transport.set_protocol(protocol)
        protocol.connection_made(self.transport)

    def _head_without_upgrade(self) -> bytes:
        line = f"{self.scope['method']} ".encode() + self.url + f" HTTP/{self.scope['http_version']}\r\n".encode()
        fields = (name + b": " + value + b"\r\n" for name, value in self.headers if name != b"upgrade")
        return line + b"".join(fields) + b"\r\n"

    def _wait_for_headers(self) -> None:
        """Begins to wait for the end of headers, or ends it where a request is being answered."""
        if self.cycle is not None and not self.cycle.response_complete:
            if self._waiting:
                self._waiting.cancel()
                self._waiting = None
        elif self._waiting is None and not self.transport.is_closing():
            self._waiting = self.loop.call_later(self.request_timeout_s, self._no_headers)

    def _no_headers(self) -> None:
        self._waiting = None
        if self.cycle is None or self.cycle.response_complete:
            self._refuse(ApiError(408, "timeout", f"no request was there after {self.request_timeout_s:g} s"))

    def _refuse(self, error: ApiError) -> None:
        """Answers in place of the request that is on its way, and closes; without an answer where that is not next."""
        if self.transport.is_closing():
            return
        cycle = self.cycle
        is_next = cycle is None or cycle.response_complete or (cycle.more_body and not cycle.response_started)
        if is_next and not self.pipeline:
            body = json.dumps(error.body).encode()
            head = f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}\r\n"
            head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
            self.transport.write(head.encode() + body)
        self.transport.close()


class BoundedSocket(_CutOffWhereStalled, WSProtocol):
    """uvicorn's WebSocket: it is counted among the connections, and a client that reads nothing is cut off."""

    def connection_lost(self, exc: Exception | None) -> None:
        BoundedProtocol.open_now -= 1
        super().connection_lost(exc)
