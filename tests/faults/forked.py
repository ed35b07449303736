"""Processes of a worker that need not import it: each is forked from one that has, with its kernels loaded.

Where a test starts many, that is most of what they would cost. They die, freeze and are killed as any other process.
"""

import faulthandler
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.faults.warm"])


class Forked:
    """A process that runs a function; waited for and ended as a `subprocess.Popen` is.

    Args:
        what: the function; what it returns is the exit code.
        arguments: what it gets.
        cwd: where it works.
        log: a file that gets its standard error; None: where the tests write theirs.
    """

    stdin = stdout = stderr = None

    def __init__(self, what: Callable[..., int | None], *arguments: Any, cwd: Path, log: Path | None = None) -> None:
        self._log = log
        self._process = _CONTEXT.Process(target=_work, args=(what, arguments, cwd, log), daemon=True)
        self._process.start()
        assert self._process.pid
        self.pid = self._process.pid

    def said(self) -> str:
        """What is in its log."""
        return self._log.read_text() if self._log and self._log.exists() else ""

    @property
    def returncode(self) -> int | None:
        """As `subprocess.Popen` has it: minus the signal that ended it."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """The exit code, None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int | None:
        """Waits for its end."""
        self._process.join(timeout)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Sends a signal to it, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Ends it at once."""
        self.send_signal(signal.SIGKILL)


def _work(what: Callable[..., int | None], arguments: tuple[Any, ...], cwd: Path, log: Path | None) -> None:
    os.chdir(cwd)
    for name in [name for name in os.environ if name.startswith("FRESHET_")]:
        del os.environ[name]
    if log is not None:
        with log.open("ab") as file:
            os.dup2(file.fileno(), 2)
        faulthandler.enable()
    os._exit(what(*arguments) or 0)
