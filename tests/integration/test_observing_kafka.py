"""Two workers on a real Kafka that observe each other."""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from consumers.records import NewRecord, TopicPartition
from consumers.schemas import Interaction
from streamer.runtime.topics import open_log_of, topic_specs
from streamer.settings import Settings
from streamer.worker import reading
from streamer.worker.worker import Worker
from tests.scenarios.test_worker import interaction
from tests.topic_names import topics_under
from tests.waiting import until

pytestmark = pytest.mark.kafka
MOST_STEPS = 5  # one sees the block, one waits until it is due, one observes it


class Pair:
    """Two workers of one application, which take turns, and what is sent to them."""

    def __init__(self, settings: Settings, folder: Path, opened: ExitStack) -> None:
        each = [settings.model_copy(update={"state": folder / str(n)}) for n in range(2)]
        logs = [opened.enter_context(closing(open_log_of(one))) for one in each]
        self._log, self._topic, self._sent = logs[0], settings.interactions_topic, 0
        self._log.create(topic_specs(settings, partitions=2))
        self.workers = [opened.enter_context(closing(Worker.open(*both))) for both in zip(logs, each, strict=True)]
        self.users = dict[int, str]()  # one of those whose partition a worker has

    def send(self, user: str) -> None:
        """One more interaction."""
        record = interaction(user, f"i{self._sent}", self._sent)
        self._log.append([NewRecord(self._topic, record.key, record.value)])
        self._sent += 1

    def step(self, n: int) -> None:
        """One step of a worker; notes whose interactions it takes."""
        output = self.workers[n].step()
        for arrival in output.taken if output else ():
            assert isinstance(arrival.payload, Interaction)
            self.users[n] = arrival.payload.user_id

    def has_all(self, n: int) -> bool:
        """Whether a worker has taken or observed every interaction."""
        positions, ends = self.workers[n].state.positions, self._log.ends(self._topic)
        return all(positions.get(TopicPartition(self._topic, partition), 0) >= end for partition, end in ends.items())

    def take_all(self, n: int) -> bool:
        """A step of one. Whether nothing is left for it."""
        self.step(n)
        return self.has_all(n)


@pytest.fixture
def pair(kafka_bootstrap: str, settings: Settings, tmp_path: Path) -> Iterator[Pair]:
    own = topics_under(f"{tmp_path.name}.") | {"application": tmp_path.name}
    with ExitStack() as opened:
        yield Pair(settings.model_copy(update={**own, "bootstrap": kafka_bootstrap, "log": None}), tmp_path, opened)


def test_who_only_observes_waits_until_blocks_are_due_and_does_not_ask_over_and_over(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    def both_have_partitions() -> bool:
        for user in "abcd":
            pair.send(user)
        return [pair.take_all(n) for n in range(2)] and len(pair.users) == 2

    until(both_have_partitions, every_s=0)
    until(lambda: sum(pair.take_all(n) for n in range(2)) == 2, every_s=0)
    monkeypatch.setattr(reading, "OBSERVE_EVERY_S", 1.0)  # so that a block surely comes before it is due
    for _ in range(3):
        pair.send(pair.users[0])
        until(lambda: pair.take_all(0), every_s=0)
        steps = 1
        while not pair.take_all(1):
            steps += 1
        assert steps <= MOST_STEPS
