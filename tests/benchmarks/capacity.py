"""What `freshet plan` adds up: python -m tests.benchmarks.capacity [--stream NAME] [--rows N] [--paced FILE] writes CAPACITY.md.

Two workers in one process and without a log, as they take epochs: what one admits and learns the other observes. The first
rows of a stream are taken in epochs of PIECE interactions each, half of them by each worker, and observed BLOCKS epochs at
a time; every CHECKPOINT interactions both write their checkpoints. Measured is the last half of them, by processor time of
the thread. What a worker's thread takes beside that, at a pace and through Kafka, is what `tests.benchmarks.paced` printed.
"""

import argparse
import json
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from consumers.partitioner import partition_of
from consumers.records import Record
from consumers.storage.checkpoint_store import StateStore
from streamer.errors import PlanRefused
from streamer.ops.capacity import Costs, Machine, PlannedStream, busy_share, capacity, most_rate, plan
from tests.benchmarks.curve_page import page_of
from tests.benchmarks.several import LoglessWorker, Told, records_of
from tests.benchmarks.sizes import row_bytes
from tests.benchmarks.streams import STREAMS

RESULTS = Path(__file__).parent / "CAPACITY.md"
PIECE, BLOCKS = 40, 5  # what an epoch has at some thousands a second; what workers observe at once, every 50 ms
CHECKPOINT = 5_000  # interactions between two checkpoints, of all workers together
GROWTH = (
    (11_780, 37_940, 100_000, 621),
    (117_800, 379_400, 1_000_000, 1_746),
    (1_178_000, 3_794_000, 10_000_000, 13_001),
)
AT_A_PACE = """
At a pace: `python -m tests.benchmarks.paced HOST:PORT --rates 20 200 800`, then `--rates 400 1600`, movietweetings, each worker a
`freshet run` of its own with the settings as they are by default; broker, workers and client had the two cores before all other
processes of the machine (a control group with more shares). Share of the worker's thread, all that it does: looks, epochs, steps,
commits, checkpoints, lists that age. What is planned is

    idle_us + epochs · (epoch_us + (N − 1) · block_us) + own · (scored_us + told_us) + others' · observed_us

with the costs that fit these rows best: "with these epochs" is by the epochs that were made, 3 % off on average. "Planned" is by
those that are to be expected: a worker makes the next one once records have been gathered and the broker has answered, {wait:.0f} ms
after the last, and none without an interaction. That holds for one worker and for two; four of them and a broker wait for one
another on two cores, make half as many epochs, and take less than is planned."""
WHERE_IT_GOES = """
Where it goes. One worker alone takes .2 ms of its thread an interaction, and 1.9 ms an epoch, of which it makes fifty to a hundred a second
where it can: so it is a quarter busy at 200 interactions a second, and half at 1,600. Beside another it takes, of each of the other's
interactions, .03 ms to observe it, for its share of a block, of a step and of a checkpoint, and of each of the other's epochs .19 ms.

Two things changed here. An epoch of another cost .68 ms, since a worker asked the broker over and over while blocks waited until they were due:
four workers at 200 a second, right after one another and twice, .175 and .187 of a thread before, .129 after; at 800 .208 and .210, .186 and
.204. And checkpoints are begun after ten seconds, or two and 2,000 interactions of a worker's own, not each second: at 1,600 a second four workers
have one of some 10,000 interactions each. One of 1,000 takes 42 µs of each interaction, one's own or another's, of 5,000 15."""
CASES = (
    PlannedStream(100_000, 10_000, 1_000),
    PlannedStream(2_000_000, 100_000, 2_000, 500),
    PlannedStream(2_000_000, 100_000, 5_000, 500),
    PlannedStream(10_000_000, 1_000_000, 10_000, 2_000),
    PlannedStream(100_000_000, 1_000_000, 10_000),
    PlannedStream(10_000_000, 1_000_000, 10**10 / 86_400),
)


class Checkpoints:
    """What the checkpoints of workers take, each in a folder of its own."""

    def __init__(self, folder: Path, workers: list[LoglessWorker]) -> None:
        self._stores = [(worker, StateStore(folder / str(worker.number))) for worker in workers]
        self.seconds = 0.0

    def write(self) -> None:
        """Writes what changed since the last time."""
        started = time.thread_time()
        for worker, store in self._stores:
            store.write(worker.state.delta())
        self.seconds += time.thread_time() - started

    def close(self) -> None:
        """Leaves the folders."""
        for _, store in self._stores:
            store.close()


