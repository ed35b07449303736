"""Workers of one application share the partitions, come, go and die, and every interaction is listed once."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from consumers.records import TopicPartition
from tests.faults.scene import ROOT, Scene
from tests.worlds import checkerboard

pytestmark = pytest.mark.kafka
STEP = 600
EVENTS = checkerboard(events=8 * STEP, users=120, items=60)


class Group:
    """Seats on one application, each with a folder of its own, and how far the group has got."""

    def __init__(self, folder: Path, bootstrap: str, seats: int, protocol: str) -> None:
        name = f"g{uuid4().hex[:8]}"
        kafka = {"session.timeout.ms": 6_000} if protocol == "classic" else {}
        self.seats = []
        for seat in range(seats):
            place = folder / str(seat)
            place.mkdir()
            settings = {
                "max_epoch_events": 60,
                "checkpoint_interval_ms": 300,
                "group_protocol": protocol,
                "kafka": kafka,
            }
            self.seats.append(Scene(place, name, bootstrap, **settings))
        self.seats[0].create(partitions=4)
        self.running: dict[int, subprocess.Popen[bytes]] = {}
        self.sent = 0

    def send(self) -> None:
        """The next STEP interactions."""
        self.seats[0].send(self.seats[0].interactions(EVENTS[self.sent : self.sent + STEP], self.sent))
        self.sent += STEP

    def start(self, seat: int) -> None:
        scene = self.seats[seat]
        cwd = scene.file.parent / "cwd"
        cwd.mkdir(exist_ok=True)
        (cwd / "freshet.toml").write_text(scene.file.read_text())
        log = (cwd / "log").open("ab")
        self.running[seat] = subprocess.Popen(
            [sys.executable, "-m", "streamer", "run"], cwd=cwd, stderr=log,
            env={"PYTHONPATH": str(ROOT), "PATH": "", "HOME": str(Path.home())},
        )  # fmt: skip
        log.close()

    def signal(self, seat: int, number: int) -> int | None:
        """Sends a signal; after one that ends the process gives its exit code."""
        self.running[seat].send_signal(number)
        return None if number in (signal.SIGSTOP, signal.SIGCONT) else self.running.pop(seat).wait(30)

    def manifests(self) -> list[dict[str, object]]:
        """All that was committed."""
        log = self.seats[0].open()
        tp = TopicPartition(self.seats[0].settings.epochs_topic, 0)
        reader, found = log.reader({tp: 0}), []
        while True:
            records = reader.read(1_000, 0.3)
            found += [json.loads(record.value or b"") for record in records]
            if not records and tp in reader.at_end():
                break
        reader.close()
        log.close()
        return found

    def taken(self) -> int:
        """Interactions taken, each once."""
        return sum(m["events"] for m in self.manifests() if not m.get("adopted"))  # type: ignore[misc]

    def workers(self) -> set[object]:
        """Seats that have committed."""
        return {m["worker"] for m in self.manifests()}

    def until(self, condition: Callable[[], bool], timeout_s: float = 150) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, self.logs()
            time.sleep(0.3)

    def all_taken(self) -> bool:
        """Whether the group has taken everything that was sent."""
        return self.taken() >= self.sent

    def logs(self) -> str:
        return "\n".join((scene.file.parent / "cwd" / "log").read_text()[-2_000:] for scene in self.seats)

    def check(self) -> None:
        """Ends every worker; then the log must hold each list once, and each state be that of its own epochs."""
        for seat in list(self.running):
            assert self.signal(seat, signal.SIGTERM) == 0, self.logs()
        digests = [scene.finish() for scene in self.seats]
        found = self.seats[0].audit()
        assert found.interactions == self.sent
        assert (found.lost, found.doubled) == (0, 0)
        assert sorted(found.digests.values()) == sorted(digests)

    def close(self) -> None:
        for process in self.running.values():
            process.kill()
            process.wait()


@pytest.fixture
def group_of(tmp_path: Path, kafka_bootstrap: str) -> Iterator[Callable[[int, str], Group]]:
    made: list[Group] = []

    def make(seats: int, protocol: str) -> Group:
        made.append(Group(tmp_path, kafka_bootstrap, seats, protocol))
        return made[-1]

    yield make
    for group in made:
        group.close()


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_one_joins_and_one_is_killed(group_of: Callable[[int, str], Group], protocol: str) -> None:
    group = group_of(2, protocol)
    group.start(0)
    group.send()
    group.until(group.all_taken)
    group.start(1)
    while len(group.workers()) < 2:  # until the second one has taken its share of what comes
        group.send()
        group.until(group.all_taken)
    group.send()
    group.signal(0, signal.SIGKILL)
    group.start(0)
    group.until(group.all_taken)
    group.check()


def test_partitions_of_one_that_left_move_and_come_back(group_of: Callable[[int, str], Group]) -> None:
    """One stops, one is frozen until the group has given it up and wakes: it must not write what is no longer its own."""
    group = group_of(2, "classic")
    for seat in (0, 1):
        group.start(seat)
    group.send()
    group.until(group.all_taken)
    group.signal(1, signal.SIGSTOP)
    group.send()
    group.until(group.all_taken)  # the other one has adopted its partitions
    group.signal(1, signal.SIGCONT)
    group.send()
    group.until(group.all_taken)
    group.signal(0, signal.SIGTERM)
    group.send()
    group.until(group.all_taken)
    assert any(m.get("adopted") for m in group.manifests())
    group.check()
