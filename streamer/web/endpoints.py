"""Endpoints: a path with a method, who may pass, and what it takes; and how they become routes."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NamedTuple
from urllib.parse import unquote

from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Scope

from streamer.web import access
from streamer.web.access import Access
from streamer.web.incoming import checked_id
from streamer.web.parameters import NoParameters, Parameters, read_parameters

Handler = Callable[..., Awaitable[Response]]
"""Takes the request, and behind it the parameters of the query where its endpoint has some."""


class _Id(Convertor[str]):
    """One segment of the raw path, decoded once: an id may hold what is a slash when decoded."""

    regex = "[^/]+"

    def convert(self, value: str) -> str:
        return unquote(value, errors="surrogateescape")

    def to_string(self, value: str) -> str:
        raise NotImplementedError


class _Rest(_Id):
    """All that is left of the raw path: for paths of before, whose ids may hold slashes as they are."""

    regex = ".+"


register_url_convertor("id", _Id())
register_url_convertor("rest", _Rest())


class Endpoint(NamedTuple):
    """One way in.

    `needs`: see `streamer.web.access`; `parameters`: those of the query that it takes. What follows is documentation
    alone, see `streamer.web.openapi`: `body`, a model of what the body holds, and what it answers where all is well.
    """

    path: str
    method: str
    handler: Handler
    needs: access.EndpointKind
    parameters: type[Parameters] = NoParameters
    body: Any = None
    status: int = 200
    answer: Any = None


class _FirstFit(Route):
    """A route that answers for its path whatever the method, with 405 where it has no such endpoint."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child = super().matches(scope)
        return Match.NONE if match is Match.NONE else Match.FULL, child


def routes_of(endpoints: Iterable[Endpoint], allowed: Access) -> list[Route]:
    """One route for all the methods of a path, in the order of the endpoints: the first path that fits answers."""
    by_path: dict[str, dict[str, Endpoint]] = {}
    for endpoint in endpoints:
        by_path.setdefault(endpoint.path, {})[endpoint.method] = endpoint
    return [_FirstFit(path, _answering(methods, allowed), methods=list(methods)) for path, methods in by_path.items()]


def id_in_path(request: Request, name: str) -> str:
    """The id that a path has under this name. Raises ApiError where it is none."""
    return checked_id(request.path_params[name], name)


def _answering(endpoints: dict[str, Endpoint], allowed: Access) -> Handler:
    async def answer(request: Request) -> Response:
        endpoint = endpoints["GET" if request.method == "HEAD" else request.method]
        allowed.check(request, endpoint.needs)
        asked = read_parameters(endpoint.parameters, request)
        return await (
            endpoint.handler(request) if endpoint.parameters is NoParameters else endpoint.handler(request, asked)
        )

    return answer
