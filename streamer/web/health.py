"""What an orchestrator and Prometheus ask a worker: /livez, /readyz, /metrics. Nothing else, and nothing to change."""

from typing import Protocol

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp

from streamer.web.answers import ApiError
from streamer.web.endpoints import Endpoint, Endpoints
from streamer.web.guard import Guard


class Measured(Protocol):
    """What a process says of itself."""

    registry: CollectorRegistry

    def is_ready(self) -> bool: ...
    def stage_line(self) -> str: ...


def health_app(metrics: Measured, host: str) -> ASGIApp:
    """The application; host: the address that it listens on."""
    return Guard(Endpoints(health_endpoints(metrics)), host)


def health_endpoints(metrics: Measured) -> list[Endpoint]:
    """The three. Figures are gathered in a thread: they may wait for the broker."""

    async def livez(request: Request) -> Response:
        return PlainTextResponse("live\n")

    async def readyz(request: Request) -> Response:
        if not metrics.is_ready():
            raise ApiError(503, "not-ready", metrics.stage_line())
        return PlainTextResponse(f"{metrics.stage_line()}\n")

    async def measured(request: Request) -> Response:
        text = await run_in_threadpool(generate_latest, metrics.registry)
        return Response(text, media_type=CONTENT_TYPE_LATEST)

    handlers = {"/livez": livez, "/readyz": readyz, "/metrics": measured}
    return [Endpoint(path, "GET", handler, "open") for path, handler in handlers.items()]
