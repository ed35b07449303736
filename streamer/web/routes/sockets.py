"""`/v1/ws`: the lists of many users over one WebSocket."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketDisconnect

from consumers.decode_fields import UNDECODABLE, why_undecodable
from consumers.errors import WireError
from streamer.web.access import Access
from streamer.web.answers import ApiError
from streamer.web.endpoints import Endpoint
from streamer.web.incoming import checked_id
from streamer.web.limits import SOCKET_PATH, Limiter
from streamer.web.materialized_view import View
from streamer.web.parameters import NoParameters, read_parameters
from streamer.web.shown_lists import list_change
from streamer.web.view.watchers import Watch

MAX_USERS = 1_000  # of one connection
LOOK_AGAIN_S = 1.0  # where a list could not be read
GOING_AWAY = 1001
VERBS = ("subscribe", "unsubscribe")


class SocketRoutes:
    """Tells subscribers of the lists that are published for the users that they name."""

    def __init__(self, view: View, access: Access, limiter: Limiter) -> None:
        self._view, self._access, self._limiter = view, access, limiter

    def endpoints(self) -> list[Endpoint]:
        """The path, for requests that are no handshake of a WebSocket, and for the document."""
        return [Endpoint(SOCKET_PATH, "GET", self.refuse, "read", status=101)]

    async def refuse(self, request: Request) -> Response:
        """A WebSocket: the lists of many users over one connection.

        A client sends {"subscribe": ["ann", …]} and {"unsubscribe": […]}, up to 1,000 users at a time. It gets the
        newest list of each at once, and each new one: the list, with "event": "list"; {"event": "withdrawn",
        "user_id": …} where there is none any more; {"error": …} for a message that cannot be taken.
        """
        headers = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
        raise ApiError(426, "upgrade-required", f"{SOCKET_PATH} is a WebSocket", headers=headers)

    async def connect(self, socket: WebSocket) -> None:
        """Answers a handshake, and tells of lists until either side ends it."""
        try:
            self._access.check(socket, "read")
            read_parameters(NoParameters, socket)
            self._limiter.open_stream()
        except ApiError as error:
            await socket.send_denial_response(error.response())
            return
        try:
            await socket.accept()
            with self._view.watchers.watching() as watch:
                await _Subscriber(self._view, socket, watch).run()
        except WebSocketDisconnect:
            pass
        finally:
            self._limiter.close_stream()


class _Subscriber:
    """One connection. Of a user who changes faster than the client reads, the newest list is told."""

    def __init__(self, view: View, socket: WebSocket, watch: Watch) -> None:
        self._view, self._socket, self._watch = view, socket, watch
        self._shown: dict[str, str | None] = {}  # user → id of the list that was told last

    async def run(self) -> None:
        """Reads and tells until one of both ends."""
        tasks = {asyncio.create_task(self._read()), asyncio.create_task(self._tell())}
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self) -> None:
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            try:
                wanted = _wanted(message.get("text") or message.get("bytes") or "")
                self._take(wanted)
            except ApiError as error:
                await self._socket.send_json(error.body)

    def _take(self, wanted: Mapping[str, Sequence[str]]) -> None:
        """Takes a message whole or not at all: first who is left out, then who comes. Raises ApiError."""
        gone = {user for user in wanted.get("unsubscribe", ()) if user in self._watch}
        new = [user for user in wanted.get("subscribe", ()) if user in gone or user not in self._watch]
        if len(self._watch) - len(gone) + len(set(new)) > MAX_USERS:
            raise ApiError(
                429, "too-many-users", f"{MAX_USERS} users at most are told of over one connection", field="subscribe"
            )
        for user in gone:
            self._watch.discard(user)
            self._shown.pop(user, None)
        for user in new:
            self._watch.add(user)

    async def _tell(self) -> None:
        unread: set[str] = set()
        while not self._view.closed:
            changed = await self._watch.changed(LOOK_AGAIN_S if unread else 60.0)
            users, unread = sorted(changed | unread), set()
            for user in users:
                try:
                    await self._tell_of(user)
                except WireError:
                    unread.add(user)
                await asyncio.sleep(0)  # others have a turn
        await self._socket.close(GOING_AWAY)

    async def _tell_of(self, user: str) -> None:
        if user not in self._watch:
            return
        change = list_change(self._view, user, self._shown.get(user))
        if change is not None:
            self._shown[user] = change.list_id
            text = msgspec.json.encode({"event": change.event, **change.data}).decode()
            await self._socket.send_text(text)


def _wanted(message: str | bytes) -> dict[str, list[str]]:
    """Users by verb. Raises ApiError."""
    try:
        value: Any = msgspec.json.decode(message)
    except UNDECODABLE as error:
        raise ApiError(400, "not-json", f"the message is no JSON: {why_undecodable(error)}") from None
    if not isinstance(value, dict) or not value:
        raise ApiError(400, "not-an-object", 'send {"subscribe": ["user", …]} or {"unsubscribe": […]}')
    if unknown := sorted(value.keys() - set(VERBS)):
        raise ApiError(400, "unknown-field", f"there is no field {unknown[0][:100]!r} here", field=unknown[0][:100])
    wanted = {}
    for verb, users in value.items():
        if not isinstance(users, list) or not all(type(user) in (str, int) for user in users):
            raise ApiError(400, "bad-type", f"{verb} is an array of ids", field=verb)
        wanted[verb] = [checked_id(str(user), verb) for user in users]
    return wanted
