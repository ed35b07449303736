"""`/v1/items`: what is known of items, changes of it, and their deletion."""

import asyncio
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from consumers.records import NewRecord
from consumers.schemas import Item
from streamer.asking.answer_models import KnownItem
from streamer.asking.questions import ItemQuestion
from streamer.settings import Settings
from streamer.web.bodies import Body, one_object
from streamer.web.endpoints import Endpoint, id_in_path
from streamer.web.front_answers import FoundItems
from streamer.web.incoming import Incoming, IncomingRecords
from streamer.web.item_changes import ItemChanges
from streamer.web.log_writer import LogWriter
from streamer.web.materialized_view import View
from streamer.web.parameters import ItemFields, SearchParameters
from streamer.web.workers.replies import Replies

FOUND = 20  # items of a search


class ItemRoutes:
    """Appends items, changes of them and their tombstones to the log; finds them by title."""

    def __init__(
        self,
        settings: Settings,
        incoming: Incoming,
        writer: LogWriter,
        changes: ItemChanges,
        view: View,
        now_ms: Callable[[], int],
    ) -> None:
        self._view = view
        self._settings, self._incoming, self._writer, self._now_ms = settings, incoming, writer, now_ms
        self._changes = changes

    def endpoints(self) -> list[Endpoint]:
        """Every path and method, that of before too."""
        return [
            Endpoint("/v1/items", "GET", self.search, "read", SearchParameters, answer=FoundItems),
            Endpoint("/v1/items", "POST", self.post, "write", body=Item, status=202),
            Endpoint("/v1/items/{item_id:id}", "PATCH", self.patch, "write", body=ItemFields, status=202),
            Endpoint("/v1/items/{item_id:id}", "DELETE", self.delete, "admin", status=202),
            Endpoint("/items", "POST", self.post, "write"),
        ]

    async def search(self, request: Request, asked: SearchParameters) -> Response:
        """Items with a title: those that have a text in it, first the one that has it as its id."""
        most, text = asked.limit or FOUND, asked.search.strip()
        own = await asyncio.to_thread(self._view.title_of, text)
        found = {} if own is None else {text: own}
        found |= dict(await asyncio.to_thread(self._view.titles, text, most))
        items = [{"item_id": item, "title": title} for item, title in found.items()]
        return JSONResponse({"items": items[:most]})

    async def post(self, request: Request) -> Response:
        """One item, an array, or NDJSON; 202 once they are in the log."""
        return await self._send(self._incoming.items(await self._writer.records(request), self._now_ms()))

    async def patch(self, request: Request) -> Response:
        """Fields of an item, the others stay; null takes one out. 202 once it is in the log."""
        item_id = id_in_path(request, "item_id")
        changes = one_object(await self._writer.records(request))
        async with self._changes.alone(item_id):
            body = Body([await self._changes.merged(item_id, changes)])
            return await self._send(self._incoming.items(body, self._now_ms()))

    async def delete(self, request: Request) -> Response:
        """Takes an item out of every list, and its history back."""
        item_id = id_in_path(request, "item_id")
        tombstone = NewRecord(self._settings.items_topic, item_id.encode(), None)
        return await self._send(IncomingRecords([tombstone], [], []))

    async def _send(self, taken: IncomingRecords) -> Response:
        answer = await self._writer.append(taken)
        self._changes.note(taken.records)
        return answer


class KnownItemRoutes:
    """Has told what is known of an item."""

    def __init__(self, replies: Replies) -> None:
        self._replies = replies

    def endpoints(self) -> list[Endpoint]:
        """The one endpoint."""
        return [Endpoint("/v1/items/{item_id:id}", "GET", self.item, "read", answer=KnownItem)]

    async def item(self, request: Request) -> Response:
        """What is known of an item: its record, counts, popularity by time scale."""
        return await self._replies.response(ItemQuestion(item_id=id_in_path(request, "item_id")))
