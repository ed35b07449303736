"""The API over a real embedded log."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from consumers.open_log import OwnedLog
from consumers.records import NewRecord
from streamer.errors import PortTaken
from streamer.settings import Settings
from streamer.web.api import Gateway
from streamer.web.materialized_view import View
from streamer.web.server import WebServer
from streamer.worker.worker import Worker
from tests.waiting import scaled, until

JSON = {"Content-Type": "application/json"}
EVENT = {"user_id": "u", "item_id": "a", "event_type": "view", "timestamp": 1_500_000_000_000}


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


def error_of(answer: httpx.Response) -> dict[str, object]:
    """The error of an answer, in the one form that errors have."""
    assert answer.headers["content-type"] == "application/json"
    error = answer.json()["error"]
    assert {"code", "message"} <= error.keys() <= {"code", "message", "field", "index"}
    assert "\n" not in error["message"]
    return dict(error)


@pytest.fixture
def serve(log: OwnedLog, settings: Settings) -> Iterator[object]:
    """Starts servers over the log with settings of the test's own; gives an HTTP client."""
    running: list[tuple[WebServer, View, httpx.Client]] = []

    def start(**changes: object) -> httpx.Client:
        mine = settings.model_copy(update=changes)
        view = View(log, mine)
        server = WebServer(Gateway(log, mine, view).app(), "127.0.0.1", 0, request_timeout_s=mine.request_timeout_s)
        view.start()
        server.start()
        assert view.ready.wait(10)
        running.append((server, view, httpx.Client(base_url=server.address, timeout=scaled(10))))
        return running[-1][2]

    yield start
    for server, view, client in running:
        client.close()
        view.stop()
        server.stop()


def test_post_run_get(serve, log: OwnedLog, settings: Settings) -> None:
    client = serve()
    client.post("/items", json=[{"item_id": "a", "title": "Alpha"}, {"item_id": "b", "title": "Beta"}])
    events = [EVENT, EVENT | {"item_id": "b"}, EVENT | {"user_id": "v"}]
    answer = client.post("/interactions", json=events)
    assert answer.status_code == 202
    assert answer.json()["accepted"] == len(set(answer.json()["event_ids"])) == 3
    assert client.get("/recommendations/v").status_code == 404
    worker = Worker.open(log, settings)
    worker.run(exit_at_end=True)
    worker.close()
    listed = until(lambda: (got := client.get("/recommendations/v?fields=title")).status_code == 200 and got).json()
    assert [item["title"] for item in listed["items"]] == ["Alpha", "Beta"]
    assert listed["list_id"] == "0-2"
    assert client.get("/users").json()["users"][0] == "v"
    assert "freshet_http_interactions_total 3.0" in client.get("/metrics").text


def test_new_lists_are_pushed(serve, log: OwnedLog, settings: Settings) -> None:
    client = serve()
    client.post("/interactions", json=EVENT)
    with client.stream("GET", "/recommendations/u/stream") as stream:
        worker = Worker.open(log, settings)
        worker.run(exit_at_end=True)
        worker.close()
        lines = stream.iter_lines()
        assert next(lines) == "event: list"
        assert json.loads(next(lines).removeprefix("data: "))["user_id"] == "u"


def test_the_page_feed(serve, log: OwnedLog) -> None:
    client = serve()
    client.post("/interactions", json=EVENT)
    seen = set()
    with client.stream("GET", "/stream") as stream:
        for line in stream.iter_lines():
            if line.startswith("event: "):
                seen.add(line.removeprefix("event: "))
            if seen >= {"interactions", "stats"}:
                break


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"{", 400, {"code": "not-json"}),
        (b"", 400, {"code": "not-json"}),
        (b"[" * 100_000, 400, {"code": "not-json"}),
        (b'{"user_id": "u"}', 400, {"code": "missing-field", "field": "item_id", "index": 0}),
        (b"[3]", 400, {"code": "not-an-object", "index": 0}),
        (_json([EVENT, EVENT | {"timestamp": -1}]), 400, {"code": "bad-timestamp", "field": "timestamp", "index": 1}),
        (_json(EVENT | {"value": "x"}), 400, {"code": "bad-value", "field": "value", "index": 0}),
        (_json(EVENT | {"user_id": ""}), 400, {"code": "bad-id", "index": 0}),
        (_json(EVENT | {"retract": True}), 400, {"code": "missing-field", "index": 0}),
        (_json(EVENT | {"timestamp": 99_999_999_999_999}), 400, {"code": "future-timestamp", "index": 0}),
        (b" " * 2_000_000, 413, {"code": "body-too-large"}),
    ],
)
def test_bad_bodies_say_why(serve, log: OwnedLog, body: bytes, status: int, says: dict[str, object]) -> None:
    answer = serve().post("/v1/interactions", content=body, headers=JSON)
    assert answer.status_code == status
    assert says.items() <= error_of(answer).items()
    assert log.ends("interactions") == {0: 0}


def test_a_missing_time_is_now_and_cloudevents_are_taken(serve, log: OwnedLog) -> None:
    client = serve()
    client.post("/interactions", json={k: v for k, v in EVENT.items() if k != "timestamp"})
    headers = {
        "ce-specversion": "1.0",
        "ce-id": "1",
        "ce-type": "view",
        "ce-source": "/",
        "ce-time": "2017-07-14T02:40:00Z",
    }
    answer = client.post("/interactions", json={"user_id": "u", "item_id": "a"}, headers=headers)
    assert answer.status_code == 202
    assert log.ends("interactions") == {0: 2}


def test_the_api_key(serve) -> None:
    client = serve(api_key="secret")
    assert client.post("/interactions", json=EVENT).status_code == 401
    assert client.get("/users", headers={"X-API-Key": "wrong"}).status_code == 401
    assert client.get("/users", headers={"X-API-Key": "secret"}).status_code == 200
    assert client.get("/livez").status_code == 200


def test_health_and_policy(serve) -> None:
    client = serve()
    assert client.get("/livez").status_code == client.get("/readyz").status_code == 200
    page = client.get("/")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "<title>Freshet" in page.text


def test_an_occupied_port_is_one_clear_line(settings: Settings, log: OwnedLog) -> None:
    view = View(log, settings)
    first = WebServer(Gateway(log, settings, view).app(), "127.0.0.1", 0)
    port = int(first.address.rpartition(":")[2])
    with pytest.raises(PortTaken, match=f"127.0.0.1:{port}.*--port"):
        WebServer(Gateway(log, settings, view).app(), "127.0.0.1", port)
    first.start()
    first.stop()


def test_an_erased_list_is_gone(serve, log: OwnedLog) -> None:
    client = serve()
    log.append([NewRecord("recommendations", b"w", b'{"list_id":"0-0","items":[]}')])
    log.append([NewRecord("recommendations", b"w", None)])
    log.append([NewRecord("recommendations", b"x", b'{"list_id":"0-1","items":[]}')])
    until(lambda: client.get("/recommendations/x").status_code == 200)
    assert client.get("/recommendations/w").status_code == 404


def test_a_user_id_may_hold_slashes(serve, log: OwnedLog, tmp_path: Path) -> None:
    client = serve()
    log.append([NewRecord("recommendations", b"a/b", b'{"list_id":"0-0","items":[]}')])
    until(lambda: client.get("/recommendations/a/b").status_code == 200)
