"""A whole worker in this process, for benchmarks that ask it for lists and send what users did with them."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from consumers.open_log import OwnedLog
from consumers.records import NewRecord
from streamer.asking.question_queue import NotReady, QuestionQueue
from streamer.asking.questions import Answer, ListQuestion, Question
from streamer.runtime.topics import end_positions, topic_specs
from streamer.settings import Settings
from streamer.worker.worker import Worker

WAIT_S = 600.0
_encode = msgspec.json.encode


class EngineShop:
    """An embedded log and its worker, which answers questions between epochs as it does in `freshet up`."""

    def __init__(self, log: OwnedLog, settings: Settings, worker: Worker, queue: QuestionQueue) -> None:
        self.log, self.settings, self._worker, self._queue = log, settings, worker, queue

    def send(self, interactions: Sequence[dict[str, Any]] = (), items: Sequence[dict[str, Any]] = ()) -> None:
        """Sends records, and returns once the worker has taken them."""
        records = [NewRecord("items", str(one["item_id"]).encode(), _encode(one)) for one in items]
        records += [NewRecord("interactions", str(one["user_id"]).encode(), _encode(one)) for one in interactions]
        self.log.append(records)
        ends = end_positions(self.log, "interactions", "items")
        self._until(lambda: all(self._worker.state.positions.get(at, 0) >= end for at, end in ends.items() if end))

    def tell(self, feedback: Sequence[dict[str, Any]]) -> None:
        """Sends feedback."""
        self.log.append([NewRecord("feedback", str(one["user_id"]).encode(), _encode(one)) for one in feedback])

    def lists(self, users: Sequence[str], k: int, explore: float = 0.0) -> list[dict[str, Any]]:
        """A list of each user."""
        questions: list[Question] = [
            ListQuestion.model_validate({"user_id": user, "k": k, "explore": explore, "context": {}}) for user in users
        ]
        found = []
        for reply in self._queue.ask(questions).result(WAIT_S):
            assert isinstance(reply, Answer), reply
            assert reply.status == 200, reply.body
            found.append(msgspec.json.decode(reply.body))
        return found

    def has(self, surface: str) -> bool:
        """Whether rules are in force on a surface."""
        return surface in self._worker.state.rules

    def wait_for_rules(self) -> None:
        """Returns once the worker has the rules of the surface in force."""
        self._until(lambda: self.has("default"))

    def ready(self) -> None:
        """Returns once questions are answered."""
        self._until(lambda: not isinstance(self._queue.ask([_NOBODY]).result(WAIT_S)[0], NotReady))

    def _until(self, is_so: Any) -> None:
        end = time.monotonic() + WAIT_S
        while not is_so():
            assert time.monotonic() < end
            time.sleep(0.001)


_NOBODY = ListQuestion.model_validate({"context": {}})


@contextmanager
def engine_shop(folder: Path, **more: Any) -> Iterator[EngineShop]:
    """A shop in a folder. more: settings."""
    settings = Settings.load(log=str(folder / "log"), state=str(folder / "state")).model_copy(update=more)
    log = OwnedLog(folder / "log")
    log.create(topic_specs(settings, partitions=1))
    queue, ends = QuestionQueue(), threading.Event()
    worker = Worker.open(log, settings, stop=ends.is_set, queue=queue)
    thread = threading.Thread(target=worker.run, name="worker")
    thread.start()
    try:
        shop = EngineShop(log, settings, worker, queue)
        shop.ready()
        yield shop
    finally:
        ends.set()
        thread.join()
        worker.close()
        log.close()
