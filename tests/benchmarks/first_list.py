"""How long a first `freshet demo` takes to its first list: python -m tests.benchmarks.first_list

The packages and MovieLens-100k are there; the folder for compiled kernels is empty. Seconds are counted from the start of
the command until the page can show a list of somebody: of processor time, with that of the processes that it started and
that ended, out of /proc, and of the clock.
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
        started = time.monotonic()
        command = [sys.executable, "-m", "streamer", "demo", *files, "--rate=400", f"--port={port}"]
        with subprocess.Popen(command, env=own, stdout=subprocess.DEVNULL) as demo:
            try:
                while not _somebody_has_a_list(port):
                    if demo.poll() is not None:
                        return 1
                    time.sleep(0.1)
                print(f"first list: {_cpu_s(demo.pid):.1f} s of CPU, {time.monotonic() - started:.1f} s of the clock")
            finally:
                demo.terminate()
    return 0


def _somebody_has_a_list(port: int) -> bool:
    try:
        users = _get(f"http://127.0.0.1:{port}/v1/users")["users"]
    except OSError:
        return False
    return any(_has_a_list(port, user) for user in users)


def _has_a_list(port: int, user: str) -> bool:
    try:
        return bool(_get(f"http://127.0.0.1:{port}/v1/users/{user}/recommendations"))
    except OSError:  # a 404, or no answer yet
        return False


def _get(url: str) -> dict[str, list[str]]:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return json.load(answer)


def _cpu_s(process: int) -> float:
    """User and system time of a process and of its children that it has waited for."""
    after_name = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, after_name[11:15])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    raise SystemExit(main())
