"""Waiting in tests: for conditions, never for a time; limits grow with the slowness of the machine.

A limit is written for two quiet cores of 2024. How much slower this machine is, load included, is measured when the
tests begin, again where a limit has run out, and every minute in which one is asked for: a machine that became slow
meanwhile gets the time that it needs.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

LOOP_S = 0.05  # what the loop takes where limits were chosen
LOOP_COUNTS = 1_000_000
AGAIN_S = 60.0

Found = TypeVar("Found")


def measured_slowness() -> float:
    """The time of a fixed loop over what it takes on a quiet, usual machine; at least 1."""
    times = []
    for _ in range(3):
        started = time.perf_counter()
        count = 0
        for n in range(LOOP_COUNTS):
            count ^= n
        times.append(time.perf_counter() - started)
    return max(1.0, sorted(times)[1] / LOOP_S)


_slowness, _measured_s = measured_slowness(), time.monotonic()


def _measure_again() -> None:
    global _slowness, _measured_s
    _slowness, _measured_s = max(_slowness, measured_slowness()), time.monotonic()


def slowness() -> float:
    """How many times slower than usual this machine was when it was measured last."""
    return _slowness


def scaled(limit_s: float) -> float:
    """A limit for what cannot be asked again and again: a call with a timeout of its own."""
    if time.monotonic() - _measured_s > AGAIN_S:
        _measure_again()
    return limit_s * _slowness


def until(
    condition: Callable[[], Found], limit_s: float = 60, said: Callable[[], object] = str, every_s: float = 0.05
) -> Found:
    """Asks until the answer is true, and gives it.

    Args: limit_s: on a usual machine; said: what a failure shows; every_s: between two questions.
    """
    started = time.monotonic()
    while not (found := condition()):
        if time.monotonic() - started > limit_s * _slowness:
            _measure_again()
            if time.monotonic() - started > scaled(limit_s):
                raise AssertionError(f"not within {scaled(limit_s):.0f} s: {said()}")
        time.sleep(every_s)
    return found


def ended(process: "subprocess.Popen[Any]", limit_s: float = 60, said: Callable[[], object] = str) -> int:
    """Waits for the end of a process whose output goes to a file, and gives its exit code."""
    until(lambda: process.poll() is not None, limit_s, lambda: f"process {process.pid} goes on: {said()}")
    assert process.returncode is not None
    return process.returncode


@contextmanager
def ends(process: "subprocess.Popen[Any]") -> "Iterator[subprocess.Popen[Any]]":
    """A process that is killed where the test leaves it running, whatever becomes of the test."""
    try:
        yield process
    finally:
        end(process)


def end(process: "subprocess.Popen[Any]") -> None:
    """Kills a process that runs still, frozen or not, and closes its pipes."""
    if process.poll() is None:
        process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


def terminate(process: "subprocess.Popen[Any]") -> None:
    """Asks a process to end, and kills it where it does not."""
    process.terminate()
    try:
        ended(process)
    finally:
        end(process)


def freeze(pid: int) -> None:
    """Stops every thread of a process; the signal returns before they stand still."""
    os.kill(pid, signal.SIGSTOP)
    until(lambda: is_frozen(pid))


def is_gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody has waited for yet has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def is_frozen(pid: int) -> bool:
    """Whether the system has stopped every thread of a process."""
    try:
        threads = [stat.read_text() for stat in Path(f"/proc/{pid}/task").glob("*/stat")]
    except OSError:  # one has just ended: they do not stand still
        return False
    return all(stat.rpartition(")")[2].split()[0] == "T" for stat in threads)
