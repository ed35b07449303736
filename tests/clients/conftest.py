"""A front that fails as networks do, before a shop."""

from collections import deque
from collections.abc import Iterator

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from streamer.web.api import Gateway
from streamer.web.server import WebServer
from streamer.web.workers.askers import RemoteAsker
from tests.shop import Shop, open_shop, started


@pytest.fixture(scope="module", params=["embedded"])
def shop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A shop on an embedded log."""
    yield from open_shop(request, tmp_path_factory)


class Faults:
    """An ASGI application before another: what it does to the next requests, one after the other.

    `lost`: the request is answered, and the answer does not arrive; `busy`: 503 with a time; `short`: an event stream
    ends behind its first event.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app, self.next, self.seen = app, deque[str](), list[dict[str, str]]()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.seen.append({name.decode(): value.decode() for name, value in scope.get("headers", ())})
        match self.next.popleft() if self.next else "":
            case "lost":
                await self._app(scope, receive, _nowhere)
                half = [(b"content-length", b"2")]
                await send({"type": "http.response.start", "status": 200, "headers": half})
                raise ConnectionResetError("the answer is lost")
            case "busy":
                body = b'{"error": {"code": "log-away", "message": "wait"}}'
                await send({"type": "http.response.start", "status": 503, "headers": [(b"retry-after", b"0")]})
                await send({"type": "http.response.body", "body": body})
            case "short":
                await self._app(scope, receive, _until_first_event(send))
            case _:
                await self._app(scope, receive, send)


async def _nowhere(message: Message) -> None:
    pass


def _until_first_event(send: Send) -> Send:
    async def send_on(message: Message) -> None:
        await send(message)
        if b"event:" in message.get("body", b""):
            raise ConnectionResetError("the stream ends")

    return send_on


class Front:
    """Its address, the shop behind it and the faults to come."""

    def __init__(self, address: str, shop: Shop, faults: Faults) -> None:
        self.address, self.shop, self.faults = address, shop, faults


@pytest.fixture
def front(shop: Shop) -> Iterator[Front]:
    """A front of its own on the shop's log."""
    gateway = Gateway(shop.log, shop.settings, shop.view, asker=RemoteAsker(shop.view.workers))
    faults = Faults(gateway.app())
    with started(WebServer(faults, "127.0.0.1", 0, sockets=True)) as server:
        yield Front(server.address, shop, faults)
