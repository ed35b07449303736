"""Keeps a service at work: when the log or a store goes away, it is opened again and goes on from its last commit."""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TypeVar

from consumers.errors import CheckpointDamaged, LogUnavailable
from streamer.signals import StopRequest

FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 30.0
Service = TypeVar("Service")
_logger = logging.getLogger(__name__)


def supervise(
    opened: Callable[[], AbstractContextManager[Service]],
    run: Callable[[Service], None],
    stop: StopRequest,
    waiting: Callable[[], None] = lambda: None,
) -> None:
    """Opens a service and runs it, until `run` returns or `stop`; `waiting` is told when it has to be opened again.

    What failed half-way (a commit without an answer, a full disk, a broker that restarts, a checkpoint that was set
    aside) is resolved as after a crash.
    Waits ever longer between two tries. Raises LogUnavailable where the first one cannot be opened, and whatever else
    `opened` and `run` raise.
    """
    wait_s, started = FIRST_WAIT_S, False
    while True:
        try:
            with opened() as service:
                wait_s, started = FIRST_WAIT_S, True
                run(service)
            return
        except (LogUnavailable, CheckpointDamaged) as error:
            if not started:
                raise
            waiting()
            _logger.warning("%s; trying again in %.1f s", error, wait_s)
        if stop.wait(wait_s):
            return
        wait_s = min(2 * wait_s, LONGEST_WAIT_S)
