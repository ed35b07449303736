"""How far the workers' committed epochs have come, for those who wait for theirs."""

import asyncio
import threading
from collections.abc import Mapping
from typing import NamedTuple


class _Waiter(NamedTuple):
    partition: int
    position: int
    loop: asyncio.AbstractEventLoop
    passed: asyncio.Event


class CommittedPositions:
    """Position of each partition of the interactions topic after the last committed epoch that was read.

    One thread notes them, tasks of any event loop wait.
    """

    def __init__(self) -> None:
        self._changing = threading.Lock()
        self._positions: dict[int, int] = {}
        self._waiters: set[_Waiter] = set()

    def note(self, positions: Mapping[int, int]) -> None:
        """Takes the positions at the end of an epoch. Workers of a group each have partitions of their own."""
        with self._changing:
            for partition, position in positions.items():
                self._positions[partition] = max(position, self._positions.get(partition, 0))
            passed = {waiter for waiter in self._waiters if self._has_passed(waiter)}
            self._waiters -= passed
        for waiter in passed:
            if not waiter.loop.is_closed():
                waiter.loop.call_soon_threadsafe(waiter.passed.set)

    def clear(self) -> None:
        """Forgets them: the topic was made anew."""
        with self._changing:
            self._positions.clear()

    async def passed(self, partition: int, position: int) -> None:
        """Waits until everything before `position` has been taken."""
        waiter = _Waiter(partition, position, asyncio.get_running_loop(), asyncio.Event())
        with self._changing:
            if self._has_passed(waiter):
                return
            self._waiters.add(waiter)
        try:
            await waiter.passed.wait()
        finally:
            with self._changing:
                self._waiters.discard(waiter)

    def _has_passed(self, waiter: _Waiter) -> bool:
        return self._positions.get(waiter.partition, 0) >= waiter.position
