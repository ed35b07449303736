"""What `freshet serve` takes in memory, and how long until it is ready, by the number of users with a list.

    python -m tests.benchmarks.view 100000 1000000

Lists of 20 items lie in an embedded log that this process owns; `serve` reads them through it, twice: from the start
and, with its state, again.
"""

import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import msgspec

from consumers.open_log import OwnedLog
from consumers.records import NewRecord
from streamer.runtime.topics import topic_specs
from streamer.settings import Settings

CHUNK, ASKED = 2_000, 300
_encode = msgspec.json.Encoder().encode


def fill(log: OwnedLog, users: int) -> None:
    """A list of 20 items for each user, and titles of 10,000 items."""
    items = [
        NewRecord("items", b"i%d" % n, _encode({"item_id": f"i{n}", "title": f"Title {n}"})) for n in range(10_000)
    ]
    log.append(items)
    draw = random.Random(0)
    for first in range(0, users, CHUNK):
        log.append(
            [NewRecord("recommendations", f"u{n}".encode(), _list(n, draw)) for n in range(first, first + CHUNK)]
        )


def _list(n: int, draw: random.Random) -> bytes:
    items = [
        {"item_id": f"i{draw.randrange(10_000)}", "score": draw.random(), "source": "transition", "reason": "after i17", "propensity": 1.0}
        for _ in range(20)
    ]  # fmt: skip
    as_of = {"timestamp": 1_700_000_000_000, "positions": {"0": n}}
    return _encode(
        {
            "list_id": f"0-{n}",
            "user_id": f"u{n}",
            "surface": "default",
            "items": items,
            "as_of": as_of,
            "model_version": "1",
        }
    )


def measure(folder: Path, users: int, what: str) -> None:
    """Starts `serve`, waits until it is ready, asks for lists; prints the seconds and the memory."""
    line = [
        sys.executable,
        "-m",
        "streamer",
        "serve",
        "--port",
        "0",
        "--log",
        str(folder / "log"),
        "--state",
        str(folder / "state"),
    ]
    started = time.monotonic()
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True, env=os.environ) as process:
        assert process.stdout
        with httpx.Client(base_url=process.stdout.readline().split()[-1], timeout=60) as client:
            while client.get("/readyz").status_code != 200:
                time.sleep(0.2)
            ready_s = time.monotonic() - started
            asked = time.monotonic()
            for n in random.Random(1).choices(range(users), k=ASKED):
                client.get(f"/recommendations/u{n}").raise_for_status()
            each_ms = (time.monotonic() - asked) / ASKED * 1000
        memory = {
            name: int(size.split()[0]) // 1024
            for name, _, size in (
                row.partition(":") for row in Path(f"/proc/{process.pid}/status").read_text().splitlines()
            )
            if name in ("VmRSS", "VmHWM")
        }
        process.terminate()
    size = sum(file.stat().st_size for file in (folder / "state" / "view").iterdir()) >> 20
    print(
        f"| {users:,} | {what} | {ready_s:.1f} | {memory['VmRSS']} | {memory['VmHWM']} | {each_ms:.2f} | {size} |",
        flush=True,
    )


def main() -> None:
    """A row for each number of users, from the start and again."""
    print(
        "| users | start | ready, s | RSS, MiB | at most | a list, ms | on disk, MiB |\n|---|---|---|---|---|---|---|"
    )
    for users in map(int, sys.argv[1:] or ["100000", "1000000"]):
        with tempfile.TemporaryDirectory(prefix="freshet-view-") as name:
            folder = Path(name)
            log = OwnedLog(folder / "log")
            log.create(topic_specs(Settings(), partitions=4))
            fill(log, users)
            measure(folder, users, "from the start")
            measure(folder, users, "again")
            log.close()


if __name__ == "__main__":
    main()
