"""Lists as they are shown: with the titles of their items, and as events for whoever watches a user."""

from typing import Any, NamedTuple

import msgspec

from consumers.errors import WireError
from streamer.web.event_stream import event_text
from streamer.web.materialized_view import View


class ListChange(NamedTuple):
    """What happened to a user's list. `event`: list or withdrawn; `list_id`: of the list there is now, if any."""

    event: str
    data: dict[str, Any]
    list_id: str | None


class _ListIdentity(msgspec.Struct, frozen=True):
    list_id: str


_id = msgspec.json.Decoder(_ListIdentity)


def titled(view: View, value: bytes) -> dict[str, Any]:
    """A list as its topic has it, with titles, in its reasons too."""
    lists: dict[str, Any] = msgspec.json.decode(value)
    for item in lists["items"]:
        item["title"] = view.title_of(item["item_id"]) or item["item_id"]
        words, _, cause = item["reason"].rpartition(" ")
        if item["source"] in ("transition", "co-interaction"):
            item["reason"] = f"{words} {view.title_of(cause) or cause}"
    return lists


def list_change(view: View, user: str, shown: str | None) -> ListChange | None:
    """What a subscriber is told who has been shown the list of this id: the newer one, or that it was withdrawn.

    None where there is nothing to tell. Raises WireError where lists cannot be read at the moment.
    """
    value = view.list_of(user)
    if value is None:  # lists that are read anew are coming
        told = shown is not None and view.ready.is_set()
        return ListChange("withdrawn", {"user_id": user}, None) if told else None
    list_id = _id.decode(value).list_id
    return None if list_id == shown else ListChange("list", titled(view, value), list_id)


def list_event(view: View, user: str, shown: str | None) -> tuple[str | None, str | None]:
    """The same as a server-sent event, and the id of the list that has been shown after it."""
    try:
        change = list_change(view, user, shown)
    except WireError:  # the next heartbeat looks again
        return None, shown
    if change is None:
        return None, shown
    return event_text(change.event, change.data, change.list_id or ""), change.list_id
