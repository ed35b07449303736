"""A visitor who logs in, through the door, on both homes of the log."""

import itertools
import json
from typing import Any

import pytest

from tests.shop import BEGAN_MS, Shop, error_of, shop
from tests.waiting import until

__all__ = ["shop"]
_time = itertools.count(BEGAN_MS + 10_000 * 60_000, 60_000)


def view(shop: Shop, user: str, item: str) -> dict[str, Any]:
    event = {"user_id": user, "item_id": item, "event_type": "view", "timestamp": next(_time)}
    answer = shop.front.post("/v1/interactions?wait=60000", json=event)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def last_items(shop: Shop, user: str) -> list[str]:
    answer = shop.front.get(f"/v1/users/{user}")
    return [one["item_id"] for one in answer.json().get("last", [])] if answer.status_code == 200 else []


@pytest.mark.parametrize("number", range(4))
def test_a_visitor_who_logs_in_has_done_it_all_as_the_user(shop: Shop, number: int) -> None:
    """Whichever partitions the two are on."""
    visitor, user = f"visitor-{number}", f"member-{number}"
    for item in ("i1", "i3"):
        view(shop, visitor, item)
    if number % 2:
        view(shop, user, "i5")
    answer = shop.front.post(f"/v1/users/{user}/merge", json={"session": visitor})
    assert (answer.status_code, answer.json()["accepted"]) == (202, 1)
    wanted = (["i5"] if number % 2 else []) + ["i3", "i1"]
    until(lambda: last_items(shop, user) == wanted, said=lambda: (last_items(shop, user), wanted))
    until(lambda: shop.view.list_of(visitor) is None)
    listed = json.loads(until(lambda: shop.view.list_of(user)))
    assert listed["user_id"] == user
    view(shop, visitor, "i7")  # what comes later follows
    until(lambda: last_items(shop, user) == ["i7", *wanted])
    assert shop.view.list_of(visitor) is None
    assert shop.front.post(f"/v1/users/{user}/merge", json={"session": visitor}).status_code == 202  # again
    view(shop, user, "i9")
    assert last_items(shop, user) == ["i9", "i7", *wanted]
    asked = [shop.front.get(f"/v1/users/{name}/recommendations").json() for name in (user, visitor)]
    first = [body["items"][0] for body in asked]
    assert [(one["item_id"], one["source"]) for one in first] == [("i9", "repeat")] * 2


REFUSED = [
    ({}, "missing-field", "session"),
    ({"session": ""}, "bad-id", "session"),
    ({"session": "u1"}, "bad-field", "session"),
    ({"session": "s", "upto": {}}, "unknown-field", "upto"),
    ({"session": ["s"]}, "bad-field", "session"),
    ([], "not-an-object", None),
]


@pytest.mark.parametrize(("body", "code", "field"), REFUSED)
def test_what_is_wrong_with_a_merge_is_named(shop: Shop, body: Any, code: str, field: str | None) -> None:
    answer = shop.front.post("/v1/users/u1/merge", json=body)
    error = error_of(answer)
    assert (answer.status_code, error["code"], error.get("field")) == (400, code, field)


def test_a_session_that_is_another_user_s_is_refused(shop: Shop) -> None:
    """Once that is known; a user whose own id was a session stands for its owner."""
    view(shop, "lent", "i1")
    assert shop.front.post("/v1/users/first/merge", json={"session": "lent"}).status_code == 202
    until(lambda: last_items(shop, "first") == ["i1"])
    for other in ("second", "u1"):
        answer = shop.front.post(f"/v1/users/{other}/merge", json={"session": "lent"})
        error = error_of(answer)
        assert (answer.status_code, error["code"], error["field"]) == (409, "other-user", "session")
        assert "first" not in error["message"]  # whose it is is nobody's business
    assert shop.front.post("/v1/users/first/merge", json={"session": "lent"}).status_code == 202
    view(shop, "second", "i2")
    assert shop.front.post("/v1/users/third/merge", json={"session": "second"}).status_code == 202
    until(lambda: last_items(shop, "third") == ["i2"])
    view(shop, "late", "i3")
    assert shop.front.post("/v1/users/second/merge", json={"session": "late"}).status_code == 202  # it is the third's
    until(lambda: last_items(shop, "third") == ["i3", "i2"])
    assert shop.front.post("/v1/users/second/merge", json={"session": "late"}).status_code == 202
    assert shop.front.post("/v1/users/first/merge", json={"session": "late"}).status_code == 409
    status = shop.front.get("/v1/status").json()
    assert "other-user" not in status.get("dead", {})
