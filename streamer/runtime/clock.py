"""The time, from a clock that is passed in: the system's in a process, in a test one that the test moves."""

import time
from typing import Protocol


class Clock(Protocol):
    """Tells the time to whatever waits, measures or stamps."""

    def monotonic(self) -> float:
        """Seconds since some moment; never goes back."""

    def now_ms(self) -> int:
        """The wall clock, epoch ms."""


class SystemClock:
    """The clock of the machine."""

    def monotonic(self) -> float:
        return time.monotonic()

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000


SYSTEM_CLOCK = SystemClock()
