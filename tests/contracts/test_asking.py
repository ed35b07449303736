"""What can be asked over HTTP, on both homes of the log: of a worker's own API, and of the front before it."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as profile
from hypothesis import strategies as st

from consumers.schemas import SeatClaim
from streamer.runtime.topics import read_records, topic_of_surface, whole
from tests.shop import BEGAN_MS, Shop, error_of, shop
from tests.waiting import until

__all__ = ["shop"]
LIST = {"list_id", "user_id", "surface", "items", "as_of", "model_version", "fallback", "request_id", "age_ms"}
ASKED = {"as_of", "request_id", "age_ms"}


# what is answered

PATHS = {
    "/v1/users/u1/recommendations": LIST,
    "/v1/users/u1/recommendations?k=3&exclude=i1,i2&exclude=i3&context.device=phone&explain=1": LIST,
    "/v1/users/u1/recommendations?personalize=false&surface=home&fields=title,attributes": LIST,
    "/v1/users/nobody/recommendations": LIST,
    "/v1/items/i1/similar?k=3": ASKED | {"items"},
    "/v1/items/i1/together?k=3&fields=title": ASKED | {"items"},
    "/v1/items/i1/users?k=3": ASKED | {"users"},
    "/v1/popular?scale=7d&limit=3": ASKED | {"items", "cursor"},
    "/v1/trending?limit=3": ASKED | {"items"},
    "/v1/newest?limit=3&fields=attributes": ASKED | {"items", "cursor"},
    "/v1/users/u1": ASKED | {"user_id", "attributes"},
    "/v1/items/i1": ASKED | {"item_id", "title", "attributes"},
    "/v1/users/u1/explanations/i1": ASKED,
    "/v1/users/u1/surprise": ASKED,
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("who", ["front", "worker"])
def test_every_path_is_answered_by_the_front_and_by_the_worker(shop: Shop, who: str, path: str) -> None:
    client = getattr(shop, who)
    answer = client.get(path)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.json().keys() >= PATHS[path]
    head = client.head(path)
    assert (head.status_code, head.content) == (200, b"")


def test_fields_are_told_where_they_are_asked(shop: Shop) -> None:
    plain = shop.front.get("/v1/users/u1/recommendations?k=3").json()["items"]
    assert [item.keys() & {"title", "attributes"} for item in plain] == [set()] * 3
    told = shop.front.get("/v1/users/u1/recommendations?k=3&fields=title,attributes").json()["items"]
    assert [item["title"].replace("Item ", "i") for item in told] == [item["item_id"] for item in told]
    assert all(item["attributes"]["price"] == int(item["item_id"][1:]) for item in told)


def test_a_list_is_for_a_user_a_session_a_basket_or_anybody(shop: Shop) -> None:
    assert len(shop.listed(user_id="u1", k=5)) == 5
    assert shop.listed(session=[{"item_id": "i1"}, {"item_id": "i3", "event_type": "purchase"}], k=5)
    assert shop.listed(items=["i1", "i3"], k=5)
    assert shop.listed(k=5)
    assert set(shop.listed(user_id="u1", candidates=["i1", "i2", "i9"])) == {"i1", "i2", "i9"}
    assert not {"i1", "i2"} & set(shop.listed(user_id="u1", exclude=["i1", "i2"]))


def test_several_lists_at_once_are_those_of_one_by_one(shop: Shop) -> None:
    asked = [{"user_id": f"u{n}", "k": 4} for n in range(5)] + [{"items": ["i1"], "k": 2}]
    lists = shop.front.post("/v1/recommendations", json={"requests": asked}).json()["lists"]
    assert [[item["item_id"] for item in told["items"]] for told in lists] == [shop.listed(**one) for one in asked]
    assert [told.get("user_id") for told in lists[:5]] == [f"u{n}" for n in range(5)]


def test_pages_follow_one_another(shop: Shop) -> None:
    for path in ("/v1/popular?scale=all", "/v1/newest?", "/v1/trending?"):
        whole = [item["item_id"] for item in shop.front.get(f"{path}&limit=10").json()["items"]]
        paged: list[str] = []
        cursor = ""
        while True:
            page = shop.front.get(f"{path}&limit=4{cursor}").json()
            paged += [item["item_id"] for item in page["items"]]
            if page.get("cursor") is None or len(paged) >= 10:
                break
            cursor = f"&cursor={httpx.QueryParams({'c': page['cursor']})['c']}"
        assert paged[:10] == whole, path


def test_the_filter_holds_for_every_item(shop: Shop) -> None:
    listed = shop.listed(user_id="u1", k=12, filter='"odd" in item.categories')
    assert listed
    assert {int(item[1:]) % 2 for item in listed} == {1}
    answer = shop.front.get("/v1/users/u1/recommendations", params={"filter": "item.price <"})
    assert (answer.status_code, error_of(answer)["field"]) == (400, "filter")


@pytest.mark.parametrize("text", ["item.price", "1 + 1", '"a"', "!item.title", "item.price * 2 > 3 && item.categories"])
def test_what_is_no_condition_is_refused_wherever_one_stands(shop: Shop, text: str) -> None:
    by_body = ({"filter": text}, "filter"), ({"boost": [{"if": text, "factor": 2}]}, "boost.0.if")
    for asked, field in by_body:
        told = error_of(shop.front.post("/v1/recommendations", json=asked))
        assert (told["code"], told["field"]) == ("bad-filter", field)
    for path in ("/v1/popular", "/v1/items/i1/similar", "/v1/users/u1/recommendations"):
        assert error_of(shop.front.get(path, params={"filter": text}))["code"] == "bad-filter"
    before = shop.front.get("/v1/rules").json()
    for rules, field in (({"filter": text}, "filter"), ({"boosts": [{"if": text, "factor": 2}]}, "boosts.0.if")):
        told = error_of(shop.front.put("/v1/rules", json=rules | {"surface": "home"}))
        assert (told["code"], told["field"]) == ("bad-rules", field)
        preview = {"rules": rules | {"surface": "home"}, "users": ["u1"]}
        told = error_of(shop.front.post("/v1/rules/preview", json=preview))
        assert (told["code"], told["field"]) == ("bad-rules", f"rules.{field}")
    assert shop.front.get("/v1/rules").json() == before


def test_a_comparison_that_no_item_can_pass_is_warned_of(shop: Shop) -> None:
    told = shop.front.get("/v1/users/u1/recommendations", params={"filter": 'item.price == "five"'}).json()
    assert told["items"] == []
    assert [(one["field"], one["message"]) for one in told["warnings"]] == [
        ("filter", "no item has a text in the field 'price': it is a number where it is known")
    ]


# what comes in


def test_who_waits_gets_the_list_that_knows_it(shop: Shop) -> None:
    event = {"user_id": "waits", "item_id": "i5", "event_type": "view", "timestamp": BEGAN_MS + 200 * 60_000}
    answer = shop.front.post("/v1/interactions?wait=60000", json=event)
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert told.keys() >= LIST | {"accepted", "event_ids", "warnings"}
    assert (told["user_id"], told["accepted"], told["fallback"]) == ("waits", 1, None)
    assert told["items"][0]["item_id"] == "i5"
    for bad in ([event, event | {"user_id": "other"}], []):
        assert error_of(shop.front.post("/v1/interactions?wait=100", json=bad))["field"] == "wait"


def test_fields_of_an_item_are_merged(shop: Shop) -> None:
    """One change after the other, none lost, however far the worker is."""
    item = {"item_id": "p/1", "title": "Before", "categories": ["a"], "price": 3}
    assert shop.front.post("/v1/items", json=item).status_code == 202
    path = "/v1/items/p%2F1"
    for changes in (
        {"price": 4},
        {"colour": "red"},
        {"title": "After"},
        {"attributes": {"size": "L"}},
        {"price": None},
    ):
        assert shop.front.patch(path, json=changes).status_code == 202
    wanted = {"categories": ["a"], "colour": "red", "size": "L"}

    def told() -> bool:
        known = shop.front.get(path).json()
        attributes = {name: value for name, value in known.get("attributes", {}).items() if name in {*wanted, "price"}}
        return bool((known.get("title"), attributes) == ("After", wanted))

    until(told, said=lambda: shop.front.get(path).text)
    for value, code in (({"item_id": "other"}, "bad-field"), ({"attributes": 3}, "bad-type"), ({"hidden": 3}, None)):
        answer = shop.front.patch(path, json=value)
        assert answer.status_code == 400, value
        assert code is None or error_of(answer)["code"] == code
    assert error_of(shop.front.patch("/v1/items/nowhere", json={"price": 1}))["code"] == "unknown-item"
    assert shop.front.delete(path).status_code == 202
    assert error_of(shop.front.patch(path, json={"price": 1}))["code"] == "unknown-item"


# rules


def rules_of(shop: Shop, surface: str) -> dict[str, Any]:
    answer = shop.front.get(f"/v1/rules?surface={surface}")
    return dict(answer.json()["rules"][0]) if answer.status_code == 200 else {}


def put_rules(shop: Shop, surface: str, user: str = "u1", **rules: Any) -> str:
    """Puts rules in force, and waits until lists are made by them."""
    answer = shop.front.put("/v1/rules", json={"surface": surface, **rules})
    assert answer.status_code == 202, answer.text
    [applied] = answer.json()["applied"]
    path = f"/v1/users/{user}/recommendations?surface={surface}"
    until(lambda: shop.front.get(path).json().get("rules") == applied["version"])
    return str(applied["version"])


def test_lists_are_made_by_the_rules_of_their_surface(shop: Shop) -> None:
    version = put_rules(
        shop, "cheap", filter="item.price < 8", quotas=[{"per": "item.category", "max": 2}],
        pins=[{"item_id": "i6", "place": 1, "if": "user.plan == 'gold' && context.device == 'tv'"}], k=4,
    )  # fmt: skip
    path = "/v1/users/u1/recommendations?surface=cheap"
    listed = [int(item["item_id"][1:]) for item in shop.front.get(path).json()["items"]]
    assert len(listed) == 4
    assert max(listed) < 8
    assert sorted(n % 2 for n in listed) == [0, 0, 1, 1]
    pinned = shop.front.get(f"{path}&context.device=tv").json()["items"][0]
    assert (pinned["item_id"], pinned["source"], pinned["reason"]) == ("i6", "pinned", "pinned")
    assert set(shop.listed(user_id="u1", surface="cheap", k=12, filter="item.price > 5")) <= {"i6", "i7"}
    assert "i6" not in shop.listed(user_id="u1", surface="cheap", exclude=["i6"], context={"device": "tv"})
    anybody = shop.front.get(f"{path}&personalize=false&context.device=tv").json()
    assert anybody["rules"] == version
    assert anybody["items"][0]["item_id"] != "i6"  # nothing of the user is read
    assert "rules" not in shop.front.get("/v1/users/u1/recommendations").json()
    told = rules_of(shop, "cheap")
    assert (told["version"], told["rules"]["filter"], told["before"]) == (version, "item.price < 8", [])
    assert version in {one["version"] for one in shop.front.get("/v1/rules").json()["rules"]}


def test_published_lists_obey_too(shop: Shop) -> None:
    aside = topic_of_surface(shop.settings, "aside")
    version = put_rules(shop, "aside", filter="item.price < 4", publish=True, k=2)

    def published(topic: str) -> dict[str, Any]:
        if topic not in shop.log.topic_names():
            return {}
        records = read_records(shop.log, whole(shop.log, topic))
        return {(r.key or b"").decode(): json.loads(r.value) for r in records if r.value is not None}

    until(lambda: {f"u{n}" for n in range(5)} <= published(aside).keys())
    for user, told in published(aside).items():
        assert (told["surface"], told["rules"], told["user_id"]) == ("aside", version, user)
        assert {item["item_id"] for item in told["items"]} <= {"i0", "i1", "i2", "i3"}
        assert len(told["items"]) == 2
    main = shop.settings.recommendations_topic
    version = put_rules(shop, "default", filter="item.price != 9")
    until(
        lambda: {told.get("rules") for user, told in published(main).items() if user in published(aside)} == {version}
    )
    assert not any(item["item_id"] == "i9" for told in published(main).values() for item in told["items"])
    shop.front.put("/v1/rules", json={"surface": "default"})
    until(lambda: "rules" not in shop.front.get("/v1/users/u1/recommendations").json())


def test_what_a_user_has_taken_is_left_out_as_the_rules_say(shop: Shop) -> None:
    had = {item["item_id"] for item in shop.front.get("/v1/users/u2").json()["last"]}
    assert had
    put_rules(shop, "unseen", seen="exclude", user="u2")
    assert not had & set(shop.listed(user_id="u2", surface="unseen", k=12))
    assert had & set(shop.listed(user_id="u2", k=12))
    put_rules(shop, "unseen", seen="after 2000d", user="u2")
    assert not had & set(shop.listed(user_id="u2", surface="unseen", k=12))
    put_rules(shop, "unseen", seen="allow", k=12, user="u2")
    assert had & set(shop.listed(user_id="u2", surface="unseen"))
    assert [one["rules"].get("seen") for one in rules_of(shop, "unseen")["before"]] == ["after 2000d", "exclude"]


def test_a_preview_shows_what_rules_would_do_and_changes_nothing(shop: Shop) -> None:
    before = shop.front.get("/v1/rules").json()
    asked = {"rules": {"surface": "tried", "filter": "item.price > 8"}, "users": ["u1", "u2", "nobody"], "k": 5}
    told = shop.front.post("/v1/rules/preview", json=asked).json()
    assert [one["user_id"] for one in told["lists"]] == asked["users"]
    for one in told["lists"]:
        after = [item["item_id"] for item in one["after"]["items"]]
        assert set(after) <= {"i9", "i10", "i11"}
        assert one["after"]["rules"] == told["version"] == one["version"]
        same = shop.listed(user_id=one["user_id"], surface="tried", k=5)
        assert [item["item_id"] for item in one["before"]["items"]] == same
    assert shop.front.get("/v1/rules").json() == before
    version = put_rules(shop, "tried", filter="item.price > 8")
    assert version == told["version"]
    for one in told["lists"]:
        after = [item["item_id"] for item in one["after"]["items"]]
        assert shop.listed(user_id=one["user_id"], surface="tried", k=5) == after


def test_rules_are_taken_back_and_away(shop: Shop) -> None:
    first = put_rules(shop, "turned", filter="item.price < 4")
    put_rules(shop, "turned", filter="item.price > 8")
    path = "/v1/users/u1/recommendations?surface=turned"
    for body in ({"surface": "turned"}, {"surface": "turned", "version": first[:6]}):
        told = shop.front.post("/v1/rules/rollback", json=body)
        assert told.status_code == 202, told.text
        version = told.json()["applied"][0]["version"]
        until(lambda version=version: shop.front.get(path).json().get("rules") == version)  # type: ignore[misc]
        assert version == first
    assert max(int(one[1:]) for one in shop.listed(user_id="u1", surface="turned", k=12)) < 4
    gone = shop.front.delete("/v1/rules?surface=turned")
    assert (gone.status_code, gone.json()["applied"][0]["changed"]) == (202, True)
    until(lambda: "rules" not in shop.front.get(path).json())
    assert first in {one["version"] for one in rules_of(shop, "turned")["before"]}  # and can come back
    assert shop.front.post("/v1/rules/rollback", json={"surface": "turned"}).json()["applied"][0]["version"] == first


def test_what_of_rules_can_have_no_effect_is_said(shop: Shop) -> None:
    rules = {
        "surface": "vain", "filter": "item.prise < 8 && context.mood == 'good'", "pins": [{"item_id": "i99", "place": 1}],
        "quotas": [{"per": "item.colour", "max": 1}],
    }  # fmt: skip
    put = shop.front.put("/v1/rules", json=rules)
    previewed = shop.front.post(
        "/v1/rules/preview", json={"rules": rules, "users": ["u1"], "context": {"mood": "good"}}
    )
    for answer in (put, previewed):
        fields = [(one["surface"], one["code"], one["field"]) for one in answer.json()["warnings"]]
        named = ["pins.0.item_id", "quotas.0.per", "filter", "filter"]
        assert fields == [("vain", "no-effect", field) for field in named], answer.text
    fine = {"surface": "vain", "filter": "item.price < 8", "pins": [{"item_id": "i1", "place": 1}]}
    assert shop.front.put("/v1/rules", json=fine).json()["warnings"] == []


@pytest.mark.parametrize(
    ("asked", "fields"),
    [
        ({"surface": "nowhere"}, ["surface"]),
        ({"context": {"device": "tv", "country": "NO"}}, []),
        ({"context": {"devise": "tv", "mood": "good"}}, ["context.devise", "context.mood"]),
        ({"context": {"mood": "good"}, "filter": "context.mood == 'good'"}, []),
        ({"context": {"mood": "good"}, "boost": [{"if": "context.mood == 'good'", "factor": 2}]}, []),
        ({"surface": "default"}, []),
        ({"filter": "item.pice < 10"}, ["filter"]),
        ({"filter": "item.price < 10"}, []),
        ({"boost": [{"if": "item.price < 10", "factor": 2}, {"if": "item.pice < 10", "factor": 2}]}, ["boost.1.if"]),
    ],
)
def test_what_of_a_question_has_no_effect_is_said(shop: Shop, asked: dict[str, Any], fields: list[str]) -> None:
    told = shop.front.post("/v1/recommendations", json={"user_id": "u1", **asked}).json()
    assert [one["field"] for one in told.get("warnings", [])] == fields


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code", "field"),
    [
        ("DELETE", "/v1/rules?surface=nowhere", None, 404, "no-rules", "surface"),
        ("DELETE", "/v1/rules", None, 400, "missing-parameter", "surface"),
        ("POST", "/v1/rules/rollback", {"surface": "nowhere"}, 404, "no-rules", "surface"),
        ("POST", "/v1/rules/rollback", {"surfaces": "nowhere"}, 400, "unknown-field", "surfaces"),
        ("PUT", "/v1/rules", {"filter": "item.price <"}, 400, "bad-rules", "filter"),
        ("PUT", "/v1/rules", {"boosts": [{"if": "item.x", "factor": 0}]}, 400, "bad-rules", "boosts.0.factor"),
        ("PUT", "/v1/rules", {"surface": "A B"}, 400, "bad-rules", "surface"),
        ("PUT", "/v1/rules", {"colour": 1}, 400, "bad-rules", "colour"),
        ("PUT", "/v1/rules", [{"surface": "a"}, {"surface": "a"}], 400, "repeated-surface", "surface"),
        ("PUT", "/v1/rules", [{"surface": "a"}, 3], 400, "not-an-object", "1"),
        ("PUT", "/v1/rules", [], 400, "not-an-object", None),
        ("PUT", "/v1/rules", {}, 400, "bad-rules", None),
        ("GET", "/v1/rules?surface=nowhere", None, 404, "no-rules", "surface"),
        ("POST", "/v1/rules/preview", {"users": ["u1"]}, 400, "not-an-object", "rules"),
        ("POST", "/v1/rules/preview", {"rules": {}, "users": []}, 400, "bad-field", "users"),
        ("POST", "/v1/rules/preview", {"rules": {"k": 0}, "users": ["u1"]}, 400, "bad-rules", "rules.k"),
        ("POST", "/v1/rules/preview", {"rules": {}, "users": ["u1"], "x": 1}, 400, "unknown-field", "x"),
    ],
)
def test_what_are_no_rules_is_refused_with_its_field(
    shop: Shop, method: str, path: str, body: Any, status: int, code: str, field: str | None
) -> None:
    answer = shop.front.request(method, path, json=body)
    assert (answer.status_code, error_of(answer)["code"]) == (status, code), answer.text
    assert error_of(answer).get("field") == field


# what is refused

REFUSED = [
    ("GET", "/v1/users/u1/recommendations?speed=1", None, 400, "unknown-parameter", "speed"),
    ("GET", "/v1/users/u1/recommendations?k=0", None, 400, "bad-parameter", "k"),
    ("GET", "/v1/users/u1/recommendations?k=1001", None, 400, "bad-parameter", "k"),
    ("GET", "/v1/users/u1/recommendations?k=many", None, 400, "bad-parameter", "k"),
    ("GET", "/v1/users/u1/recommendations?k=1&k=2", None, 400, "repeated-parameter", "k"),
    ("GET", "/v1/users/u1/recommendations?fields=price", None, 400, "bad-parameter", "fields"),
    (
        "GET",
        f"/v1/users/u1/recommendations?context.geo={'x' * 1_025}",
        None,
        400,
        "bad-parameter",
        "context.geo",
    ),
    ("GET", "/v1/users/u1/recommendations?fields=title,attributes,price", None, 400, "bad-parameter", "fields"),
    ("GET", "/v1/users/u1/recommendations?context=phone", None, 400, "unknown-parameter", "context"),
    ("GET", "/v1/users/u1/recommendations?exclude=", None, 400, "bad-id", "exclude"),
    ("GET", "/v1/popular?scale=2h", None, 400, "bad-parameter", "scale"),
    ("GET", "/v1/popular?cursor=nonsense", None, 400, None, "cursor"),
    ("GET", "/v1/items/nowhere", None, 404, "unknown-item", "item_id"),
    ("GET", "/v1/items/nowhere/similar", None, 404, "unknown-item", "item_id"),
    ("GET", "/v1/users/nobody", None, 404, "unknown-user", "user_id"),
    ("GET", "/v1/users/u1/explanations/nowhere", None, 404, "unknown-item", "item_id"),
    ("GET", "/v1/users/%FF/recommendations", None, 400, "bad-id", "user_id"),
    ("POST", "/v1/recommendations", [], 400, "not-an-object", None),
    ("POST", "/v1/recommendations", {"user_id": ""}, 400, "bad-id", "user_id"),
    ("POST", "/v1/recommendations", {"user_id": "u", "items": ["i"]}, 400, "bad-field", None),
    ("POST", "/v1/recommendations", {"speed": 1}, 400, "unknown-field", "speed"),
    ("POST", "/v1/recommendations", {"session": [{}]}, 400, "missing-field", "session.0.item_id"),
    ("POST", "/v1/recommendations", {"requests": []}, 400, "bad-field", "requests"),
    ("POST", "/v1/recommendations", {"requests": [{"k": 1}, {"k": "x"}]}, 400, "bad-field", "requests.1.k"),
    ("POST", "/v1/recommendations", {"requests": [{}] * 101}, 400, "bad-field", "requests"),
    ("POST", "/v1/recommendations", {"requests": [{}], "k": 3}, 400, "unknown-field", "k"),
    ("PUT", "/v1/recommendations", None, 405, "method-not-allowed", None),
    ("GET", "/v1/nothing", None, 404, "not-found", None),
]


@pytest.mark.parametrize("who", ["front", "worker"])
@pytest.mark.parametrize(("method", "path", "body", "status", "code", "field"), REFUSED)
def test_what_is_wrong_is_named(
    shop: Shop, who: str, method: str, path: str, body: Any, status: int, code: str | None, field: str | None
) -> None:
    client = getattr(shop, who)
    raw = httpx.URL(client.base_url).copy_with(raw_path=path.encode())
    answer = client.request(method, raw, **({} if body is None else {"json": body}))
    error = error_of(answer)
    assert (answer.status_code, error.get("field")) == (status, field), error
    assert code is None or error["code"] == code


# the document


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        for part in value.values():
            yield from _references(part)
    elif isinstance(value, list):
        for part in value:
            yield from _references(part)


@pytest.mark.parametrize("who", ["front", "worker"])
def test_the_document_is_whole(shop: Shop, who: str) -> None:
    told = getattr(shop, who).get("/openapi.json").json()
    named = {f"#/components/schemas/{name}" for name in told["components"]["schemas"]}
    assert set(_references(told)) <= named
    operations = [one for methods in told["paths"].values() for one in methods.values()]
    assert len({one["operationId"] for one in operations}) == len(operations)
    assert all(one["summary"] for one in operations)
    page = getattr(shop, who).get("/docs")
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    assert "//" not in page.text.replace("<!doctype html>", "").replace("://", "") or "src=" not in page.text


def _values(schema: dict[str, Any], schemas: dict[str, Any], depth: int = 0) -> st.SearchStrategy[Any]:
    """Values of a schema, and now and then something else."""
    if "$ref" in schema:
        schema = schemas[schema["$ref"].rpartition("/")[2]]
    if "anyOf" in schema:
        return st.one_of([_values(one, schemas, depth) for one in schema["anyOf"]])
    if "enum" in schema or "const" in schema:
        return st.sampled_from(schema.get("enum") or [schema["const"]])
    low, high = schema.get("minimum", -(2**63)), schema.get("maximum", 2**63)
    few = {"min_size": schema.get("minItems", 0), "max_size": 3}
    match schema.get("type"):
        case "integer":
            return st.integers(low, high)
        case "number":
            return st.floats(allow_nan=False, allow_infinity=False)
        case "boolean":
            return st.booleans()
        case "null":
            return st.none()
        case "array":
            return st.lists(_values(schema.get("items", {}), schemas, depth + 1), **few)
        case "object" if depth < 3:
            known = {name: _values(one, schemas, depth + 1) for name, one in schema.get("properties", {}).items()}
            needed = {name: known.pop(name) for name in schema.get("required", [])}
            return st.fixed_dictionaries(needed, optional=known)
        case "string":
            ids = st.sampled_from(["u1", "i1", "p/1", "item.price > 3", "1d"])
            return ids | st.text(min_size=schema.get("minLength", 0), max_size=20)
    return st.text(max_size=5)


GARBAGE = st.none() | st.integers() | st.text(max_size=10) | st.lists(st.integers(), max_size=2) | st.just({"a": [{}]})


def test_whatever_is_asked_is_answered_or_refused_in_form(shop: Shop) -> None:
    """Requests made of the document, with parts of them replaced by something else."""
    told = shop.front.get("/openapi.json").json()
    schemas = told["components"]["schemas"]
    operations = [
        (method, path, one)
        for path, methods in told["paths"].items()
        for method, one in methods.items()
        if not path.endswith("stream") and (method, path) not in {("delete", "/v1/items/{item_id}")}
    ]

    examples = 400 if shop.settings.log else 100  # the endpoints are the same, and a broker is slower

    @profile(max_examples=examples, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(data=st.data())
    def ask(data: st.DataObject) -> None:
        method, path, one = data.draw(st.sampled_from(operations))
        query: list[tuple[str, str]] = []
        for parameter in one["parameters"]:
            made = _values(parameter["schema"], schemas)
            if parameter["in"] == "path":
                path = path.replace(f"{{{parameter['name']}}}", _quoted(str(data.draw(made))))
            elif parameter["required"] or data.draw(st.booleans()):
                value = data.draw(made | GARBAGE)
                values = value if isinstance(value, list) else [value]
                query += [
                    (parameter["name"], str(part).lower() if isinstance(part, bool) else str(part)) for part in values
                ]
        body = one.get("requestBody", {}).get("content", {}).get("application/json")
        content: dict[str, Any] = {}
        if body is not None:
            value = data.draw(_values(body["schema"], schemas) | GARBAGE)
            content = {"content": json.dumps(value).encode(), "headers": {"Content-Type": "application/json"}}
        encoded = str(httpx.QueryParams([(name, text.encode("utf-8", "replace").decode()) for name, text in query]))
        raw = httpx.URL(shop.front.base_url).copy_with(raw_path=f"{path}?{encoded}".encode())
        answer = shop.front.request(method.upper(), raw, **content)
        assert answer.status_code < 500, (method, path, query, content, answer.text)
        if answer.status_code >= 400:
            error_of(answer)
        else:
            assert str(answer.status_code) in {*one["responses"], "200"}
            assert answer.status_code == 204 or answer.headers["content-type"].split(";")[0] in {
                "application/json", "text/plain"
            }  # fmt: skip

    ask()


def _quoted(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode("utf-8", "replace")) or "%20"


def test_a_claim_of_a_seat_is_no_address(shop: Shop) -> None:
    """Both lie on one topic."""
    assert shop.view.workers.addresses().keys() == {str(shop.worker.base_url).rstrip("/")}
    assert shop.view.skipped[shop.settings.workers_topic] == 0
    assert SeatClaim.__struct_fields__[0] == "seat"
