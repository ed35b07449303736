"""A worker that is asked while it works: it answers, and does what it would have done unasked."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from consumers.open_log import OwnedLog
from consumers.records import Record
from consumers.schemas import WorkerAddress
from streamer.asking.question_queue import QuestionQueue
from streamer.asking.questions import Answer, ListQuestion, PopularQuestion, Question
from streamer.cli.producing import interaction_chunks
from streamer.runtime.topics import read_records, topic_specs, whole
from streamer.settings import Settings
from streamer.worker.worker import Worker
from tests.scenarios.test_worker import lists_of, read_all, run, send
from tests.waiting import scaled, until
from tests.worlds import checkerboard, table_of
from tgn.serialization import all_pages

EVENTS = checkerboard(events=1_500, items=100)


@contextmanager
def working(log: OwnedLog, settings: Settings, queue: QuestionQueue) -> Iterator[Worker]:
    """A worker in a thread, until the block ends."""
    stop = threading.Event()
    with Worker.open(log, settings, stop=stop.is_set, queue=queue) as worker:
        thread = threading.Thread(target=worker.run)
        thread.start()
        try:
            yield worker
        finally:
            stop.set()
            thread.join()


def answer(queue: QuestionQueue, question: Question) -> dict[str, Any]:
    [reply] = queue.ask([question]).result(scaled(30))
    assert isinstance(reply, Answer), reply
    status, body = reply
    assert status == 200, body
    value: dict[str, Any] = msgspec.json.decode(body)
    return value


@pytest.fixture
def other_log(tmp_path: Path, settings: Settings) -> Iterator[OwnedLog]:
    with OwnedLog(tmp_path / "other-log") as opened:
        opened.create(topic_specs(settings, partitions=1))
        yield opened


def test_asked_at_every_moment_it_publishes_and_keeps_the_same(
    log: OwnedLog, settings: Settings, other_log: OwnedLog
) -> None:
    send(other_log, EVENTS)
    unasked = run(other_log, settings)
    queue, answered, stop = QuestionQueue(), list[Answer](), threading.Event()

    def client() -> None:
        n = 0
        while not stop.is_set():
            n += 1
            questions = [ListQuestion(user_id=f"u{n % 40}", k=1 + n % 30), PopularQuestion()]
            answered.extend(reply for reply in queue.ask(questions).result() if isinstance(reply, Answer))

    clients = [threading.Thread(target=client) for _ in range(2)]
    often = settings.model_copy(update={"checkpoint_interval_ms": 20})
    with working(log, often, queue) as worker, ExitStack() as ended:
        for thread in clients:
            thread.start()
        ended.callback(lambda: [thread.join() for thread in clients])
        ended.callback(stop.set)  # whatever happens: a client asks for ever
        [(records, _)] = interaction_chunks(table_of(EVENTS), settings.interactions_topic)
        for first in range(0, len(records), 100):
            log.append(records[first : first + 100])
        until(lambda: worker.state.records == len(EVENTS))
        until(lambda: len(answered) > 50)
    assert lists_of(log) == lists_of(other_log)
    assert all_pages(worker.state.engine.model) == all_pages(unasked.state.engine.model)


def test_a_list_that_was_asked_for_is_that_of_the_topic_and_is_kept_on_a_topic_of_its_own(
    log: OwnedLog, settings: Settings
) -> None:
    queue = QuestionQueue()

    def kept() -> list[Record]:
        return [record for record in read_all(log, settings.lists_topic) if b'"list_id":"q-' in (record.value or b"")]

    with working(log, settings, queue) as worker:
        send(log, EVENTS[:300])
        until(lambda: worker.state.records == 300)
        last = EVENTS[299][0]
        asked = answer(queue, ListQuestion(user_id=last))
        assert [item["item_id"] for item in asked["items"]] == lists_of(log)[last]
        until(kept)
    [record] = kept()
    assert record.key == last.encode()
    assert msgspec.json.decode(record.value or b"")["list_id"] == asked["list_id"]
    assert asked["list_id"].startswith("q-")


def test_it_says_where_it_is_found_and_says_it_again(log: OwnedLog, settings: Settings) -> None:
    queue = QuestionQueue()
    queue.address = "http://127.0.0.1:1"

    def said() -> list[WorkerAddress]:
        records = read_records(log, whole(log, settings.workers_topic))
        return [msgspec.json.decode(record.value or b"", type=WorkerAddress) for record in records]

    with working(log, settings, queue):
        until(lambda: len(said()) >= 2)
    first, second = said()[:2]
    assert first.partitions == list(range(first.of)) == second.partitions
    assert (first.address, second.at_ms > first.at_ms) == (queue.address, True)
