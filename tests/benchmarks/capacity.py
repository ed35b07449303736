"""What `freshet plan` adds up: python -m tests.benchmarks.capacity [--stream NAME] [--rows N] writes CAPACITY.md.

Two workers in one process and without a log, as they take epochs: what one admits and learns the other observes. The
first rows of a stream are taken in epochs of PIECE interactions each, half of them by each worker, and observed BLOCKS
epochs at a time; measured is the last half of them, by processor time of the thread. Kafka's client is not in it, whose own threads take processors of their
own; what it takes of the worker's thread is in LATENCY.md.
"""

import argparse
import json
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from consumers.files.interactions import read_interactions
from consumers.partitioner import partition_of
from consumers.records import Record, TopicPartition
from streamer.cli.producing import interaction_chunks
from streamer.errors import PlanRefused
from streamer.ops.capacity import Costs, Machine, PlannedStream, capacity, plan
from streamer.pipeline.arrivals import in_order
from streamer.pipeline.epoch import CommittedBlock, CommittedStep, EpochOutput, epoch_input
from streamer.pipeline.ingest import Intake
from streamer.pipeline.learning import step_events
from streamer.pipeline.pipeline import Pipeline
from streamer.settings import Settings
from streamer.state.stream_state import StreamState
from streamer.worker.other_blocks import read_block
from streamer.worker.other_steps import read_step
from tests.benchmarks.curve_page import page_of
from tests.benchmarks.sizes import row_bytes
from tests.benchmarks.streams import STREAMS

RESULTS = Path(__file__).parent / "CAPACITY.md"
PIECE, BLOCKS = 40, 5  # a commit interval of 10 ms at 4,000 a second; what workers observe at once, every 50 ms
FAR_MS = 1 << 50
GROWTH = (
    (11_780, 37_940, 100_000, 621),
    (117_800, 379_400, 1_000_000, 1_746),
    (1_178_000, 3_794_000, 10_000_000, 13_001),
)
MEASURED = (
    "Through Kafka, workers in one process (`workers.py`, movietweetings, first 8,000, pieces of 400, a load of 20) one worker "
    "took 2.8 s of CPU, two 1.9 s each and four 1.4: 1.5 and 2.0 times one, where the plan says {:.1f} and {:.1f} (1.4 and 1.8 "
    "before another's interaction took a third less). What these loops look for and find nothing is in it. In pieces of 40 (first 40,000, "
    "before there were steps) four were 1.4 times one: every piece is observed by itself there, and an interaction in an epoch of ten "
    "costs some 110 µs to observe. So the plan is too hopeful of several workers where few interactions come, which one worker takes."
)
CASES = (
    PlannedStream(100_000, 10_000, 1_000),
    PlannedStream(2_000_000, 100_000, 2_000, 500),
    PlannedStream(2_000_000, 100_000, 5_000, 500),
    PlannedStream(10_000_000, 1_000_000, 10_000, 2_000),
    PlannedStream(100_000_000, 1_000_000, 10_000),
    PlannedStream(10_000_000, 1_000_000, 10**10 / 86_400),
)


class Worker:
    """One of two, which has the partition of its number."""

    def __init__(self, number: int, alone: bool) -> None:
        self.number, self._alone = number, alone
        self._settings = Settings(keep_lists=False, ageing_share=0.0, k=20)
        self.state = StreamState(self._settings, lambda prefix: iter(()))
        self.state.load()
        for partition in (0, 1):
            self.state.positions.setdefault(TopicPartition("interactions", partition), 0)
        self._pipeline = Pipeline(self._settings, self.state, worker=str(number))
        self._intake = Intake(self._settings)
        self.seconds = self.observing = 0.0
        self.bytes = Counter[str]()
        self.records = Counter[str]()
        self.state.warm_up()

    def take(self, records: list[Record]) -> EpochOutput:
        """An epoch of its own records."""
        started = time.thread_time()
        arrivals = [self._intake.arrival(record, FAR_MS) for record in records]
        keeps = 0 if self._alone else step_events(self.state.learning.total)
        end = {TopicPartition("interactions", self.number): records[-1].offset + 1}
        output = self._pipeline.take(
            epoch_input(in_order(arrivals), ends=end, shared=0 if self._alone else 2, keeps=keeps)
        )
        self.seconds += time.thread_time() - started
        for record in output.records:
            self.bytes[record.topic] += len(record.value or b"")
            self.records[record.topic] += 1
        return output

    def observe(self, blocks: list[Record], steps: list[Record]) -> None:
        """An epoch of what the other one told."""
        started = time.thread_time()
        found = list[CommittedBlock](filter(None, map(read_block, blocks)))
        learned = list[CommittedStep](filter(None, map(read_step, steps)))
        keeps = step_events(self.state.learning.total)
        self._pipeline.take(epoch_input([], observed=found, learned=learned, shared=2, keeps=keeps))
        self.observing += time.thread_time() - started


