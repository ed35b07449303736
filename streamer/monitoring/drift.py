"""Drift alarms: ADWIN watches the log loss of test-then-learn, block by block, live and in replay.

ADWIN: Bifet and Gavaldà, "Learning from time-changing data with adaptive windowing", SDM 2007; river's implementation.
The numbers below were chosen on six real streams and on the same with item ids permuted halfway: DECISIONS.md.
"""

import logging
import math
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np

from streamer.monitoring.prequential_quality import AT

BLOCK = 50  # measured events whose mean surprise is one observation
MEMORY = 30  # blocks that are remembered at least, twice as many at most: slow change is no alarm
DELTA = 0.002  # ADWIN's confidence
SHORTEST = 1  # blocks on either side of a change
HOW: dict[str, Any] = {"delta": DELTA, "clock": 1, "grace_period": 2 * SHORTEST, "min_window_length": SHORTEST}
RANGE = 6.0  # nats, taken as 1 in that bound; one event's surprise has a standard deviation of 2.7 to 4.7
# A mean of B events varies √B times less than one event does, while ADWIN's bound takes values to range over [0, 1]:
# scaled by √B the block is judged as sharply as its events would be.
SCALE = math.sqrt(BLOCK) / RANGE
UNIT = 1_000  # surprise is summed in whole thousandths of a nat: no sum depends on the cut into batches
OFF = "drift alarms are off: they need river, `pip install 'freshet-recommender[drift]'`"
_logger = logging.getLogger(__name__)


Adwin = Callable[[float], bool]
"""Takes the next value, and says whether what it remembers has changed."""


class Alarm(NamedTuple):
    """A sudden fall of quality: where it was noticed, and log loss and HR@10 before and after the change.

    Where lists have fewer places than ten, the hit rate is that of all their places.
    """

    event: int
    timestamp: int  # event time, epoch ms
    since: int  # the event with which the change began, to a block
    before: float  # log loss: mean −ln P(item), nats
    after: float
    hr_before: float
    hr_after: float


class Block(NamedTuple):
    """What is remembered of BLOCK measured events."""

    first: int  # number of the first event
    surprise: int  # sum, 1 / UNIT nats
    hits: int


class DriftMonitor:
    """Alarms when log loss rises suddenly. A sudden fall is no alarm, nor is a rise where no list had a hit before or
    after: there was nothing to lose. Each begins a new window.

    All that it knows are the sums of the blocks since the last change, so a restart rebuilds it from those.
    """

    def __init__(self) -> None:
        self._blocks: list[Block] = []  # full ones
        self._filling, self._events = Block(0, 0, 0), 0  # the next one, and how many events it has so far
        self._adwin: Adwin | None = None

    def add(self, event: np.ndarray, t: np.ndarray, rank: np.ndarray, surprise: np.ndarray) -> list[Alarm]:
        """Takes a batch of any size in order; the alarms do not depend on how the stream is cut into batches.

        Args:
            event: [N] number of the event.
            t: [N] epoch ms.
            rank: [N] as in `tgn.prequential.Outcome`.
            surprise: [N] likewise.
        """
        measured = np.flatnonzero(rank >= 0)
        event, t, rank = event[measured], t[measured], rank[measured]
        units = np.rint(surprise[measured].astype(np.float64) * UNIT).astype(np.int64)
        sums = np.zeros((2, len(measured) + 1), np.int64)
        np.cumsum([units, (rank > 0) & (rank <= AT)], axis=1, out=sums[:, 1:])
        alarms, start = [], 0
        while start < len(measured):
            end = min(start + BLOCK - self._events, len(measured))
            first = self._filling.first if self._events else int(event[start])
            more, hits = (sums[:, end] - sums[:, start]).tolist()
            self._filling = Block(first, self._filling.surprise + more, self._filling.hits + hits)
            self._events += end - start
            start = end
            if self._events == BLOCK:
                change = self._take(self._filling)
                if change and _is_a_fall(*change):
                    alarms.append(_alarm(int(event[end - 1]), int(t[end - 1]), *change))
                self._filling, self._events = Block(0, 0, 0), 0
        return alarms

    def _take(self, block: Block) -> tuple[list[Block], list[Block]] | None:
        """One full block; gives the blocks before and after where ADWIN finds a change."""
        adwin = self._adwin or self._restore()
        self._blocks.append(block)
        if adwin and _finds_change(adwin, block):
            change, self._blocks, self._adwin = _split(self._blocks), [], None
            return change
        if len(self._blocks) >= 2 * MEMORY:
            self._blocks, self._adwin = self._blocks[-MEMORY:], None
        return None

    def _restore(self) -> Adwin | None:
        """The detector as it is after the blocks in memory."""
        self._adwin = new_adwin()
        blocks, self._blocks = self._blocks, []
        for block in blocks:
            self._blocks.append(block)
            if self._adwin and _finds_change(self._adwin, block):
                self._blocks, self._adwin = [], new_adwin()  # seen only now that older blocks are forgotten
        return self._adwin

    def state(self) -> tuple[list[Block], Block, int]:
        """What a checkpoint keeps."""
        return self._blocks, self._filling, self._events

    def restore(self, state: tuple[list[Block], Block, int]) -> None:
        """Takes back what `state` gave."""
        self._blocks, self._filling, self._events = [Block(*b) for b in state[0]], Block(*state[1]), state[2]
        self._adwin = None


