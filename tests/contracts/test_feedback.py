"""Feedback over HTTP, on both homes of the log: taken, found its user, refused."""

import json
from typing import Any

import httpx
import pytest

from consumers.decode_feedback import FeedbackDecoder
from consumers.schemas import Feedback
from streamer.runtime.topics import read_records, whole
from tests.shop import BEGAN_MS, Shop, error_of, shop
from tests.waiting import until

__all__ = ["shop"]


def taken(shop: Shop) -> dict[str, tuple[bytes | None, Feedback]]:
    """What lies on the topic: by event id its key and value."""
    topic, found = shop.settings.feedback_topic, {}
    for record in read_records(shop.log, whole(shop.log, topic)):
        one = FeedbackDecoder().decode(record, 1 << 45)
        assert isinstance(one, Feedback)
        found[one.event_id or ""] = (record.key, one)
    return found


def post(shop: Shop, body: Any) -> list[str]:
    answer = shop.front.post("/v1/feedback", json=body)
    assert answer.status_code == 202, answer.text
    told = answer.json()
    assert told["accepted"] == len(told["event_ids"])
    return list(told["event_ids"])


def test_feedback_lies_under_its_user(shop: Shop) -> None:
    asked = shop.front.get("/v1/users/u1/recommendations?k=2").json()
    basket = shop.front.post("/v1/recommendations", json={"items": ["i1"], "k": 2}).json()
    published = json.loads(until(lambda: shop.view.list_of("u3")))
    cases = [
        (asked["list_id"], b"u1"),
        (published["list_id"], b"u3"),
        (basket["list_id"], b""),  # nobody's, as its list is
    ]
    for list_id, key in cases:
        one = {"list_id": list_id, "item_id": "i1", "event": "click", "value": 2, "timestamp": BEGAN_MS}
        [event_id] = post(shop, one)
        found = taken(shop)[event_id]
        wanted = Feedback(list_id, "click", BEGAN_MS, key.decode(), "i1", 2.0, event_id)
        assert found == (key, wanted)
    [named] = post(shop, {"list_id": "another's", "user_id": 7, "event": "impression"})
    assert taken(shop)[named][0] == b"7"


def test_feedback_without_a_time_on_a_recorded_stream_has_that_of_the_stream(shop: Shop) -> None:
    """By the wall clock it would be of a list of years ago, and be counted nowhere."""
    asked = shop.front.get("/v1/users/u2/recommendations?k=2").json()
    [event_id] = post(shop, {"list_id": asked["list_id"], "user_id": "u2", "event": "impression"})
    told = taken(shop)[event_id][1]
    window_ms = 1000 * shop.settings.attribution_window_s
    assert 0 <= told.timestamp - asked["as_of"]["timestamp"] + 60_000 < window_ms


def test_who_a_list_of_an_epoch_is_for_stands_in_its_id(shop: Shop) -> None:
    for user in ("plain", "with - some-dashes", "line\nbreak"):
        [event_id] = post(shop, {"list_id": f"e-5ea7-12-{user}", "event": "impression"})
        assert taken(shop)[event_id][0] == user.encode()


def test_several_at_once_keep_their_order_and_their_ids(shop: Shop) -> None:
    many = [{"list_id": "x", "user_id": f"u{n}", "event": "impression", "event_id": f"f{n}"} for n in range(20)]
    assert post(shop, many) == [f"f{n}" for n in range(20)]
    lines = "\n".join(json.dumps(one) for one in many).encode()
    kind = {"Content-Type": "application/x-ndjson"}
    answer = shop.front.post("/v1/feedback", content=lines, headers=kind)
    assert (answer.status_code, answer.json()["event_ids"]) == (202, [f"f{n}" for n in range(20)])
    event = {"specversion": "1.0", "id": "ce", "source": "s", "type": "t", "time": "2024-01-01T00:00:00Z"}
    data = {"list_id": "x", "user_id": "cloud", "event": "click", "item_id": "i1"}
    answer = shop.front.post(
        "/v1/feedback", json=event | {"data": data}, headers={"Content-Type": "application/cloudevents+json"}
    )
    assert answer.json()["event_ids"] == ["ce"]
    assert taken(shop)["ce"] == (b"cloud", Feedback("x", "click", 1_704_067_200_000, "cloud", "i1", event_id="ce"))
    warned = shop.front.post("/v1/feedback", json=[data | {"position": 3}, data | {"timestamp": 1_700_000_000}]).json()
    assert [(one["index"], one["code"], one["field"]) for one in warned["warnings"]] == [
        (1, "seconds", "timestamp"),
        (0, "unknown-field", "position"),
    ]


REFUSED = [
    ({"event": "click"}, "missing-field", "list_id"),
    ({"list_id": "0-1", "user_id": "u"}, "missing-field", "event"),
    ({"list_id": "0-1", "user_id": "u", "event": 3}, "bad-type", "event"),
    ({"list_id": "0-1", "user_id": "u", "event": "e", "value": "3"}, "bad-value", "value"),
    ({"list_id": "0-1", "user_id": "u", "event": "e", "timestamp": -3}, "bad-timestamp", "timestamp"),
    ({"list_id": "q-nowhere", "event": "e"}, "missing-field", "user_id"),
    ({"list_id": "0-999999999", "event": "e"}, "missing-field", "user_id"),
    ({"list_id": "77-0", "event": "e"}, "missing-field", "user_id"),
    ({"list_id": "nonsense", "event": "e"}, "missing-field", "user_id"),
    ({"list_id": "0-1", "user_id": "u", "event": "click"}, "missing-field", "item_id"),
    ({"list_id": "0-1", "user_id": "u", "event": "dwell", "item_id": "i1"}, "missing-field", "value"),
    ({"list_id": "0-1", "user_id": "u", "event": "purchase", "value": -3}, "bad-value", "value"),
    (3, "not-an-object", None),
]


@pytest.mark.parametrize(("value", "code", "field"), REFUSED)
def test_what_is_wrong_is_named_and_nothing_is_taken(shop: Shop, value: Any, code: str, field: str | None) -> None:
    before = taken(shop)
    good = {"list_id": "x", "user_id": "u", "event": "impression"}
    answer: httpx.Response = shop.front.post("/v1/feedback", json=[good, value])
    error = error_of(answer)
    assert (answer.status_code, error["code"], error.get("field"), error["index"]) == (400, code, field, 1)
    assert taken(shop) == before


def test_an_event_that_nothing_counts_is_taken_with_a_warning(shop: Shop) -> None:
    several = [{"list_id": "x", "user_id": "u", "event": event} for event in ("impression", "clik")]
    answer = shop.front.post("/v1/feedback", json=several)
    (warning,) = answer.json()["warnings"]
    assert (answer.status_code, warning["index"], warning["code"], warning["field"]) == (
        202,
        1,
        "unknown-event",
        "event",
    )
    assert "click" in warning["message"]
