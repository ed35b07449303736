"""Keeps a service at work: what long-lived threads and loops do when the log or a store goes away, or they fail.

`supervise` opens a service again and lets it go on from its last commit. `Threads` answers for the threads of a
process: one that fails ends it, so that nothing is left that runs without it.
"""

import logging
import math
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TypeVar

from consumers.errors import DamageMet, FreshetError, RecordRefused, Transient
from streamer.errors import ThreadEnded
from streamer.runtime.signals import StopRequest, ToldToEnd

FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 30.0
Service = TypeVar("Service")
_logger = logging.getLogger(__name__)


def supervise(
    opened: Callable[[], AbstractContextManager[Service]],
    run: Callable[[Service], None],
    stop: StopRequest,
    waiting: Callable[[], None] = lambda: None,
    achieved: Callable[[], object] = lambda: None,
    retried: tuple[type[Exception], ...] = (Transient,),
    longest_wait_s: float = LONGEST_WAIT_S,
) -> None:
    """Opens a service and runs it, until `run` returns or `stop`; `waiting` is told when it has to be opened again.

    What failed half-way (a commit without an answer, a full disk, a broker that restarts, a checkpoint that was set
    aside) is resolved as after a crash.
    Waits ever longer between two tries, until what `achieved` gives is another (opening alone achieves nothing) or it
    has run for longer than the longest wait. Raises the error of the first try to open it, unless opening it again is
    what mends it (DamageMet); RecordRefused where a record is refused twice with nothing achieved in between; and
    whatever else than `retried` comes out of `opened` and `run`.
    """
    wait_s, started, said = FIRST_WAIT_S, False, ""
    was_refused, before = False, achieved()
    while True:
        since = math.inf
        try:
            with opened() as service:
                since, started = time.monotonic(), True
                run(service)
            return
        except ToldToEnd:
            return
        except retried as error:
            if not (started or isinstance(error, DamageMet)):
                raise
            now = achieved()
            if now != before or time.monotonic() - since > longest_wait_s:
                wait_s, was_refused, before = FIRST_WAIT_S, False, now
            refused = isinstance(error, RecordRefused)
            if refused and was_refused:
                raise
            was_refused |= refused
            waiting()
            if str(error) != said or wait_s < longest_wait_s:  # not for hours every few seconds
                _logger.warning("%s; trying again in %.1f s", error, wait_s)
            said = str(error)
        if stop.wait(wait_s):
            return
        wait_s = min(2 * wait_s, longest_wait_s)


class Threads:
    """The long-lived threads of a process.

    Args:
        on_failure: called when one ends by an error, such as `StopRequest.set`: the process is to end.
    """

    def __init__(self, on_failure: Callable[[], None] = lambda: None) -> None:
        self._on_failure = on_failure
        self._failure: Exception | None = None

    def start(self, name: str, run: Callable[[], None]) -> threading.Thread:
        """Runs `run` in a thread, which does not keep the process from ending."""
        thread = threading.Thread(target=self._run, args=(name, run), name=name, daemon=True)
        thread.start()
        return thread

    def check(self) -> None:
        """Raises why a thread failed: a FreshetError as it is, anything else as ThreadEnded."""
        if self._failure is not None:
            raise self._failure

    def _run(self, name: str, run: Callable[[], None]) -> None:
        try:
            run()
        except FreshetError as error:
            self._fail(error)
        except BaseException as error:  # SystemExit too: uvicorn raises it
            _logger.debug("the thread %s ended", name, exc_info=True)
            frames = traceback.extract_tb(error.__traceback__)
            where = f" ({frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno})" if frames else ""
            self._fail(ThreadEnded(f"the thread {name!r} ended: {type(error).__name__}: {error}{where}; start again"))

    def _fail(self, error: Exception) -> None:
        self._failure = self._failure or error
        self._on_failure()
