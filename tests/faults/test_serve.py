"""`freshet serve` as a process, under what befalls the log: never "ready" while it is behind, always back by itself."""

import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from confluent_kafka.admin import AdminClient, NewPartitions  # type: ignore[attr-defined]

from consumers.embedded.frames import OWNER_FILE
from consumers.errors import WireError
from consumers.records import NewRecord, TopicSpec
from tests import kafka_broker, waiting
from tests.faults.scene import ROOT, Scene
from tests.waiting import scaled

BEHIND_S = 5.0  # what README promises: a view that is further behind is not ready
FOREIGN = {
    "text": b"hello",
    "another object": b'{"not":"a quality"}',
    "truncated": b'{"list_id":"0-1","user_id":"w","items":[{"item_id":"a","sco',
    "binary": bytes(range(256)),
    "empty": b"",
    "an array": b"[]",
    "null": b"null",
    "items are no items": b'{"list_id":"0-1","items":[1]}',
    "too deep": b'{"list_id":"0-1","items":[],"x":' + b"[" * 20_000 + b"]" * 20_000 + b"}",
    "a number that is none": b'{"list_id":"0-1","items":[{"item_id":"a","score":1e999,"source":"s","reason":"r"}]}',
    "another number": b'{"metric":"hr@10","value":1e999,"popularity":0,"events":1,"timestamp":1}',
}


def until(condition: Callable[[], object], what: str) -> None:
    """Waits for a condition; what cannot be asked for yet is not there yet."""

    def holds() -> object:
        try:
            return condition()
        except (httpx.HTTPError, WireError):
            return False

    waiting.until(holds, 120, lambda: what)


class Served:
    """A `freshet serve` process, and a client that asks it all the time whether it is ready and for one user's list."""

    def __init__(self, scene: Scene, *flags: str) -> None:
        self._scene = scene
        self.process = freshet(scene, "serve", "--port", "0", *flags, stdout=subprocess.PIPE)
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert "serving on" in line, line
        self.client = httpx.Client(base_url=line.split()[-1], timeout=scaled(90))
        self.written: list[tuple[float, int]] = []  # when a list was on the topic for certain, and its number
        self.broken: list[str] = []
        self.seen: set[int] = set()
        self._ended = threading.Event()
        self._asking = threading.Thread(target=self._ask)
        self._asking.start()

    def _ask(self) -> None:
        with httpx.Client(base_url=self.client.base_url, timeout=scaled(90)) as client:
            while not self._ended.is_set():
                asked_at = time.monotonic()
                status = client.get("/readyz").status_code
                self.seen.add(status)
                due = max((n for at, n in self.written if at < asked_at - BEHIND_S), default=0)
                if status == 200 and (got := self._number(client)) < due:
                    self.broken.append(f"ready, and shows list {got} where {due} has been there for {BEHIND_S} s")
                self._ended.wait(0.05)

    def _number(self, client: httpx.Client) -> int:
        answer = client.get("/recommendations/w")
        return int(answer.json()["list_id"].rpartition("-")[2]) if answer.status_code == 200 else 0

    def ready(self) -> bool:
        return self.client.get("/readyz").status_code == 200

    def post(self) -> bool:
        event = {"user_id": "p", "item_id": "a", "event_type": "view"}
        return self.client.post("/interactions", json=event).status_code == 202

    def shows_what_is_written(self, partition: int | None = None) -> None:
        """Writes a newer list, and waits until it is served by a view that is ready."""
        n = len(self.written) + 1
        topic = self._scene.settings.recommendations_topic
        value = json.dumps({"list_id": f"0-{n}", "user_id": "w", "items": []}).encode()
        until(lambda: self._scene.send([NewRecord(topic, b"w", value, (), partition)]) or True, "the log takes a list")
        self.written.append((time.monotonic(), n))
        until(lambda: self._number(self.client) == n and self.ready(), f"list {n} is served")
        until(self.post, "an interaction is taken")
        assert self.process.poll() is None
        assert not self.broken

    def close(self) -> None:
        self._ended.set()
        self._asking.join()
        self.client.close()
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(60)
        assert self.process.stdout
        self.process.stdout.close()
        assert code == 0
        assert not self.broken


