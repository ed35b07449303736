"""Guards: an arm that harms a metric is stopped by itself, by the one process that counts feedback."""

import logging
from collections.abc import Callable, Iterable, Iterator

from consumers.log import Log
from consumers.schemas import Business
from streamer.experiments.experiment_records import ArmGuard, ArmStop, ExperimentRecord, experiments, settle, stop_arms
from streamer.experiments.report import ArmDifference, report_of
from streamer.lists.rules import HOLDBACK
from streamer.runtime.clock import SYSTEM_CLOCK, Clock
from streamer.settings import Settings

LOOK_EVERY_S = 5.0
HARMED_BY_MORE = ("return_rate",)
_logger = logging.getLogger(__name__)


class GuardWatch:
    """Looks at what experiments have shown, and stops arms that harm.

    (1) What is to be stopped is written down, under a key of its own; (2) the rules of the surface follow. What is
    written down is not decided again, and (2) is done at every look: a kill between them changes nothing.
    """

    def __init__(self, log: Log, settings: Settings, clock: Clock = SYSTEM_CLOCK) -> None:
        self._log, self._settings, self._clock = log, settings, clock
        self._looked: float | None = None

    def look(self, results: Callable[[], Iterable[Business]]) -> None:
        """Stops what is to be stopped; every few seconds, however often it is called.

        results: the newest of each arm and metric, of all that is in the log.
        """
        now = self._clock.monotonic()
        if self._looked is not None and now < self._looked + LOOK_EVERY_S:
            return
        self._looked = now
        every = experiments(self._log, self._settings)
        guarded = [one for one in every.values() if one.state == "running" and one.guards]
        if guarded:
            told = list(results())
            stops = [stop for record in guarded for stop in to_stop(record, told, self._clock.now_ms())]
            if stops:
                stop_arms(self._log, self._settings, stops)  # (1)
                every = experiments(self._log, self._settings)
            for stop in stops:
                _logger.warning("experiment %s: its guard of %s stops %s", stop.experiment, stop.metric, stop.arm)
        settle(self._log, self._settings, [*every.values()], self._clock.now_ms())  # (2)


def to_stop(record: ExperimentRecord, results: Iterable[Business], now_ms: int) -> Iterator[ArmStop]:
    """The arms that harm what a guard watches, and are not stopped yet; one guard is enough."""
    told = {(one.arm, one.metric): one for one in report_of(record, results).differences}
    for arm in {one.arm: None for one in told.values() if one.arm != HOLDBACK}:
        if record.stop_of(arm) is not None:
            continue
        harms = [one for guard in record.guards for one in [told[arm, guard.metric]] if _harms(one, guard)]
        if harms and harms[0].best is not None:
            one, best = harms[0], harms[0].best
            yield ArmStop(
                experiment=record.name, arm=arm, metric=one.metric, started_ms=record.started_ms or 0, at_ms=now_ms,
                difference=best.difference, low=best.always_low, high=best.always_high,
            )  # fmt: skip


def _harms(one: ArmDifference, guard: ArmGuard) -> bool:
    if one.best is None or one.first is None:
        return False
    borne = guard.by * abs(one.first)
    return one.best.always_low > borne if one.metric in HARMED_BY_MORE else one.best.always_high < -borne
