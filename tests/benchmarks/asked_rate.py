"""Lists asked for beside a stream: python -m tests.benchmarks.asked_rate [--seconds S] [--rate R] writes ASKED_RATE.md.

`freshet up` on an embedded log in processes of its own, with a warm state of movietweetings behind it; with --kafka
`freshet run` and `freshet serve` on a broker of their own, which only prints. A client on
loopback sends on an open loop, whatever the answers take: R questions a second for the lists of users of the stream,
interactions at EVENTS_A_SECOND in posts of ten, and `/livez` as the empty request in between. A latency is from the
moment when a request was due, not from when a connection was free. The client takes CPU of the same two cores: what it
took is beside the numbers, and that of each process of Freshet by request, which is what two versions are compared by on
a machine that does other things too.
"""

import argparse
import asyncio
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from urllib.parse import quote

import msgspec
import numpy as np
import pyarrow.parquet as pq

from streamer.runtime.topics import open_log_of, topic_specs
from streamer.settings import Settings
from tests.benchmarks.records import commit, machine
from tests.conftest import DATA
from tests.kafka_broker import Broker

RESULTS = Path(__file__).parent / "ASKED_RATE.md"
FILE = DATA / "movietweetings" / "interactions.parquet"
WARM_EVENTS, A_POST, CONNECTIONS = 20_000, 10, 64
Home = Callable[[Path], AbstractContextManager[tuple[list[int], int]]]
PROCESSES = {"kafka.Kafka": "broker", "serve": "front", "run": "worker", "feedback": "feedback", "up": "parent"}
START_S, WARM_UP_S = 600.0, 10.0


class Connections:
    """Keep-alive connections to one address; a request waits for a free one."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._free: asyncio.LifoQueue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.LifoQueue()

    async def open(self, count: int) -> None:
        for _ in range(count):
            self._free.put_nowait(await asyncio.open_connection("127.0.0.1", self._port))

    async def send(self, request: bytes) -> tuple[int, bytes]:
        """Status and body."""
        reader, writer = await self._free.get()
        try:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
            body = await reader.readexactly(int(length or 0))
        except (OSError, asyncio.IncompleteReadError):
            writer.close()
            self._free.put_nowait(await asyncio.open_connection("127.0.0.1", self._port))
            return 0, b""
        self._free.put_nowait((reader, writer))
        return int(head[9:12]), body


class Load:
    """Sends requests when they are due and keeps, by kind, how long each took and what it said."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self.took: dict[str, list[float]] = defaultdict(list)
        self.statuses: dict[str, Counter[int]] = defaultdict(Counter)
        self.age_ms: list[float] = []

    async def send(self, kind: str, request: bytes, due: float) -> None:
        status, body = await self._connections.send(request)
        self.took[kind].append(time.perf_counter() - due)
        self.statuses[kind][status] += 1
        if kind == "list" and status == 200:
            self.age_ms.append(msgspec.json.decode(body).get("age_ms") or 0.0)

    async def run(self, plan: Iterator[tuple[float, str, bytes]]) -> None:
        """plan: (seconds from now, kind, request), in order of time."""
        started, tasks = time.perf_counter(), set[asyncio.Task[None]]()
        for at, kind, request in plan:
            due = started + at
            wait = due - time.perf_counter()
            if wait > 0:
                await asyncio.sleep(wait)
            task = asyncio.create_task(self.send(kind, request, due))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.gather(*tasks)


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()


def post(path: str, value: object) -> bytes:
    body = msgspec.json.encode(value)
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def plan(
    rate: int, events_a_second: int, seconds: float, rows: list[dict[str, object]], users: list[str]
) -> Iterator[tuple[float, str, bytes]]:
    """Questions and empty requests at random times (Poisson), posts of interactions at even ones."""
    rng = random.Random(0)
    due: list[tuple[float, str, bytes]] = []
    for kind, each_s in (("list", rate), ("livez", rate / 5)):
        at = 0.0
        while (at := at + rng.expovariate(each_s)) < seconds:
            path = f"/v1/users/{quote(rng.choice(users), safe='')}/recommendations?k=20" if kind == "list" else "/livez"
            due.append((at, kind, get(path)))
    for n in range(int(seconds * events_a_second / A_POST)):
        batch = rows[n * A_POST : (n + 1) * A_POST]
        due.append((n * A_POST / events_a_second, "post", post("/v1/interactions", batch)))
    return iter(sorted(due))


def cpu_s(pid: int) -> dict[str, float]:
    """CPU seconds of a process and of its living children, by what each is; of a worker those of its thread apart."""
    words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    name, seconds = (
        next((PROCESSES[word] for word in reversed(words) if word in PROCESSES), "other"),
        _seconds(f"{pid}"),
    )
    found = {name: seconds}
    if name == "worker":
        thread_s = _seconds(f"{pid}/task/{pid}")
        client_s = sum(_seconds(f"{pid}/task/{thread}") for thread in kafka_threads(pid))
        found = {"the worker's thread": thread_s, "its API and log": seconds - thread_s - client_s}
        found |= {"its Kafka client": client_s} if client_s else {}
    for child in children(pid):
        found |= cpu_s(child)
    return found


def cpu_of(pids: Sequence[int]) -> dict[str, float]:
    """The same of several processes."""
    found = dict[str, float]()
    for pid in pids:
        found |= cpu_s(pid)
    return found


def _seconds(process: str) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def kafka_threads(pid: int) -> list[str]:
    """Those of librdkafka in a process."""
    tasks = Path(f"/proc/{pid}/task")
    return [task.name for task in tasks.iterdir() if (task / "comm").read_text().startswith("rdk:")]


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@contextmanager
def on_embedded_log(folder: Path) -> Iterator[tuple[list[int], int]]:
    """`freshet up`: its process, and the port of the front."""
    with _started("up", "--log", str(folder / "log"), "--port", "0", "--json") as up:
        yield [up.pid], _port_of(up)


