"""What stands near an item, in worlds where it is known."""

import numpy as np
import pytest

from consumers.schemas import Item
from tests.streamer.asking.asked_world import AskedWorld, ids, shop
from tests.worlds import MINUTE_MS, checkerboard


def test_what_was_taken_along_with_an_item_comes_in_the_order_of_how_often() -> None:
    world = AskedWorld()
    pairs = [("a", "b")] * 5 + [("a", "c")] * 3 + [("d", "e")] * 9
    events = [
        (f"u{n}", item, (2 * n + second) * MINUTE_MS)
        for n, pair in enumerate(pairs)
        for second, item in enumerate(pair)
    ]
    world.take(events)
    body = world.ask("together", item_id="a")
    assert ids(body) == ["b", "c"]
    assert [i["score"] for i in body["items"]] == pytest.approx([5 / 9, 3 / 9], rel=0.01)
    assert world.ask("together", item_id="e")["items"][0]["item_id"] == "d"
    assert ids(world.ask("similar", item_id="d")) == ["e"]


def test_items_are_similar_by_content_before_anybody_has_taken_them() -> None:
    world = AskedWorld()
    world.take([("u1", "other", 1_000)])
    world.say(
        Item("red shoe", title="red running shoe", categories=("shoes",)),
        Item("blue shoe", title="blue running shoe", categories=("shoes",)),
        Item("kettle", title="steel kettle", categories=("kitchen",)),
    )
    body = world.ask("similar", item_id="red shoe", fields=["title"])
    assert body["items"][0]["item_id"] == "blue shoe"
    assert body["items"][0]["title"] == "blue running shoe"
    assert {i["source"] for i in body["items"]} == {"content"}
    assert "red shoe" not in ids(body)


def test_trained_vectors_say_what_is_similar_too() -> None:
    world = AskedWorld()
    world.take([("u1", f"i{n}", n) for n in range(6)])
    vectors = np.zeros((6, 64), np.float32)
    vectors[np.arange(6), np.arange(6) // 2] = 1  # pairs that point the same way
    world.model.set_outside_vectors("v1", [], np.zeros((0, 64), np.float32), list(range(6)), vectors)
    body = world.ask("similar", item_id="i2")
    assert ids(body)[0] == "i3"
    assert body["items"][0]["source"] == "trained"
    assert body["model_version"].endswith("+v1")


def test_an_item_is_for_those_whose_kind_takes_it() -> None:
    world = AskedWorld()
    world.take(checkerboard(events=3_000))
    taken: dict[str, set[str]] = {}
    for user, item, _ in checkerboard(events=3_000):
        taken.setdefault(item, set()).add(user)
    item = min(taken, key=lambda one: (len(taken[one]), one))
    body = world.ask("audience", item_id=item, k=50)
    told = [user["user_id"] for user in body["users"]]
    assert not set(told) & taken[item]
    right = [user for user in told if int(user[1:]) % 2 == int(item[1:]) % 2]
    assert right
    assert told[: len(right)] == right
    scores = [user["score"] for user in body["users"]]
    assert scores == sorted(scores, reverse=True)
    assert all(0 < score < 1 for score in scores)


def test_an_item_that_nobody_may_see_yet_has_an_audience_already() -> None:
    world = AskedWorld()
    world.take(shop())
    world.say(Item("i5", hidden=True))
    assert world.ask("audience", item_id="i5")["users"]
    assert "i5" not in world.listed(k=1_000)
