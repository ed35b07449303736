"""The API over one log: its doors, and what they answer. Errors are those of `streamer.web.answers`."""

import asyncio
import json
import time
from collections import Counter as Counts
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.resources import files
from typing import Any, NamedTuple
from urllib.parse import unquote

import msgspec
from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from starlette.applications import Starlette
from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from consumers.errors import LogUnavailable, WireError
from consumers.log import Log
from consumers.records import NewRecord
from streamer.settings import Settings
from streamer.web import access
from streamer.web.access import Access
from streamer.web.answers import HANDLERS, ApiError
from streamer.web.bodies import Body, read_body
from streamer.web.current_log import CurrentLog
from streamer.web.guard import Guard
from streamer.web.incoming import Incoming, IncomingRecords, checked_id
from streamer.web.limits import Limiter
from streamer.web.materialized_view import View

FEED_TICK_S, HEARTBEAT_S = 0.25, 10.0
FEED_EVENTS = 12
_PAGE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
Endpoint = Callable[[Request], Awaitable[Response]]


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


class Door(NamedTuple):
    """One way in.

    `needs`: see `streamer.web.access`; `parameters`: those of the query that it takes.
    """

    path: str
    method: str
    endpoint: Endpoint
    needs: access.DoorKind
    parameters: tuple[str, ...] = ()


