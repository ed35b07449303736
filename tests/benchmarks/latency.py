"""From event to list through a real Kafka: python -m tests.benchmarks.latency [--seconds S] writes LATENCY.md.

`freshet run` in a process of its own, with the defaults but for the commit interval; a producer beside it sends the
stream at a steady rate, with a warm state behind it, and a read_committed consumer notes when each list arrives. Latency
is from `produce` to `consume`, of every interaction whose list was published (others were coalesced, or changed nothing).
A list that only ages is published again for as long as the worker runs: it counts for nothing here.
A broker that was started just now takes twice as long (its code is still being compiled): the first configuration runs
WARM_UPS times before the table, and what the first of these gave is written beside it.
Then the whole command against a bare loop that consumes, decodes, encodes and produces the same lists, in the same run.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from confluent_kafka import Consumer, Producer, TopicPartition

from consumers.files.interactions import read_interactions
from consumers.records import NewRecord
from consumers.schemas import Interaction, RecommendationList
from streamer.cli.producing import interaction_chunks
from streamer.settings import Settings
from tests.benchmarks.faults import start_worker
from tests.benchmarks.records import commit, machine
from tests.conftest import DATA
from tests.faults.scene import Scene
from tests.kafka_broker import Broker
from tests.waiting import ended, until

RESULTS = Path(__file__).parent / "LATENCY.md"
FILE = DATA / "movietweetings" / "interactions.parquet"
WARM_EVENTS, BACKLOG = 20_000, 40_000
WARM_UPS = 2
PARTITIONS = 4
TICK_S = 0.002
PLACE = re.compile(r"\d+-\d+")  # the list_id of a list that an interaction caused
DEFAULTS = {name: Settings.model_fields[name].default for name in ("max_epoch_events", "checkpoint_interval_ms")}
CONFIGURATIONS = [  # rate, commit interval, delivery
    (1_000, 10, "exactly-once"),
    (1_000, 100, "exactly-once"),
    (5_000, 10, "exactly-once"),
    (5_000, 100, "exactly-once"),
    (1_000, 10, "at-least-once"),
    (5_000, 10, "at-least-once"),
]


class Lists(threading.Thread):
    """Reads lists as a subscriber would, and notes when each arrived."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        super().__init__(daemon=True)
        settings = {"bootstrap.servers": bootstrap, "group.id": "subscriber", "isolation.level": "read_committed",
                    "fetch.wait.max.ms": 10, "auto.offset.reset": "earliest"}  # fmt: skip
        self._consumer: Any = Consumer(settings)
        self._consumer.assign([TopicPartition(topic, p, 0) for p in range(PARTITIONS)])
        self._ending = threading.Event()
        self.arrived: dict[str, float] = {}
        self.last = time.perf_counter()

    def run(self) -> None:
        while not self._ending.is_set():
            message = self._consumer.poll(0.1)
            rest = self._consumer.consume(500, 0) if message else []
            now = time.perf_counter()
            for m in (message, *rest):
                if m and not m.error():
                    value: bytes = m.value() or b""
                    list_id = value[12 : value.index(b'"', 12)].decode() if value else ""  # the first field
                    if PLACE.fullmatch(list_id) and list_id not in self.arrived:
                        self.arrived[list_id] = self.last = now

    def end(self) -> None:
        self._ending.set()
        self.join()
        self._consumer.close()


def measure(
    folder: Path, broker: Broker, records: list[NewRecord], rate: int, interval_ms: int, delivery: str, seconds: float
) -> str:
    """One row of the table."""
    name = f"r{rate}i{interval_ms}{delivery[:2]}n{len(list(folder.iterdir()))}"
    folder = folder / name
    folder.mkdir()
    scene = Scene(
        folder, name, broker.bootstrap, **DEFAULTS, commit_interval_ms=interval_ms, delivery=delivery,
    )  # fmt: skip
    scene.create(PARTITIONS)
    records = [msgspec.structs.replace(r, topic=scene.settings.interactions_topic) for r in records]
    scene.send(records[:WARM_EVENTS])
    lists = Lists(broker.bootstrap, scene.settings.recommendations_topic)
    lists.start()
    worker = start_worker(scene)
    _say(f"{name}: waiting for the first list")
    while not lists.arrived:
        assert worker.poll() is None, "the worker ended; see its log"
        time.sleep(0.1)
    _settle(lists)
    _say(f"{name}: sending {rate:,} interactions a second for {seconds:g} s")
    sent = _send(broker.bootstrap, records[WARM_EVENTS : WARM_EVENTS + int(rate * seconds)], rate)
    _settle(lists)
    lists.end()
    worker.terminate()
    ended(worker)
    first = min(sent.values()) + 0.2 * seconds
    latencies = np.array([lists.arrived[id_] - at for id_, at in sent.items() if id_ in lists.arrived and at > first])
    p50, p95, p99 = np.percentile(latencies * 1000, [50, 95, 99])
    return f"| {rate:,} | {interval_ms} | {delivery} | {len(latencies):,} | {p50:.1f} | {p95:.1f} | {p99:.1f} |"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _send(bootstrap: str, records: list[NewRecord], rate: int) -> dict[str, float]:
    """Sends at the rate; gives list_id → when the interaction was handed to the producer."""
    producer: Any = Producer({"bootstrap.servers": bootstrap, "linger.ms": 1, "acks": "all"})
    sent: dict[str, float] = {}

    def acknowledged(at: float) -> Any:
        def note(error: Any, message: Any) -> None:
            sent[f"{message.partition()}-{message.offset()}"] = at

        return note

    started, n = time.perf_counter(), 0
    while n < len(records):
        now = time.perf_counter()
        due = min(int((now - started) * rate) + 1, len(records))
        for record in records[n:due]:
            producer.produce(record.topic, key=record.key, value=record.value, on_delivery=acknowledged(now))
        n = due
        producer.poll(0)
        time.sleep(TICK_S)  # busy waiting would take a core from what is measured
    producer.flush(30)
    return sent


