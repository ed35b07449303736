"""Server-sent events: their text, and a response that counts among the streams that are open."""

import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote, unquote

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from streamer.web.limits import Limiter

HEARTBEAT = ": still here\n\n"
_PLAIN = "!#$&'()*+,/:;=?@[]~ "  # what of an id stands in a line as it is


def event_text(name: str, data: Any, id_: str | None = None) -> str:
    """One event with JSON in it. `id_`: what a client that connects anew sends as `Last-Event-ID`; "": nothing."""
    named = "" if id_ is None else f"id: {quote(id_, safe=_PLAIN)}\n"
    return f"event: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\n{named}\n"


def last_event_id(request: Request) -> str | None:
    """The id of the last event that a client has seen; None where it has seen none."""
    return unquote(request.headers.get("last-event-id", "")) or None


def event_stream(request: Request, source: AsyncIterator[str], limiter: Limiter) -> Response:
    """The texts of `source` as they come; HEAD gets the headers alone. Raises ApiError where too many are open."""
    headers = {"Cache-Control": "no-store"}
    if request.method == "HEAD":
        return Response(media_type="text/event-stream", headers=headers)
    limiter.open_stream()
    return _EventStream(source, limiter, headers)


class _EventStream(StreamingResponse):
    """An event stream that gives its place back when it ends."""

    def __init__(self, source: AsyncIterator[str], limiter: Limiter, headers: dict[str, str]) -> None:
        super().__init__(source, media_type="text/event-stream", headers=headers)
        self._limiter = limiter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._limiter.close_stream()
