"""Keeps a worker at work: when the log goes away, it starts again from the last commit."""

import logging
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from consumers.errors import LogUnavailable
from consumers.log import Log
from streamer.lists_out import TestLists
from streamer.metrics import RunMetrics
from streamer.settings import Settings
from streamer.signals import StopRequest
from streamer.worker import Worker

FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 30.0
_logger = logging.getLogger(__name__)


def supervise(
    open_log: Callable[[], Log],
    settings: Settings,
    stop: StopRequest,
    lists_out: Path | None,
    exit_at_end: bool,
    metrics: RunMetrics,
) -> None:
    """Runs a worker until `stop`, or with `exit_at_end` until everything in the log is taken.

    What failed half-way (a commit without an answer, a full disk, a broker that restarts) is resolved as after a crash:
    open again, load the checkpoint, take the committed epochs again. Waits ever longer between two tries. Raises
    LogUnavailable where the first worker cannot start, Fenced where another one took over.
    """
    wait_s, started = FIRST_WAIT_S, False
    with TestLists(lists_out) as test_lists:
        while True:
            try:
                with (
                    closing(open_log()) as log,
                    closing(Worker(log, settings, test_lists, lambda: bool(stop), metrics)) as worker,
                ):
                    wait_s, started = FIRST_WAIT_S, True
                    worker.run(exit_at_end)
                return
            except LogUnavailable as error:
                if not started:
                    raise
                metrics.waiting()
                _logger.warning("%s; trying again in %.1f s", error, wait_s)
            if stop.wait(wait_s):
                return
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)
