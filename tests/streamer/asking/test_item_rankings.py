"""Rankings that are the same for everybody: by popularity, by trend, by age, in pages."""

import numpy as np
import pytest

from consumers.schemas import Item
from streamer.asking.item_rankings import USUAL_FLOOR
from tests.streamer.asking.asked_world import AskedWorld, ids, shop
from tests.worlds import MINUTE_MS


def test_popular_items_come_in_pages() -> None:
    world = AskedWorld()
    events = shop()
    world.take(events)
    count = {item: sum(1 for _, one, _ in events if one == item) for _, item, _ in events}
    whole = world.ask("popular", scale="all", k=1_000)
    assert {i["item_id"]: i["score"] for i in whole["items"]} == count
    assert [i["score"] for i in whole["items"]] == sorted(count.values(), reverse=True)
    assert whole["cursor"] is None
    for kind, more in (("popular", {"scale": "all"}), ("popular", {}), ("trending", {}), ("newest", {})):
        at_once, paged, cursor = ids(world.ask(kind, k=1_000, **more)), [], None
        while cursor is not None or not paged:
            page = world.ask(kind, k=7, cursor=cursor, **more)
            paged += ids(page)
            cursor = page["cursor"]
            world.clock.advance(1)
        assert paged == at_once
        assert set(paged) == set(count)


def test_pages_follow_one_another_where_all_are_alike() -> None:
    world = AskedWorld()
    world.take([("u1", f"i{n}", 1_000) for n in range(50)])
    for kind, more in (("popular", {"scale": "all"}), ("popular", {}), ("trending", {}), ("newest", {})):
        paged: list[str] = []
        cursor = None
        while cursor is not None or not paged:
            page = world.ask(kind, k=7, cursor=cursor, **more)
            paged, cursor = paged + ids(page), page["cursor"]
        wanted = [f"i{n}" for n in range(50)]
        assert paged == (wanted[::-1] if kind == "newest" else sorted(wanted))


def test_popularity_decays_with_the_scale_that_is_asked_for() -> None:
    world = AskedWorld()
    day = 24 * 60 * MINUTE_MS
    world.take([*(("u1", "old", n) for n in range(9)), ("u2", "new", 10 * day)])
    assert ids(world.ask("popular", scale="all")) == ["old", "new"]
    assert ids(world.ask("popular", scale="1h")) == ["new", "old"]
    body = world.ask("popular", scale="7d")
    assert body["decay_ms"] == 7 * day
    assert [i["score"] for i in body["items"]] == pytest.approx([9 * np.exp(-10 / 7), 1], rel=1e-5)


def test_what_is_taken_more_than_usual_trends() -> None:
    world = AskedWorld()
    day = 24 * 60 * MINUTE_MS
    steady = [(f"u{n % 7}", "steady", n * day // 48) for n in range(48 * 30)]
    risen = [(f"u{n}", "risen", 30 * day + n * MINUTE_MS) for n in range(20)]
    once = [("u1", "once", 30 * day)]
    world.take(sorted(steady + once + risen, key=lambda event: event[2]))
    body = world.ask("trending")
    assert ids(body)[0] == "risen"
    score = {i["item_id"]: i["score"] for i in body["items"]}
    assert score["risen"] > 1 > score["steady"]
    assert score["once"] == pytest.approx(1 / USUAL_FLOOR, rel=0.2)


def test_what_is_newest_follows_from_when_it_became_known() -> None:
    """Records before the stream had a time, then interactions with them in another order, then more records."""
    world = AskedWorld()
    world.say(*(Item(f"early{n}", attributes={}) for n in range(3)), Item("later", available_from=50 * MINUTE_MS))
    assert [one["first_seen"] for one in world.ask("newest")["items"]] == [None] * 3
    world.take([("u1", "first", MINUTE_MS), ("u2", "early0", 9 * MINUTE_MS), ("u3", "early2", 12 * MINUTE_MS)])
    world.say(Item("fresh"), Item("dated", timestamp=5 * MINUTE_MS))
    told = [(one["item_id"], one["first_seen"]) for one in world.ask("newest")["items"]]
    early = [("first", MINUTE_MS), ("early2", MINUTE_MS), ("early1", MINUTE_MS), ("early0", MINUTE_MS)]
    assert told == [("fresh", 12 * MINUTE_MS), ("dated", 5 * MINUTE_MS), *early]
    world.take([("u1", "first", 60 * MINUTE_MS)])
    assert world.ask("newest")["items"][0] == {"item_id": "later", "first_seen": 50 * MINUTE_MS}
    world.say(Item("early1", available_from=55 * MINUTE_MS))
    assert [one["item_id"] for one in world.ask("newest")["items"]][:2] == ["early1", "later"]
    assert world.ask("item", item_id="early0")["first_seen"] == MINUTE_MS
    paged: list[str] = []
    cursor = None
    while cursor is not None or not paged:
        page = world.ask("newest", k=2, cursor=cursor)
        paged, cursor = paged + ids(page), page["cursor"]
    assert paged == ids(world.ask("newest"))
