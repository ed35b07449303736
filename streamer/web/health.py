"""What an orchestrator and Prometheus ask a worker: /livez, /readyz, /metrics. Nothing else, and nothing to change."""

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from streamer.web.answers import HANDLERS, ApiError
from streamer.web.guard import Guard
from streamer.worker.prometheus import RunMetrics


def health_app(metrics: RunMetrics, host: str) -> ASGIApp:
    """The application. The answers are made in threads: they may wait for the broker, the worker does not.

    host: the address that it listens on.
    """

    def livez(request: Request) -> Response:
        return PlainTextResponse("live\n")

    def readyz(request: Request) -> Response:
        if not metrics.is_ready():
            raise ApiError(503, "not-ready", metrics.stage_line())
        return PlainTextResponse(f"{metrics.stage_line()}\n")

    def measured(request: Request) -> Response:
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    routes = [Route("/livez", livez), Route("/readyz", readyz), Route("/metrics", measured)]
    app = Starlette(routes=routes, exception_handlers=HANDLERS)
    app.router.redirect_slashes = False
    return Guard(app, host)
