"""Wishes of a question: boosts, diversity, exploration; what a list keeps with them, and that without them it is as it was."""

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.schemas import Item, User
from streamer.lists.building.exploration import explored
from tests.streamer.asking.asked_world import AskedWorld, ids, question, shop


@pytest.fixture(scope="module")
def world() -> AskedWorld:
    """Forty items of four categories; nothing of it changes by asking."""
    made = AskedWorld(exclude_seen=True)
    made.take(shop())
    made.say(
        *(Item(f"i{n}", categories=(f"c{n // 10}",), attributes={"price": n}) for n in range(40)),
        User("u1", attributes={"budget": 20}),
    )
    return made


def scores(body: dict[str, Any]) -> dict[str, float]:
    return {item["item_id"]: item["score"] for item in body["items"]}


ASKERS = st.sampled_from(
    [{"user_id": "u1"}, {"user_id": "nobody"}, {"session": [{"item_id": "i5"}]}, {"items": ["i7"]}]
)
RULES = st.sampled_from(["item.price > 30", "item.price <= user.budget", 'item.category == "c1"', "has(item.none)"])
BOOSTS = st.lists(
    st.builds(lambda rule, f: {"if": rule, "factor": f}, RULES, st.sampled_from([0.001, 1, 3, 1_000])), max_size=3
)


@settings(max_examples=60, deadline=None)
@given(
    ASKERS, BOOSTS, st.sampled_from([0, 0.3, 1]), st.sampled_from([0, 0.5, 1]), st.integers(1, 12),
    st.none() | st.just("item.price > 10"), st.none() | st.just([f"i{n}" for n in range(0, 40, 3)]),
)  # fmt: skip
def test_a_list_with_wishes_keeps_what_a_list_promises(
    world: AskedWorld, asker: dict[str, Any], boost: list[dict[str, Any]], diversity: float, explore: float, k: int,
    text: str | None, candidates: list[str] | None,
) -> None:  # fmt: skip
    asked = asker | {"filter": text, "candidates": candidates}
    may = scores(world.ask("list", k=1_000, **asked))
    body = world.ask("list", k=k, boost=boost, diversity=diversity, explore=explore, explain=True, **asked)
    listed = ids(body)
    assert len(listed) == len(set(listed)) == min(k, len(may))
    assert set(listed) <= set(may)
    said = [item["propensity"] for item in body["items"]]
    assert all(0 < p <= 1 for p in said)
    if not explore or len(may) <= k:
        assert said == [1.0] * len(listed)
    if not (boost or diversity or explore):
        plain = world.ask("list", k=k, explain=True, **asked)
        assert body["items"] == plain["items"]
    if boost and not diversity and not explore:
        assert [item["score"] for item in body["items"]] == sorted((i["score"] for i in body["items"]), reverse=True)


def test_a_boost_makes_an_item_as_many_times_as_likely(world: AskedWorld) -> None:
    plain = scores(world.ask("list", user_id="u1", k=1_000))
    rules = [{"if": "item.price > 30", "factor": 4}, {"if": "item.price <= user.budget", "factor": 0.5}]
    boosted = scores(world.ask("list", user_id="u1", k=1_000, boost=rules))
    assert boosted.keys() == plain.keys()
    for item, score in boosted.items():
        price = int(item[1:])
        factor = (4 if price > 30 else 1) * (0.5 if price <= 20 else 1)
        assert score == pytest.approx(plain[item] + np.log(factor), abs=2e-6)
    with_context = world.listed(
        user_id="u1", k=3, boost=[{"if": "item.price == context.price", "factor": 1_000}], context={"price": 39}
    )
    assert with_context[0] == "i39"
    nobody = world.ask("list", user_id="u1", personalize=False, boost=rules[1:])
    assert nobody["items"] == world.ask("list", personalize=False, k=20)["items"]


def test_what_was_shown_and_not_taken_goes_down_by_the_share_that_is_wished(world: AskedWorld) -> None:
    plain = world.ask("list", user_id="u1", k=50)["items"]
    first = [item["item_id"] for item in plain[:3]]
    shown = {first[0]: 2, first[2]: 1, "nobody knows it": 7}
    tired = scores(world.ask("list", user_id="u1", k=10, shown=shown, fatigue=0.5))
    odds = {item["item_id"]: item["score"] + np.log(0.5) * shown.get(item["item_id"], 0) for item in plain}
    wanted = sorted(odds, key=lambda item: (-odds[item], item))[:10]
    assert list(tired) == wanted
    assert list(tired.values()) == pytest.approx([odds[item] for item in wanted], abs=1e-5)
    assert list(tired) != [item["item_id"] for item in plain[:10]]
    for nothing in ({"shown": shown}, {"fatigue": 0.5}):
        assert world.ask("list", user_id="u1", k=10, **nothing)["items"] == plain[:10]


def test_what_is_no_rule_is_said_and_others_have_their_lists(world: AskedWorld) -> None:
    status, body = world.answer("list", user_id="u1", boost=[{"if": "item.price >", "factor": 2}])
    assert (status, body["error"]["code"], body["error"]["field"]) == (400, "bad-filter", "boost.0.if")
    asked = [
        question("list", user_id=user, boost=[{"if": "item.", "factor": 2}] if user == "u2" else [])
        for user in ("u1", "u2", "u3")
    ]
    assert [answer.status for answer in world.answers.answer_all(asked)] == [200, 400, 200]


def test_diversity_makes_a_list_of_more_kinds(world: AskedWorld) -> None:
    def pairs_alike(diversity: float) -> float:
        lists = [world.listed(user_id=f"u{n}", k=8, diversity=diversity) for n in range(10)]
        return float(np.mean([int(a[1:]) // 10 == int(b[1:]) // 10 for one in lists for a, b in combinations(one, 2)]))

    alike = [pairs_alike(d) for d in (0, 0.5, 1)]
    assert alike[0] > alike[1] + 0.05
    assert alike[1] >= alike[2]
    assert alike[2] < 0.3


def test_what_is_drawn_is_what_the_step_draws_for_the_id_of_the_list(world: AskedWorld) -> None:
    ranking = world.ask("list", user_id="u1", k=25)["items"]
    score = np.array([item["score"] for item in ranking])
    drawn_some = 0
    for _ in range(20):
        body = world.ask("list", user_id="u1", k=5, explore=0.5)
        drawn = explored(score, 0.5, 5, world.settings.seed, body["list_id"])
        assert ids(body) == [ranking[place]["item_id"] for place in drawn.place]
        assert [item["propensity"] for item in body["items"]] == pytest.approx(drawn.propensity.tolist(), abs=1e-5)
        drawn_some += ids(body) != ids({"items": ranking[:5]})
    assert drawn_some > 5


def test_questions_that_are_asked_together_are_answered_as_alone(world: AskedWorld) -> None:
    wishes: list[dict[str, Any]] = [
        {},
        {"diversity": 0.7},
        {"boost": [{"if": "item.price > 30", "factor": 9}]},
        {"k": 100},
    ]
    asked = [question("list", user_id=user, **wish) for user in ("u1", "u2", "u3") for wish in wishes]
    alone = [world.answers.answer(one).body for one in asked]
    for one, other in zip(alone, world.answers.answer_all(asked), strict=True):
        assert (
            one.split(b'"items"')[1].split(b'"request_id"')[0]
            == other.body.split(b'"items"')[1].split(b'"request_id"')[0]
        )
