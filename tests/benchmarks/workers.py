"""Several workers of one application in one process, on Kafka: what their lists are worth, and what each costs.

`python -m tests.benchmarks.workers HOST:PORT STREAM [--rows N] [--workers 1 2 4] [--piece N] [--after SHARE] [--alone]`: the
judge's numbers over the last events of the first N rows, each number of workers paired with the first; by worker, processor
time by part and what it did not know of the stream when it made its lists; bytes by topic; memory. `--alone`: no worker
observes the others, or adds what they learn.

The stream is sent in pieces, each once everybody has taken and observed the one before: played faster than that, workers
would see of one another what is hundreds of interactions old, which no stream is at its own pace. In one process the workers
take turns.

What was not known: interactions before an event that its worker had not observed, or that are in no weights it had, when
the event was scored: the one counts from the stream's order, the other from what the steps that it added say.
"""

import argparse
import dataclasses
import json
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from consumers.files.interactions import read_interactions
from consumers.log import Log
from streamer.cli.producing import interaction_chunks
from streamer.evaluation.paired_intervals import compare_ranks
from streamer.lists.list_files import TestLists
from streamer.pipeline import learning, pipeline
from streamer.pipeline.event_order import Placed
from streamer.runtime.topics import open_log_of, read_records, topic_specs, whole
from streamer.settings import Settings
from streamer.worker import commit, other_blocks, other_steps, reading
from streamer.worker.commit import _event_number
from streamer.worker.worker import Worker
from tests.benchmarks.judge import judge
from tests.benchmarks.ranks import ranks_of
from tests.benchmarks.sizes import state_bytes
from tests.benchmarks.streams import STREAMS
from tests.topic_names import topics_under

JOIN_S = 30.0
K = 20
NOTHING, JUDGED = "looks that find nothing", "lists for the judge"


