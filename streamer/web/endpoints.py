"""Endpoints: a path with a method, who may pass, and what it takes; and the application that they make together."""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import unquote

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketClose

from streamer.web import access
from streamer.web.access import Access
from streamer.web.answers import ApiError, refusal_of
from streamer.web.incoming import checked_id
from streamer.web.parameters import NoParameters, Parameters, read_parameters

Handler = Callable[..., Awaitable[Response]]
"""Takes the request, and behind it the parameters of the query where its endpoint has some."""


_PARAMETERS = {"id": "([^/]+)", "rest": "(.+)"}
"""What a path may have: one segment, which may hold what is a slash once it is decoded, or all that is left."""
_PARAMETER = re.compile(r"\{(\w+):(\w+)\}")


class Endpoint(NamedTuple):
    """One way in.

    `needs`: see `streamer.web.access`; `parameters`: those of the query that it takes. What follows is documentation
    alone, see `streamer.web.openapi`: `body`, a model of what the body holds, and what it answers where all is well,
    with `status`, or with another one that is in `also`.
    """

    path: str
    method: str
    handler: Handler
    needs: access.EndpointKind
    parameters: type[Parameters] = NoParameters
    body: Any = None
    status: int = 200
    answer: Any = None
    also: Mapping[int, Any] = MappingProxyType({})


class _Path(NamedTuple):
    """A path: its endpoints by method, and the names of its parameters."""

    endpoints: dict[str, Endpoint]
    names: list[str]


class Endpoints:
    """An ASGI application of endpoints. The first path that fits answers, with 405 where it lacks the method.

    Starlette's routes ask one path after the other, and its layers of exceptions look at each request twice: together
    they took longer than any answer but a list.

    Args:
        endpoints: in the order in which their paths are tried.
        allowed: who may pass; None: everybody.
        socket: what answers the handshake of a WebSocket.
    """

    def __init__(
        self,
        endpoints: Iterable[Endpoint],
        allowed: Access | None = None,
        socket: Callable[[WebSocket], Awaitable[None]] | None = None,
    ) -> None:
        by_path: dict[str, dict[str, Endpoint]] = {}
        for endpoint in endpoints:
            by_path.setdefault(endpoint.path, {})[endpoint.method] = endpoint
        self._allowed, self._socket = allowed, socket
        self._paths: dict[int, _Path] = {}  # by the group of the pattern that has the whole path
        patterns, group = [], 1
        for path, of_path in by_path.items():
            names = [name for name, _ in _PARAMETER.findall(path)]
            self._paths[group] = _Path(of_path, names)
            patterns.append(f"({_pattern(path)})")
            group += 1 + len(names)
        self._pattern = re.compile("|".join(patterns))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request, of which `path` is the raw one."""
        if scope["type"] == "websocket":
            await (
                self._socket(WebSocket(scope, receive, send))
                if self._socket
                else WebSocketClose()(scope, receive, send)
            )
            return
        request = Request(scope, receive, send)
        try:
            response = await self._answer(request)
        except Exception as error:
            response, is_known = refusal_of(error)
            if not is_known:
                await response(scope, receive, send)
                raise
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        path, method = request.scope["path"], request.method
        match = self._pattern.fullmatch(path)
        if match is None or match.lastindex is None:
            raise ApiError(404, "not-found", f"there is nothing at {path}")
        endpoints, names = self._paths[match.lastindex]
        endpoint = endpoints.get("GET" if method == "HEAD" else method)
        if endpoint is None:
            methods = sorted({*endpoints, *(["HEAD"] if "GET" in endpoints else [])})
            allow = {"Allow": ", ".join(methods)}
            raise ApiError(405, "method-not-allowed", f"{path} does not take {method}", headers=allow)
        given = match.groups()[match.lastindex : match.lastindex + len(names)]
        decoded = (unquote(text, errors="surrogateescape") for text in given)
        request.scope["path_params"] = dict(zip(names, decoded, strict=True))
        if self._allowed is not None:
            self._allowed.check(request, endpoint.needs)
        asked = read_parameters(endpoint.parameters, request)
        if endpoint.parameters is NoParameters:
            return await endpoint.handler(request)
        return await endpoint.handler(request, asked)


def id_in_path(request: Request, name: str) -> str:
    """The id that a path has under this name. Raises ApiError where it is none."""
    return checked_id(request.path_params[name], name)


def _pattern(path: str) -> str:
    """A path as a regular expression, with a group for each parameter."""
    literal, *rest = _PARAMETER.split(path)  # text, then (name, kind, text) each
    return re.escape(literal) + "".join(
        _PARAMETERS[kind] + re.escape(text) for kind, text in zip(rest[1::3], rest[2::3], strict=True)
    )
