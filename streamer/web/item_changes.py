"""Changes of single fields of an item: merged into what is known of it, and sent as a whole record."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from typing import Any
from weakref import WeakValueDictionary

import msgspec

from consumers.records import NewRecord
from streamer.asking.questions import ItemQuestion
from streamer.web.answers import ApiError
from streamer.web.workers.replies import Replies

OWN_S, OWN_ITEMS = 10.0, 10_000
"""How long, and of how many items, what was sent from here counts in place of what a worker knows: it may not have
taken it yet."""
RECORD = ("title", "attributes")  # what a worker's answer says of an item that stands in its record


class ItemChanges:
    """Knows the record of an item as it is with what was sent from here. For the tasks of one event loop."""

    def __init__(self, replies: Replies) -> None:
        self._replies = replies
        self._sent: OrderedDict[str, tuple[float, bytes | None]] = OrderedDict()
        self._changing: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def alone(self, item_id: str) -> AbstractAsyncContextManager[None]:
        """Changes of one item go one after the other."""
        lock = self._changing.get(item_id)
        if lock is None:
            lock = self._changing[item_id] = asyncio.Lock()
        return lock

    def note(self, sent: Iterable[NewRecord]) -> None:
        """Takes records of items that are in the log."""
        until = time.monotonic() + OWN_S
        for record in sent:
            if record.key is not None:
                self._sent[record.key.decode()] = until, record.value
                self._sent.move_to_end(record.key.decode())
        while len(self._sent) > OWN_ITEMS:
            self._sent.popitem(last=False)

    async def merged(self, item_id: str, changes: dict[str, Any]) -> dict[str, Any]:
        """The record of an item with other fields; None takes one out. Raises ApiError 404 where there is no item."""
        changes = dict(changes)
        if changes.pop("item_id", item_id) != item_id:
            raise ApiError(400, "bad-field", "item_id: it is that of the path, and cannot be changed", field="item_id")
        own = changes.pop("attributes", None)
        if own is not None and not isinstance(own, dict):
            raise ApiError(400, "bad-type", "attributes: send an object", field="attributes")
        fields = {**await self._known(item_id), **changes, **(own or {})}
        return {"item_id": item_id, **{name: value for name, value in fields.items() if value is not None}}

    async def _known(self, item_id: str) -> dict[str, Any]:
        """Fields of the record, attributes beside ours."""
        until, value = self._sent.get(item_id, (0.0, None))
        if until > time.monotonic():
            if value is None:
                raise ApiError(404, "unknown-item", f"the item {item_id!r} is deleted", field="item_id")
            record = msgspec.json.decode(value)
        else:
            try:
                answer = await self._replies.answer(ItemQuestion(item_id=item_id))
            except ApiError as error:
                if error.status != 503:
                    raise
                message = (
                    f"a worker knows the item's other fields, and none answers ({error}): "
                    "send it again in a second, or send the whole item to POST /v1/items, which needs no worker"
                )
                raise ApiError(503, "no-worker", message, headers=error.headers) from None
            told = msgspec.json.decode(answer.body)
            if answer.status != 200:
                raise ApiError(answer.status, **told["error"])
            record = {name: told[name] for name in RECORD}
        attributes = record.pop("attributes", None) or {}
        return {**record, **attributes}
