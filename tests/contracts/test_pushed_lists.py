"""Lists that are pushed, on both homes of the log: as server-sent events, and over a WebSocket."""

import itertools
import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.web.event_stream import event_text
from streamer.web.routes.sockets import MAX_USERS
from tests.shop import BEGAN_MS, Shop, shop
from tests.waiting import scaled, until
from tests.websocket import Closed, Refused, WebSocket

__all__ = ["shop"]
_names = (f"pushed {n} / é" for n in itertools.count())
_time = itertools.count(BEGAN_MS + 1_000 * 60_000)


class Events:
    """Server-sent events of one connection."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines

    def next(self) -> dict[str, str]:
        """The next event, by field; heartbeats are passed over."""
        event: dict[str, str] = {}
        for line in self._lines:
            if line and not line.startswith(":"):
                name, _, value = line.partition(":")
                event[name] = value.removeprefix(" ")
            elif not line and event:
                return event
        raise AssertionError("the stream has ended")


@contextmanager
def stream(shop: Shop, user: str, last_event_id: str | None = None) -> Iterator[Events]:
    headers = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
    raw = shop.front.base_url.copy_with(raw_path=f"/v1/users/{quote(user, safe='')}/lists/stream".encode())
    with httpx.Client(timeout=scaled(60)) as client, client.stream("GET", raw, headers=headers) as answer:
        assert answer.status_code == 200
        yield Events(answer.iter_lines())


def view(shop: Shop, user: str, item: str) -> dict[str, Any]:
    """Has a user view an item; returns the list that knows it."""
    event = {"user_id": user, "item_id": item, "event_type": "view", "timestamp": next(_time)}
    answer = shop.front.post("/v1/interactions?wait=60000", json=event)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def published(shop: Shop, user: str) -> str:
    """The id of a user's newest published list."""
    value = shop.view.list_of(user)
    assert value is not None
    return str(json.loads(value)["list_id"])


def take_all_back(shop: Shop, user: str) -> None:
    """Erases a user; the list is withdrawn."""
    assert shop.front.request("DELETE", f"/v1/users/{user}").status_code == 202


# server-sent events


def test_a_stream_has_each_new_list_and_resumes_after_the_last_one(shop: Shop) -> None:
    user = next(_names)
    view(shop, user, "i1")
    until(lambda: shop.view.list_of(user))
    with stream(shop, user) as events:
        first = events.next()
        assert (first["event"], json.loads(first["data"])["list_id"]) == ("list", first["id"])
        view(shop, user, "i3")
        second = events.next()
        assert second["id"] != first["id"]
    with stream(shop, user, second["id"]) as events:  # what it has seen does not come again
        view(shop, user, "i5")
        third = events.next()
        assert third["id"] not in (first["id"], second["id"])
        assert json.loads(third["data"])["user_id"] == user
    with stream(shop, user, first["id"]) as events:  # what it has missed does: the newest
        assert events.next()["id"] == third["id"]


def test_a_stream_tells_once_that_the_list_is_withdrawn(shop: Shop) -> None:
    user = f"withdrawn{next(_time)}"
    view(shop, user, "i1")
    until(lambda: shop.view.list_of(user))
    with stream(shop, user) as events:
        first = events.next()
        take_all_back(shop, user)
        gone = events.next()
        assert (gone["event"], json.loads(gone["data"]), gone["id"]) == ("withdrawn", {"user_id": user}, "")
    with stream(shop, user, first["id"]) as events:  # it was away when that happened
        assert events.next()["event"] == "withdrawn"
    with stream(shop, user) as events:  # as a browser does after the event without an id
        view(shop, user, "i3")
        assert events.next()["event"] == "list"


def test_a_stream_is_told_at_once(shop: Shop) -> None:
    """Pushed, not polled: within a fraction of the time between two heartbeats."""
    user = next(_names)
    view(shop, user, "i0")
    until(lambda: shop.view.list_of(user))
    with stream(shop, user) as events:
        events.next()
        waits = []
        for item in ("i2", "i4", "i6", "i8", "i3"):
            view(shop, user, item)
            began = time.monotonic()
            events.next()
            waits.append(time.monotonic() - began)
    assert sorted(waits)[2] < 1.0, waits


@given(st.text())
def test_an_id_is_one_line_whatever_is_in_it(list_id: str) -> None:
    """Ids of lists name users, who may be called anything."""
    text = event_text("list", {}, list_id.encode("utf-8", "replace").decode())
    assert text.count("\n") == 4
    assert text.isascii()
    assert "\0" not in text
    assert len(text.splitlines()) == 4


# the WebSocket


def address(shop: Shop) -> str:
    return f"{str(shop.front.base_url).rstrip('/')}/v1/ws"