class Gateway:
    """The API over one log.

    Args: clock_ms: the time that an interaction without one gets; the wall clock by default.
    """

    def __init__(
        self, log: Log | CurrentLog, settings: Settings, view: View, clock_ms: Callable[[], int] | None = None
    ) -> None:
        self._log, self._settings, self._view = log, settings, view
        self._clock_ms = clock_ms or _now_ms
        self._access, self._limiter = Access(settings), Limiter(settings.max_streams)
        self._incoming = Incoming(settings)
        self._registry = CollectorRegistry()
        self._accepted = Counter(
            "freshet_http_interactions", "Interactions accepted over HTTP.", registry=self._registry
        )
        self._registry.register(_ViewMetrics(view))

    def doors(self) -> list[Door]:
        """Every path and method, those of before too."""
        user = "/v1/users/{user_id:id}"
        return [
            Door("/", "GET", self.page, "open"),
            Door("/v1/session", "GET", self.session, "read"),
            Door("/v1/session", "POST", self.open_session, "open"),
            Door("/v1/session", "DELETE", self.close_session, "open"),
            Door("/v1/interactions", "POST", self.post_interactions, "write"),
            Door("/v1/interactions/{event_id:id}", "DELETE", self.delete_interaction, "write", ("user_id",)),
            Door("/v1/items", "POST", self.post_items, "write"),
            Door("/v1/items/{item_id:id}", "DELETE", self.delete_item, "admin"),
            Door("/v1/users", "GET", self.users, "read"),
            Door("/v1/users", "POST", self.post_users, "write"),
            Door(user, "DELETE", self.delete_user, "admin"),
            Door(f"{user}/recommendations", "GET", self.recommendations, "read"),
            Door(f"{user}/lists/stream", "GET", self.user_stream, "read"),
            Door("/v1/stream", "GET", self.stream, "read", ("user",)),
            Door("/livez", "GET", self.livez, "health"),
            Door("/readyz", "GET", self.readyz, "health"),
            Door("/metrics", "GET", self.metrics, "metrics"),
            # the paths of before
            Door("/interactions", "POST", self.post_interactions, "write"),
            Door("/items", "POST", self.post_items, "write"),
            Door("/recommendations/{user_id:rest}/stream", "GET", self.user_stream, "read"),
            Door("/recommendations/{user_id:rest}", "GET", self.recommendations, "read"),
            Door("/stream", "GET", self.stream, "read", ("user",)),
            Door("/users", "GET", self.users, "read"),
        ]

    def app(self) -> ASGIApp:
        """The ASGI application."""
        by_path: dict[str, dict[str, Door]] = {}
        for door in self.doors():
            by_path.setdefault(door.path, {})[door.method] = door
        routes = [Route(path, self._answering(doors), methods=list(doors)) for path, doors in by_path.items()]
        inner = Starlette(routes=routes, exception_handlers=HANDLERS)
        inner.router.redirect_slashes = False
        settings = self._settings
        return Guard(inner, settings.host, settings.allowed_hosts, settings.cors_origins)

    def _answering(self, doors: dict[str, Door]) -> Endpoint:
        async def answer(request: Request) -> Response:
            door = doors["GET" if request.method == "HEAD" else request.method]
            self._access.check(request, door.needs)
            _check_parameters(request, door.parameters)
            return await door.endpoint(request)

        return answer

    # the page and its session

    async def page(self, request: Request) -> Response:
        """The page: no data is in it, so that a browser can ask for a key."""
        html = (files("streamer.web") / "page.html").read_text("utf-8")
        return HTMLResponse(html, headers={"Content-Security-Policy": _PAGE_POLICY})

    async def session(self, request: Request) -> Response:
        """What the key or the session of the request may do."""
        return JSONResponse({"scopes": sorted(self._access.scopes_of(request) or ())})

    async def open_session(self, request: Request) -> Response:
        """Takes `{"key": …}` once; from then on a cookie stands for the key."""
        [value, *more] = (await self._body(request)).values or [None]
        if more or not isinstance(value, dict) or not isinstance(value.get("key"), str):
            raise ApiError(400, "bad-type", 'send {"key": "…"}', field="key")
        response = JSONResponse({"scopes": sorted(self._access.scopes_of_key(value["key"]) or ())})
        if not self._access.open_session(value["key"], response, request.url.scheme == "https"):
            raise ApiError(401, "unauthorized", "this key is wrong", field="key")
        return response

    async def close_session(self, request: Request) -> Response:
        """Ends the session of the request."""
        response = Response(status_code=204)
        self._access.close_session(request, response)
        return response

    # what comes in

    async def post_interactions(self, request: Request) -> Response:
        """One interaction, an array, NDJSON, or CloudEvents; 202 once they are in the log."""
        body = await self._body(request)
        taken = self._incoming.interactions(body, self._clock_ms(), _now_ms())
        answer = await self._append(taken)
        self._accepted.inc(len(taken.records))
        return answer

    async def post_items(self, request: Request) -> Response:
        """Items likewise."""
        return await self._append(self._incoming.items(await self._body(request), _now_ms()))

    async def post_users(self, request: Request) -> Response:
        """Users likewise."""
        return await self._append(self._incoming.users(await self._body(request), _now_ms()))

    async def delete_interaction(self, request: Request) -> Response:
        """Takes an interaction back."""
        if "user_id" not in request.query_params:
            raise ApiError(400, "missing-parameter", "name the user, ?user_id=…: ids belong to users", field="user_id")
        user_id = checked_id(request.query_params["user_id"], "user_id")
        event_id = checked_id(request.path_params["event_id"], "event_id")
        return await self._append(self._incoming.retraction(user_id, event_id, self._clock_ms()))

    async def delete_item(self, request: Request) -> Response:
        """Takes an item out of every list, and its history back."""
        item_id = checked_id(request.path_params["item_id"], "item_id")
        return await self._append(
            IncomingRecords([NewRecord(self._settings.items_topic, item_id.encode(), None)], [], [])
        )

    async def delete_user(self, request: Request) -> Response:
        """Erases a user."""
        user_id = _user_of(request)
        return await self._append(
            IncomingRecords([NewRecord(self._settings.users_topic, user_id.encode(), None)], [], [])
        )

    async def _body(self, request: Request) -> Body:
        return await read_body(request, self._settings.max_body_bytes, self._settings.request_timeout_s)

    async def _append(self, taken: IncomingRecords) -> Response:
        """202 once the records are in the log; 503 where they may be or not, with what makes another try safe."""
        deadline = time.monotonic() + self._settings.append_timeout_s

        def append() -> None:
            left_s = deadline - time.monotonic()  # threads are few: others may have waited for the log before
            if left_s <= 0:
                raise LogUnavailable("the log takes nothing at the moment")
            self._log.append(taken.records, left_s)

        try:
            await asyncio.to_thread(append)
        except LogUnavailable as error:
            raise ApiError(
                503,
                "not-acknowledged",
                f"{error}; send the same again with these event_ids: what is in the log already counts once"
                if taken.event_ids
                else f"{error}; send the same again",
                headers={"Retry-After": "1"},
                beside={"event_ids": taken.event_ids},
            ) from None
        return JSONResponse(taken.answer(), 202)

    # what goes out

    async def recommendations(self, request: Request) -> Response:
        """The newest list of a user, with titles."""
        value = self._view.list_of(_user_of(request))
        if value is None:
            raise ApiError(404, "no-list", "there is no list for this user yet")
        return JSONResponse(self._titled(value))

    async def users(self, request: Request) -> Response:
        """Users that were active lately, the latest first."""
        return JSONResponse({"users": list(reversed(self._view.recent_users))[:50]})

    async def user_stream(self, request: Request) -> Response:
        """Server-sent events: each new list of one user."""
        return self._events(request, self._user_lists(request, _user_of(request)))

    async def stream(self, request: Request) -> Response:
        """Server-sent events for the page: interactions, quality, stats, and with `?user=` that user's list."""
        return self._events(request, self._page_feed(request, request.query_params.get("user")))

    def _events(self, request: Request, source: AsyncIterator[str]) -> Response:
        headers = {"Cache-Control": "no-store"}
        if request.method == "HEAD":
            return Response(media_type="text/event-stream", headers=headers)
        self._limiter.open_stream()
        return _Events(source, self._limiter, headers)

    async def livez(self, request: Request) -> Response:
        """200 while the process runs."""
        return PlainTextResponse("live\n")

    async def readyz(self, request: Request) -> Response:
        """200 while the view follows the log; else 503 with a line that says why not."""
        ready, line = self._view.status()
        if not ready:
            raise ApiError(503, "not-ready", line)
        return PlainTextResponse(f"{line}\n")

    async def metrics(self, request: Request) -> Response:
        """Prometheus text."""
        return Response(generate_latest(self._registry), media_type="text/plain; version=0.0.4")

    def _titled(self, value: bytes) -> dict[str, Any]:
        lists: dict[str, Any] = msgspec.json.decode(value)
        for item in lists["items"]:
            item["title"] = self._view.title_of(item["item_id"]) or item["item_id"]
            words, _, cause = item["reason"].rpartition(" ")
            if item["source"] in ("transition", "co-interaction"):
                item["reason"] = f"{words} {self._view.title_of(cause) or cause}"
        return lists

    async def _user_lists(self, request: Request, user: str) -> AsyncIterator[str]:
        shown: bytes | None = None
        with self._view.watched(user) as changed:
            while not (self._view.closed or await request.is_disconnected()):
                changed.clear()
                event, shown = self._list_event(user, shown)
                if event:
                    yield event
                try:
                    await asyncio.wait_for(changed.wait(), HEARTBEAT_S)
                except TimeoutError:
                    yield ": still here\n\n"

    def _list_event(self, user: str, shown: bytes | None) -> tuple[str | None, bytes | None]:
        """What a subscriber is told who has been shown a list: the newer one, or that it was withdrawn, or nothing."""
        try:
            value = self._view.list_of(user)
        except WireError:  # the next heartbeat looks again
            return None, shown
        if value == shown or (value is None and not self._view.ready.is_set()):  # lists that are read anew are coming
            return None, shown
        if value is None:
            return _event("withdrawn", {"user_id": user}), None
        return _event("list", self._titled(value)), value

    async def _page_feed(self, request: Request, user: str | None) -> AsyncIterator[str]:
        view, seen, history = self._view, 0, 0
        shown: bytes | None = None
        while not (self._view.closed or await request.is_disconnected()):
            new = [change for change in list(view.interactions) if change.number > seen]
            if new:
                seen = new[-1].number
                yield _event("interactions", [self._row(change.value) for change in new[-FEED_EVENTS:]])
            event, shown = self._list_event(user, shown) if user else (None, None)
            if event:
                yield event
            points = [point for point in list(view.quality_history) if point[0] > history]
            if points:
                history = points[-1][0]
                figures = {name: [q.value, q.popularity] for name, q in list(view.quality.items())}
                yield _event("quality", {"points": points, "figures": figures})
            yield _event("stats", view.stats())
            await asyncio.sleep(FEED_TICK_S)

    def _row(self, interaction: Any) -> dict[str, Any]:
        title = self._view.title_of(interaction.item_id) or interaction.item_id
        return {
            "user": interaction.user_id,
            "title": title,
            "type": interaction.event_type,
            "value": interaction.value,
        }