def freshet(scene: Scene, command: str, *flags: str, **pipes: Any) -> "subprocess.Popen[str]":
    folder = scene.file.parent / "cwd"
    folder.mkdir(exist_ok=True)
    (folder / "freshet.toml").write_text(scene.file.read_text())
    line = [sys.executable, "-m", "streamer", command, *flags]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "", "HOME": str(Path.home())}
    errors = (folder / f"{command}.log").open("a")
    started = subprocess.Popen(line, cwd=folder, env=environment, text=True, stderr=errors, **pipes)
    errors.close()
    return started


def log_of(scene: Scene, command: str = "serve") -> str:
    return (scene.file.parent / "cwd" / f"{command}.log").read_text()


@contextmanager
def serving(scene: Scene, *flags: str) -> Iterator[Served]:
    served = Served(scene, *flags)
    try:
        until(served.ready, "serve is ready")
        yield served
    finally:
        served.close()


def send_foreign(scene: Scene) -> None:
    """What others may write, on every topic that serve reads."""
    settings = scene.settings
    compacted = (settings.recommendations_topic, settings.items_topic, settings.users_topic, settings.quality_topic)
    topics = (*compacted, settings.interactions_topic)
    records = [
        NewRecord(topic, key, value)
        for topic in topics
        for key in (b"w", b"\xff", None)
        if key is not None or topic not in compacted or settings.bootstrap is None  # Kafka refuses those
        for value in FOREIGN.values()
    ]
    scene.send([*records, *(NewRecord(topic, b"x", None) for topic in topics)])


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_the_owner_of_the_embedded_log_ends_and_another_takes_over(tmp_path: Path, how: signal.Signals) -> None:
    scene = Scene(tmp_path, "chaos")
    scene.create()
    owner = tmp_path / "log" / OWNER_FILE
    running = freshet(scene, "run")
    until(owner.is_file, "run has the log")
    with serving(scene) as served:
        served.shows_what_is_written()
        for _ in range(2):  # the second time run reads through serve, or serve through it again
            running.send_signal(how)
            running.wait()
            served.shows_what_is_written()
            running = freshet(scene, "run")
            served.shows_what_is_written()
        send_foreign(scene)
        served.shows_what_is_written()
        libraries = Path(f"/proc/{served.process.pid}/maps").read_text()
        assert not re.findall("llvmlite|libarrow|libtorch", libraries)  # 100 MiB that only who makes lists needs
    running.send_signal(signal.SIGTERM)
    running.wait()
    with serving(scene) as again:  # what is on the topics for good
        again.shows_what_is_written()
    assert "Traceback" not in log_of(scene)


def made_anew(scene: Scene) -> bool:
    log = scene.open()
    try:
        return bool(log.create([TopicSpec(scene.settings.recommendations_topic, 2, "compact")]))
    finally:
        log.close()


@pytest.mark.kafka
@pytest.mark.timeout(900)
def test_what_befalls_a_broker(tmp_path: Path, broker: kafka_broker.Broker) -> None:
    scene = Scene(tmp_path, f"c{uuid4().hex[:8]}", broker.bootstrap)
    scene.create(2)
    settings, admin = scene.settings, AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": 0})
    with serving(scene) as served:
        served.shows_what_is_written()
        send_foreign(scene)
        served.shows_what_is_written()
        for topic in (settings.recommendations_topic, settings.items_topic, settings.interactions_topic):
            admin.create_partitions([NewPartitions(topic, 5)])[topic].result(30)
        served.shows_what_is_written(partition=4)
        for kill in (False, True):
            broker.stop(kill)
            until(lambda: not served.ready(), "it says that the broker is away")
            broker.start()
            served.shows_what_is_written()
        until(
            lambda: settings.recommendations_topic in admin.list_topics(timeout=scaled(10)).topics, "the admin is back"
        )
        served.written.clear()  # nothing of it is on the topic any more
        admin.delete_topics([settings.recommendations_topic])[settings.recommendations_topic].result(30)
        until(lambda: not served.ready(), "it says that the topic is gone")
        until(lambda: made_anew(scene), "the topic is made anew")
        served.shows_what_is_written()
        metrics = served.client.get("/metrics").text
        for topic in (settings.recommendations_topic, settings.quality_topic, settings.items_topic):
            found = re.search(rf'freshet_view_skipped_records_total{{topic="{re.escape(topic)}"}} (\d+)', metrics)
            assert found
            assert int(found[1]) > 0
        assert served.seen == {200, 503}
    with serving(scene) as again:
        again.shows_what_is_written()
    assert "Traceback" not in log_of(scene)