@contextmanager
def on_kafka(folder: Path) -> Iterator[tuple[list[int], int]]:
    """A broker, a worker and a front: their processes, and the port of the front."""
    (folder / "kafka").mkdir()
    broker = Broker(folder / "kafka")
    try:
        settings = Settings.load(bootstrap=broker.bootstrap)
        with closing(open_log_of(settings)) as log:
            log.create(topic_specs(settings))
        home, state = ("--bootstrap", broker.bootstrap), str(folder / "state")
        with (
            _started("run", *home, "--state", state, "--api-port", "0") as worker,
            _started("serve", *home, "--state", str(folder / "front"), "--port", "0", "--json") as front,
        ):
            yield [worker.pid, front.pid, broker.pid], _port_of(front)
    finally:
        broker.stop()


@contextmanager
def _started(*command: str) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen([sys.executable, "-m", "streamer", *command], stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


def _port_of(process: "subprocess.Popen[str]") -> int:
    assert process.stdout
    return int(msgspec.json.decode(process.stdout.readline())["address"].rpartition(":")[2])


def measure(rate: int, events_a_second: int, seconds: float, home: Home) -> list[str]:
    """The rows of the table."""
    table = pq.read_table(FILE).slice(0, WARM_EVENTS + int((seconds + WARM_UP_S) * events_a_second))
    rows = table.select(["user_id", "item_id", "event_type", "timestamp"]).to_pylist()
    for row in rows:
        row["user_id"], row["item_id"] = str(row["user_id"]), str(row["item_id"])
    warm, live = rows[:WARM_EVENTS], rows[WARM_EVENTS:]
    users = sorted({str(row["user_id"]) for row in warm})
    with tempfile.TemporaryDirectory() as folder, home(Path(folder)) as (pids, port):
        return asyncio.run(_measured(pids, port, rate, events_a_second, seconds, warm, live, users))


async def _measured(
    pids: Sequence[int], port: int, rate: int, events_a_second: int, seconds: float, warm: list[dict[str, object]], live: list[dict[str, object]],
    users: list[str],
) -> list[str]:  # fmt: skip
    connections = Connections(port)
    await connections.open(CONNECTIONS)
    for first in range(0, len(warm), 500):
        status, body = await connections.send(post("/v1/interactions", warm[first : first + 500]))
        assert status == 202, body
    until = time.perf_counter() + START_S
    while True:  # until everything is taken and lists are answered by a worker
        status, body = await connections.send(
            get(f"/v1/users/{quote(str(warm[-1]['user_id']), safe='')}/recommendations")
        )
        positions = msgspec.json.decode(body).get("as_of", {}).get("positions", {}) if status == 200 else {}
        if sum(positions.values()) >= len(warm):
            break
        assert time.perf_counter() < until, (status, body[:300])
        await asyncio.sleep(0.2)
    warm_up, load = Load(connections), Load(connections)
    await warm_up.run(plan(rate, events_a_second, WARM_UP_S, live, users))
    rest = live[int(WARM_UP_S * events_a_second) :]
    before, client_s = cpu_of(pids), time.process_time()
    await load.run(plan(rate, events_a_second, seconds, rest, users))
    served = {name: after - before[name] for name, after in cpu_of(pids).items()}
    client_s = time.process_time() - client_s
    lines = []
    for kind in ("livez", "list", "post"):
        p50, p99 = np.percentile(np.array(load.took[kind]) * 1000, [50, 99])
        wrong = sum(count for status, count in load.statuses[kind].items() if status not in (200, 202))
        lines.append(f"| {kind} | {len(load.took[kind]):,} | {p50:.1f} | {p99:.1f} | {wrong} |")
        if wrong:
            print(f"{kind}: {dict(load.statuses[kind])}", file=sys.stderr)
    age = np.percentile(np.array(load.age_ms), [50, 99])
    requests = sum(map(len, load.took.values()))
    lines.append("")
    lines.append(f"Age of what a list knows: p50 {age[0]:.0f} ms, p99 {age[1]:.0f} ms. ")
    each = ", ".join(f"{name} {spent_s / requests * 1000:.2f}" for name, spent_s in sorted(served.items()))
    lines.append(
        f"CPU: {sum(served.values()) / requests * 1000:.2f} ms a request in all processes of Freshet, interactions "
        f"included ({each}); the client took {client_s / requests * 1000:.2f} ms."
    )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser("python -m tests.benchmarks.asked_rate", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rate", type=int, default=500, help="questions a second")
    parser.add_argument("--events", type=int, default=1_000, help="interactions a second")
    parser.add_argument(
        "--kafka", action="store_true", help="a broker, `run` and `serve` in place of `up`; only prints"
    )
    arguments = parser.parse_args()
    home = on_kafka if arguments.kafka else on_embedded_log
    rows = measure(arguments.rate, arguments.events, arguments.seconds, home)
    head = [
        "# Lists asked for beside a stream",
        "",
        f"`python -m tests.benchmarks.asked_rate --rate {arguments.rate} --seconds {arguments.seconds:g}`, "
        f"commit {commit()}, {machine()}; {arguments.events:,} interactions a second beside it. Latencies in ms.",
        "",
        "| request | answered | p50 | p99 | errors |",
        "|---|---|---|---|---|",
    ]
    if not arguments.kafka:
        RESULTS.write_text("\n".join([*head, *rows]) + "\n")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
