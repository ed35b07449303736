"""Undo, measured: python -m tests.benchmarks.undo [--streams N] [--file F] writes UNDO.md.

With --big: (4) alone, on standard output; with numbers behind it, of nodes with N interactions: a user of whom one is
retracted, a user who is erased, an item of which one is retracted, an item that is deleted.

(1) N generated streams of late, repeated, retracted, deleted, erased and bad records against the clean stream; (2) 1,000
random interactions of a real stream retracted after the fact, against a run without them; (3) 100 of its users erased:
what of them is left in state, lists and compacted topics, and after a rebuild from the log; (4) an item that very many
users touched deleted, and a user with very many interactions erased: the longest step of the worker, and all of them.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from consumers.event_weights import EventWeights
from consumers.files.interactions import read_interactions
from consumers.open_log import OwnedLog
from consumers.records import NewRecord
from streamer.cli.producing import interaction_chunks
from streamer.engine.engine import Columns, Engine
from streamer.features.event_ids import digest_event_id
from streamer.features.tables import weigh_rows
from streamer.runtime.topics import read_records, topic_specs, whole
from streamer.settings import Settings
from streamer.state.ledger import ENTRY, event_number
from streamer.worker.worker import Worker
from tests.benchmarks.records import commit, machine
from tests.canonical import canonical
from tests.conftest import DATA
from tests.streamer.state.test_pending_repairs import KINDS, Step, check_interleaving

RESULTS = Path(__file__).parent / "UNDO.md"
RETRACTED, ERASED = 1_000, 100


def generated_streams(n: int) -> str:
    """Plays n random interleavings; raises where one leaves another state."""
    started, steps = time.perf_counter(), 0
    for seed in range(n):
        rng = np.random.default_rng(seed)
        script = [
            Step(str(rng.choice(KINDS)), int(rng.integers(10**6)), bool(rng.random() < 0.3), bool(rng.random() < 0.1))
            for _ in range(rng.integers(5, 80))
        ]
        check_interleaving(script, seed, int(rng.choice([1, 2, 3, 20])))
        steps += len(script)
    return f"{n:,} streams, {steps:,} steps, all equal to the clean stream; {time.perf_counter() - started:.0f} s"


class Run:
    """One log and its worker."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings(log=folder / "log", state=folder / "state", checkpoint_interval_ms=10**9)
        self.log = OwnedLog(folder / "log")
        self.log.create(topic_specs(self.settings, partitions=1))

    def send(self, table: pa.Table) -> list[dict[str, Any]]:
        """Sends the rows as `freshet produce` does, and gives the interaction of each."""
        sent: list[dict[str, Any]] = []
        for records, _ in interaction_chunks(table, "interactions"):
            self.log.append(records)
            sent += [json.loads(record.value or b"") for record in records]
        return sent

    def work(self) -> tuple[Worker, float]:
        """Takes all there is; gives the closed worker and the seconds."""
        started = time.perf_counter()
        worker = Worker.open(self.log, self.settings)
        worker.run(exit_at_end=True)
        worker.close()
        return worker, time.perf_counter() - started

    def newest(self, topic: str) -> dict[bytes, bytes | None]:
        """The last record of each key."""
        return {record.key or b"": record.value for record in read_records(self.log, whole(self.log, topic))}


def observed(table: pa.Table, settings: Settings) -> dict[str, Any]:
    """The graph of a stream, with nothing scored."""
    engine = Engine(settings)
    columns = engine.encode_table(table, weigh_rows(table, EventWeights(settings.event_weights)))
    engine.take(columns, learn=False, score=False, publish=False)
    return canonical(engine.model)


def difference(a: Any, b: Any) -> float:
    """The largest relative difference of two canonical graphs; inf where they differ in what is exact."""
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        return max((difference(a[key], b[key]) for key in a), default=0.0)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        return max((difference(x, y) for x, y in zip(a, b, strict=True)), default=0.0)
    if isinstance(a, float) and isinstance(b, float):
        return 0.0 if a == b else abs(a - b) / max(abs(a), abs(b))
    return 0.0 if a == b else float("inf")