def _settle(lists: Lists, quiet_s: float = 2.5) -> None:
    """Waits until lists have come and none comes any more."""
    until(lambda: lists.arrived and time.perf_counter() - lists.last >= quiet_s, 120, lambda: "lists go on", 0.1)


def share(folder: Path, broker: Broker, records: list[NewRecord]) -> str:
    """Our events/s on a backlog against those of a loop that only moves the bytes."""
    scene = Scene(folder, "share", broker.bootstrap, **DEFAULTS)
    scene.create(PARTITIONS)
    records = [msgspec.structs.replace(r, topic=scene.settings.interactions_topic) for r in records[:BACKLOG]]
    scene.send(records)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "streamer", "run", "--exit-at-end"]
    (folder / "freshet.toml").write_text(scene.file.read_text())
    lists = Lists(broker.bootstrap, scene.settings.recommendations_topic)
    lists.start()
    worker = subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.DEVNULL)
    while not lists.arrived:
        time.sleep(0.01)
    first, count = time.perf_counter(), len(lists.arrived)
    assert ended(worker, 300) == 0, "the worker ended; see its log"
    ours = time.perf_counter() - first
    _settle(lists)
    lists.end()
    bare = _bare_loop(broker.bootstrap, scene, len(lists.arrived))
    rate, bare_rate = BACKLOG / ours, BACKLOG / bare
    return (
        f"backlog of {BACKLOG:,} interactions, exactly once, {len(lists.arrived):,} lists of {scene.settings.k} "
        f"({count:,} before the clock starts): {rate:,.0f} events/s from the first list to the end of the command; the "
        f"bare loop {bare_rate:,.0f} events/s; share {rate / bare_rate:.1%}"
    )


def _bare_loop(bootstrap: str, scene: Scene, lists: int) -> float:
    """Seconds to consume and decode every interaction and to encode and produce as many lists, in transactions."""
    settings = scene.settings
    reader = {"bootstrap.servers": bootstrap, "group.id": "bare", "isolation.level": "read_committed"}
    consumer: Any = Consumer(reader | {"auto.offset.reset": "earliest"})
    consumer.assign([TopicPartition(settings.recommendations_topic, p, 0) for p in range(PARTITIONS)])
    message = None
    while message is None or message.error():
        message = consumer.poll(1)
    value = msgspec.json.decode(message.value(), type=RecommendationList)
    producer: Any = Producer(
        {"bootstrap.servers": bootstrap, "transactional.id": "bare", "linger.ms": 1, "compression.type": "lz4"}
    )
    producer.init_transactions(15)
    consumer.assign([TopicPartition(settings.interactions_topic, p, 0) for p in range(PARTITIONS)])
    decode, encode = msgspec.json.Decoder(Interaction).decode, msgspec.json.Encoder().encode
    taken, made, started = 0, 0, time.perf_counter()
    while taken < BACKLOG:
        messages = consumer.consume(1_000, 0.5)
        producer.begin_transaction()
        for m in messages:
            interaction = decode(m.value())
            taken += 1
            if made < lists * taken / BACKLOG:
                made += 1
                while True:
                    try:
                        producer.produce(settings.quality_topic, key=interaction.user_id, value=encode(value))
                        break
                    except BufferError:
                        producer.poll(0.01)
        producer.send_offsets_to_transaction(
            consumer.position(consumer.assignment()), consumer.consumer_group_metadata(), 30
        )
        producer.commit_transaction(30)
    seconds = time.perf_counter() - started
    consumer.close()
    return seconds


def main() -> int:
    parser = argparse.ArgumentParser("python -m tests.benchmarks.latency")
    parser.add_argument("--seconds", type=float, default=10.0)
    arguments = parser.parse_args()
    table = read_interactions(FILE)
    records = [record for chunk, _ in interaction_chunks(table, "interactions") for record in chunk]
    lines = [
        "| events/s | commit interval, ms | delivery | lists | p50, ms | p95, ms | p99, ms |",
        "|---|---|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "kafka").mkdir()
        broker = Broker(Path(folder) / "kafka")
        try:
            cold = [
                measure(Path(folder), broker, records, *CONFIGURATIONS[0], arguments.seconds) for _ in range(WARM_UPS)
            ]
            for configuration in CONFIGURATIONS:
                lines.append(measure(Path(folder), broker, records, *configuration, arguments.seconds))
                print(lines[-1], flush=True)
            lines += ["", "The first warm-up, on a broker started just now:", "", *lines[:2], cold[0]]
            lines += ["", share(Path(folder), broker, records)]
            print(lines[-1], flush=True)
        finally:
            broker.stop()
    RESULTS.write_text(
        f"# Event to list, measured\n\n`python -m tests.benchmarks.latency`, movietweetings, {WARM_EVENTS:,} "
        f"interactions before, commit {commit()}, {machine()}, Kafka 4.1.\n\n" + "\n".join(lines) + "\n"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
