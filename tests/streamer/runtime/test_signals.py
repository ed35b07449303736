"""Being asked to end: whenever the signal comes, and however many come at once."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from streamer.runtime.signals import HangUps, StopRequest
from tests.waiting import scaled

STORM = """
from streamer.runtime.signals import StopRequest
stop = StopRequest()
print("up", flush=True)
try:
    while not stop.wait(0.00001):
        pass
    while True:
        stop.wait(0.00001)
except KeyboardInterrupt:
    print("ended", flush=True)
"""

EVERY_LINE = """
import itertools, os, signal, sys
from streamer.runtime.signals import HangUps, StopRequest
first, second = int(sys.argv[1]), int(sys.argv[2])
for n in itertools.count():
    stop, line = StopRequest(), 0
    hang_ups = HangUps(stop)
    hang_ups._had_terminal = True  # and has none now: it asks to end
    def at_line(frame, event, argument):
        global line
        if event == "line":
            line += 1
            if line == n + 1:
                os.kill(os.getpid(), second)
        return at_line
    sys.settrace(at_line)
    try:
        if first:
            os.kill(os.getpid(), first)
        stop.wait(3600 if first else 0.5)
    except KeyboardInterrupt:
        pass
    sys.settrace(None)
    if line <= n:  # it was not sent any more
        break
    assert stop
print(n, flush=True)
"""


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def test_a_signal_in_the_middle_of_waiting_is_heard() -> None:
    for _ in range(2_000):
        stop = StopRequest()
        sender = threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGTERM))
        sender.start()
        while not stop.wait(0.00001):
            pass
        sender.join()
        assert stop


def test_a_signal_in_the_middle_of_handling_another_ends_it_at_once() -> None:
    for _ in range(20):
        with subprocess.Popen([sys.executable, "-c", STORM], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "up\n"
            try:
                until = time.monotonic() + 60
                while process.poll() is None and time.monotonic() < until:  # some that are pending come as one
                    process.send_signal(signal.SIGTERM)
                assert process.poll() is not None
            finally:
                process.kill()


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("first", [0, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_at_any_line_of_waiting_and_of_handling_another(first: int, second: int) -> None:
    """Whatever the line holds, in modules of Python too: nothing waits for itself, and the request is heard.

    first: comes before; 0: none does.
    """
    line = [sys.executable, "-c", EVERY_LINE, str(int(first)), str(int(second))]
    said = subprocess.run(line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=scaled(60), check=True)
    assert int(said.stdout) >= 3


def test_everybody_who_waits_is_woken() -> None:
    stop = StopRequest(on_signals=False)
    heard: list[bool] = []
    waiting = [threading.Thread(target=lambda: heard.append(stop.wait(60))) for _ in range(5)]
    for thread in waiting:
        thread.start()
    assert not stop.wait(0.01)
    assert not stop.wait(-1)
    stop.set()
    for thread in waiting:
        thread.join(60)
    assert heard == [True] * 5
    assert stop.wait(0)


def test_hang_ups_are_told_once() -> None:
    hang_ups = HangUps(StopRequest())
    hang_ups._had_terminal = False
    assert not hang_ups.take()
    for _ in range(3):
        os.kill(os.getpid(), signal.SIGHUP)
    assert hang_ups.take()
    assert not hang_ups.take()