def retract(run: Run, table: pa.Table, sent: list[dict[str, Any]]) -> list[str]:
    """Retracts random interactions after the fact."""
    _, first_s = run.work()
    chosen = np.sort(np.random.default_rng(0).choice(len(table), RETRACTED, replace=False))
    values = [sent[number] | {"retract": True} for number in chosen.tolist()]
    run.log.append(
        [NewRecord("interactions", value["user_id"].encode(), json.dumps(value).encode()) for value in values]
    )
    worker, seconds = run.work()
    keep = np.ones(len(table), bool)
    keep[chosen] = False
    most = difference(canonical(worker.state.engine.model), observed(table.filter(pa.array(keep)), run.settings))
    return [
        f"taking {len(table):,} interactions, restart included: {first_s:.1f} s",
        f"{RETRACTED:,} retracted: restart, repair, lists anew {seconds:.1f} s; largest relative difference from a run "
        f"without them {most:.1e} (0: every integer, set and float equal)",
    ]


def erase(run: Run, table: pa.Table, folder: Path) -> list[str]:
    """Erases random users, and rebuilds the state from the log."""
    users = sorted(set(table["user_id"].to_pylist()))
    gone = np.random.default_rng(1).choice(users, ERASED, replace=False).tolist()
    run.log.append([NewRecord("users", user.encode(), None) for user in gone])
    worker, seconds = run.work()
    left = _left(worker, run, gone)
    own = {f"{name}_topic": f"rebuilt.{name}" for name in ("recommendations", "epochs", "quality", "dead")}
    own |= {"application": "rebuilt", "state": folder / "rebuilt"}
    rebuilt = Settings(**{**run.settings.model_dump(), **own})
    run.log.create(topic_specs(rebuilt, partitions=1))
    again = Worker.open(run.log, rebuilt)
    again.run(exit_at_end=True)
    again.close()
    return [
        f"{ERASED} users erased: restart, repair, lists {seconds:.1f} s; of them in graph, ids, lists published: "
        f"{left}",
        f"a second application that reads the log from its start: {_left(again, run, gone)}",
    ]


def _left(worker: Worker, run: Run, gone: list[str]) -> list[int]:
    graph, names = canonical(worker.state.engine.model), set(worker.state.engine.model.users.ids)
    lists = run.newest("recommendations")
    return [
        sum(user in graph["users"] for user in gone),
        sum(user in names for user in gone),
        sum(lists.get(user.encode()) is not None for user in gone),
    ]


class Big(NamedTuple):
    """A world with one big node; user 0 and item 0 are that."""

    name: str
    users: int  # besides
    each: int  # interactions of each of them
    of_item: int = 0  # users who touched item 0 first
    of_user: int = 0  # interactions of user 0
    share: float = 0  # of the interactions of the others, those with item 0
    retract: bool = False  # one of user 0, else of item 0, the middle one


BIG = (
    Big("an item of 8,000 users deleted", 8_000, 20, of_item=8_000),
    Big("a user of 50,000 interactions erased", 5_000, 20, of_user=50_000),
    Big("an item of 100,000 users deleted", 100_000, 8, of_item=100_000),
)
BIG_ITEMS = 5_000


