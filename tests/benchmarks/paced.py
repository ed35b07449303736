"""What workers take at a pace: python -m tests.benchmarks.paced HOST:PORT [--stream NAME] [--workers 1 2 4] [--rates N N]

Each worker is a `freshet run` of its own, as users run them, on four partitions of a real Kafka. After the first FIRST rows
of the stream, sent at once, the next come at a steady rate, SENDS times a second at most,
for SECONDS. Printed is, for one of the workers
on average, the share of a second that its thread takes of a processor, and that Kafka's client and the rest of the process
take in theirs; how many epochs it makes, and of how many interactions; and what `freshet plan` says of the thread.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import psutil

from consumers.files.interactions import read_interactions
from consumers.log import Log
from consumers.records import TopicPartition
from consumers.schemas import EpochManifest
from streamer.cli.producing import interaction_chunks
from streamer.ops.capacity import Costs, PlannedStream, busy_share
from streamer.runtime.topics import open_log_of, topic_specs
from streamer.settings import Settings
from tests.benchmarks.streams import STREAMS
from tests.topic_names import topics_under

ROOT = Path(__file__).parents[2]
PARTITIONS = 4
SENDS = 100  # a second: what is sent together is no more than comes within a commit interval
FIRST, SECONDS = 10_000, 20.0
SETTLED_S, LIMIT_S = 8.0, 300.0


class Epochs:
    """What the workers commit, as the topic of manifests says."""

    def __init__(self, log: Log, topic: str) -> None:
        self._reader = log.reader({TopicPartition(topic, 0): 0})
        self.events = 0
        self.own, self.others = (
            Counter[str](),
            Counter[str](),
        )  # epochs by worker, with interactions of its own, without

    def read(self) -> None:
        """Reads what has come."""
        while records := self._reader.read(1_000, 0.1):
            for record in records:
                made = msgspec.json.decode(record.value or b"", type=EpochManifest)
                counts = made.events and not made.adopted
                self.events += made.events if counts else 0
                (self.own if counts else self.others)[made.worker] += 1

    def wait(self, events: int, workers: int) -> None:
        """Waits until so many interactions are taken, by so many workers."""
        until = time.monotonic() + LIMIT_S
        while self.events < events or len(self.own) < workers:
            if time.monotonic() > until:
                raise SystemExit(f"{self.events:,} of {events:,} interactions were taken, by {len(self.own)} workers")
            self.read()


def seconds_of(process: subprocess.Popen[bytes]) -> tuple[float, float]:
    """Processor time of the worker's thread, and of all others of its process, s."""
    threads = psutil.Process(process.pid).threads()
    spent = {one.id: one.user_time + one.system_time for one in threads}
    mine = spent.pop(process.pid)
    return mine, sum(spent.values())


def measure(bootstrap: str, name: str, count: int, rates: list[int], folder: Path) -> list[dict[str, Any]]:
    """So many workers at each rate, one after the other."""
    own = f"p{uuid4().hex[:8]}"
    values: dict[str, Any] = topics_under(f"{own}.") | {"application": own, "bootstrap": bootstrap, "k": 20}
    settings, running = Settings(**values, state=folder / "any"), list[subprocess.Popen[bytes]]()
    log = open_log_of(settings)
    log.create(topic_specs(settings, PARTITIONS))
    rows = FIRST + int(sum(rates) * (SECONDS + 2)) + 10_000
    events = read_interactions(STREAMS[name].file(folder)).drop_columns("reason").slice(0, rows)
    records = [one for chunk, _ in interaction_chunks(events, settings.interactions_topic) for one in chunk]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    epochs, found, sent = Epochs(log, settings.epochs_topic), list[dict[str, Any]](), 0
    try:
        for seat in range(count):
            cwd = folder / f"{count}-{seat}"
            cwd.mkdir()
            lines = (f"{key} = {json.dumps(value)}\n" for key, value in (values | {"state": "state"}).items())
            (cwd / "freshet.toml").write_text("".join(lines))
            command = [sys.executable, "-m", "streamer", "run"]
            with (cwd / "log").open("ab") as said:
                running.append(subprocess.Popen(command, cwd=cwd, env=environment, stdout=said, stderr=said))
        while len(epochs.own) < count:  # until every one of them has partitions
            log.append(records[sent : sent + 10])
            sent += 10
            epochs.wait(sent, 1)
        log.append(records[sent:FIRST])
        sent = max(sent, FIRST)
        epochs.wait(sent, count)
        for rate in rates:
            time.sleep(SETTLED_S)
            epochs.read()
            epochs.own.clear()
            epochs.others.clear()
            at_once = max(1, rate // SENDS)
            before, started, first = [seconds_of(one) for one in running], time.monotonic(), sent
            while (due := (sent - first) / rate) < SECONDS:
                time.sleep(max(0.0, started + due - time.monotonic()))
                log.append(records[sent : sent + at_once])
                sent += at_once
            epochs.wait(sent, 1)  # one that falls behind has not done its work by the end
            after, took = [seconds_of(one) for one in running], time.monotonic() - started
            thread, rest = (sum(b[k] - a[k] for a, b in zip(before, after, strict=True)) / took / count for k in (0, 1))
            planned = busy_share(PlannedStream(100_000, 10_000, (sent - first) / took), Costs(), count)
            made = sum(epochs.own.values())
            found.append({
                "stream": name, "workers": count, "rate": round((sent - first) / took),
                "thread": round(thread, 4), "planned": round(planned, 4), "error": round(planned / thread - 1, 3),
                "client and rest": round(rest, 4), "epochs/s of its own": round(made / took / count, 1),
                "of others alone": round(sum(epochs.others.values()) / took / count, 1),
                "interactions an epoch": round((sent - first) / made, 1),
            })  # fmt: skip
            print(json.dumps(found[-1]), flush=True)
        return found
    finally:
        for one in running:
            one.kill()
            one.wait()
        log.close()


def main() -> None:
    parser = argparse.ArgumentParser("python -m tests.benchmarks.paced")
    parser.add_argument("bootstrap")
    parser.add_argument("--stream", default="movietweetings", choices=sorted(STREAMS))
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--rates", type=int, nargs="+", default=[20, 200, 800], help="interactions per second, of all")
    given = parser.parse_args()
    for count in given.workers:
        with tempfile.TemporaryDirectory() as folder:
            measure(given.bootstrap, given.stream, count, given.rates, Path(folder))


if __name__ == "__main__":
    main()
