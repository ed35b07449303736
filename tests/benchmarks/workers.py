"""Several workers of one application in one process, on Kafka: what their lists are worth, and what each costs.

`python -m tests.benchmarks.workers HOST:PORT STREAM [--rows N] [--workers 1 2 4] [--piece N] [--alone]`: the judge's numbers over the
last 20 % of the first N rows, CPU by worker, bytes of blocks and of learned steps. `--alone`: no worker observes the
others, or adds what they learn.

The stream is sent in pieces, each once everybody has taken and observed the one before: played faster than that, workers
would see of one another what is hundreds of interactions old, which no stream is at its own pace. In one process the workers
take turns.
"""

import argparse
import json
import tempfile
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from consumers.files.interactions import read_interactions
from consumers.log import Log
from streamer.cli.producing import interaction_chunks
from streamer.lists.list_files import TestLists
from streamer.runtime.topics import open_log_of, read_records, topic_specs, whole
from streamer.settings import Settings
from streamer.worker import reading
from streamer.worker.worker import Worker
from tests.benchmarks.judge import judge
from tests.benchmarks.streams import STREAMS
from tests.topic_names import topics_under

JOIN_S = 30.0


def measure(
    bootstrap: str, name: str, rows: int, count: int, observe: bool, scratch: Path, piece: int
) -> dict[str, object]:
    """One run of so many workers."""
    stream, own = STREAMS[name], f"b{uuid4().hex[:8]}"
    events = read_interactions(stream.file(scratch)).drop_columns("reason").slice(0, rows)
    file = scratch / "interactions.parquet"
    pq.write_table(events.select(["user_id", "item_id", "timestamp"]), file)
    values: dict[str, Any] = topics_under(f"{own}.") | {
        "application": own, "bootstrap": bootstrap, "k": 20, "exclude_seen": "--exclude-seen" in stream.flags,
        "observe": observe, "max_epoch_events": 1_000, "keep_lists": False, "ageing_share": 0.0,
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
        seconds = [0.0] * count
        for worker in workers:
            worker.state.warm_up()
        for first in range(0, len(records), piece):
            sent = min(first + piece, len(records))
            logs[0].append(records[first:sent])
            while not _have_all(workers, sent, observe):
                for seat, worker in enumerate(workers):
                    started = time.thread_time()
                    worker.step()
                    seconds[seat] += time.thread_time() - started
        taken = [(worker.state.records, worker.state.engine.model.events) for worker in workers]
        for worker, made in zip(workers, files, strict=True):
            worker.close()
            made.close()
        blocks, steps = (
            _sizes(logs[0], topic) if observe else [] for topic in (settings[0].observed_topic, settings[0].model_topic)
        )
    merged = scratch / f"{own}.parquet"
    pq.write_table(pa.concat_tables([pq.read_table(path) for path in lists]), merged)
    verdict = judge(stream, file, merged)
    return {
        "stream": name, "rows": len(events), "workers": count, "observe": observe,
        "hr@10": verdict["hr@10"], "ndcg@10": verdict["ndcg@10"], "without_list": verdict["without_list"],
        "cpu_s": [round(one, 1) for one in seconds], "taken, all": taken,
        "blocks": len(blocks), "bytes an event": round(sum(blocks) / len(events), 1),
        "steps": len(steps), "bytes of steps an event": round(sum(steps) / len(events), 1),
    }  # fmt: skip


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
    return [len(record.value or b"") for record in read_records(log, whole(log, topic))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bootstrap")
    parser.add_argument("stream", choices=sorted(STREAMS))
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--piece", type=int, default=40, help="interactions that are sent together (default 40)")
    parser.add_argument("--alone", action="store_true")
    args = parser.parse_args()
    reading.IDLE_S, reading.OBSERVE_EVERY_S = 0.002, 0.0  # nobody waits for records while others have some
    for count in args.workers:
        with tempfile.TemporaryDirectory() as scratch:
            found = measure(args.bootstrap, args.stream, args.rows, count, not args.alone, Path(scratch), args.piece)
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
