"""Why an item is listed, and what was surprising, in worlds where it is known."""

from typing import Any

import pytest

from streamer.lists.rule_records import read_rules
from tests.streamer.asking.asked_world import AskedWorld, shop
from tests.worlds import MINUTE_MS, checkerboard, repeat_buyer


def test_an_item_that_is_listed_again_stands_on_having_been_chosen() -> None:
    world = AskedWorld()
    world.take(repeat_buyer(users=40, events=1_000))
    user = max(range(40), key=lambda n: len(world.ask("user", user_id=f"u{n}")["last"]))
    body = world.ask("explanation", user_id=f"u{user}", item_id=f"i{user}")
    assert (body["place"], body["because"][0]["item_id"]) == (1, f"i{user}")
    assert body["because"][0]["sentence"].startswith("it was chosen")
    assert f"i{user}: place 1 of 40 candidates" in body["sentence"]


def test_an_item_falls_without_the_interaction_that_it_stands_on() -> None:
    world = AskedWorld()
    walks = [
        (f"u{n}", item, (10 * n + step) * MINUTE_MS) for n in range(60) for step, item in enumerate("abcde"[n % 2 :: 2])
    ]
    world.take([*walks, ("me", "a", 1_000 * MINUTE_MS), ("me", "x", 1_001 * MINUTE_MS), ("me", "c", 1_002 * MINUTE_MS)])
    body = world.ask("explanation", user_id="me", item_id="e")
    assert body["because"][0]["item_id"] == "c"
    assert body["because"][0]["fall"] > 0
    assert body["counterfactual"]["without"][0]["item_id"] == "c"
    assert body["counterfactual"]["falls"] == (body["counterfactual"]["place"] != body["place"])
    assert body["counterfactual"]["score"] < body["score"]


def test_nothing_is_claimed_of_an_item_that_is_no_candidate() -> None:
    world = AskedWorld(exclude_seen=True)
    world.take(shop())
    seen = world.ask("user", user_id="u1")["last"][0]["item_id"]
    body = world.ask("explanation", user_id="u1", item_id=seen)
    assert (body["place"], body["score"], body["because"], body["counterfactual"]) == (None, None, [], None)
    other = world.listed(user_id="u1")[0]
    assert world.ask("explanation", user_id="u1", item_id=other)["place"] == 1


def test_what_was_chosen_often_is_not_said_to_be_new() -> None:
    """What nothing of the history carries may be popular: nobody asked what it is without that."""
    world = AskedWorld()
    world.take(shop())
    items = [item["item_id"] for item in world.ask("popular", scale="all", k=30)["items"]]
    told = [world.ask("explanation", user_id=f"u{user}", item_id=item) for user in range(6) for item in items]
    uncarried = [one for one in told if one["counterfactual"] is None]
    assert uncarried
    assert not [one["sentence"] for one in told if "new" in one["sentence"]]


@pytest.mark.parametrize("rules", [{}, {"pins": [{"item_id": "i3", "place": 2}]}, {"seen": "exclude"}, {"k": 3}])
def test_an_explanation_names_what_the_list_names(rules: dict[str, Any]) -> None:
    """Source, reason and the interaction behind it, for every item of every list, and below it too."""
    world = AskedWorld(k=8)
    world.take(shop())
    checked = read_rules(rules)
    world.state.take_rules({"default": {"version": checked.version(), "rules": checked.text()}})
    sources = set()
    for user in range(0, 30, 5):
        for item in world.ask("list", user_id=f"u{user}", explain=True, k=8 if not rules else None)["items"]:
            told = world.ask("explanation", user_id=f"u{user}", item_id=item["item_id"])
            assert (told["source"], told["reason"]) == (item["source"], item["reason"])
            if item["because"] is not None:
                assert told["because"][0]["item_id"] == item["because"]["item_id"]
            sources.add(item["source"])
    longer = world.ask("list", user_id="u0", k=30)["items"][-1]
    if not rules:
        told = world.ask("explanation", user_id="u0", item_id=longer["item_id"])
        assert (told["source"], told["reason"]) == (longer["source"], longer["reason"])
    assert len(sources) > 1


def test_what_nobody_else_would_have_taken_is_the_surprise() -> None:
    world = AskedWorld()
    events = checkerboard(events=3_000)  # even users take even items
    world.take([*events[:2_900], ("u2", "i7", events[2_900][2]), *events[2_900:]])
    body = world.ask("surprise", user_id="u2")
    assert body["interactions"][0]["item_id"] == "i7"
    surprises = [one["surprise"] for one in body["interactions"]]
    assert surprises == sorted(surprises, reverse=True)
    assert len(surprises) == len({one["item_id"] for one in body["interactions"]})
    assert len(world.ask("surprise", user_id="u2", k=2)["interactions"]) == 2
