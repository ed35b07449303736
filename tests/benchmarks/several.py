"""Several workers in one process and without a log, as they take epochs: what each admits and learns the others observe.

`python -m tests.benchmarks.several STREAM [--rows N] [--piece N] [--workers N N] [--steps N]`: what lists are worth where
others' interactions and steps are older or younger than they are, by the ranks in the lists before each event of the last
half of the first N rows. Each piece of the stream is taken by each worker in an epoch of those that are its own, then told
to all others: half a piece is how old others' interactions are, and the steps of so many interactions of a worker's own
(0: as they are made; −1: none) how old is what they learned. `capacity.py` has the same workers, and measures what they cost.
"""

import argparse
import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa

from consumers.files.interactions import read_interactions
from consumers.partitioner import partition_of
from consumers.records import NewRecord, Record, TopicPartition
from streamer.cli.producing import interaction_chunks
from streamer.evaluation.paired_intervals import compare_ranks
from streamer.pipeline import learning
from streamer.pipeline.arrivals import in_order
from streamer.pipeline.epoch import CommittedBlock, CommittedStep, EpochOutput, epoch_input
from streamer.pipeline.ingest import Intake
from streamer.pipeline.learning import step_events
from streamer.pipeline.pipeline import Pipeline
from streamer.settings import Settings
from streamer.state.stream_state import StreamState
from streamer.worker.other_blocks import read_block
from streamer.worker.other_steps import read_step
from tests.benchmarks.streams import STREAMS

FAR_MS = 1 << 50
K = 20


class LoglessWorker:
    """One of several, which has the partition of its number. of: how many there are; one that is alone tells nothing."""

    def __init__(self, number: int, of: int, **settings: Any) -> None:
        self.number, self._of = number, of if of > 1 else 0
        self._settings = Settings(keep_lists=False, ageing_share=0.0, k=K, **settings)
        self.state = StreamState(self._settings, lambda prefix: iter(()))
        self.state.load()
        for partition in range(of):
            self.state.positions.setdefault(TopicPartition("interactions", partition), 0)
        self._pipeline = Pipeline(self._settings, self.state, worker=str(number))
        self._intake = Intake(self._settings)
        self.seconds = self.observing = 0.0
        self.bytes, self.records = Counter[str](), Counter[str]()
        self.epochs = self.observed = 0
        self.state.warm_up()

    def take(self, records: list[Record]) -> EpochOutput:
        """An epoch of its own records."""
        started = time.thread_time()
        arrivals = [self._intake.arrival(record, FAR_MS) for record in records]
        end = {TopicPartition("interactions", self.number): records[-1].offset + 1}
        output = self._pipeline.take(
            epoch_input(in_order(arrivals), ends=end, shared=self._of, keeps=self._of and self._keeps())
        )
        self.seconds += time.thread_time() - started
        self.epochs += 1
        for record in output.records:
            self.bytes[record.topic] += len(record.value or b"")
            self.records[record.topic] += 1
        return output

    def observe(self, blocks: Sequence[Record], steps: Sequence[Record]) -> None:
        """An epoch of what the others told."""
        started = time.thread_time()
        found = list[CommittedBlock](filter(None, map(read_block, blocks)))
        learned = list[CommittedStep](filter(None, map(read_step, steps)))
        self._pipeline.take(epoch_input([], observed=found, learned=learned, shared=self._of, keeps=self._keeps()))
        self.observing += time.thread_time() - started
        self.observed += 1

    def _keeps(self) -> int:
        return step_events(self.state.learning.total)


class Told:
    """What the workers tell one another, until each observes it."""

    TOPICS = ("freshet.observed", "freshet.model")

    def __init__(self, workers: int) -> None:
        self.of = [{topic: list[Record]() for topic in self.TOPICS} for _ in range(workers)]
        self._offsets = Counter[tuple[str, int]]()

    def tell(self, teller: int, records: Sequence[NewRecord]) -> None:
        """Keeps the blocks and steps of an epoch for all others."""
        for one in records:
            if one.topic in self.TOPICS:
                place = one.topic, one.partition or 0
                record = Record(*place, self._offsets[place], one.key, one.value or b"", (), 0)
                self._offsets[place] += 1
                for worker, waiting in enumerate(self.of):
                    if worker != teller:
                        waiting[one.topic].append(record)

    def blocks(self, worker: int) -> int:
        """How many blocks wait for a worker."""
        return len(self.of[worker]["freshet.observed"])

    def taken(self, worker: int) -> tuple[list[Record], list[Record]]:
        """What waits for a worker: blocks, steps."""
        blocks, steps = (self.of[worker][topic] for topic in self.TOPICS)
        self.of[worker] = {topic: [] for topic in self.TOPICS}
        return blocks, steps


