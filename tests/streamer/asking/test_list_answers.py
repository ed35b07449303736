"""Lists that are asked for: the published one, asked again; sessions, baskets, anybody; what may not be in them."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from consumers.schemas import Item, User
from streamer.pipeline.epoch import Erasure
from tests.streamer.asking.asked_world import AskedWorld, ids, shop
from tests.worlds import MINUTE_MS, repeat_buyer
from tgn.memory import recall
from tgn.model import Model


def published(output: Any) -> dict[str, dict[str, Any]]:
    """The published lists of an epoch, by user."""
    lists = [r for r in output.records if r.topic == "recommendations" and r.value is not None]
    return {r.key.decode(): json.loads(r.value) for r in lists}


@pytest.mark.parametrize("exclude_seen", [False, True])
def test_right_after_an_event_a_user_is_answered_with_the_published_list(exclude_seen: bool) -> None:
    world = AskedWorld(exclude_seen=exclude_seen, k=15)
    events = shop(events=300)
    compared = 0
    for n in range(0, len(events), 20):
        for user, value in published(world.take(events[n : n + 20])).items():
            if user == events[n : n + 20][-1][0]:  # later events change what others are listed
                asked = world.ask("list", user_id=user)
                own = {"list_id", "request_id", "age_ms"}
                assert {k: v for k, v in asked.items() if k not in own} == {
                    k: v for k, v in value.items() if k not in own
                }
                compared += 1
    assert compared == 15


def test_a_context_is_asked_with_and_changes_nothing() -> None:
    world = AskedWorld()
    for part, device in enumerate(("phone", "tv")):  # on the telephone people take other items than on television
        rows = [
            {"user_id": f"{device}{n % 9}", "item_id": f"i{10 * part + n % 10}", "event_type": "view", "timestamp": n * MINUTE_MS,
             "context": {"device": device}}
            for n in range(400)
        ]  # fmt: skip
        world.take_rows(rows)
    before = world.digest()
    taste = {
        device: {i["item_id"]: i["score"] for i in world.ask("list", k=20, context={"device": device})["items"]}
        for device in ("phone", "tv")
    }
    assert taste["phone"]["i3"] - taste["phone"]["i13"] > taste["tv"]["i3"] - taste["tv"]["i13"]
    assert (
        world.ask("list", user_id="tv1")["items"] == world.ask("list", user_id="tv1", context={"device": "tv"})["items"]
    )
    assert world.digest() == before


def test_whoever_is_not_known_is_listed_what_anybody_is() -> None:
    world = AskedWorld(exclude_seen=True)
    world.take(shop())
    anybody = world.ask("list")
    assert anybody["fallback"] in ("cohort", "popular", "new")
    assert anybody["user_id"] is None
    assert len(anybody["items"]) == 20
    unknown = world.ask("list", user_id="never seen")
    assert (unknown["items"], unknown["fallback"]) == (anybody["items"], anybody["fallback"])
    assert world.ask("list", user_id="u1", personalize=False)["items"] == anybody["items"]
    assert world.ask("list", session=[{"item_id": "never seen"}])["items"] == anybody["items"]
    assert world.ask("list", user_id="u1")["items"] != anybody["items"]
    world.take([], Erasure("u1", 0))
    assert world.ask("list", user_id="u1")["items"] == world.ask("list")["items"]


def test_a_list_of_nothing_says_nothing_of_whom_it_is_for_unless_nothing_is_known() -> None:
    world = AskedWorld()
    world.take(shop())
    nothing = {"filter": "item.price < 0"}
    asked = [
        world.ask("list", **who, **nothing) for who in ({"user_id": "u1"}, {"items": ["i1"]}, {"user_id": "never seen"})
    ]
    assert [(one["items"], one["fallback"]) for one in asked] == [([], None), ([], None), ([], "new")]


def without_a_past(model: Model, user: int) -> None:
    """Makes a user's memory and counts what the definition of a session says: recalled from items as they are now."""
    users = model.graph.users
    places = model.ring_places(user)[::-1]
    users.ring_count[user, places] = model.graph.items.events[users.ring_item[user, places]]
    changed = np.zeros(len(users.events), np.uint8)
    changed[user] = 1
    row = np.full(len(places), user, np.int32)
    config = model._config
    recall(
        model.memories, changed, row, users.ring_item[user, places], users.ring_time[user, places],
        config.memory_scale_ms, config.seed,
    )  # fmt: skip


@pytest.mark.parametrize("exclude_seen", [False, True])
def test_a_session_is_listed_what_a_user_with_the_same_ring_is(exclude_seen: bool) -> None:
    world = AskedWorld(exclude_seen=exclude_seen)
    events = shop(events=500)
    world.take(events)
    for name in ("u1", "u2", "u3"):
        node = world.model.users.get(name)
        without_a_past(world.model, node)
        mine = [(item, t) for user, item, t in events if user == name]
        session = world.ask("list", session=[{"item_id": item, "timestamp": t} for item, t in mine])
        user = world.ask("list", user_id=name)
        assert [(i["item_id"], i["source"]) for i in session["items"]] == [
            (i["item_id"], i["source"]) for i in user["items"]
        ]
        assert [i["score"] for i in session["items"]] == pytest.approx([i["score"] for i in user["items"]], abs=1e-4)


