"""A worker that ends itself at an effect of the commit protocol, as a crash would: no handler runs.

Its process is a `tests.faults.forked.Forked` one, or that of a benchmark.
"""

import os
import resource
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from consumers import crash_points
from streamer.cli.main import main as run_command
from streamer.ops.audit import digest
from streamer.runtime.signals import StopRequest
from streamer.runtime.supervisor import supervise
from streamer.runtime.topics import open_log_of
from streamer.settings import Settings
from streamer.worker.worker import Worker

CRASHED = 137


def crash(file: Path, effect: str, n: int, stay: bool = False) -> None:
    """Takes the log to its end, or stays there, and dies the nth time that the effect has happened."""
    _at(effect, n, lambda: os._exit(CRASHED))
    _supervised(file, lambda worker: worker.run(exit_at_end=not stay))


def finish(file: Path, out: Path) -> None:
    """Takes the log to its end, and writes down the digest of the state."""

    def run(worker: Worker) -> None:
        worker.run(exit_at_end=True)
        out.write_text(digest(worker.state))

    _supervised(file, run)


def _supervised(file: Path, run: Callable[[Worker], None]) -> None:
    """As `freshet run` does: where a busy broker fails a commit, it goes on from the last one."""
    supervise(lambda: working(file), run, StopRequest(on_signals=False))


@contextmanager
def working(file: Path) -> Iterator[Worker]:
    """A worker with the settings of a file."""
    settings = Settings.load(file)
    with closing(open_log_of(settings)) as log, closing(Worker.open(log, settings)) as worker:
        yield worker


def command(words: Sequence[str], mask: int = 0o077) -> int:
    """`freshet` with these words, where files are made under this mask."""
    os.umask(mask)
    return run_command(list(words))


def run(flags: Sequence[str], frozen_at: str | None = None, limit_bytes: int | None = None) -> int:
    """`freshet run`.

    Args:
        flags: of it.
        frozen_at: it stops the third time that this effect has happened, until somebody wakes it.
        limit_bytes: no file that it writes may grow over this.
    """
    if frozen_at:
        _at(frozen_at, 3, lambda: os.kill(os.getpid(), signal.SIGSTOP))
    if limit_bytes:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))
    return run_command(["run", *flags])


def _at(effect: str, n: int, do: Callable[[], None]) -> None:
    left = [n]

    def listener(happened: str) -> None:
        left[0] -= happened == effect
        if happened == effect and left[0] == 0:
            do()

    crash_points.listen(listener)