def test_a_socket_tells_of_the_lists_of_those_it_subscribes_to(shop: Shop) -> None:
    ann, bob, other = f"ann{next(_time)}", next(_names), next(_names)
    view(shop, ann, "i1")
    until(lambda: shop.view.list_of(ann))
    with WebSocket(address(shop)) as ws:
        ws.send({"subscribe": [ann, bob]})
        first = ws.receive()  # the list that there is
        assert (first["event"], first["user_id"], first["list_id"]) == ("list", ann, published(shop, ann))
        assert {"item_id", "score", "title"} <= first["items"][0].keys()
        view(shop, other, "i1")
        view(shop, bob, "i3")
        assert ws.receive()["user_id"] == bob
        view(shop, ann, "i5")
        second = ws.receive()
        assert (second["user_id"], second["list_id"] != first["list_id"]) == (ann, True)
        ws.send({"subscribe": [ann]})  # again: it has that list
        ws.send({"unsubscribe": [bob, "never"]})
        ws.send([])
        assert "error" in ws.receive()  # what was sent before it has been taken
        view(shop, bob, "i7")
        take_all_back(shop, ann)
        assert ws.receive() == {"event": "withdrawn", "user_id": ann}
        ws.send({"unsubscribe": [ann], "subscribe": [ann]})
        view(shop, ann, "i3")
        assert ws.receive()["event"] == "list"


WRONG = [
    ("{", "not-json", None),
    (b"\xff\xfe", "not-json", None),
    ("", "not-json", None),
    ([], "not-an-object", None),
    ({}, "not-an-object", None),
    (3, "not-an-object", None),
    ({"subscribe": "ann"}, "bad-type", "subscribe"),
    ({"subscribe": [None]}, "bad-type", "subscribe"),
    ({"unsubscribe": [True]}, "bad-type", "unsubscribe"),
    ({"subscribe": [""]}, "bad-id", "subscribe"),
    ({"subscribe": ["x" * 2_000]}, "bad-id", "subscribe"),
    ({"listen": ["ann"]}, "unknown-field", "listen"),
    ({"subscribe": [f"u{n}" for n in range(MAX_USERS + 1)]}, "too-many-users", "subscribe"),
    ({"subscribe": ["fine"], "more": 1}, "unknown-field", "more"),
]


def test_a_message_that_cannot_be_taken_is_answered_with_an_error(shop: Shop) -> None:
    user = next(_names)
    with WebSocket(address(shop)) as ws:
        for message, code, field in WRONG:
            ws.send(message)
            error = ws.receive()["error"]
            assert (error["code"], error.get("field")) == (code, field), message
            assert "\n" not in error["message"]
        ws.send({"subscribe": [f"u{n}" for n in range(100, MAX_USERS + 99)]})  # none of the refused ones count
        ws.send({"subscribe": [user, "another"]})
        assert ws.receive()["error"]["code"] == "too-many-users"
        ws.send({"unsubscribe": ["u100"], "subscribe": [user]})
        view(shop, user, "i1")
        assert ws.receive()["user_id"] == user


def test_a_socket_that_sends_too_much_is_closed(shop: Shop) -> None:
    with WebSocket(address(shop)) as ws:
        with suppress(OSError):
            ws.send({"subscribe": ["x" * 1_000] * 2_000})
        with pytest.raises((Closed, ConnectionResetError)):
            ws.receive()


HANDSHAKES = [
    ([("Origin", "http://evil.example")], 403, "foreign-origin"),
    ([("Sec-Fetch-Site", "cross-site")], 403, "foreign-origin"),
    ([("Origin", "null")], 403, "foreign-origin"),
]


@pytest.mark.parametrize(("headers", "status", "code"), HANDSHAKES)
def test_a_handshake_from_elsewhere_is_refused(
    shop: Shop, headers: list[tuple[str, str]], status: int, code: str
) -> None:
    with pytest.raises(Refused) as refused:
        WebSocket(address(shop), headers)
    assert (refused.value.status, json.loads(refused.value.body)["error"]["code"]) == (status, code)
    own = str(shop.front.base_url).rstrip("/")
    WebSocket(address(shop), [("Origin", own), ("Sec-Fetch-Site", "same-origin")]).close()


def test_a_handshake_elsewhere_or_with_parameters_is_refused(shop: Shop) -> None:
    with pytest.raises(Refused) as refused:
        WebSocket(f"{address(shop)}?user=ann")
    assert json.loads(refused.value.body)["error"]["field"] == "user"
    for path, status in (("/v1/nothing", 404), ("/v1/popular", 200), ("/x/v1/ws", 404)):
        with pytest.raises(Refused) as refused:
            WebSocket(f"{str(shop.front.base_url).rstrip('/')}{path}")
        assert refused.value.status == status
        json.loads(refused.value.body)
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket"}
    key, version = {"Sec-WebSocket-Key": "x"}, {"Sec-WebSocket-Version": "13"}
    for fields in ({}, upgrade | version, upgrade | key, upgrade | key | {"Sec-WebSocket-Version": "8"}):
        answer = shop.front.get("/v1/ws", headers=fields)
        assert (answer.status_code, answer.json()["error"]["code"]) == (426, "upgrade-required")


def test_who_goes_away_leaves_nothing_behind(shop: Shop) -> None:
    user = next(_names)
    for end in ("close", "reset"):
        ws = WebSocket(address(shop))
        ws.send({"subscribe": [user]})
        until(lambda: user in shop.view.watchers._by_user)
        if end == "reset":
            ws._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        ws.close()
        until(lambda: user not in shop.view.watchers._by_user)