def test_a_session_longer_than_a_ring_counts_what_fell_out_of_it() -> None:
    world = AskedWorld()
    events = repeat_buyer(users=30, events=300)
    world.take([*events, *(("u1", f"i{n % 25}", (1_000 + n) * MINUTE_MS) for n in range(150))])
    node = world.model.users.get("u1")
    without_a_past(world.model, node)
    mine = [(item, t) for user, item, t in events if user == "u1"]
    mine += [(f"i{n % 25}", (1_000 + n) * MINUTE_MS) for n in range(150)]
    session = world.ask("list", session=[{"item_id": item, "timestamp": t} for item, t in mine])
    user = world.ask("list", user_id="u1")
    assert ids(session) == ids(user)


def test_a_basket_is_never_listed_its_own_items() -> None:
    world = AskedWorld()
    world.take(shop())
    basket = world.listed(items=["i5", "i6", "none"], k=1_000)
    assert len(basket) == 38
    assert not {"i5", "i6"} & set(basket)
    as_session = world.listed(session=[{"item_id": "i5"}, {"item_id": "i6"}], exclude=["i5", "i6"], k=1_000)
    assert basket == as_session


def test_the_weights_of_event_types_count_in_a_session() -> None:
    world = AskedWorld(event_weights={"dislike": -1})
    world.take(shop())
    liked = world.listed(session=[{"item_id": "i5", "event_type": "view"}])
    assert liked == world.listed(session=[{"item_id": "i5"}])
    assert "i5" in liked
    assert "i5" not in world.listed(session=[{"item_id": "i5", "event_type": "dislike"}], k=1_000)


@hypothesis_settings(max_examples=30, deadline=None)
@given(
    st.lists(st.sampled_from([f"i{n}" for n in range(25)]), max_size=12),
    st.none() | st.lists(st.sampled_from([f"i{n}" for n in range(25)]), min_size=1, max_size=20),
    st.sets(st.integers(0, 19), max_size=8),
    st.integers(1, 30),
    st.booleans(),
)
def test_no_list_breaks_a_promise_and_none_is_short_for_nothing(
    exclude: list[str], candidates: list[str] | None, hidden: set[int], k: int, exclude_seen: bool
) -> None:
    events = shop(users=10, items=20, events=120)
    world = AskedWorld(exclude_seen=exclude_seen)
    world.take(events)
    world.say(*(Item(f"i{n}", hidden=True) for n in sorted(hidden)))
    known = {item for _, item, _ in events}
    may = {item for item in known if int(item[1:]) not in hidden} - set(exclude)
    if candidates is not None:
        may &= set(candidates)
    more: dict[str, Any] = {} if candidates is None else {"candidates": candidates}
    for user in ("u0", "u1", "u2"):
        seen = {item for one, item, _ in events if one == user} if exclude_seen else set()
        listed = world.listed(user_id=user, exclude=exclude, k=k, **more)
        assert len(listed) == len(set(listed)) == min(k, len(may - seen))
        assert set(listed) <= may - seen
    for asked in ({}, {"session": [{"item_id": "i1"}]}, {"items": ["i1"]}):
        masked = {"i1"} if "items" in asked or (exclude_seen and asked) else set()
        listed = world.listed(exclude=exclude, k=k, **more, **asked)
        assert set(listed) <= may - masked
        assert len(listed) == min(k, len(may - masked))


def test_what_expires_leaves_lists_when_the_clock_says_so() -> None:
    world = AskedWorld()
    world.take(shop())
    now = world.state.clock_ms
    world.say(Item("i1", expires_at=now + 5_000), Item("i2", expires_at=now + 20_000))
    everything = set(world.listed(k=1_000))
    assert {"i1", "i2"} <= everything
    world.clock.advance(4.999)
    assert set(world.listed(k=1_000)) == everything
    world.clock.advance(0.001)
    assert set(world.listed(k=1_000)) == everything - {"i1"}
    assert "i1" not in ids(world.ask("popular", k=1_000)) + ids(world.ask("newest", k=1_000))
    world.clock.advance(15)
    assert set(world.listed(k=1_000)) == everything - {"i1", "i2"}
    world.say(Item("i1"))
    assert set(world.listed(k=1_000)) == everything - {"i2"}


def test_each_item_tells_its_title_attributes_and_cause_where_it_is_asked() -> None:
    world = AskedWorld()
    world.take(shop())
    world.say(Item("i3", title="Three", categories=("odd",), attributes={"price": 3}))
    plain = world.ask("list", user_id="u1", k=1_000)
    told = world.ask("list", user_id="u1", k=1_000, fields=["title", "attributes"], explain=True)
    for before, item in zip(plain["items"], told["items"], strict=True):
        assert item | before == item
        three = item["item_id"] == "i3"
        assert item["title"] == ("Three" if three else None)
        assert item["attributes"] == ({"price": 3, "categories": ["odd"]} if three else {})
        if item["source"] == "repeat":
            assert item["because"]["item_id"] == item["item_id"]
            assert item["because"]["timestamp"] == max(t for u, i, t in shop() if u == "u1" and i == item["item_id"])
        elif item["source"] in ("transition", "co-interaction"):
            assert item["because"]["item_id"] in item["reason"]
        else:
            assert item["because"] is None


