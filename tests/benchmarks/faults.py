"""Faults, measured: python -m tests.benchmarks.faults [PART …] [--kills N] writes FAULTS.md.

`crashes`: a crash at every effect of the commit protocol, three times over, in both homes; `kills`: kill −9 at random
times under load; `broker`: the broker killed and started again under 1,000 events/s; `fuzz`: a million mutated records.
Each of the first three ends with an audit: one uninterrupted pass over the committed epochs must give the very records
that a read_committed reader sees, and the state that the last worker had.
"""

import argparse
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from consumers import crash_points
from consumers.records import NewRecord
from streamer.ops.audit import Audit
from streamer.runtime.topics import read_records, whole
from tests.benchmarks.records import commit, machine
from tests.consumers.test_fuzz import fuzz
from tests.faults.scene import ROOT, Scene
from tests.faults.test_crashes import crash_at_every_effect
from tests.kafka_broker import Broker
from tests.worlds import checkerboard

RESULTS = Path(__file__).parent / "FAULTS.md"
RATE, CHUNK = 1_000, 20
BROKER_KILLS, FUZZED = 5, 1_000_000


class Load(threading.Thread):
    """Sends interactions at a rate until `end`; a broker that is away makes it wait.

    Args:
        rate: interactions a second.
        chunk: how many go at once.
    """

    def __init__(self, scene: Scene, rate: int = RATE, chunk: int = CHUNK) -> None:
        super().__init__(daemon=True)
        self._log, self._rate, self._chunk = scene.open(), rate, chunk
        self._records = scene.interactions(checkerboard(events=300_000, users=400, items=900))
        self._ending = threading.Event()
        self.sent = 0

    def run(self) -> None:
        due = time.monotonic()
        while not self._ending.is_set():
            chunk: list[NewRecord] = self._records[self.sent : self.sent + self._chunk]
            self._log.append(chunk)
            self.sent += len(chunk)
            due = max(due + self._chunk / self._rate, time.monotonic() - 1)
            time.sleep(max(0.0, due - time.monotonic()))

    def end(self) -> int:
        """Stops; gives how many records were acknowledged."""
        self._ending.set()
        self.join()
        self._log.close()
        return self.sent


def start_worker(scene: Scene) -> "subprocess.Popen[bytes]":
    """`freshet run` as a user starts it."""
    folder = scene.file.parent / "run"
    folder.mkdir(exist_ok=True)
    (folder / "freshet.toml").write_text(scene.file.read_text())
    log = (folder / "run.log").open("ab")
    command = [sys.executable, "-m", "streamer", "run"]
    return subprocess.Popen(command, cwd=folder, env=_environment(), stdout=log, stderr=log)


def _environment() -> dict[str, str]:
    import os

    return os.environ | {"PYTHONPATH": str(ROOT)}


def crashes(folder: Path, broker: Broker, kills: int) -> str:
    """A crash at every effect."""
    crash_at_every_effect(Scene(folder, "embedded"), crash_points.EMBEDDED, (1, 2, 3))
    crash_at_every_effect(Scene(folder, "kafka", broker.bootstrap), crash_points.KAFKA, (1, 2, 3))
    points = 3 * (len(crash_points.EMBEDDED) + len(crash_points.KAFKA))
    return f"{points} crashes at named effects, both homes: 0 lost, 0 doubled, states equal"


def random_kills(folder: Path, broker: Broker, kills: int) -> str:
    """kill −9 whenever it comes, the next worker at once."""
    often = {"max_epoch_events": 5_000, "checkpoint_interval_ms": 1_000}
    scene = Scene(folder, "kills", broker.bootstrap, **often)
    scene.create(partitions=4)
    load, chance = Load(scene), random.Random(0)
    load.start()
    for _ in range(kills):
        worker = start_worker(scene)
        time.sleep(chance.uniform(0.5, 9.0))
        worker.kill()
        worker.wait()
    sent = load.end()
    return f"{kills} × kill −9 at random times, {_verdict(scene, sent)}"


def broker_kills(folder: Path, broker: Broker, kills: int) -> str:
    """The broker dies under load; the worker stays, and goes on by itself."""
    scene = Scene(folder, "broker", broker.bootstrap, checkpoint_interval_ms=1_000, max_epoch_events=5_000)
    scene.create(partitions=4)
    load = Load(scene)
    load.start()
    worker = start_worker(scene)
    recovered = []
    _wait_for(lambda: _lists(scene) > 0)
    for _ in range(BROKER_KILLS):
        time.sleep(4)
        broker.stop(kill=True)
        time.sleep(1)
        broker.start()
        up, before = time.monotonic(), _lists(scene)
        _wait_for(lambda before=before: _lists(scene) > before)
        recovered.append(time.monotonic() - up)
    sent = load.end()
    worker.terminate()
    code = worker.wait(30)
    times = ", ".join(f"{seconds:.1f}" for seconds in recovered)
    return (
        f"broker killed {BROKER_KILLS} times under {RATE:,} events/s, one worker all along (exit code {code}): first new "
        f"list {times} s after the broker accepts connections; {_verdict(scene, sent)}"
    )


def fuzzing(folder: Path, broker: Broker, kills: int) -> str:
    """Mutated records through every decoder."""
    started = time.perf_counter()
    taken = fuzz(FUZZED, seed=1)
    seconds = time.perf_counter() - started
    return f"{FUZZED:,} mutated records in {seconds:.0f} s: {taken:,} still decode, no exception left a decoder"


def _lists(scene: Scene) -> int:
    """How many records the lists' topic has held."""
    log = scene.open()
    try:
        return sum(log.ends(scene.settings.recommendations_topic).values())
    finally:
        log.close()


def _wait_for(condition: Callable[[], bool], timeout_s: float = 120.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("nothing came within two minutes")
        time.sleep(0.05)


def _verdict(scene: Scene, sent: int) -> str:
    digest = scene.finish()
    found: Audit = scene.audit()
    held = _held(scene)
    state = "state equal" if list(found.digests.values()) == [digest] else "STATE DIFFERS"
    return (
        f"{sent:,} interactions acknowledged, {held:,} in the log, {found.interactions:,} taken in {found.epochs:,} epochs; "
        f"{found.outputs:,} records out: {found.lost} lost, {found.doubled} doubled; {state}"
    )


def _held(scene: Scene) -> int:
    with scene.open() as log:
        return sum(1 for _ in read_records(log, whole(log, scene.settings.interactions_topic)))


PARTS = {"crashes": crashes, "kills": random_kills, "broker": broker_kills, "fuzz": fuzzing}


def main() -> int:
    parser = argparse.ArgumentParser("python -m tests.benchmarks.faults")
    parser.add_argument("part", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--kills", type=int, default=30)
    arguments = parser.parse_args()
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "kafka").mkdir()
        broker = Broker(Path(folder) / "kafka")
        try:
            for name in arguments.part or PARTS:
                place = Path(folder) / name
                place.mkdir()
                lines.append(f"- **{name}**: {PARTS[name](place, broker, arguments.kills)}")
                print(lines[-1], flush=True)
        finally:
            broker.stop()
    RESULTS.write_text(
        f"# Faults, measured\n\n`python -m tests.benchmarks.faults`, commit {commit()}, {machine()}, Kafka 4.1.\n\n"
        + "\n".join(lines)
        + "\n"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