class _ViewMetrics:
    """The view as Prometheus gauges."""

    def __init__(self, view: View) -> None:
        self._view = view

    def collect(self) -> Any:
        stats = self._view.stats()
        yield GaugeMetricFamily("freshet_view_users_with_list", "Users with a list.", stats["lists"])
        ready = float(self._view.status().ready)
        yield GaugeMetricFamily("freshet_view_ready", "1 while the lists follow the log.", ready)
        skipped = CounterMetricFamily(
            "freshet_view_skipped_records", "Bad records of the topics that it reads, passed over.", labels=["topic"]
        )
        for topic in self._view.topics:
            skipped.add_metric([topic], self._view.skipped[topic])
        yield skipped
        yield GaugeMetricFamily("freshet_view_interactions", "Interactions seen since the start.", stats["events"])
        if stats["latency_ms"]:
            family = GaugeMetricFamily(
                "freshet_list_latency_seconds",
                "Time from an interaction to its list, over the last lists, s.",
                labels=["quantile"],
            )
            for name, value in (("0.5", stats["latency_ms"]["p50"]), ("0.99", stats["latency_ms"]["p99"])):
                family.add_metric([name], value / 1000)
            yield family


def _now_ms() -> int:
    return int(time.time() * 1000)


class _Events(StreamingResponse):
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


def _user_of(request: Request) -> str:
    return checked_id(request.path_params["user_id"], "user_id")


def _check_parameters(request: Request, allowed: tuple[str, ...]) -> None:
    """Raises ApiError for a parameter of the query that is not known, or is there twice."""
    given = Counts(name for name, _ in request.query_params.multi_items())
    for name, times in given.items():
        if name not in allowed:
            takes = f"; it takes {', '.join(allowed)}" if allowed else ""
            raise ApiError(
                400, "unknown-parameter", f"there is no parameter {name[:100]!r} here{takes}", field=name[:100]
            )
        if times > 1:
            raise ApiError(400, "repeated-parameter", f"the parameter {name!r} is there {times} times", field=name)


def _event(name: str, data: Any) -> str:
    return f"event: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"
