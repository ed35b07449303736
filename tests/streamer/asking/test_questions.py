"""Questions as values: what is refused, how they travel, whose they are."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from streamer.asking.questions import QUESTIONS, key
from tests.streamer.asking.asked_world import question

REFUSED: list[dict[str, Any]] = [
    {"kind": "none"},
    {"kind": "list", "unknown": 1},
    {"kind": "list", "user_id": ""},
    {"kind": "list", "user_id": "u" * 1_025},
    {"kind": "list", "user_id": "\ud800"},
    {"kind": "list", "user_id": True},
    {"kind": "list", "user_id": 1.5},
    {"kind": "list", "k": 0},
    {"kind": "list", "k": 1_001},
    {"kind": "list", "items": []},
    {"kind": "list", "user_id": "u", "items": ["i"]},
    {"kind": "list", "session": [{"item_id": "i"}], "items": ["i"]},
    {"kind": "list", "session": [{"item_id": "i", "timestamp": -1}]},
    {"kind": "list", "context": {"device": float("inf")}},
    {"kind": "list", "context": {"device": ["phone"]}},
    {"kind": "list", "candidates": ["i"] * 1_001},
    {"kind": "list", "filter": ""},
    {"kind": "list", "fields": ["price"]},
    {"kind": "list", "diversity": 1.01},
    {"kind": "list", "explore": float("nan")},
    {"kind": "list", "shown": {"i1": 0}},
    {"kind": "list", "fatigue": 1.5},
    {"kind": "list", "boost": [{"if": "item.x == 1"}]},
    {"kind": "list", "boost": [{"if": "item.x == 1", "factor": 0}]},
    {"kind": "popular", "scale": "2h"},
    {"kind": "user"},
    {"kind": "explanation", "user_id": "u"},
]


@pytest.mark.parametrize("fields", REFUSED, ids=str)
def test_what_is_no_question_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        question(**fields)


def test_questions_travel_as_json() -> None:
    asked = [
        question("list", user_id=17, context={"a": True, "b": 1, "c": 1.5, "d": "x"}, exclude=["ä", 5]),
        question("list", session=[{"item_id": "i", "event_type": "view", "timestamp": 5}]),
        question(
            "list", boost=[{"if": "item.x == 1", "factor": 2}], diversity=0.5, explore=1, shown={"i1": 2}, fatigue=0.3
        ),
        question("popular", scale="7d", filter="item.x == 1", cursor="c"),
        question("status"),
    ]
    sent = QUESTIONS.dump_json(asked)
    assert json.loads(sent)[0]["user_id"] == "17"
    assert QUESTIONS.validate_json(sent) == asked
    assert QUESTIONS.validate_json(QUESTIONS.dump_json(asked, exclude_defaults=False)) == asked


def test_a_question_about_a_user_goes_to_the_users_partition() -> None:
    assert key(question("list", user_id=17)) == "17"
    assert key(question("explanation", user_id="u", item_id="i")) == "u"
    assert key(question("list", items=["i"])) is None
    assert key(question("popular")) is None
