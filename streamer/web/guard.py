"""Who may ask from where: `Host`, `Origin` and CORS, before any route is looked for.

Starlette's TrustedHostMiddleware and CORSMiddleware answer in plain text, and let requests of foreign origins pass:
the browser alone would hide the answer, after the write was done.
"""

import re
from collections.abc import Sequence
from ipaddress import ip_address

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from streamer.web.answers import ApiError

CORS_METHODS = "GET, HEAD, POST, PATCH, PUT, DELETE"
PREFLIGHT_S = "600"
ALWAYS = (
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)
"""Headers of every answer that says nothing else of them."""
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]]+)(?::\d+)?")
_DEFAULT_PORT = {"http": ":80", "https": ":443"}


def is_loopback(host: str) -> bool:
    """Whether an address or a name is this machine's loopback."""
    name = host.strip("[]").lower()
    if name == "localhost":
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


class Guard:
    """An ASGI application in front of another.

    (1) The header `Host` names this server: on loopback that is a loopback name, `host`, or one of `allowed_hosts`;
    elsewhere an address, `host` or one of `allowed_hosts`, where there are any. (2) A request that a browser makes for
    a page of another origin is refused, unless `cors_origins` names it; its preflights are answered here.
    (3) The path that routes see is the raw one: ids are decoded once, after the path was split.

    Args:
        app: what answers.
        host: the address that is listened on.
        allowed_hosts: further names of this server.
        cors_origins: origins such as https://shop.example whose pages may use this server.
    """

    def __init__(
        self, app: ASGIApp, host: str, allowed_hosts: Sequence[str] = (), cors_origins: Sequence[str] = ()
    ) -> None:
        self._app = app
        self._on_loopback = is_loopback(host)
        self._any_host = not self._on_loopback and not allowed_hosts
        self._hosts = {name.strip("[]").lower() for name in (host, *allowed_hosts)}
        self._origins = {_origin(text) for text in cors_origins}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        method = scope.get("method", "GET")  # of a WebSocket's handshake it is GET
        headers = Headers(scope=scope)
        origins = headers.getlist("origin")
        shared = bool(origins) and _origin(origins[0]) in self._origins

        async def send_on(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                raw = message["headers"] = list(message.get("headers", ()))
                given = {name for name, _ in raw}
                raw += [field for field in ALWAYS if field[0] not in given]
                answer = MutableHeaders(raw=raw)
                if self._origins:
                    answer.add_vary_header("Origin")
                if shared:
                    answer["Access-Control-Allow-Origin"] = origins[0]
            await send(message)

        try:
            self._check(headers, origins, method, shared)
        except ApiError as error:
            await error.response()(scope, receive, send_on)
            return
        if shared and method == "OPTIONS" and "access-control-request-method" in headers:
            await _preflight(headers)(scope, receive, send_on)
            return
        await self._app({**scope, "path": scope["raw_path"].decode("latin-1")}, receive, send_on)

    def _check(self, headers: Headers, origins: Sequence[str], method: str, shared: bool) -> None:
        hosts = headers.getlist("host")
        host = hosts[0] if hosts else ""
        if len(hosts) > 1 or not self._knows(host):
            raise ApiError(
                400, "bad-host", f"this server is not {host[:100]!r}; the setting `allowed_hosts` adds a name to it"
            )
        if shared:
            return
        if any(_netloc(origin) != _with_port(host, origin) for origin in origins):
            raise ApiError(403, "foreign-origin", "pages of other origins are refused; see the setting `cors_origins`")
        if origins or headers.get("sec-fetch-site") not in ("cross-site", "same-site"):
            return
        if headers.get("sec-fetch-mode") != "navigate" or method not in ("GET", "HEAD"):  # it does not come by a link
            raise ApiError(403, "foreign-origin", "pages of other origins are refused; see the setting `cors_origins`")

    def _knows(self, host: str) -> bool:
        if self._any_host:
            return True
        match = _HOST.fullmatch(host)
        if match is None:
            return False
        name = match[1].strip("[]").lower()
        if name in self._hosts or is_loopback(name):
            return True
        return not self._on_loopback and _is_address(name)  # only a name can be made to point here


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _origin(text: str) -> str:
    scheme, _, rest = text.lower().rstrip("/").partition("://")
    return f"{scheme}://{rest.removesuffix(_DEFAULT_PORT.get(scheme, ''))}" if rest else text.lower()


def _netloc(origin: str) -> str:
    return _origin(origin).partition("://")[2]


def _with_port(host: str, origin: str) -> str:
    """The header `Host` as the netloc of an origin of the same scheme: a default port is left out."""
    scheme = origin.lower().partition("://")[0]
    return host.lower().removesuffix(_DEFAULT_PORT.get(scheme, ""))


def _preflight(headers: Headers) -> Response:
    allowed = {
        "Access-Control-Allow-Methods": CORS_METHODS,
        "Access-Control-Max-Age": PREFLIGHT_S,
    }
    if wanted := headers.get("access-control-request-headers"):
        allowed["Access-Control-Allow-Headers"] = wanted
    return Response(status_code=204, headers=allowed)
