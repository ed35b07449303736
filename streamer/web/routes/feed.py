"""`/v1/stream`: the feed of the page."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from streamer.web.endpoints import Endpoint
from streamer.web.event_stream import event_stream, event_text
from streamer.web.limits import Limiter
from streamer.web.materialized_view import View
from streamer.web.parameters import FeedParameters
from streamer.web.shown_lists import list_event
from streamer.web.view.feed import Seen
from streamer.web.view.quality_figures import QualityPoint

TICK_S = 0.25
EVENTS = 12  # interactions of one tick, the last ones


class FeedRoutes:
    """Shows what happens, as it happens."""

    def __init__(self, view: View, limiter: Limiter) -> None:
        self._view, self._limiter = view, limiter

    def endpoints(self) -> list[Endpoint]:
        """The path, and that of before."""
        return [
            Endpoint("/v1/stream", "GET", self.stream, "read", FeedParameters, answer="text/event-stream"),
            Endpoint("/stream", "GET", self.stream, "read", FeedParameters),
        ]

    async def stream(self, request: Request, asked: FeedParameters) -> Response:
        """Server-sent events for the page: interactions, quality, stats, and with `?user=` that user's list."""
        return event_stream(request, self._events(request, asked.user), self._limiter)

    async def _events(self, request: Request, user: str | None) -> AsyncIterator[str]:
        view, seen = self._view, 0
        told: QualityPoint | None = None
        shown: str | None = None
        while not (view.closed or await request.is_disconnected()):
            new = [change for change in list(view.feed.entries) if change.number > seen]
            if new:
                seen = new[-1].number
                yield event_text("interactions", [self._row(change.value) for change in new[-EVENTS:]])
            event, shown = list_event(view, user, shown) if user else (None, None)
            if event:
                yield event
            history = list(view.quality.history)
            if history and history[-1] != told:
                goes_on = told is not None and told.events < history[-1].events
                points = [point for point in history if not goes_on or point.events > told.events]  # type: ignore[union-attr]
                told = history[-1]
                figures = {name: [q.value, q.popularity] for name, q in list(view.quality.newest.items())}
                yield event_text("quality", {"points": points, "figures": figures, "anew": not goes_on})
            yield event_text("stats", view.stats())
            await asyncio.sleep(TICK_S)

    def _row(self, interaction: Seen) -> dict[str, Any]:
        return {
            "place": interaction.place,
            "user": interaction.user_id,
            "item": interaction.item_id,
            "title": self._view.title_of(interaction.item_id) or interaction.item_id,
            "type": interaction.event_type,
            "value": interaction.value,
        }
