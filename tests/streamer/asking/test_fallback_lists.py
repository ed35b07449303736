"""Rules that name a fallback: who is unknown gets what they name, in that order, and is told what it is."""

import json
from functools import cache
from itertools import permutations
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st

from consumers.schemas import Item, User
from streamer.evaluation.replay import ReplayOptions, replay
from streamer.lists.rule_records import read_rules
from streamer.settings import Settings
from tests.streamer.asking.asked_world import AskedWorld, ids, shop
from tests.worlds import table_of

SOURCES = ("similar-items", "cohort", "popular", "new")
FRESH = [Item(f"n{n}", categories=("lamps",), attributes={"price": n}) for n in range(12)]
EVENTS = shop()
LATER_MS = EVENTS[-1][2] + 60_000


def a_shop(**settings: Any) -> AskedWorld:
    """40 items that are taken on phones, and 12 that nobody has taken yet."""
    world = AskedWorld(**{"k": 8} | settings)
    world.take(EVENTS, context={"device": "phone"})
    world.say(*FRESH)
    return world


@cache
def known_shop() -> AskedWorld:
    """One for the tests that only ask."""
    return a_shop()


def put(world: AskedWorld, **rules: Any) -> None:
    checked = read_rules(rules)
    world.state.take_rules({"default": {"version": checked.version(), "rules": checked.text()}})


ASKERS: dict[str, dict[str, Any]] = {  # what somebody brings along → the sources that have something for them
    "nobody": {"asked": {}, "has": {"popular", "new"}},
    "a new user": {"asked": {"user_id": "who"}, "has": {"popular", "new"}},
    "on a phone": {"asked": {"context": {"device": "phone"}}, "has": {"cohort", "popular", "new"}},
    "on something else": {"asked": {"context": {"device": "fridge"}}, "has": {"popular", "new"}},
    "a session of something new": {"asked": {"session": [{"item_id": "n3"}]}, "has": {"similar-items", "popular", "new"}},
    "a basket of something new": {"asked": {"items": ["n3", "n4"]}, "has": {"similar-items", "popular", "new"}},
    "with a pin": {"asked": {}, "has": {"similar-items", "popular", "new"}, "rules": {"pins": [{"item_id": "n3", "place": 1}]}},
}  # fmt: skip


@pytest.mark.parametrize("asker", ASKERS)
@pytest.mark.parametrize("order", [*permutations(SOURCES, 2), *((one,) for one in SOURCES), SOURCES, SOURCES[::-1]])
def test_the_first_source_that_has_something_fills_the_list(order: tuple[str, ...], asker: str) -> None:
    case = ASKERS[asker]
    put(known_shop(), fallback=list(order), **case.get("rules", {}))
    told = known_shop().ask("list", **case["asked"])
    wanted = next(one for one in (*order, "popular", "new") if one in case["has"])
    free = [item for item in told["items"] if item["source"] != "pinned"]
    assert (told["fallback"], free[0]["source"]) == (wanted, wanted)
    assert len(told["items"]) == 8
    named = list(dict.fromkeys((*order, "popular", "new")))
    places = [named.index(item["source"]) for item in free]
    assert places == sorted(places)  # the next source fills what is left


@pytest.mark.parametrize("asked", [{"user_id": "u1"}, {"items": ["i3"]}, {"session": [{"item_id": "i5"}]}])
def test_who_is_known_has_the_model_s_list(asked: dict[str, Any]) -> None:
    put(known_shop())
    before = known_shop().ask("list", **asked)
    put(known_shop(), fallback=["new"])
    after = known_shop().ask("list", **asked)
    assert (after["fallback"], ids(after)) == (None, ids(before))


@profile(max_examples=40, deadline=None)
@given(
    order=st.lists(st.sampled_from(SOURCES), min_size=1, max_size=4, unique=True),
    below=st.integers(0, 13),
    k=st.integers(1, 20),
    asker=st.sampled_from(sorted(ASKERS)),
    more=st.fixed_dictionaries({}, optional={"diversity": st.just(0.5), "explore": st.just(0.5)}),
    strict=st.booleans(),
)
def test_a_list_is_short_only_where_fewer_items_pass(
    order: list[str], below: int, k: int, asker: str, more: dict[str, Any], strict: bool
) -> None:
    text = f"item.price < {below}" if strict else f"!has(item.price) || item.price < {below}"
    put(known_shop(), fallback=order, filter=text, **more)
    asked = ASKERS[asker]["asked"]
    told = known_shop().ask("list", **asked, k=k)
    found = ids(told)
    held = set(asked.get("items", ()))
    passing = {one.item_id for one in FRESH if one.attributes and one.attributes["price"] < below} - held
    passing |= set() if strict else {item for _, item, _ in EVENTS}
    assert len(found) == len(set(found)) == min(k, len(passing))
    assert set(found) <= passing
    assert not found or told["fallback"] in SOURCES


def test_what_was_taken_is_not_listed_where_it_is_excluded() -> None:
    world = a_shop(exclude_seen=True)
    put(world, fallback=["new"], seen="exclude")
    world.take([("fresh", "n11", LATER_MS)])  # tied to nothing: they are unknown still
    told = world.ask("list", user_id="fresh", k=100)
    assert told["fallback"] == "new"
    assert ids(told)[:2] == ["n10", "n9"]
    assert len(told["items"]) == 51


@pytest.mark.parametrize("order", [["new"], ["popular"], ["similar-items", "new"], ["cohort", "popular"]])
def test_asked_published_and_replayed_lists_are_the_same(order: list[str], tmp_path: Path) -> None:
    last_ms, gold = EVENTS[-1][2], User("fresh", attributes={"plan": "gold"})
    known = [
        Item(one.item_id, categories=one.categories, attributes=one.attributes, timestamp=last_ms) for one in FRESH
    ]
    world = AskedWorld(k=8)
    world.say(gold, *known)
    world.take(EVENTS, context={"device": "phone"})
    put(world, fallback=order)
    output = world.take([("fresh", "n3", LATER_MS)])
    [published] = [
        json.loads(record.value)
        for record in output.records
        if record.topic == "recommendations" and record.key == b"fresh" and record.value
    ]
    asked = world.ask("list", user_id="fresh")
    for name in ("items", "fallback", "rules"):
        assert asked[name] == published[name]
    assert asked["fallback"] is not None
    stranger, moment = world.ask("list", user_id="stranger"), world.answers.clock.now_ms()

    settings = Settings(k=8)
    stream = table_of([*EVENTS, ("fresh", "n3", LATER_MS)])
    stream = stream.append_column("device", [["phone"] * len(EVENTS) + [None]])
    options = ReplayOptions(
        lists_out=tmp_path / "lists", ask=table_of([("stranger", "i1", moment), ("fresh", "i1", moment)])
    )
    replay(stream, settings, options, items=known, users=[gold], rules=read_rules({"fallback": order}))
    rows = {row["user_id"]: row["items"] for row in pq.read_table(tmp_path / "lists").to_pylist()}
    assert rows == {"stranger": ids(stranger), "fresh": ids(asked)}