def measure(name: str, rows: int, alone: bool) -> dict[str, Any]:
    """Costs of an interaction, µs and bytes, by what it is."""
    with TemporaryDirectory() as scratch:
        events = read_interactions(STREAMS[name].file(Path(scratch))).drop_columns("reason").slice(0, rows)
    sent = [one for chunk, _ in interaction_chunks(events, "interactions") for one in chunk]
    workers = [Worker(number, alone) for number in ((0,) if alone else (0, 1))]
    places, told = [0, 0], 0
    came: list[dict[str, list[Record]]] = [{"freshet.observed": [], "freshet.model": []} for _ in workers]
    queues: list[list[Record]] = [[], []]
    measured = 0
    for n, one in enumerate(sent):
        if n == rows // 2:
            measured = n
            for worker in workers:
                worker.seconds = worker.observing = 0.0
                worker.bytes.clear()
                worker.records.clear()
        to = 0 if alone else partition_of(one.key or b"", 2)
        queues[to].append(Record("interactions", to, places[to], one.key, one.value, one.headers, n))
        places[to] += 1
        if len(queues[to]) < PIECE:
            continue
        output, queues[to] = workers[to].take(queues[to]), []
        if not alone:
            waiting = came[1 - to]
            for record in output.records:
                if record.topic in waiting:
                    told += 1
                    waiting[record.topic].append(
                        Record(record.topic, record.partition or 0, told, record.key, record.value or b"", (), n)
                    )
            if len(waiting["freshet.observed"]) >= BLOCKS:
                workers[1 - to].observe(waiting["freshet.observed"], waiting["freshet.model"])
                came[1 - to] = {"freshet.observed": [], "freshet.model": []}
    events_measured = len(sent) - measured
    total, counts = Counter[str](), Counter[str]()
    for worker in workers:
        total += worker.bytes
        counts += worker.records
    return {
        "own_us": sum(worker.seconds for worker in workers) / events_measured * 1e6,
        "observed_us": sum(worker.observing for worker in workers) / events_measured * 1e6,
        "bytes": {topic: round(size / events_measured, 1) for topic, size in sorted(total.items())},
        "list_bytes": total["recommendations"] / max(counts["recommendations"], 1),
    }


def table(one: dict[str, Any], two: dict[str, Any]) -> list[str]:
    """What was measured beside what `freshet plan` takes."""
    costs, (user, item) = Costs(), row_bytes()
    rows = [
        ("an interaction of one worker alone, µs (without Kafka's client)", one["own_us"], costs.scored_us),
        ("what is told of it, µs", two["own_us"] - one["own_us"], costs.told_us),
        ("another worker's interaction, with its steps, µs", two["observed_us"], costs.observed_us),
        ("a user, bytes of memory", user, costs.user_bytes),
        ("an item, bytes of memory", item, costs.item_bytes),
        ("an interaction on `freshet.observed`, bytes", two["bytes"].get("freshet.observed", 0), costs.block_bytes),
        ("an interaction on `freshet.model`, bytes", two["bytes"].get("freshet.model", 0), costs.step_bytes),
        ("an interaction on `freshet.epochs`, bytes", two["bytes"].get("freshet.epochs", 0), costs.epoch_bytes),
        ("a list, bytes", two["list_bytes"], costs.list_bytes),
    ]
    own, ratio = one["own_us"], costs.observed_us / costs.scored_us
    return [
        "", "| one of | here | in `freshet plan` |", "|---|---|---|",
        *(f"| {what} | {here:,.1f} | {planned:,.1f} |" for what, here, planned in rows), "",
        f"Of an interaction of one's own another's takes {two['observed_us'] / own:.2f} here, {ratio:.2f} in the plan.",
    ]  # fmt: skip


def memory_table() -> list[str]:
    """Memory by the plan beside the peaks that `growth.py` measured (RESULTS.md)."""
    lines = ["", "| items | users | interactions | measured peak, MiB | planned | error |", "|---|---|---|---|---|---|"]
    for items, users, interactions, peak in GROWTH:
        planned = plan(PlannedStream(users, items, 1, items_per_user=interactions / users)).memory_gib * 1024
        error = planned / peak - 1
        lines.append(f"| {items:,} | {users:,} | {interactions:,} | {peak:,} | {planned:,.0f} | {error:+.0%} |")
    return lines


def plans() -> list[str]:
    """Plans of a few streams, up to where none serves."""
    lines = [
        "", "Plans by these costs, machines of 128 GiB; beyond four workers a model's output, measured nowhere.", "",
        "| users | items | interactions/s | lists asked/s | workers | partitions | GiB each | times one |",
        "|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for case in CASES:
        head = f"| {case.users:,} | {case.items:,} | {case.events_per_s:,.0f} | {case.requests_per_s:,.0f} |"
        try:
            found = plan(case, Machine(memory_gib=128))
        except PlanRefused as refused:
            lines.append(f"{head} refused: {str(refused).partition(';')[0]} | | | |")
            continue
        lines.append(f"{head} {found.workers} | {found.partitions} | {found.memory_gib:.1f} | {found.capacity:.1f} |")
    costs = Costs()
    sizes = ", ".join(f"{n:,}: {capacity(costs, n):.1f}" for n in (1, 2, 4, 8, 16, 64, 256, 1_000))
    return [
        *lines,
        "",
        f"Workers: times the interactions of one alone: {sizes}.",
        "",
        MEASURED.format(capacity(costs, 2), capacity(costs, 4)),
    ]


def main() -> None:
    parser = argparse.ArgumentParser("python -m tests.benchmarks.capacity")
    parser.add_argument("--stream", default="movietweetings", choices=sorted(STREAMS))
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    one, two = measure(given.stream, given.rows, True), measure(given.stream, given.rows, False)
    print(json.dumps([one, two]), flush=True)
    lines = [*table(one, two), *memory_table(), *plans()]
    print("\n".join(lines))
    command = f"{parser.prog} --stream {given.stream} --rows {given.rows}"
    given.out.write_text(page_of("What a stream takes", f"{__doc__}", command, lines))


if __name__ == "__main__":
    main()
