"""How long a first `freshet demo` takes to its first list: python -m tests.benchmarks.first_list

The packages and MovieLens-100k are there; the folder for compiled kernels is empty. Seconds are counted from the start of
the command, as in a terminal, until somebody's list is published: of processor time, with that of the processes that it
started, out of /proc, and of the clock.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from streamer.cli.demo_data import movielens_100k
from tests.kafka_broker import free_ports


def main() -> int:
    films = movielens_100k()
    files = [f"--{name}={path}" for name, path in zip(("file", "items", "users"), films, strict=True)]
    with tempfile.TemporaryDirectory() as empty:
        own = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"} | {"HOME": empty}
        [port] = free_ports(1)
        _, terminal = os.openpty()  # somebody looks at it: it goes on until it is ended
        started = time.monotonic()
        command = [sys.executable, "-m", "streamer", "demo", *files, f"--port={port}"]
        with subprocess.Popen(command, env=own, stdout=terminal) as demo:
            try:
                while not _lists(port):
                    if demo.poll() is not None:
                        return 1
                    time.sleep(0.1)
                children = sum(_cpu_s(child)[0] for child in _children(demo.pid))
                cpu_s = sum(_cpu_s(demo.pid)) + children
                print(f"first list: {cpu_s:.1f} s of CPU, {time.monotonic() - started:.1f} s of the clock")
            finally:
                demo.terminate()
    return 0


def _lists(port: int) -> int:
    """How many users have a published list."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/status", timeout=5) as answer:
            return int(json.load(answer)["lists"])
    except OSError:  # not there yet
        return 0


def _children(process: int) -> list[int]:
    of_threads = [(task / "children").read_text().split() for task in Path(f"/proc/{process}/task").iterdir()]
    return [int(child) for children in of_threads for child in children]


def _cpu_s(process: int) -> tuple[float, float]:
    """User and system time of a process, and of its children that it has waited for."""
    after_name = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    own, own_system, waited, waited_system = (int(ticks) / os.sysconf("SC_CLK_TCK") for ticks in after_name[11:15])
    return own + own_system, waited + waited_system


if __name__ == "__main__":
    raise SystemExit(main())
