"""Connections to a real Kafka: each ends with what opened it, in its thread, whoever still holds a reference."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from consumers.errors import LogUnavailable, WireError
from consumers.kafka import log as kafka_log
from consumers.kafka.calls import client
from consumers.kafka.log import KafkaLog
from consumers.kafka.probe import KafkaProbe
from consumers.records import NewRecord, TopicPartition, TopicSpec
from streamer.runtime.topics import open_log_of, topic_specs
from streamer.settings import Settings
from streamer.worker.worker import Worker
from tests.waiting import scaled, until

pytestmark = pytest.mark.kafka


def clients() -> set[str]:
    """Threads of this process that librdkafka's clients started; each client has one `rdk:main`."""
    found = set()
    for task in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError):
            if (task / "comm").read_text().startswith("rdk:main"):
                found.add(task.name)
    return found


@pytest.fixture
def own(on_kafka: Settings) -> Settings:
    """Settings whose topics are there."""
    with closing(open_log_of(on_kafka)) as log:
        log.create(topic_specs(on_kafka, 2))
    return on_kafka


@pytest.mark.parametrize("delivery", ["exactly-once", "at-least-once"])
def test_what_a_log_opened_ends_with_it(own: Settings, delivery: str) -> None:
    settings, before = own.model_copy(update={"delivery": delivery}), clients()
    log = open_log_of(settings)
    topic = TopicPartition(settings.interactions_topic, 0)
    log.append([NewRecord(topic.topic, b"u", b"{}", partition=0)])
    log.stored_state(settings.application).positions()
    reader, committer = log.reader({topic: 0}), log.committer(settings.application)
    member = log.subscribe(committer, {topic: 0})
    member.join()
    until(lambda: member.read(1, 0.1) or topic in member.changes()[0])
    assert reader.read(1, scaled(30))
    committer.commit([NewRecord(settings.quality_topic, b"m", b"{}")], {topic: 1})
    reader.close()
    member.close()
    committer.close()
    log.close()
    until(lambda: clients() <= before, 10, said=lambda: clients() - before)
    with suppress(WireError):  # closing once more does no harm
        committer.close()
        log.close()


def test_the_clients_of_a_log_that_does_not_open_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consumers.kafka.log.START_TIMEOUT_S", 0.5)
    before = clients()
    with pytest.raises(LogUnavailable) as failed:
        KafkaLog("127.0.0.1:1", tmp_path, {})
    assert failed.traceback  # which holds what the log had opened
    until(lambda: clients() <= before, 10, said=lambda: clients() - before)


def test_the_connection_of_a_probe_ends(kafka_bootstrap: str) -> None:
    before = clients()
    probe = KafkaProbe(kafka_bootstrap, {})
    with closing(probe):
        assert probe.broker().brokers == 1
        assert probe.may_open_transactions("probe") is None
        assert probe.open_transactions(["none"]) == {}
    until(lambda: clients() <= before, 10, said=lambda: clients() - before)


def test_a_worker_that_does_not_begin_leaves_its_seat(own: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(open_log_of(own)) as log:
        before = clients()
        with monkeypatch.context() as patched:
            patched.setattr(
                "streamer.worker.opening.manifests", lambda *_: (_ for _ in ()).throw(LogUnavailable("away"))
            )
            with pytest.raises(LogUnavailable, match="away") as failed:
                Worker.open(log, own)
        assert failed.traceback
        assert len(clients() - before) <= 1  # the log's producer, by which it claimed the seat
        Worker.open(log, own).close()


def test_who_asks_a_log_that_another_thread_closes_hears_that_it_is_away(own: Settings) -> None:
    log, failed = open_log_of(own), list[BaseException]()
    asked = threading.Semaphore(0)

    def ask(question: str) -> None:
        try:
            while True:
                if question == "append":
                    log.append([NewRecord(own.quality_topic, b"m", b"{}")])
                elif question == "create":
                    log.create([TopicSpec(own.quality_topic, 1, "compact,delete")])
                else:
                    getattr(log, question)()
                asked.release()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=ask, args=(question,)) for question in ("append", "topic_names", "create")]
    for thread in threads:
        thread.start()
    for _ in range(30):
        assert asked.acquire(timeout=scaled(60))
    log.close()
    for thread in threads:
        thread.join(60)
    assert [type(error) for error in failed] == [LogUnavailable] * 3, failed


def test_topics_are_told_while_some_are_deleted(own: Settings) -> None:
    names = [f"{own.application}.{n}" for n in range(30)]
    with closing(open_log_of(own)) as log, AdminClient({"bootstrap.servers": own.bootstrap}) as admin:
        log.create([TopicSpec(name, 1) for name in names])
        for name in names:
            deleted = admin.delete_topics([name])[name]
            until(lambda name=name: name not in log.topics(names), every_s=0)  # type: ignore[misc]
            deleted.result(scaled(30))


def test_the_first_appends_of_several_threads_share_one_producer(
    tmp_path: Path, kafka_bootstrap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is made besides would be closed by nobody, and what it has sent would have no order with the other's."""
    made: list[object] = []

    def counted(kind: Any, config: Any) -> Any:
        made.append(kind)
        return client(kind, config)

    monkeypatch.setattr(kafka_log, "client", counted)
    topic, together = f"t-{uuid4().hex[:8]}", threading.Barrier(8)
    with closing(KafkaLog(kafka_bootstrap, tmp_path, {})) as log:
        log.create([TopicSpec(topic, 1)])

        def append(n: int) -> None:
            together.wait()
            log.append([NewRecord(topic, b"k", str(n).encode())])

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(append, range(8)))
        assert made.count(Producer) == 1
        assert log.ends(topic) == {0: 8}
