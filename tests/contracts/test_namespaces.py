"""Namespaces: applications beside one another behind one front, none of which reaches into another."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from streamer.asking.question_queue import QuestionQueue
from streamer.cli.main import main
from streamer.errors import UsageError
from streamer.runtime.topics import open_log_of, read_records, state_folder, topic_specs, whole
from streamer.settings import Settings
from streamer.web.api import Gateway, Namespaces
from streamer.web.materialized_view import View
from streamer.web.server import WebServer
from streamer.web.worker_api import worker_app
from streamer.web.workers.askers import RemoteAsker
from streamer.worker.prometheus import RunMetrics
from tests.conftest import own_topics
from tests.shop import started, work
from tests.waiting import ended, ends, scaled, until
from tests.websocket import Refused, WebSocket

NAMES = ("shop", "news")
EVENT = {"user_id": "ann", "item_id": "tea", "event_type": "view"}


class Front:
    """One front before two namespaces, each with a worker, and its own key; nothing stands outside of them."""

    def __init__(self, client: httpx.Client, settings: dict[str, Settings], log: Any) -> None:
        self.client, self.settings, self.log = client, settings, log

    def ask(self, method: str, namespace: str, path: str, key: str | None = None, **more: Any) -> httpx.Response:
        headers = {} if key is None else {"X-API-Key": key}
        return self.client.request(method, f"/ns/{namespace}{path}", headers=headers, **more)


@pytest.fixture(scope="module", params=["embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
def front(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    folder: Path = tmp_path_factory.mktemp("namespaces")
    with pytest.MonkeyPatch.context() as patch, ExitStack() as opened:
        settings = Settings.load(log=str(folder / "log"), state=str(folder / "state"))
        if request.param == "kafka":
            settings = own_topics(request.getfixturevalue("kafka_bootstrap"), settings, patch)
        log = opened.enter_context(closing(open_log_of(settings)))
        apps, each = {}, {}
        for name in NAMES:
            (folder / f"{name}.keys").write_text(f"{name}-reads read\n{name}-all\n")
            own = settings.in_namespace(name, str(folder / f"{name}.keys"))
            log.create(topic_specs(own, partitions=1))
            working = log if request.param == "embedded" else opened.enter_context(closing(open_log_of(own)))
            queue = QuestionQueue()
            api = opened.enter_context(started(WebServer(worker_app(own, queue, RunMetrics(own)), "127.0.0.1", 0)))
            queue.address = api.address
            opened.callback(work(working, own, queue))
            view = View(log, own)
            view.start()
            opened.callback(view.stop)
            asker = RemoteAsker(view.workers, f"{name}-all")
            apps[name], each[name] = Gateway(log, own, view, asker=asker).app(), own
        server = WebServer(Namespaces(apps["shop"], apps), "127.0.0.1", 0, sockets=True)
        opened.enter_context(started(server))
        yield Front(opened.enter_context(httpx.Client(base_url=server.address, timeout=scaled(60))), each, log)


DOORS: list[tuple[str, str, Any]] = [
    ("GET", "/v1/users/ann/recommendations", None),
    ("GET", "/v1/users", None),
    ("GET", "/v1/popular", None),
    ("GET", "/v1/status", None),
    ("GET", "/v1/ws", None),
    ("GET", "/recommendations/ann", None),
    ("POST", "/v1/interactions", EVENT),
    ("POST", "/v1/items", {"item_id": "a"}),
    ("POST", "/v1/feedback", {"list_id": "x", "user_id": "u", "event": "impression"}),
    ("POST", "/v1/users/ann/merge", {"session": "s"}),
    ("DELETE", "/v1/users/ann", None),
]


@pytest.mark.parametrize(("method", "path", "body"), DOORS)
def test_a_key_of_one_namespace_opens_nothing_of_another(front: Front, method: str, path: str, body: Any) -> None:
    more = {} if body is None else {"json": body}
    for name, other in (NAMES, NAMES[::-1]):
        for key in (f"{other}-all", f"{other}-reads", None):
            answer = front.ask(method, name, path, key, **more)
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthorized")
    session = front.ask("POST", "shop", "/v1/session", json={"key": "shop-all"})
    assert session.status_code == 200
    held = session.cookies["freshet_session_shop"]
    front.client.cookies.clear()
    for name, status in (("shop", 200), ("news", 401)):
        every = "; ".join(f"freshet_session{of}={held}" for of in ("", "_shop", "_news"))
        assert front.client.get(f"/ns/{name}/v1/users", headers={"Cookie": every}).status_code == status
    address = str(front.client.base_url).rstrip("/")
    WebSocket(f"{address}/ns/news/v1/ws", [("X-API-Key", "news-reads")]).close()
    with pytest.raises(Refused) as refused:
        WebSocket(f"{address}/ns/news/v1/ws", [("X-API-Key", "shop-all")])
    assert refused.value.status == 401


def test_each_has_what_was_sent_to_it_alone(front: Front) -> None:
    for name, item in (("shop", "tea"), ("news", "story")):
        event = EVENT | {"user_id": "both", "item_id": item}
        answer = front.ask("POST", name, "/v1/interactions?wait=60000", f"{name}-all", json=event)
        assert answer.status_code == 200, answer.text
        front.ask("POST", name, "/v1/items", f"{name}-all", json={"item_id": item, "title": f"Of {name}"})
    for name, item in (("shop", "tea"), ("news", "story")):
        listed = front.ask("GET", name, "/v1/users/both/recommendations", f"{name}-reads").json()
        assert [one["item_id"] for one in listed["items"]] == [item]
        found = until(lambda name=name: front.ask("GET", name, "/v1/items?search=of", f"{name}-reads").json()["items"])
        assert [one["title"] for one in found] == [f"Of {name}"]
        topics = [front.settings[name].interactions_topic, front.settings[name].recommendations_topic]
        for record in read_records(front.log, whole(front.log, *topics)):
            assert item in (record.value or b"").decode()
    assert front.ask("DELETE", "shop", "/v1/users/both", "shop-all").status_code == 202
    until(lambda: front.ask("GET", "shop", "/v1/users/both", "shop-reads").status_code == 404)
    assert front.ask("GET", "news", "/v1/users/both", "news-reads").status_code == 200


def test_ids_are_decoded_once_and_other_paths_are_nobodys(front: Front) -> None:
    event = EVENT | {"user_id": "a/b %41"}
    assert front.ask("POST", "news", "/v1/interactions?wait=60000", "news-all", json=event).status_code == 200
    answer = front.ask("GET", "news", "/v1/users/a%2Fb%20%2541", "news-reads")
    assert (answer.status_code, answer.json()["user_id"]) == (200, "a/b %41")
    for path in ("/ns/nobody/v1/users", "/ns/shop%2Fv1/users", "/ns/news/nothing", "/ns/news/ns/shop/v1/users"):
        answer = front.client.get(path, headers={"X-API-Key": "news-all"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not-found")
    told = front.ask("GET", "news", "/openapi.json").json()
    assert told["servers"] == [{"url": "/ns/news"}]
    assert front.ask("GET", "news", "/livez").status_code == 200


def test_names_of_a_namespace(tmp_path: Path, settings: Settings) -> None:
    plain = settings.model_copy(update={"state": None})
    own = plain.in_namespace("shop", "")
    names = [name for name in Settings.model_fields if name.endswith("_topic")]
    assert {getattr(own, name) for name in names} == {f"shop.{getattr(plain, name)}" for name in names}
    assert own.application == "shop.freshet"
    assert state_folder(own) == state_folder(plain) / "shop"
    assert (own.api_key, own.api_key_file) == (None, None)
    loaded = Settings.load(namespace="shop", log=str(settings.log), state=str(tmp_path / "s"))
    assert (loaded.items_topic, loaded.application, loaded.state) == ("shop.items", "shop.freshet", tmp_path / "s/shop")
    for bad in ("a.b", "a/b", "", "-a", "x" * 65):
        with pytest.raises(UsageError):
            Settings.load(namespaces={bad: ""})
        if bad:
            with pytest.raises(UsageError):
                Settings.load(namespace=bad)
    assert json.loads(loaded.model_dump_json())["namespace"] == "shop"


def test_serve_answers_for_several(tmp_path: Path, settings: Settings) -> None:
    """As it is started: topics and an item by commands of the namespace, then the front."""
    keys = tmp_path / "shop.keys"
    keys.write_text("of-the-shop\n")
    (tmp_path / "items.jsonl").write_text('{"item_id": "tea", "title": "Green tea"}\n')
    at = ["--log", str(settings.log)]
    own = [*at, "--set", "namespace=shop"]
    assert main(["topics", "create", *at]) == 0
    assert main(["topics", "create", *own]) == 0
    assert main(["produce", str(tmp_path / "items.jsonl"), "--kind", "items", *own]) == 0
    command = [sys.executable, "-m", "streamer", "serve", *at, "--port", "0", "--json"]
    command += ["--set", f"namespaces.shop={keys}"]
    with (tmp_path / "said").open("w") as said:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, text=True)
    with ends(process):
        assert process.stdout
        address = json.loads(process.stdout.readline())["address"]
        with httpx.Client(base_url=address, timeout=scaled(60)) as client:
            assert client.get("/v1/users").status_code == 200
            assert client.get("/ns/shop/v1/users").status_code == 401
            key = {"X-API-Key": "of-the-shop"}
            until(lambda: client.get("/ns/shop/v1/items?search=tea", headers=key).json()["items"])
            assert client.get("/v1/items?search=tea").json()["items"] == []
        process.terminate()
        assert ended(process, 30) == 0, (tmp_path / "said").read_text()
        process.stdout.close()
