"""How many interactions a step of what was learned has at least, by the time since the last one."""

from streamer.pipeline.learning import LATE_STEP_EVENTS, step_events
from streamer.runtime.clock import Clock
from streamer.state.shared_learning import SharedLearning

STEP_AT_LEAST_S = 1.0


class StepPace:
    """After a time without a step few interactions are enough: where they come slowly, a step more costs next to
    nothing, and others learn sooner. What it says stands in the manifest of the epoch.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock, self._stepped_at = clock, clock.monotonic()
        self._kept = 0  # interactions that were in no step yet, when it was asked last

    def least(self, learning: SharedLearning) -> int:
        """From how many interactions on the next epoch makes a step. Asked before each."""
        now, kept = self._clock.monotonic(), self._kept
        self._kept = learning.events
        if self._kept < kept:
            self._stepped_at = now
        is_late = now >= self._stepped_at + STEP_AT_LEAST_S
        return LATE_STEP_EVENTS if is_late else step_events(learning.total)
