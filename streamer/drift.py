"""Drift alarms: ADWIN watches test-then-learn HR@10, block by block, live and in replay.

ADWIN: Bifet and Gavaldà, "Learning from time-changing data with adaptive windowing", SDM 2007; river's implementation.
The numbers below were chosen on six real streams and on the same with item ids permuted halfway: DECISIONS.md.
"""

import logging
import math
from functools import cache
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np

from streamer.quality import AT

BLOCK = 50  # measured events whose hits make one observation
MEMORY = 30  # blocks that are remembered at least, twice as many at most: slow change is no alarm
DELTA = 0.01  # ADWIN's confidence
SHORTEST = 2  # blocks on either side of a change
# A mean of B events varies √B times less than one event does, while ADWIN's bound takes values to range over [0, 1]:
# scaled by √B the block is judged as sharply as its events would be.
SCALE = math.sqrt(BLOCK) / BLOCK
_logger = logging.getLogger(__name__)


class Alarm(NamedTuple):
    """A sudden fall of quality: where it was noticed, and HR@10 before and after the change that ADWIN found."""

    event: int
    timestamp: int  # event time, epoch ms
    before: float
    after: float


class DriftMonitor:
    """Alarms when HR@10 falls suddenly. A sudden rise is no alarm; both begin a new window.

    All that it knows are the hits of the blocks since the last change, so a restart rebuilds it from those.
    """

    def __init__(self) -> None:
        self._blocks: list[int] = []  # hits of the full blocks in memory
        self._hits = self._events = 0  # of the block that is being filled
        self._adwin: Any = None  # river's, which has no types

    def add(self, event: np.ndarray, t: np.ndarray, rank: np.ndarray) -> list[Alarm]:
        """Takes a batch of any size in order; the alarms do not depend on how the stream is cut into batches.

        event: [N] number of the event; t: [N] epoch ms; rank: [N] as in QualityMeter.
        """
        measured = np.flatnonzero(rank >= 0)
        hits = np.concatenate([[0], np.cumsum((rank[measured] > 0) & (rank[measured] <= AT))])
        alarms, start = [], 0
        for end in range(BLOCK - self._events, len(measured) + 1, BLOCK):
            change = self._take(self._hits + int(hits[end] - hits[start]))
            if change and change[1] < change[0]:
                last = measured[end - 1]
                alarms.append(Alarm(int(event[last]), int(t[last]), *change))
            self._hits, self._events, start = 0, 0, end
        self._hits += int(hits[-1] - hits[start])
        self._events += len(measured) - start
        return alarms

    def _take(self, hits: int) -> tuple[float, float] | None:
        """One full block; gives HR@10 before and after where ADWIN finds a change."""
        adwin = self._adwin or self._rebuild()
        self._blocks.append(hits)
        if adwin and _finds_change(adwin, hits):
            recent = min(max(int(adwin.width), 1), len(self._blocks) - 1)
            before, after = self._blocks[:-recent], self._blocks[-recent:]
            self._blocks = []
            return sum(before) / len(before) / BLOCK, sum(after) / len(after) / BLOCK
        if len(self._blocks) >= 2 * MEMORY:
            self._blocks, self._adwin = self._blocks[-MEMORY:], None
        return None

    def _rebuild(self) -> Any:
        """The detector as it is after the blocks in memory."""
        self._adwin = new_adwin()
        blocks, self._blocks = self._blocks, []
        for hits in blocks:
            self._blocks.append(hits)
            if self._adwin and _finds_change(self._adwin, hits):
                self._blocks = []  # seen only now that older blocks are forgotten
        return self._adwin

    def state(self) -> tuple[list[int], int, int]:
        """What a checkpoint keeps."""
        return self._blocks, self._hits, self._events

    def restore(self, state: tuple[list[int], int, int]) -> None:
        """Takes back what `state` gave."""
        self._blocks, self._hits, self._events = list(state[0]), state[1], state[2]
        self._adwin = None


def _finds_change(adwin: Any, hits: int) -> bool:
    adwin.update(hits * SCALE)
    return bool(adwin.drift_detected)


@cache
def available() -> bool:
    """Whether alarms are on; says once how to turn them on."""
    if find_spec("river"):
        return True
    _logger.warning("drift alarms are off: they need river, `pip install 'freshet[drift]'`")
    return False


def new_adwin() -> Any:
    """A detector without history; None where river is not installed."""
    if not available():
        return None
    from river.drift import ADWIN  # it brings SciPy, and takes most of a second

    adwin: Any = ADWIN
    return adwin(delta=DELTA, clock=1, grace_period=2 * SHORTEST, min_window_length=SHORTEST)
