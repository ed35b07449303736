"""The endpoints of the API by tables: every path, method, content type, origin, host, key and size."""

import asyncio
import copy
import gzip
import json
import os
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import hypothesis
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.dead_letter import DeadLetter
from consumers.decode_nodes import decode_item, decode_user
from consumers.errors import LogUnavailable
from consumers.open_log import OwnedLog
from consumers.partitioner import partition_of
from consumers.records import NewRecord, Record
from consumers.schemas import Interaction, User, WorkerAddress
from streamer.cli.main import main
from streamer.errors import UsageError
from streamer.pipeline.ingest import Intake
from streamer.runtime.topics import read_records, topic_specs, whole
from streamer.settings import Settings
from streamer.web.access import SCOPES, admin_key, read_keys
from streamer.web.answers import ApiError
from streamer.web.api import Gateway
from streamer.web.bodies import Body
from streamer.web.health import health_app
from streamer.web.incoming import Incoming, IncomingRecords
from streamer.web.materialized_view import View
from streamer.web.server import WebServer
from streamer.web.workers.line import ANSWER_TIMEOUT_S, LOOK_EVERY_S
from streamer.worker.prometheus import RunMetrics
from streamer.worker.worker import Worker
from tests.contracts.test_answers_as_documented import problems
from tests.waiting import scaled, until
from tests.websocket import Refused, WebSocket

ROOT = Path(__file__).parents[3]
JSON = {"Content-Type": "application/json"}
EVENT = {"user_id": "u", "item_id": "a", "event_type": "view", "timestamp": 1_500_000_000_000}
BODY = json.dumps(EVENT).encode()
Serve = Callable[..., httpx.Client]


class Servers:
    """Servers over one log, each with settings of its own."""

    def __init__(self, log: OwnedLog, settings: Settings) -> None:
        self.log, self._settings = log, settings
        self._running: dict[str, tuple[WebServer, View, httpx.Client]] = {}

    def __call__(self, host: str = "127.0.0.1", **changes: Any) -> httpx.Client:
        """A client of a server that listens on loopback and takes itself for one on `host`."""
        mine = self._settings.model_copy(update={"host": host, **changes})
        name = mine.model_dump_json()
        if name not in self._running:
            view = View(self.log, mine)
            app = Gateway(self.log, mine, view).app()
            server = WebServer(app, "127.0.0.1", 0, request_timeout_s=mine.request_timeout_s, sockets=True)
            view.start()
            server.start()
            assert view.ready.wait(10)
            self._running[name] = server, view, httpx.Client(base_url=server.address, timeout=scaled(10))
        client = self._running[name][2]
        client.cookies.clear()
        return client

    def close(self) -> None:
        for server, view, client in self._running.values():
            client.close()
            view.stop()
            server.stop()


