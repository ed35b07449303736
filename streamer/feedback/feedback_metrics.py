"""What `freshet run feedback` counts, for Prometheus. No label holds an id of a user, an item or a record."""

from collections.abc import Iterator
from typing import Literal

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from consumers.dead_letter import Reason
from consumers.feedback.join import OF_OLD_LISTS
from consumers.feedback.join_state import JoinState
from streamer.monitoring.business_metric import business_metric
from streamer.runtime.clock import SYSTEM_CLOCK, Clock

Stage = Literal["starting", "catching up", "ready", "waiting for the log"]
SILENT_S = 4.0  # results without a word from the log for longer are not ready
_COUNTERS = {
    "taken": ("freshet_feedback", "Feedback records counted."),
    "repeated": ("freshet_feedback_repeated", "Feedback records that had been counted before."),
    "other events": ("freshet_feedback_other", "Feedback records of events that the settings do not name."),
    OF_OLD_LISTS: ("freshet_feedback_of_old_lists", "Feedback records that quote a list older than the window."),
    "lists": ("freshet_feedback_lists", "Lists that feedback can quote, taken."),
}


class FeedbackMetrics:
    """One process, through all the openings of its state."""

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self._state: JoinState | None = None
        self._stage: Stage = "starting"
        self._clock, self._heard_s = clock, 0.0
        self.registry = CollectorRegistry()
        self.registry.register(self)

    def watch(self, state: JoinState) -> None:
        """The state is open, and takes what is in the log."""
        self._state, self._stage = state, "catching up"

    def ready(self) -> None:
        """The log answers, and everything has been taken that was in it at the start."""
        self._stage, self._heard_s = "ready", self._clock.monotonic()

    def waiting(self) -> None:
        """The log has gone away; it is tried again."""
        self._stage = "waiting for the log"

    def is_ready(self) -> bool:
        """Whether results are those of the whole log."""
        return self.stage_line() == "ready"

    def stage_line(self) -> str:
        """The stage in a line."""
        silent_s = self._clock.monotonic() - self._heard_s
        if self._stage == "ready" and silent_s > SILENT_S:
            return f"no word from the log for {silent_s:.0f} s"
        return self._stage

    def achieved(self) -> int:
        """How many records have been taken: what a supervisor asks."""
        return 0 if self._state is None else sum(n for what, n in self._state.counters.items() if what != "waiting")

    def collect(self) -> Iterator[Metric]:
        """For Prometheus."""
        counters = {} if self._state is None else dict(self._state.counters)
        for what, (name, help_) in _COUNTERS.items():
            yield CounterMetricFamily(name, help_, value=counters.get(what, 0))
        dead = CounterMetricFamily(
            "freshet_feedback_dead_letters", "Feedback records that could not be taken.", labels=["reason"]
        )
        for reason in Reason:
            dead.add_metric([reason], counters.get(f"dead/{reason}", 0))
        yield dead
        if self._state is None:
            return
        waiting = counters.get("waiting", 0)
        yield GaugeMetricFamily("freshet_feedback_waiting", "Feedback records whose list has not come yet.", waiting)
        yield GaugeMetricFamily(
            "freshet_feedback_watermark_seconds",
            "Event time that feedback has come to, s since 1970.",
            value=max(self._state.watermark_ms(), 0) / 1000,
        )
        totals = self._state.totals
        yield business_metric(one for arm in list(totals.cells) for one in totals.records(arm, 0, 0))
