"""HTTP on a real Kafka whose broker stops while a request is on its way."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from consumers.log import Log
from streamer.runtime.topics import open_log_of, topic_specs
from streamer.settings import Settings
from streamer.web.api import Gateway
from streamer.web.materialized_view import View
from streamer.web.server import WebServer
from streamer.worker.worker import Worker
from tests import kafka_broker
from tests.conftest import running
from tests.topic_names import topics_under
from tests.waiting import freeze, scaled, until

pytestmark = pytest.mark.kafka
EVENT = {"user_id": "u", "item_id": "a", "event_type": "view", "timestamp": 1_500_000_000_000}


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[kafka_broker.Broker]:
    """A broker that these tests may stop."""
    with running(kafka_broker.Broker, kafka_broker.missing(), tmp_path_factory.mktemp("kafka")) as started:
        yield started


@pytest.fixture
def on_broker(broker: kafka_broker.Broker, settings: Settings, tmp_path: Path) -> Settings:
    own = topics_under(f"{tmp_path.name}.") | {"application": tmp_path.name}
    changes = {"bootstrap": broker.bootstrap, "log": None, "append_timeout_s": scaled(3.0)}
    return settings.model_copy(update={**own, **changes})


@pytest.fixture
def kafka_log(on_broker: Settings) -> Iterator[Log]:
    log = open_log_of(on_broker)
    log.create(topic_specs(on_broker, partitions=1))
    yield log
    log.close()


@pytest.fixture
def client(kafka_log: Log, on_broker: Settings) -> Iterator[httpx.Client]:
    view = View(kafka_log, on_broker)
    server = WebServer(Gateway(kafka_log, on_broker, view).app(), "127.0.0.1", 0)
    view.start()
    server.start()
    with httpx.Client(base_url=server.address, timeout=scaled(30)) as client:
        yield client
    view.stop()
    server.stop()


def taken(log: Log, settings: Settings) -> int:
    """How many interactions count."""
    worker = Worker.open(log, settings)
    worker.run(exit_at_end=True)
    counted = worker.state.engine.model.events
    worker.close()
    return int(counted)


@pytest.mark.parametrize("how", ["frozen", "ended"])
def test_what_is_sent_again_with_its_event_id_counts_once(
    client: httpx.Client, kafka_log: Log, on_broker: Settings, broker: kafka_broker.Broker, how: str
) -> None:
    """A broker that stands still has the record when it goes on; one that ended never sees it.

    The answer comes long before the client would give up, which ends the test.
    """
    assert client.post("/v1/interactions", json=EVENT).status_code == 202
    assert broker._process
    pid = broker._process.pid
    if how == "frozen":
        freeze(pid)
    else:
        broker.stop()
    try:
        answer = client.post("/v1/interactions", json=EVENT | {"item_id": "b"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "not-acknowledged")
        [event_id] = answer.json()["event_ids"]
    finally:
        if how == "frozen":
            os.kill(pid, signal.SIGCONT)
        else:
            broker.start()
    again = EVENT | {"item_id": "b", "event_id": event_id}
    tries = list[int]()
    until(lambda: tries.append(client.post("/v1/interactions", json=again).status_code) or tries[-1] == 202)
    assert client.post("/v1/interactions", json=again | {"item_id": "c", "event_id": "other"}).status_code == 202
    if how == "ended":  # nothing comes later that was said to have failed
        assert sum(kafka_log.ends(on_broker.interactions_topic).values()) <= 2 + len(tries)
    assert taken(kafka_log, on_broker) == 3