def _of_sizes(sizes: list[int]) -> list[Big]:
    return [
        *(Big(f"one of {n:,} interactions of a user retracted", 5_000, 20, of_user=n, retract=True) for n in sizes),
        *(Big(f"a user of {n:,} interactions erased", 5_000, 20, of_user=n) for n in sizes),
        *(
            Big(f"one of {n:,} interactions with an item retracted", n // 10, 20, share=0.5, retract=True)
            for n in sizes
        ),
        *(Big(f"an item of {n:,} users deleted", n, 2, of_item=n) for n in sizes),
    ]


ID = "x"  # of the interaction that is retracted


def big_node(big: Big, folder: Path) -> str:
    """Takes the node back in an idle stream, step by step."""
    run = Run(folder)
    run.settings = run.settings.model_copy(update={"checkpoint_interval_ms": 1_000})
    worker = Worker.open(run.log, run.settings)
    run.log.append([_undoing(big, _fill(worker, big))])
    worker.state.warm_up()
    cpu, wall = [], []
    while len(cpu) < 3 or len(worker.state.repairs):
        started = time.process_time(), time.perf_counter()
        worker.step()
        cpu.append(time.process_time() - started[0])
        wall.append(time.perf_counter() - started[1])
    worker.close()
    run.log.close()
    return (
        f"{big.name}: {len(cpu)} steps, the longest {max(cpu):.2f} s of processor time ({max(wall):.2f} s), all of them "
        f"{sum(cpu):.1f} s ({sum(wall):.1f} s)"
    )


def _undoing(big: Big, user: str) -> NewRecord:
    if big.retract:
        value = {
            "user_id": user,
            "item_id": "i0",
            "event_type": "view",
            "timestamp": 1,
            "event_id": ID,
            "retract": True,
        }
        return NewRecord("interactions", user.encode(), json.dumps(value).encode())
    return NewRecord("items", b"i0", None) if big.of_item else NewRecord("users", user.encode(), None)


def _fill(worker: Worker, big: Big) -> str:
    """Interactions at random times, popularity by Zipf; observed, not scored, and everybody has a list.

    Returns whose interaction has the id ID.
    """
    rng = np.random.default_rng(0)
    user = rng.permutation(np.repeat(np.arange(1, big.users + 1), big.each))
    item = 1 + rng.zipf(1.3, len(user)) % BIG_ITEMS
    first = np.unique(user, return_index=True)[1]
    item[first[: big.of_item]] = 0
    item[rng.random(len(item)) < big.share] = 0
    places = np.sort(rng.integers(0, len(user), big.of_user))
    user, item = np.insert(user, places, 0), np.insert(item, places, 1 + rng.zipf(1.3, big.of_user) % BIG_ITEMS)
    state = worker.state
    names = [f"u{n}" for n in range(big.users + 1)]
    state.engine.model.users.encode(names)
    state.engine.model.items.encode([f"i{n}" for n in range(BIG_ITEMS + 1)])
    t = np.cumsum(rng.integers(1, 60_000, len(user)))
    event = np.zeros(len(user), np.uint64)
    of_node = np.flatnonzero(user == 0 if big.of_user else item == 0)
    middle = of_node[len(of_node) // 2]
    event[middle] = event_number(digest_event_id(names[user[middle]], ID))
    for begin in range(0, len(user), 50_000):
        part = slice(begin, begin + 50_000)
        entries = np.zeros(len(user[part]), ENTRY)
        entries["order_ms"] = entries["t"] = t[part]
        entries["order"] = np.arange(begin, begin + len(entries))
        entries["item"], entries["weight"], entries["context"] = item[part], 1, -1
        entries["event"] = event[part]
        columns = Columns(
            user[part].astype(np.int32), entries["item"], t[part], entries["weight"], entries["context"]
        )  # fmt: skip
        state.engine.take(columns, learn=False, score=False, publish=False)
        state.ledger.add(columns.user, entries)
        worker.checkpoint()
    state.clock_ms, state.newest_place = int(t[-1]), (int(t[-1]), len(t) - 1)
    every = np.arange(len(names), dtype=np.int32)
    state.listed.note(every, np.tile(np.arange(worker.state.engine.k, dtype=np.int32), (len(every), 1)))
    worker.checkpoint()
    return names[user[middle]]


def main() -> int:
    parser = argparse.ArgumentParser("python -m tests.benchmarks.undo")
    parser.add_argument("--streams", type=int, default=10_000)
    parser.add_argument("--file", type=Path, default=DATA / "movietweetings" / "interactions.parquet")
    parser.add_argument("--big", type=int, nargs="*", metavar="N", help="big nodes alone; of these sizes")
    arguments = parser.parse_args()
    if arguments.big is not None:
        for big in _of_sizes(arguments.big) or BIG:
            with tempfile.TemporaryDirectory() as folder:
                print(f"- {big_node(big, Path(folder))}", flush=True)
        return 0
    table = read_interactions(arguments.file)
    lines = [generated_streams(arguments.streams)]
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder))
        lines += retract(run, table, run.send(table))
        lines += erase(run, table, Path(folder))
        run.log.close()
    for big in BIG:
        with tempfile.TemporaryDirectory() as folder:
            lines.append(big_node(big, Path(folder)))
    text = "\n".join(f"- {line}" for line in lines)
    by_hand = "".join(RESULTS.read_text().partition("\n## ")[1:])  # what was written of --big
    RESULTS.write_text(
        f"# Undo, measured\n\n`python -m tests.benchmarks.undo`, {arguments.file.parent.name}, commit {commit()}, "
        f"{machine()}.\n\n{text}\n{by_hand}"
    )
    print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
