"""What comes is what the API's document says: each real answer, good or bad, against the schema that is served."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator

from tests.shop import BEGAN_MS, Shop, shop

__all__ = ["shop"]
EVENT = {"user_id": "u1", "item_id": "i1", "event_type": "view", "timestamp": BEGAN_MS + 300 * 60_000}
PREVIEW = {"rules": {"surface": "cart", "filter": "item.price > 3"}, "users": ["u1", "nobody"], "fields": ["title"]}

OF_A_USER, SEVERAL, ITEM, USER = (
    "/v1/users/{user_id}/recommendations", "/v1/recommendations", "/v1/items/{item_id}", "/v1/users/{user_id}"
)  # fmt: skip
ASKED: list[tuple[str, str, str, Any]] = [  # method, path as documented, path, body
    *(
        ("GET", OF_A_USER, f"/v1/users/{user}/recommendations?{query}", None)
        for user in ("u1", "nobody")
        for query in (
            "k=3", "explain=1&fields=title,attributes", "surface=nowhere", "filter=item.nobody==1", "k=0",
            "context.nobody=1", "personalize=false", "filter=1%2B1", "unknown=1",
        )
    ),
    *(
        ("POST", SEVERAL, "/v1/recommendations", body)
        for body in (
            {"k": 2}, {"items": ["i1"]}, {"session": [{"item_id": "i1"}], "explain": True, "fields": ["title"]},
            {"user_id": "u1", "explore": 0.5}, {"requests": [{"k": 1}, {"filter": "x"}]}, {"requests": []}, {"k": "1"},
        )
    ),
    *(
        ("GET", f"/v1/{name}", f"/v1/{name}?{query}", None)
        for name in ("popular", "trending", "newest")
        for query in ("", "limit=2&fields=title,attributes", "cursor=x")
    ),
    ("GET", "/v1/popular", "/v1/popular?scale=all", None),
    *(
        ("GET", f"{ITEM}/{name}", f"/v1/items/{item}/{name}", None)
        for name in ("similar", "together", "users")
        for item in ("i1", "nothing")
    ),
    *(("GET", ITEM, f"/v1/items/{item}", None) for item in ("i1", "nothing")),
    *(("GET", USER, f"/v1/users/{user}", None) for user in ("u1", "nobody")),
    *(("GET", f"{USER}/surprise", f"/v1/users/{user}/surprise", None) for user in ("u1", "nobody")),
    *(
        ("GET", f"{USER}/explanations/{{item_id}}", f"/v1/users/u1/explanations/{item}", None)
        for item in ("i1", "i11", "nothing")
    ),
    *(("GET", path, path, None) for path in ("/v1/status", "/v1/items", "/v1/users", "/v1/experiments", "/v1/session")),
    *(
        ("POST", "/v1/interactions", "/v1/interactions", body)
        for body in (EVENT, [EVENT, EVENT | {"unknown": 1}], {"user_id": ""}, [])
    ),
    ("POST", "/v1/interactions", "/v1/interactions?wait=60000", EVENT),
    ("DELETE", "/v1/interactions/{event_id}", "/v1/interactions/e?user_id=u1", None),
    ("POST", "/v1/items", "/v1/items", {"item_id": "new", "colour": "red"}),
    ("PATCH", ITEM, "/v1/items/i1", {"colour": "blue"}),
    ("PATCH", ITEM, "/v1/items/nothing", {"colour": "blue"}),
    ("DELETE", ITEM, "/v1/items/never", None),
    ("POST", "/v1/users", "/v1/users", {"user_id": "new", "age": 3}),
    ("DELETE", USER, "/v1/users/nobody", None),
    ("POST", f"{USER}/merge", "/v1/users/u1/merge", {"session": "u1"}),
    ("POST", "/v1/feedback", "/v1/feedback", {"list_id": "q", "user_id": "u1", "event": "of my own"}),
    ("PUT", "/v1/rules", "/v1/rules", {"surface": "cart", "pins": [{"item_id": "nothing", "place": 1}]}),
    ("GET", "/v1/rules", "/v1/rules", None),
    ("PUT", "/v1/rules", "/v1/rules", {"surface": "cart", "k": 5}),
    ("GET", "/v1/rules", "/v1/rules?surface=cart", None),
    ("GET", "/v1/rules", "/v1/rules?surface=nowhere", None),
    ("POST", "/v1/rules/rollback", "/v1/rules/rollback", {"surface": "cart"}),
    ("POST", "/v1/rules/preview", "/v1/rules/preview", PREVIEW),
    ("DELETE", "/v1/rules", "/v1/rules?surface=cart", None),
    ("GET", "/v1/dead-letters/{reason}", "/v1/dead-letters/nothing", None),
]  # fmt: skip


def test_every_answer_is_of_the_form_that_the_document_has(shop: Shop) -> None:
    document = shop.front.get("/openapi.json").json()
    told = {
        f"{method} {path} {body}": reason
        for method, template, path, body in ASKED
        for reason in problems(document, template, shop.front.request(method, path, json=body))
    }
    assert told == {}
    documented = {
        (method.upper(), path)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if any(
            "application/json" in one.get("content", {})
            for code, one in operation["responses"].items()
            if code != "default"
        )
    }
    asked = {(method, template) for method, template, _, _ in ASKED}
    assert documented - asked == {("POST", "/v1/session")}  # asks for keys: see test_endpoints


def problems(document: dict[str, Any], template: str, answer: httpx.Response) -> Iterator[str]:
    """Where an answer is not as documented: a field too many is one too."""
    responses = document["paths"][template][answer.request.method.lower()]["responses"]
    if str(answer.status_code) not in responses and answer.is_success:
        yield f"{answer.status_code} is not documented"
        return
    said = responses.get(str(answer.status_code), responses["default"])["content"]["application/json"]["schema"]
    models = json.loads(json.dumps(document["components"]["schemas"]).replace("#/components/schemas/", "#/$defs/"))
    for model in models.values():
        if "properties" in model:
            model.setdefault("additionalProperties", False)
    schema = json.loads(json.dumps(said).replace("#/components/schemas/", "#/$defs/")) | {"$defs": models}
    for error in Draft202012Validator(schema).iter_errors(answer.json()):
        yield f"{answer.status_code}, {error.json_path}: {error.message[:300]}"


@pytest.mark.parametrize("asked", [{"k": True}, {"k": "5"}, {"k": 2.5}, {"diversity": "1"}, {"explore": True}])
def test_numbers_of_a_body_are_numbers(shop: Shop, asked: dict[str, Any]) -> None:
    answer = shop.front.post("/v1/recommendations", json=asked)
    assert (answer.status_code, answer.json()["error"]["field"]) == (400, *asked)


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"context": {"device": None}}, "context.device"),
        ({"context": {"place": {"city": "Oslo"}}}, "context.place"),
        ({"context": {"device": "x" * 1_025}}, "context.device"),
        ({"boost": [{"if": "item.price <", "factor": 2}]}, "boost.0.if"),
    ],
)
def test_an_error_names_the_field(shop: Shop, asked: dict[str, Any], field: str) -> None:
    answer = shop.front.post("/v1/recommendations", json=asked)
    assert (answer.status_code, answer.json()["error"]["field"]) == (400, field)


@pytest.mark.parametrize(
    ("field", "value"), [("user_id", ""), ("item_id", "x" * 1_025), ("item_id", 1.5), ("user_id", True)]
)
def test_a_bad_id_of_a_record_names_its_field(shop: Shop, field: str, value: Any) -> None:
    told = shop.front.post("/v1/interactions", json=[EVENT, EVENT | {field: value}]).json()["error"]
    assert (told["code"], told["field"], told["index"]) == ("bad-id", field, 1)


def test_a_query_that_is_no_utf_8_is_refused(shop: Shop) -> None:
    for method, path in (("GET", b"/v1/popular?filter=%FF"), ("DELETE", b"/v1/interactions/e?user_id=%FF")):
        answer = shop.front.request(method, httpx.URL(shop.front.base_url).copy_with(raw_path=path))
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad-parameter")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("k=1_0", "k"),
        ("k=%205", "k"),
        ("k=%D9%A5", "k"),
        ("k=1.0", "k"),
        ("context=phone", "context"),
        ("context.=x", "context."),
    ],
)
def test_a_wrong_parameter_is_named(shop: Shop, query: str, field: str) -> None:
    answer = shop.front.get(f"/v1/users/u1/recommendations?{query}")
    assert (answer.status_code, answer.json()["error"]["field"]) == (400, field)


@pytest.mark.parametrize(
    ("path", "other"),
    [
        ("/v1/popular?scale=1d", "/v1/popular?scale=all"),
        ("/v1/popular?scale=1d", "/v1/popular?scale=1d&filter=item.price%3E1"),
        ("/v1/newest?filter=item.price%3E1", "/v1/newest?filter=item.price%3E2"),
        ("/v1/newest?", "/v1/trending?"),
    ],
)
def test_a_cursor_belongs_to_its_question(shop: Shop, path: str, other: str) -> None:
    cursor = shop.front.get(f"{path}&limit=2").json()["cursor"]
    assert len(shop.front.get(f"{path}&limit=3&cursor={cursor}").json()["items"]) == 3
    answer = shop.front.get(f"{other}&limit=2&cursor={cursor}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad-cursor")
