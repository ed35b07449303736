"""What every answer promises: nothing of the state is changed, and nothing is told of what is gone."""

import json
from typing import Any, get_args

from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from consumers.schemas import Item, User
from streamer.asking.questions import Question
from streamer.pipeline.epoch import ItemChange
from tests.streamer.asking.asked_world import AskedWorld, ids, question, shop
from tests.worlds import MINUTE_MS

FILTERS = [None, "item.price >= 3", "item.price > 1 || !has(item.price)"]
OF_EVERY_KIND: list[dict[str, Any]] = [
    {"kind": "list", "user_id": "u1"},
    {"kind": "list", "user_id": "u2", "explain": True, "fields": ["title", "attributes"], "k": 7},
    {"kind": "list", "user_id": "u3", "context": {"device": "phone", "mood": 5}},
    {"kind": "list", "user_id": "u3", "personalize": False},
    {"kind": "list", "user_id": "nobody"},
    {"kind": "list", "session": [{"item_id": "i1"}, {"item_id": "i2", "event_type": "buy", "timestamp": 5}]},
    {"kind": "list", "items": ["i1", "i9", "none"]},
    {"kind": "list"},
    {"kind": "list", "user_id": "u4", "exclude": ["i1", "i2"], "candidates": ["i1", "i3", "i4"]},
    {"kind": "list", "user_id": "u5", "filter": "item.price > 2", "k": 3},
    {"kind": "list", "user_id": "u6", "filter": "item.price > user.age || context.mood == 5", "context": {"mood": 5}},
    {"kind": "list", "user_id": "u5", "filter": "item.price >"},
    {"kind": "list", "user_id": "u7", "boost": [{"if": "item.price > 2", "factor": 2}]},
    {"kind": "list", "user_id": "u8", "k": 3, "boost": [{"if": "has(item.price)", "factor": 0.5}], "diversity": 0.5},
    {"kind": "preview", "user_id": "u2", "rules": {"filter": "item.price > 2", "seen": "exclude"}},
    {
        "kind": "preview",
        "user_id": "u2",
        "rules": {
            "surface": "home",
            "boosts": [{"if": "item.price > 2", "factor": 2}],
            "pins": [{"item_id": "i3", "place": 1}],
            "diversity": 0.5,
        },
    },
    {"kind": "preview", "user_id": "nobody", "rules": {"fallback": ["similar-items", "cohort", "new"]}},
    {"kind": "rules", "rules": {"filter": "item.price > 2 && item.none == 1", "pins": [{"item_id": "i1", "place": 1}]}},
    {"kind": "session", "user_id": "u1"},
    {"kind": "similar", "item_id": "i1"},
    {"kind": "together", "item_id": "i1"},
    {"kind": "audience", "item_id": "i1"},
    {"kind": "popular", "scale": "7d"},
    {"kind": "popular", "scale": "all", "k": 3},
    {"kind": "trending"},
    {"kind": "newest", "fields": ["title"]},
    {"kind": "user", "user_id": "u1"},
    {"kind": "item", "item_id": "i1"},
    {"kind": "explanation", "user_id": "u1", "item_id": "i1"},
    {"kind": "surprise", "user_id": "u1"},
    {"kind": "status"},
    {"kind": "item", "item_id": "none"},
    {"kind": "popular", "cursor": "none"},
]


def test_every_kind_of_question_is_asked_here() -> None:
    models, _ = get_args(Question)
    kinds = {model.model_fields["kind"].default for model in get_args(models)}
    assert {question["kind"] for question in OF_EVERY_KIND} == kinds


@hypothesis_settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.integers(0, 19), st.sampled_from(OF_EVERY_KIND)), max_size=25))
def test_whatever_is_asked_changes_no_state_and_no_later_list(asked: list[tuple[int, dict[str, Any]]]) -> None:
    events = shop(users=8, items=12, events=100)
    lists = {}
    for asks in (False, True):
        world = AskedWorld(exclude_seen=True)
        world.say(
            *(Item(f"i{n}", title=f"Item {n}", attributes={"price": n}) for n in range(6)),
            User("u1", attributes={"age": 30}),
        )
        lists[asks] = []
        for step in range(20):
            output = world.take(events[5 * step : 5 * step + 5])
            lists[asks].append([(r.topic, r.key, r.value) for r in output.records])
            for at, fields in asked:
                if asks and at == step:
                    before = world.digest()
                    status, _ = world.answer(**fields)
                    assert status in (200, 400, 404)
                    assert world.digest() == before, fields
    assert lists[True] == lists[False]


def test_an_answer_tells_how_old_what_it_knows_is() -> None:
    world = AskedWorld()
    world.take(shop(events=50))
    asked = world.ask("list", user_id="u1")
    assert (asked["age_ms"], asked["as_of"]) == (0, {"timestamp": 50 * MINUTE_MS, "positions": {"0": 50}})
    world.clock.advance(3)
    asked = world.ask("list", user_id="u1")
    assert (asked["age_ms"], asked["as_of"]["timestamp"]) == (3_000, 50 * MINUTE_MS + 3_000)
    world.take([("u1", "i1", 51 * MINUTE_MS)])
    assert world.ask("list", user_id="u1")["age_ms"] == 0


def test_a_deleted_item_is_in_no_answer() -> None:
    world = AskedWorld()
    world.take(shop())
    world.take([], ItemChange("i5", None))
    status, body = world.answer("item", item_id="i5")
    assert (status, body["error"]["code"]) == (404, "unknown-item")
    for kind in ("similar", "together", "audience"):
        assert world.answer(kind, item_id="i5")[0] == 404
    asked = [world.ask("list", k=1_000), world.ask("popular", k=1_000), world.ask("similar", item_id="i6", k=1_000)]
    assert all("i5" not in ids(body) for body in asked)
    assert world.listed(items=["i5"]) == world.listed()


def test_a_world_without_items_is_answered_with_an_empty_list() -> None:
    world = AskedWorld()
    assert world.ask("list", user_id="u1")["items"] == []
    assert world.ask("popular")["items"] == []
    assert world.ask("newest")["items"] == []
    assert world.ask("trending")["items"] == []


@hypothesis_settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from(OF_EVERY_KIND) | st.integers(0, 9), max_size=30))
def test_questions_are_answered_together_as_they_are_one_by_one(asked: list[dict[str, Any] | int]) -> None:
    world = AskedWorld(exclude_seen=True, k=5)
    world.take(shop(users=10))
    world.say(*(Item(f"i{n}", attributes={"price": n}) for n in range(9)))
    questions = [
        question("list", user_id=f"u{one}", filter=FILTERS[one % 3]) if isinstance(one, int) else question(**one)
        for one in asked
    ]
    for together, one in zip(world.answers.answer_all(questions), questions, strict=True):
        alone = world.answers.answer(one)
        assert together.status == alone.status
        assert without_ids(json.loads(together.body)) == without_ids(json.loads(alone.body))


def without_ids(told: Any) -> Any:
    """An answer without what is drawn anew for each list in it."""
    if isinstance(told, list):
        return [without_ids(one) for one in told]
    if not isinstance(told, dict):
        return told
    return {name: without_ids(value) for name, value in told.items() if name not in ("list_id", "request_id")}
