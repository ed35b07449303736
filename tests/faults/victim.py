"""A worker that ends itself at an effect of the commit protocol, as a crash would: no handler runs.

Its process is a `tests.faults.forked.Forked` one, or that of a benchmark.
"""

import os
import signal
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from consumers import crash_points
from streamer.cli.main import main as run_command
from streamer.ops.audit import digest
from streamer.runtime.topics import open_log_of
from streamer.settings import Settings
from streamer.worker.worker import Worker

CRASHED = 137


def work(settings: Settings, stay: bool = False) -> str:
    """Takes the log to its end, or stays there; gives the digest of the state."""
    with closing(open_log_of(settings)) as log, closing(Worker.open(log, settings)) as worker:
        worker.run(exit_at_end=not stay)
        return digest(worker.state)


def crash(file: Path, effect: str, n: int, stay: bool = False) -> None:
    """Works with these settings, and dies the nth time that the effect has happened."""
    _at(effect, n, lambda: os._exit(CRASHED))
    work(Settings.load(file), stay)


def run(flags: Sequence[str], frozen_at: str | None = None) -> int:
    """`freshet run`, which stops the third time that an effect has happened, until somebody wakes it."""
    if frozen_at:
        _at(frozen_at, 3, lambda: os.kill(os.getpid(), signal.SIGSTOP))
    return run_command(["run", *flags])


def _at(effect: str, n: int, do: Callable[[], None]) -> None:
    left = [n]

    def listener(happened: str) -> None:
        left[0] -= happened == effect
        if happened == effect and left[0] == 0:
            do()

    crash_points.listen(listener)