def records_of(name: str, rows: int) -> tuple[pa.Table, list[NewRecord]]:
    """The first rows of a stream, and their records."""
    with TemporaryDirectory() as scratch:
        events = read_interactions(STREAMS[name].file(Path(scratch))).drop_columns("reason").slice(0, rows)
    return events, [one for chunk, _ in interaction_chunks(events, "interactions") for one in chunk]


def ranks(name: str, sent: list[NewRecord], count: int, piece: int) -> tuple[np.ndarray, list[LoglessWorker]]:
    """[N] the rank of each event in the list before it; 0: it is not there."""
    unseen = "--exclude-seen" in STREAMS[name].flags
    workers = [LoglessWorker(number, count, exclude_seen=unseen) for number in range(count)]
    told, places, found = Told(count), [0] * count, np.zeros(len(sent), np.int64)
    for first in range(0, len(sent), piece):
        queues: list[list[Record]] = [[] for _ in workers]
        rows: list[list[int]] = [[] for _ in workers]
        for n, one in enumerate(sent[first : first + piece], first):
            to = partition_of(one.key or b"", count)
            queues[to].append(Record("interactions", to, places[to], one.key, one.value, one.headers, n))
            rows[to].append(n)
            places[to] += 1
        outputs = [worker.take(queue) if queue else None for worker, queue in zip(workers, queues, strict=True)]
        for number, output in enumerate(outputs):
            if output is not None and output.outcome is not None:
                order = [one.record.offset for one in output.taken]
                at = np.array(rows[number])[np.array(order) - queues[number][0].offset]
                found[at] = output.outcome.rank
                told.tell(number, output.records)
        for worker in workers if count > 1 else ():
            blocks, steps = told.taken(worker.number)
            if blocks or steps:
                worker.observe(blocks, steps)
    return found, workers


def main() -> None:
    parser = argparse.ArgumentParser("python -m tests.benchmarks.several")
    parser.add_argument("stream", choices=sorted(STREAMS))
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--workers", type=int, nargs="+", default=[4])
    parser.add_argument("--piece", type=int, nargs="+", default=[40])
    parser.add_argument("--steps", type=int, nargs="+", default=[0])
    given = parser.parse_args()
    events, sent = records_of(given.stream, given.rows)
    half = len(sent) // 2
    measured = np.arange(half, len(sent))
    pairs = list(zip(events["user_id"].to_pylist(), events["item_id"].to_pylist(), strict=True))
    if "--no-repeat" in STREAMS[given.stream].judge:
        seen: set[tuple[Any, Any]] = set()
        first = np.array([not (pair in seen or seen.add(pair)) for pair in pairs])  # type: ignore[func-returns-value]
        measured = measured[first[measured]]
    user = np.unique(np.array([str(one) for one, _ in pairs]), return_inverse=True)[1][measured]
    alone = ranks(given.stream, sent, 1, max(given.piece))[0][measured]
    usual = learning.STEP_EVENTS, learning.LATER_STEP_EVENTS
    for count in given.workers:
        for piece in given.piece:
            for steps in given.steps:
                often = usual if steps == 0 else (1 << 40,) * 2 if steps < 0 else (steps,) * 2
                learning.STEP_EVENTS, learning.LATER_STEP_EVENTS = often
                found, workers = ranks(given.stream, sent, count, piece)
                differences = {
                    d.metric: [round(one, 4) for one in (d.a, d.b)]
                    + [round(100 * one / d.a, 2) for one in (d.difference, d.low, d.high)]
                    for d in compare_ranks(alone, found[measured], user, K)
                }
                said = {"stream": given.stream, "rows": len(sent), "workers": count, "piece": piece, "steps": often}
                spent = [round(one.seconds + one.observing, 1) for one in workers]
                print(json.dumps(said | {"one, several, % (low, high)": differences, "cpu_s": spent}), flush=True)


if __name__ == "__main__":
    main()
