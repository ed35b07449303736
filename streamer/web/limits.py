"""What one client may take: time for headers, an open connection, a descriptor."""

import asyncio
import json
import logging
import os
import resource
import time
from http import HTTPStatus
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from streamer.web.answers import ApiError

RESERVE = 16  # descriptors that are kept for what the process itself opens
ACCEPTED_AT_ONCE = 1  # a turn of the loop: it takes five turns until one that is refused is closed
STREAM_RESERVE = RESERVE + 8  # those without a stream go on for a while
REFUSED_S = 1.0  # a client that is one too many may take so long to ask
STALLED_S = 30.0  # a client that reads nothing for so long is cut off
SAY_EVERY_S = 30.0
_ONE_TOO_MANY = ApiError(503, "too-many-connections", "the server has as many connections as it can hold")
_logger = logging.getLogger(__name__)


class Limiter:
    """Counts open event streams against a setting and against the descriptors that are left."""

    def __init__(self, max_streams: int) -> None:
        self._max_streams = max_streams
        self._streams = 0
        self._said = -SAY_EVERY_S

    def open_stream(self) -> None:
        """Takes a place; `close_stream` gives it back. Raises ApiError 503 where there is none."""
        if self._streams >= self._max_streams:
            self._refuse(f"{self._streams} event streams are open, as many as `max_streams` allows")
        without_streams = free_descriptors() + BoundedProtocol.open_now  # connections that ask and go are no reason
        if without_streams - self._streams <= STREAM_RESERVE:
            self._refuse("the limit of open files leaves no room for another event stream")
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


class BoundedProtocol(H11Protocol):
    """uvicorn's protocol with a limit of time for headers, for a client that reads nothing, and of descriptors.

    uvicorn has none of the three. Its own refusals are in plain text; here they are JSON like all others.
    """

    request_timeout_s = 20.0
    _waiting: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None
    open_now = 0  # connections of this process
    _refused = False
    _said = -SAY_EVERY_S  # of the class: once for all connections

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        BoundedProtocol.open_now += 1
        free = free_descriptors()
        if free >= RESERVE:
            self._wait_for_headers()
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
        for timer in (self._waiting, self._stalled):
            if timer:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self._refused:
            self._refuse(_ONE_TOO_MANY)
            return
        super().data_received(data)
        self._wait_for_headers()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.conn.trailing_data[0]:  # the beginning of another request
            self._wait_for_headers()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled = self.loop.call_later(STALLED_S, self.transport.abort)

    def resume_writing(self) -> None:
        if self._stalled:
            self._stalled.cancel()
            self._stalled = None
        super().resume_writing()

    def _should_upgrade(self) -> bool:
        return False  # there is no WebSocket here; uvicorn would say so in the log for each request

    def send_400_response(self, msg: str) -> None:
        """What uvicorn calls for a request that is no HTTP."""
        self._refuse(ApiError(400, "bad-request", msg))

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
        """Answers without a request, and closes."""
        if self.transport.is_closing():
            return
        body = json.dumps(error.body).encode()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            head = f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}\r\n"
            head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
            self.transport.write(head.encode() + body)
        self.transport.close()