@hypothesis_settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(
        [
            ("item.price > 30", lambda n, least, most: n > 30),
            ('"odd" in item.categories', lambda n, least, most: n % 2 == 1),
            ("item.price >= user.least", lambda n, least, most: least is not None and n >= least),
            ("item.price <= context.most", lambda n, least, most: most is not None and n <= most),
            ('item.item_id == "i7"', lambda n, least, most: n == 7),
            ("has(item.none)", lambda n, least, most: False),
        ]
    ),
    st.none() | st.integers(0, 45),
    st.sets(st.integers(0, 39), max_size=10),
    st.booleans(),
)
def test_only_what_a_filter_lets_pass_is_listed_and_all_of_it_where_there_is_room(
    chosen: Any, most: int | None, hidden: set[int], exclude_seen: bool
) -> None:
    text, passes = chosen
    world = AskedWorld(exclude_seen=exclude_seen)
    events = shop(users=10)
    world.take(events)
    world.say(
        *(
            Item(f"i{n}", categories=("odd" if n % 2 else "even",), attributes={"price": n}, hidden=n in hidden)
            for n in range(40)
        ),
        User("u1", attributes={"least": 20}),
    )
    context = {} if most is None else {"most": most}
    for user, least in (("u1", 20), ("u2", None), ("nobody", None)):
        seen = {item for one, item, _ in events if one == user} if exclude_seen else set()
        may = {f"i{n}" for n in range(40) if n not in hidden and passes(n, least, most)} - seen
        listed = world.listed(user_id=user, filter=text, context=context, k=1_000)
        assert set(listed) == may
        assert len(listed) == len(may)
        assert world.listed(user_id=user, filter=text, context=context, k=3) == listed[:3]


def test_what_is_no_filter_is_said_where_it_is_wrong() -> None:
    world = AskedWorld()
    world.take(shop())
    for kind, more in (("list", {"user_id": "u1"}), ("popular", {}), ("similar", {"item_id": "i1"})):
        status, body = world.answer(kind, filter="item.price >", **more)
        assert (status, body["error"]["code"], body["error"]["field"]) == (400, "bad-filter", "filter")
        assert "at character" in body["error"]["message"]


def test_a_filter_follows_the_items_at_once() -> None:
    world = AskedWorld()
    world.take(shop())
    wanted = 'item.colour == "red"'
    assert world.listed(filter=wanted) == []
    world.say(Item("i4", attributes={"colour": "red"}))
    assert world.listed(filter=wanted) == world.listed(user_id="u1", filter=wanted) == ["i4"]
    world.say(Item("i4", attributes={"colour": "blue"}))
    assert world.listed(filter=wanted) == []
    assert "other" not in world.listed(filter="!has(item.colour)", k=1_000)
    world.take([("u1", "other", 500 * MINUTE_MS)])
    assert "other" in world.listed(filter="!has(item.colour)", k=1_000)


def test_what_is_boosted_is_so_many_times_as_likely() -> None:
    world = AskedWorld()
    world.take(shop())
    world.say(*(Item(f"i{n}", categories=("odd" if n % 2 else "even",), attributes={"price": n}) for n in range(40)))
    odd, dear = {"if": '"odd" in item.categories', "factor": 3}, {"if": "item.price > user.most", "factor": 0.5}
    world.say(User("u1", attributes={"most": 30}))
    plain = {i["item_id"]: i for i in world.ask("list", user_id="u1", k=1_000)["items"]}
    body = world.ask("list", user_id="u1", k=12, boost=[odd, dear], fields=["title"], explain=True)
    wanted = {
        name: item["score"] + (np.log(3) if int(name[1:]) % 2 else 0) + (np.log(0.5) if int(name[1:]) > 30 else 0)
        for name, item in plain.items()
    }
    assert ids(body) == sorted(wanted, key=lambda name: -wanted[name])[:12]
    for item in body["items"]:
        assert item["score"] == pytest.approx(wanted[item["item_id"]], abs=1e-4)
        assert (item["source"], item["reason"]) == (plain[item["item_id"]]["source"], plain[item["item_id"]]["reason"])
    assert world.listed(user_id="u1", boost=[odd | {"factor": 1}]) == list(plain)[:20]
    assert all(int(name[1:]) % 2 for name in world.listed(items=["i3"], k=10, boost=[odd | {"factor": 1_000}]))
    status, answer = world.answer("list", user_id="u1", boost=[{"if": "item.", "factor": 2}])
    assert (status, answer["error"]["code"], answer["error"]["field"]) == (400, "bad-filter", "boost.0.if")
