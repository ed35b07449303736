"""Appends of many requests gathered into one: one is on its way, what comes meanwhile goes with the next."""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from consumers.errors import LogUnavailable, RecordRefused, UnknownTopic
from consumers.log import Log
from consumers.records import NewRecord
from streamer.web.answers import too_many
from streamer.web.current_log import CurrentLog

RECORDS_AT_ONCE, MOST_WAITING = 5_000, 50_000


class _WaitingAppend(NamedTuple):
    """Records of one request. `deadline`: by when they are in the log, of `time.monotonic`."""

    records: Sequence[NewRecord]
    deadline: float
    done: "asyncio.Future[None]"


class Appends:
    """Appends records of requests to the log, those of several requests at once.

    Records of one request stay together and in order. For the tasks of one event loop.

    Args: timeout_s: how long a request waits for the log.
    """

    def __init__(self, log: Log | CurrentLog, timeout_s: float) -> None:
        self._log, self._timeout_s = log, timeout_s
        self._waiting: deque[_WaitingAppend] = deque()
        self._count = 0  # records that wait
        self._appending: asyncio.Task[None] | None = None

    async def append(self, records: Sequence[NewRecord], within_s: float | None = None) -> None:
        """Returns once they are in the log; `within_s`: where that is to be sooner than for other requests.

        Raises LogUnavailable where they may be in it or not, what `Log.append` raises, and ApiError 429 where so much
        waits that it would come too late.
        """
        if self._count and self._count + len(records) > MOST_WAITING:
            raise too_many("the log takes less than comes in; send it again")
        timeout_s = self._timeout_s if within_s is None else min(within_s, self._timeout_s)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(_WaitingAppend(records, time.monotonic() + timeout_s, future))
        self._count += len(records)
        if self._appending is None:
            self._appending = asyncio.create_task(self._append())
        try:
            await asyncio.wait_for(future, timeout_s)
        except TimeoutError:
            raise LogUnavailable(f"the log has taken nothing for {timeout_s:g} s") from None

    async def _append(self) -> None:
        try:
            while batch := self._next_batch():
                await self._append_batch(batch)
        finally:
            self._appending = None

    def _next_batch(self) -> list[_WaitingAppend]:
        """The requests whose records go next; what nobody waits for any more is never sent."""
        batch: list[_WaitingAppend] = []
        size = 0
        while self._waiting and (not batch or size + len(self._waiting[0].records) <= RECORDS_AT_ONCE):
            one = self._waiting.popleft()
            self._count -= len(one.records)
            if not one.done.done() and one.deadline > time.monotonic():
                batch.append(one)
                size += len(one.records)
        return batch

    async def _append_batch(self, batch: list[_WaitingAppend]) -> None:
        records = [record for one in batch for record in one.records]
        left_s = max(one.deadline for one in batch) - time.monotonic()
        try:
            await asyncio.to_thread(self._log.append, records, left_s)
        except (RecordRefused, UnknownTopic) as error:
            if len(batch) == 1:
                _fail(batch, error)
                return
            for one in batch:  # the others' records are none the worse for it; those that are there already count once
                await self._append_batch([one])
        except Exception as error:
            _fail(batch, error)
        else:
            for one in batch:
                if not one.done.done():
                    one.done.set_result(None)


def _fail(batch: Sequence[_WaitingAppend], error: Exception) -> None:
    for one in batch:
        if not one.done.done():
            one.done.set_exception(error)