@pytest.fixture
def serve(log: OwnedLog, settings: Settings) -> Iterator[Serve]:
    """Servers over a log of the test's own."""
    servers = Servers(log, settings)
    yield servers
    servers.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Servers that live as long as the tests of this file: for those that need no worker."""
    folder = tmp_path_factory.mktemp("shared")
    settings = Settings.load(log=str(folder / "log"), state=str(folder / "state"))
    log = OwnedLog(folder / "log")
    log.create(topic_specs(settings, partitions=1))
    servers = Servers(log, settings)
    yield servers
    servers.close()
    log.close()


def error_of(answer: httpx.Response) -> dict[str, Any]:
    """The error of an answer, in the one form that errors have."""
    assert answer.headers["content-type"] == "application/json"
    error = answer.json()["error"]
    assert {"code", "message"} <= error.keys() <= {"code", "message", "field", "index"}
    return dict(error)


def records(log: OwnedLog, topic: str) -> list[Record]:
    return list(read_records(log, whole(log, topic)))


# every path and method

PATHS = {
    "/": ["GET"],
    "/static/app.js": ["GET"],
    "/v1/session": ["GET", "POST", "DELETE"],
    "/v1/interactions": ["POST"],
    "/v1/interactions/e?user_id=u": ["DELETE"],
    "/v1/feedback": ["POST"],
    "/v1/items": ["GET", "POST"],
    "/v1/items/a": ["GET", "PATCH", "DELETE"],
    "/v1/items/a/similar": ["GET"],
    "/v1/items/a/together": ["GET"],
    "/v1/items/a/users": ["GET"],
    "/v1/users": ["GET", "POST"],
    "/v1/users/u": ["GET", "DELETE"],
    "/v1/users/u/merge": ["POST"],
    "/v1/users/u/recommendations": ["GET"],
    "/v1/users/u/explanations/a": ["GET"],
    "/v1/users/u/surprise": ["GET"],
    "/v1/recommendations": ["POST"],
    "/v1/rules": ["GET", "PUT", "DELETE"],
    "/v1/rules/rollback": ["POST"],
    "/v1/rules/preview": ["POST"],
    "/v1/experiments": ["GET"],
    "/v1/popular": ["GET"],
    "/v1/trending": ["GET"],
    "/v1/newest": ["GET"],
    "/v1/status": ["GET"],
    "/v1/dead-letters/bad-id": ["GET"],
    "/openapi.json": ["GET"],
    "/docs": ["GET"],
    "/v1/users/u/lists/stream": ["GET"],
    "/v1/stream": ["GET"],
    "/v1/ws": ["GET"],
    "/livez": ["GET"],
    "/readyz": ["GET"],
    "/metrics": ["GET"],
    "/interactions": ["POST"],
    "/items": ["POST"],
    "/recommendations/u": ["GET"],
    "/recommendations/u/stream": ["GET"],
    "/stream": ["GET"],
    "/users": ["GET"],
}
LISTS = {"/v1/users/u/recommendations", "/recommendations/u"}
"""Paths of lists: where no worker is there, what is published is the answer, or 404."""
ASKED = {
    path
    for path in PATHS
    if path.startswith(("/v1/items/a", "/v1/users/u")) or path in ("/v1/popular", "/v1/trending", "/v1/newest")
} - {*LISTS, "/v1/users/u/lists/stream", "/v1/users/u/merge"}
"""Paths that a worker has to answer; there is none here."""
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")


def test_every_method_on_every_path(shared: Servers) -> None:
    client = shared()
    for path, taken in PATHS.items():
        for method in {*METHODS} - {*taken, *(["HEAD"] if "GET" in taken else [])}:
            answer = client.request(method, path)
            assert answer.status_code == 405, (method, path)
            if method != "HEAD":
                assert error_of(answer)["code"] == "method-not-allowed"
            allowed = {*taken, *(["HEAD"] if "GET" in taken else [])}
            assert {name.strip() for name in answer.headers["allow"].split(",")} == allowed
        if "GET" in taken:
            unknown = path in LISTS or "dead-letters" in path
            otherwise = 503 if path in ASKED else 426 if path == "/v1/ws" else 200
            assert client.head(path).status_code == (404 if unknown else otherwise), path


@pytest.mark.parametrize(
    "path",
    ["/nothing", "/v1", "/v1/", "/interactions/", "/v1/interactions/", "/users/", "/v1/users/u/", "/v2/users"],
)
def test_what_is_not_there_is_json_too(shared: Servers, path: str) -> None:
    client = shared()
    for method in ("GET", "POST", "DELETE"):
        answer = client.request(method, path)
        assert (answer.status_code, error_of(answer)["code"]) == (404, "not-found")


def test_a_query_parameter_that_is_unknown_or_twice_is_refused(shared: Servers) -> None:
    client = shared()
    for path, taken in PATHS.items():
        for method in taken:
            answer = client.request(method, f"{path}{'&' if '?' in path else '?'}speed=1", headers=JSON, content=BODY)
            assert (answer.status_code, error_of(answer)["field"]) == (400, "speed"), (method, path)
    assert error_of(client.get("/v1/stream?user=a&user=b"))["code"] == "repeated-parameter"


def test_what_clients_send_writes_nothing_into_the_log(
    shared: Servers, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    client = shared()
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Key": "x", "Sec-WebSocket-Version": "13"}
    assert client.get("/v1/users", headers=upgrade).status_code == 200
    with socket.create_connection((client.base_url.host, client.base_url.port)) as raw:
        raw.sendall(b"nonsense\r\n\r\n")
        assert raw.makefile("rb").read()
    assert client.post("/v1/interactions", content=b"\xff", headers=JSON).status_code == 400
    assert capfd.readouterr().err == ""
    assert not caplog.records


def test_a_request_that_is_no_http_is_refused_as_json(shared: Servers) -> None:
    client = shared()
    with socket.create_connection((client.base_url.host, client.base_url.port)) as raw:
        raw.sendall(b"\x16\x03\x01 nonsense\r\n\r\n")
        answer = raw.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "bad-request"


def test_a_fault_of_ours_is_json(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(View, "list_of", lambda self, user: 1 / 0)
    answer = serve().get("/v1/users/u/recommendations")
    assert (answer.status_code, error_of(answer)["code"]) == (500, "internal")


@pytest.mark.parametrize(
    ("user", "paths"),
    [
        ("x/stream", ["/v1/users/x%2Fstream/recommendations", "/recommendations/x%2Fstream"]),
        ("a/b", ["/v1/users/a%2Fb/recommendations", "/recommendations/a/b", "/recommendations/a%2fb"]),
        ("50%25", ["/v1/users/50%2525/recommendations", "/recommendations/50%2525"]),
        ("é ?#", ["/v1/users/%C3%A9%20%3F%23/recommendations"]),
        ("a+b", ["/v1/users/a+b/recommendations"]),
        ("..", ["/v1/users/%2E%2E/recommendations"]),
        ("recommendations", ["/v1/users/recommendations/recommendations"]),
    ],
)
def test_ids_in_paths_are_decoded_once(shared: Servers, user: str, paths: list[str]) -> None:
    client = shared()
    shared.log.append([NewRecord("recommendations", user.encode(), b'{"list_id":"0-7","items":[]}')])
    for path in paths:
        raw = httpx.URL(client.base_url).copy_with(raw_path=path.encode())
        answer = until(lambda raw=raw: (got := client.get(raw)).status_code == 200 and got)
        assert answer.json()["list_id"] == "0-7"


@pytest.mark.parametrize("id_", ["%FF", "%ED%A0%80", "x" * 1025])
def test_ids_in_paths_that_can_be_none_are_refused(shared: Servers, id_: str) -> None:
    client = shared()
    for method, path in (
        ("GET", f"/v1/users/{id_}/recommendations"),
        ("DELETE", f"/v1/users/{id_}"),
        ("DELETE", f"/v1/items/{id_}"),
        ("DELETE", f"/v1/interactions/{id_}?user_id=u"),
        ("DELETE", f"/v1/interactions/e?user_id={'x' * 1025}"),
    ):
        answer = client.request(method, httpx.URL(client.base_url).copy_with(raw_path=path.encode()))
        assert (answer.status_code, error_of(answer)["code"]) == (400, "bad-id"), path


# without a worker that answers


def publish(shared: Servers, user: str, list_id: str) -> None:
    """A list of a, b, c and d is the last one that a user has."""
    items = [{"item_id": i, "score": 1.0, "source": "popular", "reason": "popular now"} for i in "abcd"]
    listed = {"list_id": list_id, "user_id": user, "items": items, "as_of": {"timestamp": 1_000, "positions": {}}}
    shared.log.append([NewRecord("recommendations", user.encode(), json.dumps(listed).encode())])


def test_the_last_published_list_is_marked(shared: Servers) -> None:
    publish(shared, "s", "0-1")
    client = shared()
    path = "/v1/users/s/recommendations"
    whole = until(lambda: (got := client.get(path)).status_code == 200 and got).json()
    assert (whole["stale"], whole["list_id"]) == (True, "0-1")
    assert whole["age_ms"] >= 0

    def ids(answer: httpx.Response) -> str:
        return "".join(item["item_id"] for item in answer.json()["items"])

    elsewhere = client.get(f"{path}?surface=home")  # whose lists are others
    assert (elsewhere.status_code, error_of(elsewhere)["code"]) == (503, "no-worker")
    assert ids(client.get(f"{path}?k=2")) == "ab"
    assert ids(client.get(f"{path}?exclude=a,c&k=2")) == "bd"
    assert ids(client.post("/v1/recommendations", json={"user_id": "s", "candidates": ["d", "a", "z"]})) == "ad"


def test_a_published_list_has_the_form_of_one_made_now(shared: Servers) -> None:
    publish(shared, "f", "0-2")
    client = shared()
    path = "/v1/users/f/recommendations"
    told = until(lambda: (got := client.get(path)).status_code == 200 and got).json()
    assert list(told) == [
        "list_id", "user_id", "surface", "items", "as_of", "model_version", "fallback", "request_id", "age_ms", "stale"
    ]  # fmt: skip
    assert [list(item) for item in told["items"]] == [["item_id", "score", "source", "reason", "propensity"]] * 4
    document = client.get("/openapi.json").json()
    of_a_user = "/v1/users/{user_id}/recommendations"
    for query in ("", "?fields=title", "?k=9&context.device=phone"):
        assert not list(problems(document, of_a_user, client.get(path + query)))
    assert [item["title"] for item in client.get(f"{path}?fields=title").json()["items"]] == [None] * 4
    short = client.get(f"{path}?k=9&context.device=phone").json()
    assert [(one["code"], one["field"]) for one in short["warnings"]] == [("stale", "k"), ("stale", "context.device")]


@pytest.mark.parametrize(
    "asked",
    [
        {"filter": "true"}, {"fields": ["attributes"]}, {"explain": True}, {"boost": [{"if": "true", "factor": 2}]},
        {"diversity": 0.5}, {"explore": 0.5}, {"fatigue": 0.5, "shown": {"a": 1}}, {"personalize": False},
        {"surface": "home"},
    ],
)  # fmt: skip
def test_what_needs_a_worker_is_no_published_list(shared: Servers, asked: dict[str, Any]) -> None:
    client = shared()
    listed = {"list_id": "0-3", "user_id": "g", "items": []}
    shared.log.append([NewRecord("recommendations", b"g", json.dumps(listed).encode())])
    until(lambda: client.get("/v1/users/g/recommendations").status_code == 200)
    answer = client.post("/v1/recommendations", json={"user_id": "g"} | asked)
    assert (answer.status_code, error_of(answer)["code"]) == (503, "no-worker")


@pytest.mark.parametrize(
    ("asked", "status", "code"),
    [
        ({"user_id": "somebody"}, 404, "no-list"),
        ({"user_id": "s", "filter": "item.price < 3"}, 503, "no-worker"),
        ({"user_id": "s", "personalize": False}, 503, "no-worker"),
        ({"items": ["a"]}, 503, "no-worker"),
        ({}, 503, "no-worker"),
    ],
)
def test_what_only_a_worker_can_answer_is_no_list(shared: Servers, asked: Any, status: int, code: str) -> None:
    answer = shared().post("/v1/recommendations", json=asked)
    assert (answer.status_code, error_of(answer)["code"]) == (status, code)
    assert answer.headers["retry-after"] == "1"


def test_who_waits_in_vain_is_told_that_it_is_in_the_log(shared: Servers, key_file: Path) -> None:
    answer = shared().post("/v1/interactions?wait=50", json=EVENT)
    assert (answer.status_code, answer.json()["accepted"]) == (202, 1)
    answer = shared(api_key_file=key_file).post("/v1/interactions?wait=50", json=EVENT, headers={"X-API-Key": "w-3"})
    assert (answer.status_code, error_of(answer)["code"]) == (403, "forbidden")


# bodies

LINES = b"\n".join([BODY, b"", json.dumps(EVENT | {"item_id": "b"}).encode(), b""])
CLOUDEVENT = {"specversion": "1.0", "id": "7", "source": "/", "type": "view", "data": {"user_id": "u", "item_id": "a"}}


@pytest.mark.parametrize(
    ("kind", "body", "status", "taken"),
    [
        ("application/json", BODY, 202, 1),
        ("Application/JSON; charset=UTF-8", BODY, 202, 1),
        ('application/json; charset="utf-8"', b"[%b,%b]" % (BODY, BODY), 202, 2),
        ("application/json", b"[]", 202, 0),
        ("application/x-ndjson", LINES, 202, 2),
        ("application/cloudevents+json", json.dumps(CLOUDEVENT).encode(), 202, 1),
        ("application/cloudevents-batch+json", json.dumps([CLOUDEVENT, CLOUDEVENT]).encode(), 202, 2),
        ("application/cloudevents+json", json.dumps([CLOUDEVENT]).encode(), 400, 0),
        ("application/cloudevents-batch+json", json.dumps(CLOUDEVENT).encode(), 400, 0),
        ("application/x-ndjson", BODY + b"\n{", 400, 0),
        ("application/json", LINES, 400, 0),
        ("application/json; charset=utf-16", BODY, 415, 0),
        ("text/plain", BODY, 415, 0),
        ("text/plain;application/json", BODY, 415, 0),
        ("application/x-www-form-urlencoded", BODY, 415, 0),
        ("multipart/form-data", BODY, 415, 0),
        ("text/json", BODY, 415, 0),
        ("application/xml", BODY, 415, 0),
        ("", BODY, 415, 0),
        (None, BODY, 415, 0),
    ],
)
def test_content_types(shared: Servers, kind: str | None, body: bytes, status: int, taken: int) -> None:
    before = sum(shared.log.ends("interactions").values())
    client = shared()
    for path in ("/v1/interactions", "/interactions"):
        answer = client.post(path, content=body, headers={} if kind is None else {"Content-Type": kind})
        assert answer.status_code == status, answer.text
        if status == 202:
            assert (answer.json()["accepted"], len(answer.json()["event_ids"])) == (taken, taken)
        else:
            error_of(answer)
    assert sum(shared.log.ends("interactions").values()) == before + 2 * taken


def test_a_line_that_is_wrong_is_named(shared: Servers) -> None:
    lines = b"\n".join([BODY, b"", json.dumps(EVENT | {"timestamp": "never"}).encode()])
    answer = shared().post("/v1/interactions", content=lines, headers={"Content-Type": "application/x-ndjson"})
    assert error_of(answer).items() >= {"code": "bad-timestamp", "index": 1, "field": "timestamp"}.items()


def test_a_cloudevent_needs_no_time_and_its_attributes_are_decoded(shared: Servers) -> None:
    client = shared()
    binary = JSON | {"ce-specversion": "1.0", "ce-id": "a%20b%E2%82%AC", "ce-type": "view", "ce-source": "/"}
    answer = client.post("/v1/interactions", json={"user_id": "u", "item_id": "a"}, headers=binary)
    assert (answer.status_code, answer.json()["event_ids"]) == (202, ["a b€"])
    record = records(shared.log, "interactions")[-1]
    assert dict(record.headers)["ce_id"] == "a b€".encode()
    assert abs(json.loads(record.value or b"")["timestamp"] - time.time() * 1000) < 60_000
    answer = client.post("/v1/interactions", json=[EVENT, EVENT], headers=binary)
    assert (answer.status_code, error_of(answer)["code"]) == (400, "not-an-object")


@pytest.mark.parametrize(
    ("coding", "body", "status", "code"),
    [
        ("gzip", gzip.compress(BODY, mtime=0), 202, ""),
        ("gzip", gzip.compress(b"[" + BODY, mtime=0) + gzip.compress(b"]", mtime=0), 202, ""),
        ("identity", BODY, 202, ""),
        ("gzip", BODY, 400, "bad-encoding"),
        ("gzip", gzip.compress(BODY, mtime=0)[:-4], 400, "bad-encoding"),
        ("gzip", gzip.compress(b" " * 50_000_000, mtime=0), 413, "body-too-large"),
        ("br", BODY, 415, "unsupported-content-encoding"),
        ("gzip, gzip", gzip.compress(gzip.compress(BODY, mtime=0), mtime=0), 415, "unsupported-content-encoding"),
    ],
)
def test_content_codings(shared: Servers, coding: str, body: bytes, status: int, code: str) -> None:
    before = sum(shared.log.ends("interactions").values())
    answer = shared().post("/v1/interactions", content=body, headers=JSON | {"Content-Encoding": coding})
    assert answer.status_code == status
    assert code == "" or error_of(answer)["code"] == code
    assert sum(shared.log.ends("interactions").values()) == before + (status == 202)


def test_what_may_not_be_meant_is_a_warning(shared: Servers) -> None:
    events = [EVENT, EVENT | {"price": 3}, EVENT | {"timestamp": 1_500_000_000}, EVENT | {"timestamp": "1970-02-01"}]
    warnings = shared().post("/v1/interactions", json=events).json()["warnings"]
    assert [(w["index"], w["code"], w["field"]) for w in warnings] == [
        (2, "seconds", "timestamp"),
        (1, "unknown-field", "price"),
    ]
    assert "1970-01-18" in warnings[0]["message"]


def bodies_of(events: list[dict[str, Any]]) -> dict[str, tuple[str, bytes, list[str]]]:
    """Content type, body and endpoints of the same records in every form that holds several; one bad line stays as it is."""
    items = [json.dumps(event).encode() for event in events]
    clouds = [
        {"specversion": "1.0", "id": str(n), "source": "/", "type": "view", "data": event}
        for n, event in enumerate(events)
    ]
    every = ["/v1/interactions", "/v1/items", "/v1/users"]
    return {
        "array": ("application/json", json.dumps(events).encode(), every),
        "lines": ("application/x-ndjson", b"\r\n\r\n".join(items), every),  # blank lines are no records
        "cloudevents": ("application/cloudevents-batch+json", json.dumps(clouds).encode(), every[:1]),
    }


@pytest.mark.parametrize("form", ["array", "lines", "cloudevents"])
def test_records_of_a_body_are_numbered_from_0_whatever_holds_them(shared: Servers, form: str) -> None:
    bad = [EVENT, EVENT, EVENT | {"timestamp": -1} | {"user_id": "v"}, EVENT]
    kind, body, endpoints = bodies_of(bad)[form]
    answers = [shared().post(endpoint, content=body, headers={"Content-Type": kind}) for endpoint in endpoints]
    if form == "lines":
        body = body.replace(b"-1", b"-")  # no JSON
        answers += [shared().post(endpoint, content=body, headers={"Content-Type": kind}) for endpoint in endpoints]
    for answer in answers:
        assert (answer.status_code, error_of(answer)["index"]) == (400, 2)
        assert error_of(answer)["message"].startswith("record 2")
    odd = [EVENT, EVENT, EVENT | {"price": 3}]
    kind, body, endpoints = bodies_of(odd)[form]
    (warning,) = shared().post(endpoints[0], content=body, headers={"Content-Type": kind}).json()["warnings"]
    assert (warning["index"], warning["message"].startswith("record 2: ")) == (2, True)


@pytest.mark.parametrize("form", ["single", "array", "lines", "cloudevents"])
def test_seconds_are_said_once_an_answer(shared: Servers, form: str) -> None:
    """With what else there is to say, however much of it."""
    late = EVENT | {"timestamp": 1_500_000_000}
    events = [EVENT, *[late | {"price": 3}] * 150] if form != "single" else [late]
    kind, body, endpoints = bodies_of(events)["array" if form == "single" else form]
    body = json.dumps(late).encode() if form == "single" else body
    for endpoint in endpoints:
        answer = shared().post(endpoint, content=body, headers={"Content-Type": kind})
        assert answer.status_code == 202
        said = [w for w in answer.json()["warnings"] if w["code"] == "seconds"]
        assert [w["index"] for w in said] == [int(form != "single")]
        assert ("150 records have such a one" in said[0]["message"]) == (form != "single")


def test_seconds_under_the_streams_own_name(shared: Servers) -> None:
    mapped = {"uid": "u", "item_id": "a", "event_type": "view", "timestamp": None, "ts": 1_500_000_000}
    client = shared(field_map={"user_id": "uid", "timestamp": "ts", "event_id": "eid"})
    (warning,) = client.post("/v1/interactions", json=mapped).json()["warnings"]
    assert warning["code"] == "seconds"


def test_a_field_map_leads_to_no_warnings_and_no_second_id(shared: Servers) -> None:
    client = shared(field_map={"user_id": "uid", "timestamp": "ts", "event_id": "eid"})
    mapped = {"uid": "u", "item_id": "a", "event_type": "view", "ts": None, "eid": None}
    answer = client.post("/v1/interactions", json=[mapped, mapped | {"eid": "e1", "ts": 1_500_000_000_000}])
    assert answer.status_code == 202, answer.text
    made, given = answer.json()["event_ids"]
    assert given == "e1"
    assert made
    assert not answer.json()["warnings"]


def test_unknown_fields_of_items_and_users_are_attributes(shared: Servers) -> None:
    client = shared()
    answer = client.post("/v1/items", json={"item_id": 7, "title": "T", "price": 3.5, "tags": ["x", "y"]})
    assert (answer.status_code, answer.json()) == (202, {"accepted": 1, "event_ids": [], "warnings": []})
    answer = client.post("/v1/users", json=[{"user_id": "u", "plan": "gold", "attributes": {"age": 30}}])
    assert answer.status_code == 202
    item, user = records(shared.log, "items")[-1], records(shared.log, "users")[-1]
    assert item.key == b"7"
    known = decode_item(item.value or b"")
    assert known
    assert known.attributes == {"price": 3.5, "tags": ["x", "y"]}
    known_user = decode_user(user.value or b"")
    assert known_user
    assert known_user.attributes == {"plan": "gold", "age": 30}


@pytest.mark.parametrize("kind", ["item", "user"])
def test_a_record_that_is_called_deleted_is_no_attribute(shared: Servers, kind: str) -> None:
    """Whoever sends it takes it for deleted: it is told how."""
    answer = shared().post(f"/v1/{kind}s", json={f"{kind}_id": "a", "deleted": True})
    assert (answer.status_code, answer.json()["error"]["field"]) == (400, "deleted")
    assert f"DELETE /v1/{kind}s/" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ({"title": "x"}, "missing-field"),
        ({"item_id": ""}, "bad-id"),
        ({"item_id": "x" * 1025}, "bad-id"),
        ({"item_id": True}, "bad-id"),
        ({"item_id": "x", "timestamp": 99_999_999_999_999_999_999}, "bad-timestamp"),
        ({"item_id": "x", "timestamp": -1}, "bad-timestamp"),
        ({"item_id": "x", "hidden": "perhaps"}, "bad-type"),
        ({"item_id": "x", "expires_at": "soon"}, "bad-timestamp"),
        ({"item_id": "x", "available_from": -1}, "bad-timestamp"),
        (3, "not-an-object"),
    ],
)
def test_bad_items_and_users_say_why(shared: Servers, value: Any, code: str) -> None:
    before = [shared.log.ends(topic) for topic in ("items", "users")]
    client = shared()
    for noun in ("item", "user"):
        if noun == "user" and isinstance(value, dict):
            if value.keys() & {"hidden", "expires_at", "available_from"}:  # attributes of a user
                continue
            value = {"user_id" if name == "item_id" else name: field for name, field in value.items()}
        answer = client.post(f"/v1/{noun}s", json=[{f"{noun}_id": "fine"}, value])
        assert answer.status_code == 400
        assert error_of(answer).items() >= {"code": code, "index": 1}.items()
        if code == "bad-timestamp":
            assert error_of(answer)["field"] == list(value)[-1]
    assert before == [shared.log.ends(topic) for topic in ("items", "users")]


# from where

PORT = "{port}"


@pytest.mark.parametrize(
    ("host", "allowed", "header", "status"),
    [
        ("127.0.0.1", [], "127.0.0.1:{port}", 200),
        ("127.0.0.1", [], "127.0.0.1", 200),
        ("127.0.0.1", [], "localhost:{port}", 200),
        ("127.0.0.1", [], "LOCALHOST", 200),
        ("127.0.0.1", [], "[::1]:{port}", 200),
        ("127.0.0.1", [], "evil.example", 400),
        ("127.0.0.1", [], "evil.example:{port}", 400),
        ("127.0.0.1", [], "127.0.0.1.evil.example", 400),
        ("127.0.0.1", [], "localhost.evil.example", 400),
        ("127.0.0.1", [], "192.168.1.2", 400),
        ("127.0.0.1", [], "127.0.0.1@evil.example", 400),
        ("127.0.0.1", [], "", 400),
        ("127.0.0.1", ["shop.example"], "shop.example", 200),
        ("127.0.0.1", ["shop.example"], "evil.example", 400),
        ("localhost", [], "localhost", 200),
        ("0.0.0.0", [], "anything.example", 200),
        ("0.0.0.0", ["shop.example"], "shop.example:80", 200),
        ("0.0.0.0", ["shop.example"], "10.0.0.7:8765", 200),
        ("0.0.0.0", ["shop.example"], "evil.example", 400),
    ],
)
def test_hosts(shared: Servers, host: str, allowed: list[str], header: str, status: int) -> None:
    client = shared(host, allowed_hosts=allowed)
    for path in ("/", "/v1/users", "/metrics", "/nothing"):
        answer = client.get(path, headers={"Host": header.format(port=client.base_url.port)})
        assert answer.status_code == (404 if path == "/nothing" and status == 200 else status)
        if status == 400:
            assert error_of(answer)["code"] == "bad-host"


OWN, SHOP = "http://127.0.0.1:{port}", "https://shop.example"


@pytest.mark.parametrize(
    ("headers", "cors", "status"),
    [
        ({}, [], 200),
        ({"Origin": OWN}, [], 200),
        ({"Origin": OWN, "Sec-Fetch-Site": "same-origin"}, [], 200),
        ({"Sec-Fetch-Site": "same-origin"}, [], 200),
        ({"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"}, [], 200),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, [], 200),  # a link
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, [], 403),
        ({"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"}, [], 403),
        ({"Origin": "http://evil.example"}, [], 403),
        ({"Origin": "http://127.0.0.1"}, [], 403),  # another port is another origin
        ({"Origin": "http://localhost:{port}"}, [], 403),
        ({"Origin": "null"}, [], 403),
        ({"Origin": ""}, [], 403),
        ({"Origin": SHOP}, [], 403),
        ({"Origin": SHOP}, [SHOP], 200),
        ({"Origin": SHOP, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"}, [SHOP + "/"], 200),
        ({"Origin": SHOP + ":443"}, [SHOP], 200),
        ({"Origin": "http://shop.example"}, [SHOP], 403),
        ({"Origin": SHOP + ".evil.example"}, [SHOP], 403),
    ],
)
def test_origins(shared: Servers, headers: dict[str, str], cors: list[str], status: int) -> None:
    before = sum(shared.log.ends("interactions").values())
    client = shared(cors_origins=cors)
    sent = {name: value.format(port=client.base_url.port) for name, value in headers.items()}
    answer = client.get("/v1/users", headers=sent)
    assert answer.status_code == status
    allowed = answer.headers.get("access-control-allow-origin")
    assert allowed == (sent["Origin"] if cors and status == 200 else None)
    writes = (status == 200 and headers.get("Sec-Fetch-Site") != "cross-site") or (bool(cors) and status == 200)
    answer = client.post("/v1/interactions", json=EVENT, headers=sent)
    assert answer.status_code == (202 if writes else 403)
    assert sum(shared.log.ends("interactions").values()) == before + writes
    if not writes:
        assert error_of(answer)["code"] == "foreign-origin"


def test_preflights(shared: Servers) -> None:
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type, x-api-key"}
    client = shared(cors_origins=[SHOP], api_key="secret")
    answer = client.options("/v1/interactions", headers=asked | {"Origin": SHOP})
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == SHOP
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert "x-api-key" in answer.headers["access-control-allow-headers"]
    assert "Origin" in answer.headers["vary"]
    answer = client.get("/v1/users", headers={"Origin": SHOP})
    assert answer.status_code == 401  # and its page can read why
    assert answer.headers["access-control-allow-origin"] == SHOP
    for refusing, origin in ((client, "https://evil.example"), (shared(), SHOP)):
        answer = refusing.options("/v1/interactions", headers=asked | {"Origin": origin})
        assert (answer.status_code, error_of(answer)["code"]) == (403, "foreign-origin")
        assert "access-control-allow-origin" not in answer.headers


# who

KEYS = {"all-1": SCOPES, "r-2": ("read",), "w-3": ("write",), "a-4": ("admin",), "rw-5": ("read", "write")}
NEEDS = {
    ("GET", "/v1/users"): "read",
    ("GET", "/users"): "read",
    ("GET", "/v1/users/u/recommendations"): "read",
    ("GET", "/recommendations/u"): "read",
    **{("GET", path): "read" for path in ASKED},
    ("GET", "/v1/experiments"): "read",
    ("GET", "/v1/rules"): "read",
    ("POST", "/v1/rules/preview"): "read",
    ("PUT", "/v1/rules"): "admin",
    ("DELETE", "/v1/rules"): "admin",
    ("POST", "/v1/rules/rollback"): "admin",
    ("POST", "/v1/recommendations"): "read",
    ("GET", "/v1/status"): "read",
    ("GET", "/v1/dead-letters/bad-id"): "admin",
    ("PATCH", "/v1/items/a"): "write",
    ("HEAD", "/v1/users/u/lists/stream"): "read",
    ("HEAD", "/recommendations/u/stream"): "read",
    ("HEAD", "/v1/stream"): "read",
    ("HEAD", "/stream"): "read",
    ("GET", "/v1/ws"): "read",
    ("GET", "/v1/session"): "read",
    ("POST", "/v1/interactions"): "write",
    ("POST", "/interactions"): "write",
    ("DELETE", "/v1/interactions/e?user_id=u"): "write",
    ("POST", "/v1/feedback"): "write",
    ("POST", "/v1/users/u/merge"): "write",
    ("GET", "/v1/items"): "read",
    ("POST", "/v1/items"): "write",
    ("POST", "/items"): "write",
    ("POST", "/v1/users"): "write",
    ("DELETE", "/v1/users/u"): "admin",
    ("DELETE", "/v1/items/a"): "admin",
}


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    file = tmp_path / "keys"
    lines = [f"{key} {' '.join(scopes) if key != 'all-1' else ''}" for key, scopes in KEYS.items()]
    file.write_text("# keys of the shop\n\n" + "\n".join(lines) + "\n")
    return file


def test_every_scope_at_every_endpoint(shared: Servers, key_file: Path) -> None:
    client = shared(api_key_file=key_file)
    endpoints = {(method, path) for path, methods in PATHS.items() for method in methods}
    stream = {("GET", path) for path in PATHS if path.endswith("stream")}
    free = {("GET", path) for path in ("/", "/static/app.js", "/docs", "/openapi.json")}
    free |= {("POST", "/v1/session"), ("DELETE", "/v1/session")}
    health = {("GET", "/livez"), ("GET", "/readyz"), ("GET", "/metrics")}
    assert endpoints - stream - free - health <= NEEDS.keys()
    for (method, path), needed in NEEDS.items():
        body = {"user_id": "u", "item_id": "a"} if not path.endswith("interactions") else EVENT
        for key, scopes in KEYS.items():
            headers = {"Authorization": f"Bearer {key}"}
            answer = client.request(method, path, headers=headers, **({"json": body} if method == "POST" else {}))
            may = needed in scopes or "admin" in scopes
            assert (answer.status_code == 403) == (not may), (method, path, key)
            assert may or method == "HEAD" or error_of(answer)["code"] == "forbidden"
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"X-API-Key": "wrong"}):
            answer = client.request(method, path, headers=headers)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"].startswith("Bearer")
            assert method == "HEAD" or error_of(answer)["code"] == "unauthorized"
    for method, path in free - {("POST", "/v1/session")} | health:
        assert client.request(method, path).status_code < 300, path


def test_a_merge_across_workers_is_refused(serve: Serve, log: OwnedLog, settings: Settings) -> None:
    """Of eight partitions one worker has the even ones, another the odd ones."""
    client = serve()
    claims = [
        WorkerAddress(seat=seat, address=f"http://{seat}", partitions=mine, of=8, at_ms=1)
        for seat, mine in (("a", [0, 2, 4, 6]), ("b", [1, 3, 5, 7]))
    ]
    names = [f"{settings.application}-{claim.seat}/address".encode() for claim in claims]
    log.append([
        NewRecord(settings.workers_topic, name, msgspec.json.encode(claim))
        for name, claim in zip(names, claims, strict=True)
    ])  # fmt: skip
    until(lambda: client.post("/v1/users/u/merge", json={"session": "apart-3"}).status_code == 409)
    for n in range(30):
        answer = client.post("/v1/users/u/merge", json={"session": f"apart-{n}"})
        apart = (partition_of(b"u", 8) + partition_of(f"apart-{n}".encode(), 8)) % 2
        assert answer.status_code == (409 if apart else 202)
        if apart:
            assert (error_of(answer)["code"], error_of(answer)["field"]) == ("other-worker", "session")


def test_the_socket_asks_for_what_other_endpoints_ask_for(shared: Servers, key_file: Path) -> None:
    client = shared(api_key_file=key_file)
    address = f"{str(client.base_url).rstrip('/')}/v1/ws"
    for key, scopes in KEYS.items():
        header = [("Authorization", f"Bearer {key}")]
        if {"read", "admin"} & {*scopes}:
            WebSocket(address, header).close()
        else:
            with pytest.raises(Refused) as refused:
                WebSocket(address, header)
            assert refused.value.status == 403
    for header in ([], [("X-API-Key", "wrong")], [("Cookie", "freshet_session=wrong")]):
        with pytest.raises(Refused) as refused:
            WebSocket(address, header)
        assert (refused.value.status, json.loads(refused.value.body)["error"]["code"]) == (401, "unauthorized")
    client.post("/v1/session", json={"key": "r-2"})
    WebSocket(address, [("Cookie", f"freshet_session={client.cookies['freshet_session']}")]).close()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Authorization": "Bearer secret"}, 200),
        ({"Authorization": "bearer  secret"}, 200),
        ({"X-API-Key": "secret"}, 200),
        ({"X-API-Key": "wrong", "Authorization": "Bearer secret"}, 401),
        ({"Authorization": "Basic secret"}, 401),
        ({"Authorization": "secret"}, 401),
        ({"Authorization": "Bearer"}, 401),
        ({"Authorization": "Bearer secret2"}, 401),
        ({"X-API-Key": ""}, 401),
        ({"Cookie": "freshet_session=secret"}, 401),
        ({"Cookie": "freshet_session="}, 401),
        ({}, 401),
    ],
)
def test_schemes(shared: Servers, headers: dict[str, str], status: int) -> None:
    assert shared(api_key="secret").get("/v1/users", headers=headers).status_code == status


def test_a_session_stands_for_a_key(shared: Servers, key_file: Path) -> None:
    client = shared(api_key_file=key_file)
    assert error_of(client.post("/v1/session", json={"key": "wrong"}))["code"] == "unauthorized"
    assert "set-cookie" not in client.post("/v1/session", json={"key": "wrong"}).headers
    for bad in ({}, {"key": 3}, [], "rw-5", [{"key": "rw-5"}, 1]):
        assert client.post("/v1/session", json=bad).status_code == 400, bad
    answer = client.post("/v1/session", json={"key": "rw-5"})
    assert answer.json() == {"scopes": ["read", "write"]}
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert "rw-5" not in cookie
    assert client.get("/v1/users").status_code == 200
    assert client.post("/v1/interactions", json=EVENT).status_code == 202
    assert client.delete("/v1/users/u").status_code == 403
    with client.stream("GET", "/v1/stream") as stream:
        assert next(stream.iter_lines()).startswith("event: ")
    answer = client.post("/v1/interactions", json=EVENT, headers={"Origin": "http://evil.example"})
    assert answer.status_code == 403
    held = dict(client.cookies)
    assert client.delete("/v1/session").status_code == 204
    client.cookies.clear()
    assert client.get("/v1/users", headers={"Cookie": f"freshet_session={held['freshet_session']}"}).status_code == 401


@pytest.mark.parametrize(
    ("changes", "livez", "metrics"),
    [
        ({}, 200, 200),
        ({"host": "0.0.0.0"}, 200, 401),
        ({"host": "0.0.0.0", "metrics_public": True}, 200, 200),
        ({"metrics_public": False}, 200, 401),
        ({"health_public": False}, 401, 200),
    ],
)
def test_health_and_metrics_have_settings_of_their_own(
    shared: Servers, changes: dict[str, Any], livez: int, metrics: int
) -> None:
    client = shared(api_key="secret", **changes)
    assert client.get("/livez").status_code == client.get("/readyz").status_code == livez
    assert client.get("/metrics").status_code == metrics
    for path in ("/livez", "/readyz", "/metrics"):
        assert client.get(path, headers={"Authorization": "Bearer secret"}).status_code == 200


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "has no key"),
        ("# nothing\n\n", "has no key"),
        ("abc read wirte", "line 1: there is no scope 'wirte'"),
        (None, "cannot be read"),
        (b"\xff\xfe", "no UTF-8"),
    ],
)
def test_a_file_of_keys_that_is_wrong_is_one_line(
    settings: Settings, tmp_path: Path, text: str | bytes | None, says: str
) -> None:
    file = tmp_path / "keys"
    if text is not None:
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UsageError, match=says) as raised:
        read_keys(settings.model_copy(update={"api_key_file": file}))
    assert "abc" not in str(raised.value)


def test_processes_ask_one_another_with_a_key_that_may_do_everything(settings: Settings, key_file: Path) -> None:
    assert admin_key(settings) is None
    assert admin_key(settings.model_copy(update={"api_key_file": key_file})) == "all-1"
    key_file.write_text("r-2 read\na-4 admin\n")
    assert admin_key(settings.model_copy(update={"api_key_file": key_file})) == "a-4"
    assert admin_key(settings.model_copy(update={"api_key_file": key_file, "api_key": "secret"})) == "secret"


@pytest.mark.parametrize("key", ["", " ", "a b", "schlüssel", "a\n"])
def test_a_key_that_no_header_can_hold_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(UsageError, match="api_key") as raised:
        Settings.load(api_key=key)
    assert repr(key) not in str(raised.value) or not key.strip()


# endpoints that take things back


def settled(log: OwnedLog, settings: Settings) -> None:
    worker = Worker.open(log, settings)
    worker.run(exit_at_end=True)
    worker.close()


def listed(client: httpx.Client, user: str) -> list[str] | None:
    answer = client.get(f"/v1/users/{user}/recommendations")
    return None if answer.status_code == 404 else [item["item_id"] for item in answer.json()["items"]]


def test_a_change_of_an_item_says_what_a_worker_is_needed_for(serve: Serve, log: OwnedLog) -> None:
    """Its other fields; what does not need them is taken, also right after the whole item was sent."""
    client = serve()
    answer = client.patch("/v1/items/a", json={"price": 3})
    assert (answer.status_code, error_of(answer)["code"], answer.headers["retry-after"]) == (503, "no-worker", "1")
    assert "POST /v1/items" in error_of(answer)["message"]
    assert client.post("/v1/items", json={"item_id": "a", "title": "A", "price": 1}).status_code == 202
    assert client.patch("/v1/items/a", json={"price": 3}).status_code == 202
    assert client.patch("/v1/items/a", json={"item_id": "b"}).status_code == 400


def test_users_are_erased_items_deleted_and_interactions_taken_back_over_http(
    serve: Serve, log: OwnedLog, settings: Settings
) -> None:
    client = serve()
    events = [EVENT | {"user_id": user, "item_id": item} for user in "uvw" for item in "abc"]
    ids = client.post("/v1/interactions", json=events).json()["event_ids"]
    settled(log, settings)
    until(lambda: listed(client, "w"))
    assert client.delete("/v1/users/v").json()["accepted"] == 1
    assert client.delete("/v1/items/b").json()["accepted"] == 1
    for event_id in ids[-3:]:
        answer = client.delete(f"/v1/interactions/{event_id}?user_id=w")
        assert (answer.status_code, answer.json()["event_ids"]) == (202, [event_id])
    assert error_of(client.delete("/v1/interactions/x"))["field"] == "user_id"
    settled(log, settings)
    until(lambda: listed(client, "v") is None and listed(client, "w") is None)
    assert "b" not in (until(lambda: listed(client, "u")) or [])


@pytest.mark.parametrize("restart", [False, True])
def test_a_hidden_item_is_in_no_list_and_keeps_its_history(
    serve: Serve, log: OwnedLog, settings: Settings, restart: bool
) -> None:
    client = serve()
    events = [EVENT | {"user_id": user, "item_id": item} for item in "aab" for user in "uvw"]
    client.post("/v1/interactions", json=events)
    worker = Worker.open(log, settings)

    def go_on() -> None:
        nonlocal worker
        worker.run(exit_at_end=True)
        if restart:
            worker.close()
            worker = Worker.open(log, settings)

    go_on()
    model = worker.state.engine.model
    before = model.graph.items.events[model.items.get("a")]
    until(lambda: all("a" in (listed(client, user) or []) for user in "uvw"))
    assert client.post("/v1/items", json={"item_id": "a", "title": "A", "hidden": True}).status_code == 202
    go_on()
    until(lambda: all(listed(client, user) == ["b"] for user in "uvw"))  # lists that named it are made anew
    client.post("/v1/interactions", json=[EVENT | {"item_id": "c"}, EVENT | {"item_id": "a", "user_id": "v"}])
    go_on()
    until(lambda: "c" in (listed(client, "u") or []))
    assert not any("a" in (listed(client, user) or []) for user in "uvw")
    assert client.post("/v1/items", json={"item_id": "a", "title": "A"}).status_code == 202
    client.post("/v1/interactions", json=EVENT | {"item_id": "b"})
    go_on()
    assert "a" in until(lambda: "a" in (listed(client, "u") or []) and listed(client, "u"))
    model = worker.state.engine.model
    assert model.graph.items.events[model.items.get("a")] == before + 1
    worker.close()


# what one client may take


def connected(client: httpx.Client) -> socket.socket:
    raw = socket.create_connection((client.base_url.host, client.base_url.port))
    raw.settimeout(20)
    return raw


HEAD = b"POST /v1/interactions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 400\r\n"


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (b"GET /v1/us", b""),
        (HEAD, b"X: y\r\n"),
        (HEAD + b"\r\n", b" "),
        (HEAD.replace(b"400", b"2") + b"\r\n[]GET /", b"g"),  # after an answer
    ],
)
def test_a_slow_client_is_cut_off(serve: Serve, first: bytes, then: bytes) -> None:
    client = serve(request_timeout_s=0.5)
    with connected(client) as raw:
        raw.sendall(first)
        raw.settimeout(0.1)
        answer, ended = b"", False
        for _ in range(200):
            try:
                part = raw.recv(65_536)
                ended = not part
                answer += part
            except TimeoutError:
                if then:
                    raw.sendall(then)
                continue
            except ConnectionError:
                ended = True
            if ended:
                break
        assert ended
        assert b"HTTP/1.1 408 " in answer
        assert json.loads(answer[answer.rindex(b"\r\n\r\n") :])["error"]["code"] == "timeout"
    assert client.get("/livez").status_code == 200


def test_a_request_names_one_host(shared: Servers) -> None:
    with connected(shared()) as raw:
        raw.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n")
        assert raw.recv(65_536).startswith(b"HTTP/1.1 400 ")


def test_streams_have_a_bound(serve: Serve) -> None:
    client = serve(max_streams=2)
    streams = [client.stream("GET", "/v1/stream") for _ in range(2)]
    for stream in streams:
        assert stream.__enter__().status_code == 200
    answer = client.get("/v1/stream")
    assert (answer.status_code, error_of(answer)["code"]) == (503, "too-many-streams")
    with pytest.raises(Refused) as refused:
        WebSocket(f"{str(client.base_url).rstrip('/')}/v1/ws")
    assert refused.value.status == 503
    streams[0].__exit__(None, None, None)
    until(lambda: _opens(client))
    until(lambda: _opens_socket(client))
    until(lambda: _opens(client))
    streams[1].__exit__(None, None, None)


def _opens_socket(client: httpx.Client) -> bool:
    try:
        WebSocket(f"{str(client.base_url).rstrip('/')}/v1/ws").close()
    except Refused:  # the stream before it is counted until its end is noticed
        return False
    return True


def _opens(client: httpx.Client) -> bool:
    with client.stream("GET", "/v1/users/u/lists/stream") as stream:
        return stream.status_code == 200


def test_few_descriptors_are_a_refusal_and_one_line(settings: Settings, log: OwnedLog, tmp_path: Path) -> None:
    """150 streams at 90 descriptors, of a real process."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FRESHET_")}
    command = [sys.executable, "-m", "streamer", "serve", "--log", str(settings.log), "--port", "0"]
    with (tmp_path / "said").open("w") as said:
        process = subprocess.Popen(
            command, env=environment | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=said, text=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (90, 90)),
        )  # fmt: skip
    try:
        assert process.stdout
        address = process.stdout.readline().split()[-1]
        until(lambda: httpx.get(f"{address}/readyz").status_code == 200)
        statuses = asyncio.run(_streams(address, 150))
        assert statuses.count(200) >= 5
        assert statuses.count(503) >= 50, (statuses, (tmp_path / "said").read_text())
        until(lambda: httpx.get(f"{address}/livez").status_code == 200)
    finally:
        process.terminate()
        process.communicate(timeout=scaled(30))
    assert process.returncode == 0
    lines = (tmp_path / "said").read_text().splitlines()
    assert len(lines) <= 4, lines
    assert all("refused" in line for line in lines), lines


