"""`/livez`, `/readyz` and `/metrics`, for an orchestrator and Prometheus."""

import asyncio

from prometheus_client import CollectorRegistry, generate_latest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from streamer.asking.questions import StatusQuestion
from streamer.web.answers import ApiError
from streamer.web.endpoints import Endpoint
from streamer.web.materialized_view import View
from streamer.web.workers.replies import Replies

TEXT = "text/plain"
ASKED_S = 2.0
"""How long the worker may take to answer before it counts as not ready."""


class HealthRoutes:
    """Shows how the process and its view are.

    Args: worker: has one asked, where the front is ready only once a worker answers; None: without one too.
    """

    def __init__(self, view: View, registry: CollectorRegistry, worker: Replies | None = None) -> None:
        self._view, self._registry, self._worker = view, registry, worker

    def endpoints(self) -> list[Endpoint]:
        """Every path and method."""
        return [
            Endpoint("/livez", "GET", self.livez, "health", answer=TEXT),
            Endpoint("/readyz", "GET", self.readyz, "health", answer=TEXT),
            Endpoint("/metrics", "GET", self.metrics, "metrics", answer=TEXT),
        ]

    async def livez(self, request: Request) -> Response:
        """200 while the process runs."""
        return PlainTextResponse("live\n")

    async def readyz(self, request: Request) -> Response:
        """200 while the view follows the log, and where a worker belongs to it, that answers; else 503 and why not."""
        ready, line = self._view.status()
        if not ready:
            raise ApiError(503, "not-ready", line)
        if self._worker is not None:
            await self._ask(self._worker)
        return PlainTextResponse(f"{line}\n")

    async def _ask(self, worker: Replies) -> None:
        """Raises ApiError where no worker answers."""
        try:
            async with asyncio.timeout(ASKED_S):
                await worker.answer(StatusQuestion())
        except (ApiError, TimeoutError) as error:
            reason = str(error) or f"the worker has not answered for {ASKED_S:g} s"
            raise ApiError(503, "not-ready", reason, headers={"Retry-After": "1"}) from None

    async def metrics(self, request: Request) -> Response:
        """Prometheus text."""
        return Response(generate_latest(self._registry), media_type="text/plain; version=0.0.4")
