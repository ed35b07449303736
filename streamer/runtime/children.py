"""Processes that a process keeps at work: one that dies is started again, and all end with their parent."""

import ctypes
import logging
import os
import signal
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from streamer.errors import LASTING, ChildDied, UsageError
from streamer.runtime.signals import HangUps, StopRequest

DEATHS = 3
"""So often in a row, without having been ready in between, and it is given up."""
FIRST_WAIT_S = 0.5
LOOK_EVERY_S, LOOK_TIMEOUT_S = 0.2, 1.0
NICENESS = 10  # of patient ones: a tenth of the processor's time that others of this machine get, where all want it
END_S = 12.0  # each, one after the other: all of it within 30 s
_PR_SET_PDEATHSIG = 1
_logger = logging.getLogger(__name__)


class ChildRefused(Exception):
    """A child has ended, and said why: it would do so each time."""


class Start(NamedTuple):
    """How a child is started. `health`: the address that answers 200 once it is ready."""

    command: Sequence[str]
    health: str


class Child:
    """One of the processes.

    Args:
        name: what it is called in messages.
        start: how it is started, asked before each start: ports may be others.
        environment: variables beside those of this process.
        api_key: for its `health`.
        reloads: whether it reads its settings again on SIGHUP, by which any other would end.
        is_patient: whether nobody waits for what it does: it yields the processor to those for whom somebody does.
    """

    def __init__(
        self,
        name: str,
        start: Callable[[], Start],
        environment: dict[str, str],
        api_key: str | None = None,
        reloads: bool = False,
        is_patient: bool = False,
    ) -> None:
        self._name, self._start, self._environment, self._key = name, start, environment, api_key
        self._reloads, self._niceness = reloads, NICENESS if is_patient else 0
        self._process: subprocess.Popen[bytes] | None = None
        self._health = ""
        self._ready, self._deaths, self._start_at = False, 0, 0.0

    def check(self) -> None:
        """Starts it where it is not at work.

        Raises ChildDied where that has been in vain, ChildRefused where it would be: its own line says why.
        """
        if self._process is None:
            if time.monotonic() >= self._start_at:
                self._begin()
        elif (code := self._process.poll()) is not None:
            self._process = None
            if code in (LASTING, UsageError.exit_code):
                raise ChildRefused(f"{self._name} cannot work as it was started")
            self._deaths = 1 if self._ready else self._deaths + 1
            ended = f"signal {-code}" if code < 0 else f"exit code {code}"
            if self._deaths >= DEATHS:
                raise ChildDied(f"{self._name} ended {DEATHS} times before it was ready, the last time by {ended}")
            wait_s = FIRST_WAIT_S * self._deaths
            _logger.warning("%s ended by %s; starting it again in %.1f s", self._name, ended, wait_s)
            self._start_at = time.monotonic() + wait_s
        elif not self._ready:
            self._ready = _answers(self._health, self._key)

    def hang_up(self) -> None:
        """Has it read its settings again; one that is not at work reads them when it starts."""
        if self._reloads and self._process is not None:
            self._process.send_signal(signal.SIGHUP)

    def end(self) -> None:
        """Asks it to end, and kills it where it does not."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            _logger.warning("%s has not ended for %.0f s; it is killed", self._name, END_S)
            self._process.kill()
            self._process.wait()
        self._process = None

    def _begin(self) -> None:
        start = self._start()
        self._ready, self._health = False, start.health
        self._process = subprocess.Popen(
            start.command,
            env={**os.environ, **self._environment},
            stdin=subprocess.DEVNULL,
            process_group=0,  # Ctrl-C in a terminal is for the parent, which ends them in order
            preexec_fn=partial(_begun, self._niceness),
        )


def keep(children: Sequence[Child], stop: StopRequest, hang_ups: HangUps) -> None:
    """Keeps children at work until `stop`, then ends them, the last one first. Raises ChildDied, ChildRefused.

    hang_ups: go to those that reload.
    """
    try:
        while not stop.wait(LOOK_EVERY_S):
            if hang_ups.take():
                for child in children:
                    child.hang_up()
            for child in children:
                child.check()
    finally:
        for child in reversed(children):
            child.end()


def _answers(address: str, key: str | None) -> bool:
    request = urllib.request.Request(address, headers={} if key is None else {"X-API-Key": key})
    anybody = ssl._create_unverified_context()  # on this machine; its certificate is for the names that clients use
    try:
        with urllib.request.urlopen(request, timeout=LOOK_TIMEOUT_S, context=anybody) as answer:
            return bool(answer.status == 200)
    except (OSError, ValueError):  # HTTPError is an OSError
        return False


def _begun(niceness: int) -> None:
    """In the child, before its program: SIGTERM comes when the parent dies, however it does; on Linux alone."""
    os.nice(niceness)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