def measure(name: str, rows: int, count: int) -> dict[str, Any]:
    """Costs of an interaction, µs and bytes, by what it is, of so many workers."""
    _, sent = records_of(name, rows)
    workers, told = [LoglessWorker(number, count) for number in range(count)], Told(count)
    places, measured = [0] * count, rows // 2
    queues: list[list[Record]] = [[] for _ in workers]
    with TemporaryDirectory() as folder, closing(Checkpoints(Path(folder), workers)) as checkpoints:
        for n, one in enumerate(sent):
            if not n % CHECKPOINT:
                checkpoints.write()
            if n == measured:
                checkpoints.seconds = 0.0
                for worker in workers:
                    worker.seconds = worker.observing = 0.0
                    worker.bytes.clear()
                    worker.records.clear()
            to = partition_of(one.key or b"", count)
            queues[to].append(Record("interactions", to, places[to], one.key, one.value, one.headers, n))
            places[to] += 1
            if len(queues[to]) < PIECE:
                continue
            output, queues[to] = workers[to].take(queues[to]), []
            told.tell(to, output.records)
            for worker in workers:
                if told.blocks(worker.number) >= BLOCKS:
                    worker.observe(*told.taken(worker.number))
    events = len(sent) - measured
    total, counts = Counter[str](), Counter[str]()
    for worker in workers:
        total += worker.bytes
        counts += worker.records
    return {
        "own_us": sum(worker.seconds for worker in workers) / events * 1e6,
        "observed_us": sum(worker.observing for worker in workers) / events / max(count - 1, 1) * 1e6,
        "checkpoint_us": checkpoints.seconds / events / count * 1e6,
        "bytes": {topic: round(size / events, 1) for topic, size in sorted(total.items())},
        "list_bytes": total["recommendations"] / max(counts["recommendations"], 1),
    }


def table(one: dict[str, Any], two: dict[str, Any]) -> list[str]:
    """What was measured beside what `freshet plan` takes."""
    costs, (user, item) = Costs(), row_bytes()
    rows = [
        ("an interaction of one worker alone, µs (in epochs of 40)", one["own_us"], None),
        (f"its share of a checkpoint, one each {CHECKPOINT:,} interactions, µs", one["checkpoint_us"], None),
        ("both, µs", one["own_us"] + one["checkpoint_us"], costs.scored_us),
        ("what is told of it, µs", two["own_us"] - one["own_us"], costs.told_us),
        ("another worker's interaction, with its steps, µs (in epochs of 200)", two["observed_us"], None),
        ("its share of a checkpoint likewise, µs", two["checkpoint_us"], None),
        ("both, µs", two["observed_us"] + two["checkpoint_us"], costs.observed_us),
        ("a user, bytes of memory", user, costs.user_bytes),
        ("an item, bytes of memory", item, costs.item_bytes),
        ("an interaction on `freshet.observed`, bytes", two["bytes"].get("freshet.observed", 0), costs.block_bytes),
        ("an interaction on `freshet.model`, bytes", two["bytes"].get("freshet.model", 0), costs.step_bytes),
        ("an interaction on `freshet.epochs`, bytes", two["bytes"].get("freshet.epochs", 0), costs.epoch_bytes),
        ("a list, bytes", two["list_bytes"], costs.list_bytes),
    ]
    return [
        "", "| one of | here | in `freshet plan` |", "|---|---|---|",
        *(f"| {what} | {here:,.1f} | {'' if planned is None else f'{planned:,.1f}'} |" for what, here, planned in rows),
    ]  # fmt: skip


def paced_table(file: Path) -> list[str]:
    """What the thread of a worker took at a pace beside what is planned for it."""
    lines = [
        "", "| workers | interactions/s | epochs/s of each | of its own each | share of its thread | with these epochs | planned |",
        "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    rows, costs = [json.loads(text) for text in file.read_text().splitlines()], Costs()
    for one in sorted(rows, key=lambda row: (row["workers"], row["rate"])):
        made = one["epochs/s of its own"]
        exact = busy_share(PlannedStream(1, 1, one["rate"]), costs, one["workers"], made)
        planned = busy_share(PlannedStream(1, 1, one["rate"]), costs, one["workers"])
        lines.append(
            f"| {one['workers']} | {one['rate']:,} | {made:.1f} | {one['interactions an epoch']:,.1f} | {one['thread']:.3f} "
            f"| {exact:.3f}, {exact / one['thread'] - 1:+.0%} | {planned:.3f}, {planned / one['thread'] - 1:+.0%} |"
        )
    return [AT_A_PACE.format(wait=costs.wait_us / 1_000), *lines]


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
    sizes = "; ".join(
        f"{n}: {capacity(costs, n):.2f}, {most_rate(costs, n):,.0f} a second" for n in (1, 2, 4, 8, 16, 32, 64)
    )
    return [*lines, "", f"Workers: times the interactions of one alone, and how many that is: {sizes}.", WHERE_IT_GOES]


def main() -> None:
    parser = argparse.ArgumentParser("python -m tests.benchmarks.capacity")
    parser.add_argument("--stream", default="movietweetings", choices=sorted(STREAMS))
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--paced", type=Path, help="what tests.benchmarks.paced printed")
    given = parser.parse_args()
    one, two = (measure(given.stream, given.rows, count) for count in (1, 2))
    print(json.dumps([one, two]), flush=True)
    paced = paced_table(given.paced) if given.paced else []
    lines = [*table(one, two), *paced, *memory_table(), *plans()]
    print("\n".join(lines))
    command = f"{parser.prog} --stream {given.stream} --rows {given.rows}"
    given.out.write_text(page_of("What a stream takes", f"{__doc__}", command, lines))


if __name__ == "__main__":
    main()
