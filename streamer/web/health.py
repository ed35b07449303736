"""What an orchestrator and Prometheus ask a worker: /livez, /readyz, /metrics. Nothing else, and nothing to change."""

from typing import Protocol

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from streamer.web.answers import HANDLERS, ApiError
from streamer.web.guard import Guard


class Measured(Protocol):
    """What a process says of itself."""

    registry: CollectorRegistry

    def is_ready(self) -> bool: ...
    def stage_line(self) -> str: ...


def health_app(metrics: Measured, host: str) -> ASGIApp:
    """The application; host: the address that it listens on."""
    app = Starlette(routes=health_routes(metrics), exception_handlers=HANDLERS)
    app.router.redirect_slashes = False
    return Guard(app, host)


def health_routes(metrics: Measured) -> list[Route]:
    """The three. The answers are made in threads: they may wait for the broker, the worker does not."""

    def livez(request: Request) -> Response:
        return PlainTextResponse("live\n")

    def readyz(request: Request) -> Response:
        if not metrics.is_ready():
            raise ApiError(503, "not-ready", metrics.stage_line())
        return PlainTextResponse(f"{metrics.stage_line()}\n")

    def measured(request: Request) -> Response:
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return [Route("/livez", livez), Route("/readyz", readyz), Route("/metrics", measured)]
