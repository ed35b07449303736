"""The log that a service has open at the moment: what answers requests uses it while another thread opens it again."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

from consumers.errors import LogUnavailable, WireError
from consumers.log import APPEND_TIMEOUT_S, Log
from consumers.records import NewRecord

Given = ParamSpec("Given")
Found = TypeVar("Found")


class CurrentLog:
    """Holds the open log. One thread opens it, as often as it goes away; any thread may ask for it meanwhile.

    Args:
        open_log: opens the log. Raises LogUnavailable, LogBusy.
    """

    def __init__(self, open_log: Callable[[], Log]) -> None:
        self._open_log = open_log
        self._log: Log | None = None
        self._why = "the log is not open yet"

    @contextmanager
    def opened(self) -> Iterator[Log]:
        """Opens the log, and closes it at the end. Raises what `open_log` raises."""
        log = self._open()
        try:
            yield log
        except WireError as error:
            self._why = str(error)
            raise
        finally:
            self._log = None
            self._close(log)

    def now(self) -> Log:
        """The open log. Raises LogUnavailable, with the reason, while it is away."""
        if self._log is None:
            raise LogUnavailable(f"the log is away: {self._why}")
        return self._log

    def append(self, records: Sequence[NewRecord], timeout_s: float = APPEND_TIMEOUT_S) -> None:
        """See `Log.append`. Raises LogUnavailable while the log is away."""
        self.now().append(records, timeout_s)

    def _open(self) -> Log:
        try:
            self._log = self._open_log()
        except WireError as error:
            self._why = str(error)
            raise
        return self._log

    def _close(self, log: Log) -> None:
        log.close()


class OpenLog(CurrentLog):
    """A log that its owner has opened and closes: in the demo and in tests one process does everything."""

    def __init__(self, log: Log) -> None:
        super().__init__(lambda: log)
        self._log = log

    def now(self) -> Log:
        """See `CurrentLog.now`."""
        return self._open()

    def _close(self, log: Log) -> None:
        """Its owner does."""


async def called_within(
    timeout_s: float, work: Callable[Given, Found], *given: Given.args, **named: Given.kwargs
) -> Found:
    """What `work` returns, in a thread: whether the log answers or not, a client is answered while it has patience.

    Raises LogUnavailable after `timeout_s`, and what `work` raises.
    """
    try:
        async with asyncio.timeout(timeout_s):
            return await asyncio.to_thread(work, *given, **named)
    except TimeoutError:
        raise LogUnavailable(f"the log has not answered for {timeout_s:g} s") from None
