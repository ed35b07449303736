"""`/v1/status`: how far the workers are, and what the view sees."""

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from streamer.asking.questions import StatusQuestion
from streamer.web.endpoints import Endpoint
from streamer.web.front_answers import FrontStatus
from streamer.web.materialized_view import View
from streamer.web.workers.replies import Replies


class StatusRoutes:
    """Shows lag, latency, quality and partitions. Args: view: None where there is none."""

    def __init__(self, replies: Replies, view: View | None) -> None:
        self._replies, self._view = replies, view

    def endpoints(self) -> list[Endpoint]:
        """The one endpoint."""
        return [Endpoint("/v1/status", "GET", self.status, "read", answer=FrontStatus)]

    async def status(self, request: Request) -> Response:
        """Of each worker that answers how far it is; of the view lag, rate, latency, quality, drift, dead letters, and
        what lists bring.

        Quality is over all interactions that were measured so far, `lately` the hit rate over the last 10,000 or so.
        """
        answers = await self._replies.each(StatusQuestion())
        partitions = self._view.workers.addresses() if self._view else {}
        workers: list[dict[str, Any]] = [
            {"address": address, "partitions": partitions.get(address), **msgspec.json.decode(answer.body)}
            for address, answer in answers.items()
            if answer.status == 200
        ]
        return JSONResponse({"workers": workers, "ownerless": self._ownerless(), **self._seen()})

    def _ownerless(self) -> list[int]:
        """Partitions that no worker has; none where workers do not say where they answer."""
        return self._view.workers.ownerless() if self._view else []

    def _seen(self) -> dict[str, Any]:
        if self._view is None:
            return {}
        ready, line = self._view.status()
        quality: dict[str, dict[str, Any]] = {
            name: {"value": figure.value, "popularity": figure.popularity, "events": figure.events}
            for name, figure in list(self._view.quality.newest.items())
        }
        lately = self._view.quality.lately()
        for name in quality if lately else ():
            if name.startswith("hr@") and lately:
                told = {"value": lately.ours, "popularity": lately.popularity, "events": lately.events}
                quality[name]["lately"] = {key: round(value, 6) for key, value in told.items()}
        return {
            "ready": ready,
            "state": line,
            **self._view.stats(),
            "quality": quality,
            "drifts": [msgspec.to_builtins(drift) for drift in list(self._view.quality.drifts)],
            "dead_letters": self._view.dead_letters.by_reason(),
            "feedback": msgspec.to_builtins(self._view.quality.feedback),
            "business": self._view.quality.business.shown(),
        }
