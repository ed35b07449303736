"""Seconds without lists: python -m tests.benchmarks.moving [--kills N] [--joins N] [--rate N] [--out FILE]

Three workers of one application on a real Kafka, four partitions, their sessions and transactions timed as they are by
default. Interactions come at a steady rate; a `read_committed` reader notes when each list arrives. A kill is `kill −9`
of one of the three, in turn; it is started again once every partition has lists. A join is a worker that comes to two:
the third, ended before by SIGTERM until its partitions had gone. Printed is, for each, the longest time between two lists
of a partition from then on, the worst partition first; and, of a kill, by the log of the others, after how long they knew
that one is gone, which is the broker's to say, and after how long the last of its partitions was open. At the end an audit: lost and doubled lists, and whether each
worker's state equals its epochs taken again.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import msgspec

from consumers.records import TopicPartition
from consumers.schemas import EpochManifest
from streamer.runtime.topics import read_records, whole
from tests.benchmarks.curve_page import page_of
from tests.benchmarks.faults import Load
from tests.faults.scene import ROOT, Scene
from tests.kafka_broker import Broker

RESULTS = Path(__file__).parent / "MOVING.md"
PARTITIONS, CHUNK = 4, 10
QUIET_S, LIMIT_S = 6.0, 900.0  # lists of every partition for so long, HITCH_S apart at most: it is over
HITCH_S = 3.0
NOTICED_S = 16.0  # until when the others have noticed that one is gone, at a session of ten seconds


class Watch(threading.Thread):
    """Notes when lists of each partition arrive at a `read_committed` reader."""

    def __init__(self, scene: Scene) -> None:
        super().__init__(daemon=True)
        topic = scene.settings.recommendations_topic
        self._log = scene.open()
        self._reader = self._log.reader({TopicPartition(topic, p): 0 for p in range(PARTITIONS)})
        self._ending = threading.Event()
        self.came: list[list[float]] = [[] for _ in range(PARTITIONS)]

    def run(self) -> None:
        while not self._ending.is_set():
            for record in self._reader.read(1_000, 0.1):
                self.came[record.partition].append(time.monotonic())

    def is_flowing(self) -> bool:
        """Whether each partition has had lists for QUIET_S, HITCH_S apart at most."""
        now = time.monotonic()
        last = [[at for at in list(came)[-2_000:] if at > now - QUIET_S] for came in self.came]
        return all(
            len(one) > 1
            and one[0] < now - QUIET_S + HITCH_S
            and max(b - a for a, b in zip(one, [*one[1:], now], strict=True)) < HITCH_S
            for one in last
        )

    def gaps(self, since: float) -> list[float]:
        """The longest time between two lists of each partition, from the last one before `since` on, longest first."""
        found = []
        for came in self.came:
            before = max((at for at in came if at <= since), default=since)
            times = [before, *(at for at in came if at > since)]
            found.append(max(b - a for a, b in zip(times, [*times[1:], time.monotonic()], strict=True)))
        return sorted(found, reverse=True)

    def end(self) -> None:
        """Stops."""
        self._ending.set()
        self.join()
        self._reader.close()
        self._log.close()


class Workers:
    """Three seats of one application."""

    def __init__(self, folder: Path, bootstrap: str) -> None:
        self.seats = []
        for seat in range(3):
            (folder / str(seat)).mkdir()
            self.seats.append(
                Scene(folder / str(seat), "moving", bootstrap, max_epoch_events=5_000, checkpoint_interval_ms=1_000)
            )
        self.seats[0].create(partitions=PARTITIONS)
        self.running: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, seat: int) -> None:
        """Runs the worker of a seat, as a user starts it."""
        scene = self.seats[seat]
        cwd = scene.file.parent / "cwd"
        cwd.mkdir(exist_ok=True)
        (cwd / "freshet.toml").write_text(scene.file.read_text())
        with (cwd / "log").open("ab") as log:
            self.running[seat] = subprocess.Popen(
                [sys.executable, "-m", "streamer", "run"],
                cwd=cwd, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=log, stderr=log,
            )  # fmt: skip

    def end(self, seat: int, number: int) -> None:
        """Sends a signal that ends the worker of a seat."""
        process = self.running.pop(seat)
        process.send_signal(number)
        process.wait(60)

    def said(self, since: float, what: str) -> list[float]:
        """When running workers logged something after a wall time, in seconds from then, in order."""
        found = []
        for seat in self.running:
            for line in (self.seats[seat].file.parent / "cwd" / "log").read_text().splitlines():
                with suppress(ValueError):  # a line of a traceback
                    at = datetime.strptime(line[:23], "%Y-%m-%d %H:%M:%S,%f").timestamp()
                    found += [at - since] if at > since and what in line else []
        return sorted(found)

    def working(self, since: float) -> set[str]:
        """The seats that committed interactions of their own after a wall time, s."""
        epochs = self.seats[0].settings.epochs_topic
        with self.seats[0].open() as log:
            start = max(log.ends(epochs)[0] - 400, 0)
            records = list(read_records(log, {TopicPartition(epochs, 0): start}))
        made = [
            msgspec.json.decode(r.value or b"", type=EpochManifest) for r in records if r.timestamp_ms > since * 1000
        ]
        return {one.worker for one in made if one.events and not one.adopted}


def _wait(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"not within {LIMIT_S:.0f} s: {what}")
        time.sleep(0.5)


def _row(what: str, gaps: list[float], said: str = "") -> str:
    line = f"| {what} | {' | '.join(f'{gap:.1f}' for gap in gaps)} | {said} |"
    print(line, flush=True)
    return line


def measure(folder: Path, bootstrap: str, kills: int, joins: int, rate: int) -> list[str]:
    """The rows of the table, and what the audit found."""
    workers = Workers(folder, bootstrap)
    load, watch = Load(workers.seats[0], rate, CHUNK), Watch(workers.seats[0])
    load.start()
    watch.start()
    lines = [
        "",
        "| | longest time without lists, s, by partition | | | | s after the kill |",
        "|---|---|---|---|---|---|",
    ]
    try:
        for seat in range(3):
            workers.start(seat)
        _all_work(workers, watch, 3)
        for n in range(kills):
            killed, killed_s = time.monotonic(), time.time()
            workers.end(n % 3, signal.SIGKILL)
            time.sleep(NOTICED_S)
            _wait(watch.is_flowing, "lists of every partition")
            known, came = workers.said(killed_s, "is no member"), workers.said(killed_s, " came: ")
            said = f"known {known[0]:.2f}, {len(came)} open {came[-1]:.2f}" if known and came else "it had none"
            lines.append(_row(f"kill −9, {n + 1}", watch.gaps(killed), said))
            workers.start(n % 3)
            _all_work(workers, watch, 3)
        for n in range(joins):
            left = time.monotonic()
            workers.end(n % 3, signal.SIGTERM)
            time.sleep(NOTICED_S)
            _all_work(workers, watch, 2)
            lines.append(_row(f"SIGTERM, not started again, {n + 1}", watch.gaps(left)))
            joined = time.monotonic()
            workers.start(n % 3)
            _all_work(workers, watch, 3)
            lines.append(_row(f"join, {n + 1}", watch.gaps(joined)))
        sent = load.end()
        return [*lines, "", _verdict(workers, sent)]
    finally:
        watch.end()
        for process in workers.running.values():
            process.kill()
            process.wait()


def _all_work(workers: Workers, watch: Watch, count: int) -> None:
    """Waits until so many workers commit interactions, and lists come from every partition."""
    _wait(lambda: len(workers.working(time.time() - QUIET_S)) == count and watch.is_flowing(), f"{count} at work")


def _verdict(workers: Workers, sent: int) -> str:
    for seat in list(workers.running):
        workers.end(seat, signal.SIGTERM)
    digests = [scene.finish() for scene in workers.seats]
    found = workers.seats[0].audit()
    equal = "equal" if sorted(found.digests.values()) == sorted(digests) else "DIFFERENT"
    topic = workers.seats[0].settings.interactions_topic
    with workers.seats[0].open() as log:
        held = sum(1 for _ in read_records(log, whole(log, topic)))
    line = (
        f"{sent:,} interactions acknowledged, {held:,} in the log, {found.interactions:,} taken: {found.lost} lost, "
        f"{found.doubled} doubled; states of the three workers {equal}."
    )
    print(line, flush=True)
    return line


def main() -> None:
    parser = argparse.ArgumentParser("python -m tests.benchmarks.moving")
    parser.add_argument("--kills", type=int, default=6)
    parser.add_argument("--joins", type=int, default=3)
    parser.add_argument("--rate", type=int, default=100, help="interactions per second (default 100)")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "kafka").mkdir()
        broker = Broker(folder / "kafka")
        try:
            lines = measure(folder, broker.bootstrap, given.kills, given.joins, given.rate)
        finally:
            broker.stop()
    command = f"{parser.prog} --kills {given.kills} --joins {given.joins} --rate {given.rate}"
    given.out.write_text(page_of("Seconds without lists", f"{__doc__}", command, lines))


if __name__ == "__main__":
    main()