def _log_loss(blocks: list[Block]) -> float:
    return sum(block.surprise for block in blocks) / (UNIT * BLOCK * len(blocks))


def _is_a_fall(before: list[Block], after: list[Block]) -> bool:
    return _log_loss(after) > _log_loss(before) and any(block.hits for block in (*before, *after))


def _hit_rate(blocks: list[Block]) -> float:
    return sum(block.hits for block in blocks) / (BLOCK * len(blocks))


def _split(blocks: list[Block]) -> tuple[list[Block], list[Block]]:
    """Where the means of the two sides differ most beyond chance. ADWIN only forgets until its sides agree."""
    n, before, whole = len(blocks), 0, sum(block.surprise for block in blocks)
    furthest, place = -1.0, 1
    for k in range(1, n):
        before += blocks[k - 1].surprise
        distance = (n * before - k * whole) ** 2 / (k * (n - k))
        if distance > furthest:
            furthest, place = distance, k
    return blocks[:place], blocks[place:]


def _alarm(event: int, timestamp: int, before: list[Block], after: list[Block]) -> Alarm:
    return Alarm(
        event=event,
        timestamp=timestamp,
        since=after[0].first,
        before=_log_loss(before),
        after=_log_loss(after),
        hr_before=_hit_rate(before),
        hr_after=_hit_rate(after),
    )


def _finds_change(adwin: Adwin, block: Block) -> bool:
    return adwin(_log_loss([block]) * SCALE)


@cache
def available() -> bool:
    """Whether alarms are on; logs once how to turn them on."""
    if find_spec("river"):
        return True
    _logger.info(OFF)
    return False


def new_adwin() -> Adwin | None:
    """A detector without history; None where river is not installed. One that has found a change is used up."""
    if not available():
        return None
    try:  # the arithmetic alone: `river.drift` imports river's data sets, with SciPy and pandas, for more than a second
        from river._river_rust.drift import AdaptiveWindowing
    except ImportError:  # another version of river, which has it elsewhere
        return documented_adwin()
    return AdaptiveWindowing(**HOW).update


def documented_adwin() -> Adwin:
    """A detector as river documents it."""
    from river.drift import ADWIN

    untyped: Any = ADWIN
    adwin = untyped(**HOW)

    def finds_change(value: float) -> bool:
        adwin.update(value)
        return bool(adwin.drift_detected)

    return finds_change
