"""SIGTERM, SIGINT and SIGHUP as questions that a loop asks between two pieces of work."""

import os
import signal
import sys
import threading
from queue import Empty, SimpleQueue


class ToldToEnd(Exception):
    """What was being waited for is not needed any more: a StopRequest is true."""


class StopRequest:
    """True once the process was asked to end; a second signal ends it at once.

    A signal may come in the middle of any line here, of a former one's handling too: no lock is taken that would wait
    for itself, as that of `threading.Event` would.

    Args:
        on_signals: False is for a part of the process that is asked by the rest of it alone.
    """

    def __init__(self, on_signals: bool = True) -> None:
        self._asked, self._woken = False, SimpleQueue[None]()
        if on_signals and threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: object) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self.set()

    def set(self) -> None:
        """Asks to end from within the process."""
        self._asked = True
        self._woken.put(None)

    def __bool__(self) -> bool:
        return self._asked

    def wait(self, timeout_s: float) -> bool:
        """Waits for the request; True once it is there."""
        if not self._asked:
            try:
                self._woken.get(timeout=max(timeout_s, 0.0))
                self._woken.put(None)  # for who else waits
            except Empty:
                pass
        return self._asked


class HangUps:
    """Whether SIGHUP came: the settings are to be read again. Where the terminal is gone, it asks to end instead.

    Args: stop: is asked to end then.
    """

    def __init__(self, stop: StopRequest) -> None:
        self._stop, self._came = stop, False
        self._had_terminal = _has_terminal()
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGHUP, self._on_signal)

    def _on_signal(self, number: int, frame: object) -> None:
        if self._had_terminal and not _has_terminal():
            self._stop.set()
        else:
            self._came = True

    def take(self) -> bool:
        """Whether one has come since the last call."""
        came = self._came
        if came:
            self._came = False
        return came


def _has_terminal() -> bool:
    try:
        os.tcgetpgrp(sys.stdin.fileno())
    except (OSError, ValueError, AttributeError):  # none, closed, or hung up
        return False
    return True
