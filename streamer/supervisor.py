"""Keeps a service at work: when the log or a store goes away, it is opened again and goes on from its last commit."""

import logging
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TypeVar

from consumers.errors import LogUnavailable, RecordRefused
from streamer.signals import StopRequest

FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 30.0
Service = TypeVar("Service")
_logger = logging.getLogger(__name__)


def supervise(
    opened: Callable[[], AbstractContextManager[Service]],
    run: Callable[[Service], None],
    stop: StopRequest,
    waiting: Callable[[], None] = lambda: None,
    achieved: Callable[[], object] = lambda: None,
) -> None:
    """Opens a service and runs it, until `run` returns or `stop`; `waiting` is told when it has to be opened again.

    What failed half-way (a commit without an answer, a full disk, a broker that restarts) is resolved as after a crash.
    Waits ever longer between two tries, until what `achieved` gives is another (opening alone achieves nothing) or it
    has run for longer than the longest wait. Raises LogUnavailable where the first one cannot be opened, RecordRefused
    where a record is refused twice with nothing achieved in between, and whatever else `opened` and `run` raise.
    """
    wait_s, started, was_refused, before = FIRST_WAIT_S, False, False, achieved()
    while True:
        since = math.inf
        try:
            with opened() as service:
                since, started = time.monotonic(), True
                run(service)
            return
        except (LogUnavailable, RecordRefused) as error:
            if not started:
                raise
            now = achieved()
            if now != before or time.monotonic() - since > LONGEST_WAIT_S:
                wait_s, was_refused, before = FIRST_WAIT_S, False, now
            refused = isinstance(error, RecordRefused)
            if refused and was_refused:
                raise
            was_refused |= refused
            waiting()
            _logger.warning("%s; trying again in %.1f s", error, wait_s)
        if stop.wait(wait_s):
            return
        wait_s = min(2 * wait_s, LONGEST_WAIT_S)
