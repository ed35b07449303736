"""What an orchestrator and Prometheus ask a worker: /livez, /readyz, /metrics. Nothing else, and nothing to change."""

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from streamer.metrics import RunMetrics


def health_app(metrics: RunMetrics) -> Starlette:
    """The application. The answers are made in threads: they may wait for the broker, the worker does not."""

    def livez(request: Request) -> Response:
        return PlainTextResponse("live\n")

    def readyz(request: Request) -> Response:
        return PlainTextResponse(f"{metrics.stage_line()}\n", 200 if metrics.is_ready() else 503)

    def measured(request: Request) -> Response:
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return Starlette(routes=[Route("/livez", livez), Route("/readyz", readyz), Route("/metrics", measured)])
