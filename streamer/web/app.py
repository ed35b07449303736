"""The routes. Errors are JSON objects with one field, `error`."""

import asyncio
import hmac
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.resources import files
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.core import GaugeMetricFamily
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from consumers.dead_letter import DeadLetter
from consumers.decode import InteractionDecoder, decode_item
from consumers.errors import WireError
from consumers.log import Log
from consumers.records import Headers, NewRecord, Record
from streamer.settings import Settings
from streamer.web.view import View

FEED_TICK_S, LIST_TICK_S, HEARTBEAT_S = 0.25, 0.02, 10.0
FEED_EVENTS = 12
_PAGE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class Gateway:
    """The API over one log.

    Args: clock_ms: the time that an interaction without one gets; the wall clock by default.
    """

    def __init__(self, log: Log, settings: Settings, view: View, clock_ms: Callable[[], int] | None = None) -> None:
        self._log, self._settings, self._view = log, settings, view
        self._clock_ms = clock_ms or (lambda: int(time.time() * 1000))
        self._decoder = InteractionDecoder(settings.field_map, settings.clock_skew_ms, settings.max_record_bytes)
        self._registry = CollectorRegistry()
        self._accepted = Counter(
            "freshet_http_interactions", "interactions accepted over HTTP", registry=self._registry
        )
        self._registry.register(_ViewMetrics(view))

    def app(self) -> Starlette:
        """The Starlette application."""
        routes = [
            ("/", self.page, "GET"),
            ("/interactions", self.post_interactions, "POST"),
            ("/items", self.post_items, "POST"),
            ("/recommendations/{user_id:path}/stream", self.user_stream, "GET"),
            ("/recommendations/{user_id:path}", self.recommendations, "GET"),
            ("/stream", self.stream, "GET"),
            ("/users", self.users, "GET"),
            ("/livez", self.livez, "GET"),
            ("/readyz", self.readyz, "GET"),
            ("/metrics", self.metrics, "GET"),
        ]
        return Starlette(
            routes=[Route(path, self._guarded(endpoint), methods=[method]) for path, endpoint, method in routes]
        )

    def _guarded(self, endpoint: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        """Asks for the API key, where one is set, and turns what the log cannot do into a 503."""
        open_to_all = endpoint in (self.livez, self.readyz)

        async def guarded(request: Request) -> Response:
            key = self._settings.api_key
            given = request.headers.get("x-api-key", "")
            if key and not open_to_all and not hmac.compare_digest(given.encode(), key.encode()):
                return _error(401, "the header X-API-Key is missing or wrong")
            try:
                return await endpoint(request)
            except WireError as error:
                return _error(503, str(error))

        return guarded

    async def page(self, request: Request) -> Response:
        """The page."""
        html = (files("streamer.web") / "page.html").read_text("utf-8")
        return HTMLResponse(
            html, headers={"Content-Security-Policy": _PAGE_POLICY, "X-Content-Type-Options": "nosniff"}
        )

    async def post_interactions(self, request: Request) -> Response:
        """One interaction, an array of them, or a CloudEvent; 202 once they are in the log."""
        body = await self._body(request)
        if isinstance(body, Response):
            return body
        headers: Headers = tuple(
            (name.replace("ce-", "ce_", 1), text.encode())
            for name, text in request.headers.items()
            if name.startswith("ce-")
        )
        now_ms = int(time.time() * 1000)
        records = []
        for n, value in enumerate(body):
            if isinstance(value, dict) and "specversion" not in value and not headers:
                value.setdefault("timestamp", self._clock_ms())
            encoded = msgspec.json.encode(value)
            decoded = self._decoder.decode(Record("", 0, n, None, encoded, headers, now_ms), now_ms)
            if isinstance(decoded, DeadLetter):
                return _error(400, f"interaction {n}: {decoded.reason}: {decoded.message}")
            records.append(NewRecord(self._settings.interactions_topic, decoded.user_id.encode(), encoded, headers))
        await asyncio.to_thread(self._log.append, records)
        self._accepted.inc(len(records))
        return JSONResponse({"accepted": len(records)}, 202)

    async def post_items(self, request: Request) -> Response:
        """One item or an array of them; 202 once they are in the log."""
        body = await self._body(request)
        if isinstance(body, Response):
            return body
        records = []
        for n, value in enumerate(body):
            item = decode_item(msgspec.json.encode(value))
            if item is None:
                return _error(400, f"item {n}: an object with item_id, and title, categories, attributes where known")
            records.append(NewRecord(self._settings.items_topic, item.item_id.encode(), msgspec.json.encode(item)))
        await asyncio.to_thread(self._log.append, records)
        return JSONResponse({"accepted": len(records)}, 202)

    async def _body(self, request: Request) -> list[Any] | Response:
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > self._settings.max_body_bytes:
                return _error(413, f"the body is larger than {self._settings.max_body_bytes} bytes")
        try:
            value = msgspec.json.decode(bytes(body))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return _error(400, f"the body is no JSON: {error}")
        return value if isinstance(value, list) else [value]

    async def recommendations(self, request: Request) -> Response:
        """The newest list of a user, with titles."""
        value = self._view.lists.get(request.path_params["user_id"])
        if value is None:
            return _error(404, "there is no list for this user yet")
        return JSONResponse(self._titled(value))

    async def users(self, request: Request) -> Response:
        """Users that were active lately, the latest first."""
        return JSONResponse({"users": list(reversed(self._view.recent_users))[:50]})

    async def user_stream(self, request: Request) -> Response:
        """Server-sent events: each new list of one user."""
        return _events(self._user_lists(request, request.path_params["user_id"]))

    async def stream(self, request: Request) -> Response:
        """Server-sent events for the page: interactions, quality, stats, and with `?user=` that user's list."""
        return _events(self._page_feed(request, request.query_params.get("user")))

    async def livez(self, request: Request) -> Response:
        """200 while the process runs."""
        return PlainTextResponse("live\n")

    async def readyz(self, request: Request) -> Response:
        """200 once the view has caught up with the log."""
        ready = self._view.ready.is_set()
        return PlainTextResponse("ready\n" if ready else "catching up with the log\n", 200 if ready else 503)

    async def metrics(self, request: Request) -> Response:
        """Prometheus text."""
        return Response(generate_latest(self._registry), media_type="text/plain; version=0.0.4")

    def _titled(self, value: bytes) -> dict[str, Any]:
        lists: dict[str, Any] = msgspec.json.decode(value)
        for item in lists["items"]:
            item["title"] = self._view.titles.get(item["item_id"], item["item_id"])
            words, _, cause = item["reason"].rpartition(" ")
            if cause in self._view.titles and item["source"] in ("transition", "co-interaction"):
                item["reason"] = f"{words} {self._view.titles[cause]}"
        return lists

    async def _user_lists(self, request: Request, user: str) -> AsyncIterator[str]:
        shown: bytes | None = None
        quiet_since = time.monotonic()
        while not (self._view.closed or await request.is_disconnected()):
            value = self._view.lists.get(user)
            if value is not None and value is not shown:
                shown, quiet_since = value, time.monotonic()
                yield _event("list", self._titled(value))
            elif time.monotonic() - quiet_since > HEARTBEAT_S:
                quiet_since = time.monotonic()
                yield ": still here\n\n"
            await asyncio.sleep(LIST_TICK_S)

    async def _page_feed(self, request: Request, user: str | None) -> AsyncIterator[str]:
        view, seen, shown, history = self._view, 0, None, 0
        while not (self._view.closed or await request.is_disconnected()):
            new = [change for change in list(view.interactions) if change.number > seen]
            if new:
                seen = new[-1].number
                yield _event("interactions", [self._row(change.value) for change in new[-FEED_EVENTS:]])
            value = view.lists.get(user) if user else None
            if value is not None and value is not shown:
                shown = value
                yield _event("list", self._titled(value))
            points = [point for point in list(view.quality_history) if point[0] > history]
            if points:
                history = points[-1][0]
                figures = {name: [q.value, q.popularity] for name, q in list(view.quality.items())}
                yield _event("quality", {"points": points, "figures": figures})
            yield _event("stats", view.stats())
            await asyncio.sleep(FEED_TICK_S)

    def _row(self, interaction: Any) -> dict[str, Any]:
        title = self._view.titles.get(interaction.item_id, interaction.item_id)
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
        yield GaugeMetricFamily("freshet_view_users_with_list", "users with a list", stats["lists"])
        yield GaugeMetricFamily("freshet_view_interactions", "interactions seen since start", stats["events"])
        if stats["latency_ms"]:
            family = GaugeMetricFamily("freshet_list_latency_seconds", "interaction to list", labels=["quantile"])
            for name, value in (("0.5", stats["latency_ms"]["p50"]), ("0.99", stats["latency_ms"]["p99"])):
                family.add_metric([name], value / 1000)
            yield family


def _error(status: int, message: str) -> JSONResponse:
    return JSONResponse({"error": message}, status)


def _event(name: str, data: Any) -> str:
    return f"event: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"


def _events(source: AsyncIterator[str]) -> StreamingResponse:
    return StreamingResponse(source, media_type="text/event-stream", headers={"Cache-Control": "no-store"})