class Parts:
    """Processor time of this thread by part, s: what a part calls that is a part too is not in it."""

    def __init__(self) -> None:
        self.of_all: list[dict[str, float]] = []  # by worker
        self._now: dict[str, float] = {}  # of the step that goes on
        self._inner = [0.0]

    def timed(self, part: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """The call, whose time counts as the part's."""

        def timing(*given: Any, **named: Any) -> Any:
            self._inner.append(0.0)
            started = time.thread_time()
            try:
                return call(*given, **named)
            finally:
                took = time.thread_time() - started
                self._now[part] = self._now.get(part, 0.0) + took - self._inner.pop()
                self._inner[-1] += took

        return timing

    def step(self, seat: int, worker: Worker) -> None:
        """A step of a worker; one that makes no epoch is looking for something in vain."""
        self._now.clear()
        found = self.timed("the rest of a step", worker.step)()
        if found is None:
            spent = {NOTHING: sum(self._now.values())}
        else:
            spent = self._now | {"epochs": 1, "epochs of its own": bool(found.taken)}
        for part, of_one in spent.items():
            self.of_all[seat][part] = self.of_all[seat].get(part, 0.0) + of_one

    def watch(self, worker: Worker, lists: TestLists) -> None:
        """Times the parts of a worker's steps."""
        committer: Any = worker._commits._committer
        for what, name, part in (
            (worker._reading, "read", "looking for records, reading"), (worker._epochs, "next", "the rest of an epoch"),
            (worker._pipeline, "take", "the rest of an epoch"), (worker._commits, "commit", "committing"),
            (worker._pipeline, "_learn_and_list", "own: scored, learned, listed"), (lists, "write", JUDGED),
            (committer, "commit", "handed to the log, waited for"), (committer._store, "write", "checkpoints, written"),
        ):  # fmt: skip
            setattr(what, name, self.timed(part, getattr(what, name)))
        self.of_all.append({})

    def watch_modules(self) -> None:
        """Times what all workers call."""
        for module, name, part in (
            (other_blocks, "read_block", "others': blocks decoded"), (pipeline, "observe", "others': observed"),
            (other_steps, "read_step", "others': steps decoded"), (pipeline, "add_learned", "others': steps added"),
            (pipeline, "shared_blocks", "own: blocks made"), (pipeline, "own_step", "own: steps made"),
            (commit, "checkpoint_pages", "checkpoints, their pages"),
        ):  # fmt: skip
            setattr(module, name, self.timed(part, getattr(module, name)))


PARTS = Parts()


class Unknown:
    """What a worker does not know of the stream as it scores."""

    def __init__(self, worker: Worker) -> None:
        self.observed, self.learned = list[int](), list[int]()
        self._state, self._learn = worker.state, worker._pipeline._learn_and_list
        worker._pipeline._learn_and_list = self._note  # type: ignore[method-assign, assignment]

    def _note(self, placed: list[Placed], epoch: Any) -> Any:
        model, shared = self._state.engine.model, self._state.learning
        learned = shared.total + sum(one.total for one in shared.seats.values())
        for n, one in enumerate(placed):
            row = _event_number(one.arrival, 0)
            self.observed.append(row - model.events - n)
            self.learned.append(row - learned - n)
        return self._learn(placed, epoch)


class Run(NamedTuple):
    """What a number of workers gave."""

    figures: dict[str, Any]
    ranks: pa.Table


def measure(
    bootstrap: str, name: str, rows: int, count: int, observe: bool, scratch: Path, piece: int, after: float
) -> Run:
    """One run of so many workers."""
    stream, own = STREAMS[name], f"b{uuid4().hex[:8]}"
    stream = dataclasses.replace(stream, judge=(*stream.judge, "--after", str(after)))
    events = read_interactions(stream.file(scratch)).drop_columns("reason").slice(0, rows)
    file = scratch / "interactions.parquet"
    pq.write_table(events.select(["user_id", "item_id", "timestamp"]), file)
    values: dict[str, Any] = topics_under(f"{own}.") | {
        "application": own, "bootstrap": bootstrap, "k": K, "exclude_seen": "--exclude-seen" in stream.flags,
        "observe": observe, "max_epoch_events": 5_000, "keep_lists": False, "ageing_share": 0.0,
    }  # fmt: skip
    settings = [Settings(**values, state=scratch / own / str(seat)) for seat in range(count)]
    with ExitStack() as opened:
        logs = [opened.enter_context(closing(open_log_of(one))) for one in settings]
        logs[0].create(topic_specs(settings[0], 4))
        lists = [scratch / f"{own}-{seat}.parquet" for seat in range(count)]
        files = [TestLists(path) for path in lists]
        workers = [Worker.open(*each) for each in zip(logs, settings, files, strict=True)]
        _share(workers)
        records = [one for chunk, _ in interaction_chunks(events, settings[0].interactions_topic) for one in chunk]
        for worker in workers:
            worker.state.warm_up()
        unknown = [Unknown(worker) for worker in workers]
        PARTS.of_all.clear()
        for worker, made in zip(workers, files, strict=True):
            PARTS.watch(worker, made)
        sending, others = 0.0, time.process_time() - time.thread_time()
        for first in range(0, len(records), piece):
            sent, started = min(first + piece, len(records)), time.thread_time()
            logs[0].append(records[first:sent])
            sending += time.thread_time() - started
            while not _have_all(workers, sent, observe):
                for seat, worker in enumerate(workers):
                    PARTS.step(seat, worker)
        others = time.process_time() - time.thread_time() - others
        taken = [(worker.state.records, worker.state.engine.model.events) for worker in workers]
        for worker, made in zip(workers, files, strict=True):
            worker.close()
            made.close()
        one = settings[0]
        topics = [
            one.recommendations_topic,
            one.epochs_topic,
            *([one.observed_topic, one.model_topic] if observe else []),
        ]
        told = {topic.removeprefix(f"{own}."): _sizes(logs[0], topic) for topic in [one.interactions_topic, *topics]}
        held = [state_bytes(worker.state.engine.model) / 2**20 for worker in workers]
    merged = scratch / f"{own}.parquet"
    pq.write_table(pa.concat_tables([pq.read_table(path) for path in lists]), merged)
    verdict = judge(stream, file, merged)
    parts = [
        {part: round(spent, 2) for part, spent in sorted(of_one.items()) if part != JUDGED} for of_one in PARTS.of_all
    ]
    figures = {
        "stream": name, "rows": len(events), "piece": piece, "workers": count, "observe": observe, "after": after,
        "steps every": (learning.STEP_EVENTS, learning.LATER_STEP_EVENTS),
        "events": verdict["events"], "hr@10": verdict["hr@10"], "ndcg@10": verdict["ndcg@10"],
        "without_list": verdict["without_list"], "taken, all": taken,
        "cpu_s": [round(sum(s for part, s in one.items() if not part.startswith("epochs")), 1) for one in parts],
        "client_s": round(others, 1), "sending_s": round(sending, 1), "parts": parts,
        "not observed": _spread([n for one in unknown for n in one.observed]),
        "not learned": _spread([n for one in unknown for n in one.learned]) if count > 1 else None,
        "bytes an event": {topic: round(sum(sizes) / len(events), 1) for topic, sizes in told.items()},
        "records": {topic: len(sizes) for topic, sizes in told.items()},
        "model_mib": [round(one) for one in held], "process_mib": round(psutil.Process().memory_info().rss / 2**20),
    }  # fmt: skip
    return Run(figures, ranks_of(stream, file, merged))


def against(one: Run, other: Run) -> dict[str, Any]:
    """What a run's lists are against another's, event by event."""
    assert one.ranks["event"] == other.ranks["event"]
    a, b, user = (of.to_numpy() for of in (one.ranks["rank"], other.ranks["rank"], other.ranks["user"]))
    found = {}
    for d in compare_ranks(a, b, user, K):
        if d.metric.lower() in ("hr@10", "ndcg@10"):
            found[d.metric.lower()] = [round(100 * part / d.a, 2) for part in (d.difference, d.low, d.high)]
    return {"workers": (one.figures["workers"], other.figures["workers"]), "% (low, high)": found}


def _spread(numbers: list[int]) -> dict[str, float]:
    p50, p90, p99 = np.percentile(numbers, (50, 90, 99)).round(1).tolist()
    return {"mean": round(float(np.mean(numbers)), 1), "p50": p50, "p90": p90, "p99": p99}


def _have_all(workers: list[Worker], sent: int, observe: bool) -> bool:
    """Whether everything that was sent is taken, and observed by everybody else."""
    states = [worker.state for worker in workers]
    return sum(state.records for state in states) >= sent and (
        not observe or all(state.engine.model.events >= sent for state in states)
    )


def _share(workers: list[Worker]) -> None:
    """Takes steps until the partitions are shared."""
    until = time.monotonic() + JOIN_S
    while len({len(worker._group.merge.partitions()) for worker in workers}) > 1 or not _holds_all(workers):
        if time.monotonic() > until:
            raise SystemExit("the partitions were not shared")
        for worker in workers:
            worker.step()


def _holds_all(workers: list[Worker]) -> bool:
    return sum(len(worker._group.merge.partitions()) for worker in workers) == 4


def _sizes(log: Log, topic: str) -> list[int]:
    """Bytes of each record of a topic."""
    return [len(record.value or b"") for record in read_records(log, whole(log, topic))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bootstrap")
    parser.add_argument("stream", choices=sorted(STREAMS))
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--piece", type=int, default=40, help="interactions that are sent together (default 40)")
    parser.add_argument("--after", type=float, default=0.8, help="share of the rows that are not judged (default .8)")
    parser.add_argument("--alone", action="store_true")
    args = parser.parse_args()
    reading.IDLE_S, reading.OBSERVE_EVERY_S = 0.002, 0.0  # nobody waits for records while others have some
    PARTS.watch_modules()
    first: Run | None = None
    for count in args.workers:
        with tempfile.TemporaryDirectory() as scratch:
            found = measure(
                args.bootstrap, args.stream, args.rows, count, not args.alone, Path(scratch), args.piece, args.after
            )
        print(json.dumps(found.figures), flush=True)
        if first is not None:
            print(json.dumps(against(first, found)), flush=True)
        first = first or found


if __name__ == "__main__":
    main()