async def _streams(address: str, count: int) -> list[int]:
    """The statuses of so many streams that are open together; 0 where the connection was cut."""
    answered = asyncio.Queue[int]()
    done = asyncio.Event()

    async def one(client: httpx.AsyncClient) -> None:
        try:
            async with client.stream("GET", f"{address}/v1/users/u/lists/stream") as stream:
                answered.put_nowait(stream.status_code)
                await done.wait()
        except httpx.HTTPError:
            answered.put_nowait(0)

    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(timeout=scaled(20), limits=limits) as client, asyncio.TaskGroup() as tasks:
        for _ in range(count):
            tasks.create_task(one(client))
        statuses = [await answered.get() for _ in range(count)]
        async with httpx.AsyncClient(timeout=scaled(20)) as other:
            with_streams = await other.get(f"{address}/livez")
        assert with_streams.status_code in (200, 503)
        done.set()
    return statuses


# the log does not answer


def test_without_an_answer_of_the_log_the_ids_are_given_back(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    def append(self: OwnedLog, records: list[NewRecord], timeout_s: float) -> None:
        waits.append(timeout_s)
        raise LogUnavailable("the broker is away")

    client = serve(append_timeout_s=3.0)
    monkeypatch.setattr(OwnedLog, "append", append)
    answer = client.post("/v1/interactions", json=[EVENT, EVENT | {"event_id": "mine"}])
    assert (answer.status_code, error_of(answer)["code"]) == (503, "not-acknowledged")
    assert answer.json()["event_ids"][1] == "mine"
    assert len(answer.json()["event_ids"][0]) > 20
    assert 0 < waits[0] <= 3
    assert client.post("/v1/items", json={"item_id": "a"}).status_code == 503


def test_requests_that_wait_for_their_turn_are_answered_in_time(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """More requests than threads, and a log that takes all the time that each of them has."""

    def append(self: OwnedLog, records: list[NewRecord], timeout_s: float) -> None:
        time.sleep(timeout_s)
        raise LogUnavailable("the broker is away")

    client = serve(append_timeout_s=1.0)
    monkeypatch.setattr(OwnedLog, "append", append)
    statuses: list[int] = []
    threads = [
        threading.Thread(target=lambda: statuses.append(client.post("/v1/interactions", json=EVENT).status_code))
        for _ in range(60)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()  # the client itself waits ten seconds: in turns of one second this would take longer
    assert statuses == [503] * 60


@pytest.fixture
def hung(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """A log that does nothing until the event is set."""
    resumed = threading.Event()

    def hangs(method: str) -> Callable[..., Any]:
        real = getattr(OwnedLog, method)

        def hanging(self: OwnedLog, *given: Any, **named: Any) -> Any:
            resumed.wait()
            return real(self, *given, **named)

        return hanging

    for method in ("append", "ends", "starts", "reader", "topics"):
        monkeypatch.setattr(OwnedLog, method, hangs(method))
    yield resumed
    resumed.set()


LATER = {"list_id": "q-1", "item_id": "a", "event": "click"}
TO_THE_LOG: list[tuple[str, str, Any]] = [
    ("POST", "/v1/interactions", EVENT),
    ("POST", "/v1/interactions?wait=60000", EVENT),
    ("DELETE", "/v1/interactions/e?user_id=u", None),
    ("POST", "/v1/items", {"item_id": "a"}),
    ("POST", "/v1/users", {"user_id": "u"}),
    ("DELETE", "/v1/users/u", None),
    ("POST", "/v1/users/u/merge", {"session": "s"}),
    ("POST", "/v1/feedback", LATER | {"user_id": "u"}),
    ("POST", "/v1/feedback", LATER),
    ("GET", "/v1/rules", None),
    ("PUT", "/v1/rules", {"surface": "home"}),
]


def test_whoever_needs_a_log_that_hangs_is_told_so(serve: Serve, request: pytest.FixtureRequest) -> None:
    client = serve(append_timeout_s=0.5)
    request.getfixturevalue("hung")  # the server follows it before
    for method, path, body in TO_THE_LOG:
        answer = client.request(method, path, json=body)
        assert answer.status_code == 503, path
        assert error_of_retried(answer)["code"] in ("not-acknowledged", "log-unavailable", "log-away"), path
        assert answer.headers["retry-after"] == "1", path


def error_of_retried(answer: httpx.Response) -> dict[str, Any]:
    """The error of an answer that may have event ids beside it."""
    told: dict[str, Any] = answer.json()
    return dict(told["error"])


def test_who_waits_for_a_list_waits_no_longer_for_the_log(serve: Serve, request: pytest.FixtureRequest) -> None:
    client = serve(append_timeout_s=3600.0)
    hung = request.getfixturevalue("hung")
    answer = client.post("/v1/interactions?wait=300", json=EVENT)
    assert not hung.is_set()
    assert (answer.status_code, error_of_retried(answer)["code"]) == (503, "not-acknowledged")
    [event_id] = answer.json()["event_ids"]
    hung.set()
    again = client.post("/v1/interactions", json=EVENT | {"event_id": event_id})
    assert (again.status_code, again.json()["event_ids"]) == (202, [event_id])


def test_nothing_is_waited_for_longer_than_clients_wait() -> None:
    patience_s = httpx.Client().timeout.read
    assert patience_s is not None
    assert Settings().append_timeout_s < patience_s
    assert patience_s > ANSWER_TIMEOUT_S + LOOK_EVERY_S


# the same by commands


def test_erase_sends_tombstones_and_says_where_bytes_stay(
    serve: Serve, log: OwnedLog, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    client = serve()
    client.post("/v1/interactions", json=[EVENT | {"user_id": user} for user in ("ann", "bob")])
    settled(log, settings)
    until(lambda: listed(client, "ann") and listed(client, "bob"))
    assert main(["erase", "ann", "ann", "--log", str(settings.log), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["erased"], told["unknown"]) == (["ann"], [])
    gone = {place["name"]: place["gone"] for place in told["places"]}
    assert gone["interactions"] == gone["feedback"] == "never: retention.ms is -1"
    assert "compaction" in gone["users"]
    assert {"recommendations", "interactions.dead", "freshet.epochs"} <= gone.keys()
    assert not {"items", "quality"} & gone.keys()
    assert {place["kind"] for place in told["places"]} == {"topic", "state", "file", "sink"}
    settled(log, settings)
    until(lambda: listed(client, "ann") is None)
    assert listed(client, "bob")
    assert main(["erase", "carl", "--log", str(settings.log)]) == 0
    assert "never" in capsys.readouterr().out


def test_who_erases_somebody_unknown_over_http_is_told(serve: Serve, log: OwnedLog, settings: Settings) -> None:
    client = serve()
    client.post("/v1/interactions", json=EVENT | {"user_id": "ann"})
    settled(log, settings)
    until(lambda: listed(client, "ann"))
    until(lambda: client.get("/readyz").status_code == 200)
    known, unknown = client.delete("/v1/users/ann"), client.delete("/v1/users/carl")
    assert (known.status_code, known.json()["warnings"]) == (202, [])
    assert (unknown.status_code, unknown.json()["accepted"]) == (202, 1)
    (told,) = unknown.json()["warnings"]
    assert told["code"] == "unknown-user"
    assert "the tombstone was written all the same" in told["message"]
    erased = [record.key for record in read_records(log, whole(log, "users")) if record.value is None]
    assert set(erased) == {b"ann", b"carl"}


def test_erase_says_of_whom_nothing_is_known(
    log: OwnedLog, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """Known are those with a list, a record, or an interaction that waits. Its tombstone is written for anybody."""
    log.append([NewRecord("interactions", b"listed", json.dumps(EVENT | {"user_id": "listed"}).encode())])
    log.append([NewRecord("interactions", b"gone", json.dumps(EVENT | {"user_id": "gone"}).encode())])
    settled(log, settings)
    log.append([NewRecord("users", b"gone", None)])
    settled(log, settings)
    log.append([NewRecord("users", b"described", b'{"user_id": "described"}')])
    log.append([NewRecord("interactions", None, json.dumps(EVENT | {"user_id": "waits"}).encode())])
    log.close()
    users, home = ["listed", "gone", "described", "waits", "never"], ["--log", str(settings.log)]
    assert main(["erase", *users, *home, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["erased"], told["unknown"]) == (users, ["gone", "never"])
    assert main(["erase", "never", *home]) == 0
    said = "Nothing is known of user never; the tombstone was written all the same."
    assert said in capsys.readouterr().out.splitlines()
    with OwnedLog(settings.log or Path()) as again:
        erased = [record.key for record in read_records(again, whole(again, "users")) if record.value is None]
    assert {user.encode() for user in users} <= set(erased)


@pytest.mark.parametrize("user", ["", "x" * 1025, "\udcff"])
def test_erase_refuses_what_is_no_id(settings: Settings, user: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["erase", user, "--log", str(settings.log)]) == 2
    assert "no id of a user" in capsys.readouterr().err


def test_rows_of_items_and_users_that_are_deleted_are_tombstones(
    log: OwnedLog, settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"item_id": "a", "title": "A", "deleted": False}, {"item_id": "b", "deleted": True}, {"item_id": "c"}]
    (tmp_path / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "users.csv").write_text("user_id,plan,deleted\nu,gold,false\nv,,true\n")
    for kind, file in (("items", "items.jsonl"), ("users", "users.csv")):
        assert main(["produce", str(tmp_path / file), "--kind", kind, "--log", str(settings.log)]) == 0
    items = {record.key: record.value for record in records(log, "items")}
    assert [key for key, value in items.items() if value is None] == [b"b"]
    known = decode_item(items[b"a"] or b"")
    assert known
    assert not known.attributes
    users = {record.key: record.value for record in records(log, "users")}
    assert users[b"v"] is None
    assert (decode_user(users[b"u"] or b"") or User("")).attributes == {"plan": "gold"}
    (tmp_path / "bad.jsonl").write_text('{"item_id": "a", "deleted": "perhaps"}\n')
    assert main(["produce", str(tmp_path / "bad.jsonl"), "--kind", "items", "--log", str(settings.log)]) == 3
    assert "item_id 'a': deleted is true or false" in capsys.readouterr().err


# what a request may hold

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
FIELDS = ("user_id", "item_id", "event_type", "timestamp", "event_id", "value", "session_id", "context", "retract",
          "title", "categories", "attributes", "hidden", "specversion", "data", "id", "time", "type", "ts", "price")  # fmt: skip
GOOD = st.fixed_dictionaries(
    {"user_id": st.sampled_from(["u", 7]), "item_id": st.sampled_from(["i", 8]), "event_type": st.just("view")},
    optional={"timestamp": st.sampled_from([0, 1.5e12, "2020-01-01"]), "ts": st.integers(0, 10**12)},
)


def outcome(take: Callable[..., IncomingRecords], *args: Any) -> IncomingRecords | ApiError:
    """What an endpoint takes, or why it takes nothing."""
    try:
        return take(*args)
    except ApiError as refused:
        return refused


@given(
    st.lists(GOOD | st.tuples(GOOD, st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=4)).map(lambda p: p[0] | p[1]) | VALUES, max_size=3),
    st.sampled_from([{}, {"timestamp": "ts", "user_id": "price"}]),
    st.booleans(),
)  # fmt: skip
@hypothesis.settings(max_examples=500)
def test_what_is_accepted_is_what_the_worker_takes(values: list[Any], field_map: dict[str, str], binary: bool) -> None:
    """And anything else is an ApiError, never another exception."""
    mine = Settings.load(field_map=field_map)
    incoming, intake, now_ms = Incoming(mine), Intake(mine), 1_700_000_000_000
    headers = (("ce_specversion", b"1.0"), ("ce_type", b"view")) if binary else ()
    try:
        sent = [msgspec.json.decode(json.dumps(value)) for value in values]
    except msgspec.DecodeError:
        return
    for take, args in (
        (incoming.interactions, (now_ms, now_ms)),
        (incoming.items, (now_ms,)),
        (incoming.users, (now_ms,)),
    ):
        taken = outcome(take, Body(copy.deepcopy(sent), headers), *args)
        if isinstance(taken, ApiError):
            assert taken.status == 400
            assert {"code", "message", "index"} <= taken.body["error"].keys()
            continue
        assert len(taken.records) == len(values)
        msgspec.json.encode(taken.answer())
        for n, new in enumerate(taken.records):
            record = Record(new.topic, 0, n, new.key, new.value, new.headers, now_ms)
            if take == incoming.interactions:
                payload = intake.arrival(record, now_ms).payload
                assert isinstance(payload, Interaction), payload
                assert payload.event_id == taken.event_ids[n]
                assert new.key == payload.user_id.encode()
            else:
                assert not isinstance(intake.change(record)[1], DeadLetter)


def test_a_worker_answers_as_json_too(settings: Settings) -> None:
    server = WebServer(health_app(RunMetrics(settings), "127.0.0.1"), "127.0.0.1", 0)
    server.start()
    try:
        with httpx.Client(base_url=server.address) as client:
            assert (client.get("/livez").status_code, client.get("/metrics").status_code) == (200, 200)
            answer = client.get("/readyz")
            assert (answer.status_code, error_of(answer)["message"]) == (503, "starting")
            assert error_of(client.get("/nothing"))["code"] == "not-found"
            assert error_of(client.post("/livez"))["code"] == "method-not-allowed"
            assert error_of(client.get("/metrics", headers={"Host": "evil.example"}))["code"] == "bad-host"
            assert client.get("/metrics", headers={"Origin": "http://evil.example"}).status_code == 403
    finally:
        server.stop()
