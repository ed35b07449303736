"""A shop over a log: a worker with an API of its own, and the front before it, each with a client."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import partial
from typing import Any

import httpx
import pytest

from consumers.errors import LogUnavailable
from consumers.log import Log
from streamer.asking.question_queue import QuestionQueue
from streamer.runtime.signals import StopRequest
from streamer.runtime.supervisor import supervise
from streamer.runtime.topics import open_log_of, topic_specs
from streamer.settings import Settings
from streamer.web.api import Gateway
from streamer.web.materialized_view import View
from streamer.web.server import WebServer
from streamer.web.worker_api import worker_app
from streamer.web.workers.askers import RemoteAsker
from streamer.worker.prometheus import RunMetrics
from streamer.worker.worker import Worker
from tests.conftest import own_topics
from tests.waiting import until

BEGAN_MS = 1_700_000_000_000
ITEMS = [
    {"item_id": f"i{n}", "title": f"Item {n}", "categories": ["even" if n % 2 == 0 else "odd"], "price": n}
    for n in range(12)
]


class Shop:
    """A worker with an API of its own, and the front before it, each with a client."""

    def __init__(self, settings: Settings, log: Log, worker: httpx.Client, front: httpx.Client, view: View) -> None:
        self.settings, self.log, self.worker, self.front, self.view = settings, log, worker, front, view

    def listed(self, **asked: Any) -> list[str]:
        """The items of a list that is asked for."""
        answer = self.front.post("/v1/recommendations", json=asked)
        assert answer.status_code == 200, answer.text
        return [item["item_id"] for item in answer.json()["items"]]


@pytest.fixture(scope="module", params=["embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
def shop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A shop on either home of the log."""
    yield from open_shop(request, tmp_path_factory)


def open_shop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A shop with twelve items and five users, who took some of them."""
    folder = tmp_path_factory.mktemp("shop")
    with pytest.MonkeyPatch.context() as patch, ExitStack() as opened:
        settings = Settings.load(log=str(folder / "log"), state=str(folder / "state"))
        if request.param == "kafka":
            settings = own_topics(request.getfixturevalue("kafka_bootstrap"), settings, patch)
        log = opened.enter_context(closing(open_log_of(settings)))
        log.create(topic_specs(settings, partitions=2))
        asked_log = opened.enter_context(closing(open_log_of(settings))) if request.param == "kafka" else log
        queue = QuestionQueue()
        api = opened.enter_context(
            started(WebServer(worker_app(settings, queue, RunMetrics(settings)), "127.0.0.1", 0))
        )
        queue.address = api.address
        opened.callback(work(log, settings, queue))
        view = View(asked_log, settings)
        view.start()
        opened.callback(view.stop)
        gateway = Gateway(asked_log, settings, view, asker=RemoteAsker(view.workers))
        front = opened.enter_context(started(WebServer(gateway.app(), "127.0.0.1", 0, sockets=True)))
        clients = [opened.enter_context(httpx.Client(base_url=s.address, timeout=60)) for s in (api, front)]
        shop = Shop(settings, asked_log, *clients, view)
        _fill(shop)
        yield shop


class started:
    """A server that listens meanwhile."""

    def __init__(self, server: WebServer) -> None:
        self._server = server

    def __enter__(self) -> WebServer:
        self._server.start()
        return self._server

    def __exit__(self, *_: object) -> None:
        self._server.stop()


def work(log: Log, settings: Settings, queue: QuestionQueue) -> Callable[[], None]:
    """Starts a worker in a thread, under the supervisor that `freshet run` has; what it gives ends it."""
    stop = StopRequest(on_signals=False)

    def opened() -> Worker | None:
        try:
            return Worker.open(log, settings, stop=lambda: bool(stop), queue=queue)
        except LogUnavailable:  # a broker that has just started gives no seats yet
            return None

    service = partial(until, opened)
    thread = threading.Thread(target=supervise, args=(service, Worker.run, stop), name="worker")
    thread.start()

    def end() -> None:
        stop.set()
        thread.join()

    return end


def _fill(shop: Shop) -> None:
    assert shop.front.post("/v1/items", json=ITEMS).status_code == 202
    users = [{"user_id": f"u{n}", "plan": "gold"} for n in range(5)]
    assert shop.front.post("/v1/users", json=users).status_code == 202
    until(lambda: shop.front.get("/v1/items/i11").status_code == 200)
    events = [
        {"user_id": f"u{n % 5}", "item_id": f"i{n * 7 % 10}", "event_type": "view", "timestamp": BEGAN_MS + n * 60_000}
        for n in range(100)
    ]
    assert shop.front.post("/v1/interactions", json=events).status_code == 202
    until(lambda: taken(shop) == 100, said=lambda: f"{taken(shop)} of 100 taken")
    until(lambda: list(shop.view.workers.addresses().values()) == [[0, 1]], said=shop.view.workers.addresses)


def taken(shop: Shop) -> int:
    """How many interactions its worker has taken."""
    return sum(worker["interactions"] for worker in shop.front.get("/v1/status").json()["workers"])


def error_of(answer: httpx.Response) -> dict[str, Any]:
    """The error of an answer, in the one form that errors have."""
    assert answer.headers["content-type"] == "application/json", answer.text
    assert answer.json().keys() - {"event_ids"} == {"error"}
    error = answer.json()["error"]
    assert {"code", "message"} <= error.keys() <= {"code", "message", "field", "index"}
    assert "\n" not in error["message"]
    return dict(error)
