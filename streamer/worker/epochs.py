"""What the next epoch is."""

import logging
from collections.abc import Callable, Mapping

from streamer.lists.publisher import most_erasures, most_refusals
from streamer.pipeline.epoch import EpochInput, EpochOutput, epoch_input
from streamer.runtime.clock import Clock
from streamer.settings import Settings
from streamer.state.in_force import Recorded, changes, with_those_read
from streamer.state.pending_repairs import LIST, PIECE
from streamer.state.stream_state import StreamState
from streamer.worker.ageing import Aged, Ageing
from streamer.worker.group import Group
from streamer.worker.reading import InputReader
from streamer.worker.repair_pace import RepairPace
from streamer.worker.rules_topic import RulesTopic
from streamer.worker.shadow import Shadow

LISTS_AT_ONCE, LISTS_REST = 128, 1.0  # of a repair: half of the time, so that 10,000 lists take some five seconds
PREPARE_S = 0.2  # how long what a repair needs is read at a time
_logger = logging.getLogger(__name__)


class Epochs:
    """Makes the inputs of epochs from what has been read.

    Args:
        limits: the largest record of each topic that is written to.
        between: called between two pieces of what is looked for; it may read the state.
    """

    def __init__(
        self,
        settings: Settings,
        state: StreamState,
        reading: InputReader,
        group: Group,
        rules: RulesTopic,
        limits: Mapping[str, int],
        clock: Clock,
        between: Callable[[], None] = lambda: None,
    ) -> None:
        self._state, self._reading, self._group, self._rules = state, reading, group, rules
        self._between = between
        self._clock, self._pace = clock, RepairPace(clock)
        self._lists_pace = RepairPace(clock, LISTS_REST, 0.0)
        self._room = limits[settings.epochs_topic]  # bytes of a manifest
        self._most = min(settings.max_epoch_events, most_refusals(self._room))
        folder = settings.embeddings
        self.ageing = Ageing(state, settings, clock, between) if settings.ageing_share else None
        self._shadow = Shadow(state.engine, folder, settings.shadow_events, clock) if folder else None
        self._settings = settings
        self._unrecorded = state.unrecorded(settings)  # for the manifest of the next epoch
        self._is_due = False  # whether that epoch is due, whatever comes
        self._report_settings()

    def next(self) -> EpochInput | None:
        """What has come and may be taken. Repairs wait for one another while there is other work."""
        arrivals = self._reading.arrivals(self._most)
        self._between()
        observed, learned = self._reading.observed(arrivals), self._reading.learned()
        changes = self._reading.changes(most_erasures(self._room, len(self._state.positions)))
        idle = not arrivals and not changes and not observed and not learned
        aged = self._aged() if len(arrivals) < self._most else None
        lists_alone = self._state.repairs.lists_alone()
        pace = self._lists_pace if lists_alone else self._pace
        repair = len(self._state.repairs) > 0 and (idle or pace.due()) and self._prepared()
        rules = self._rules.changed()
        if idle and not repair and aged is None and rules is None and not self._is_due:
            return None
        moves = self._group.moves()
        return epoch_input(
            arrivals,
            changes,
            repair=repair,
            repair_size=LISTS_AT_ONCE * LIST if lists_alone else PIECE,
            now_ms=aged.now_ms if aged else 0,
            aged=aged.users if aged else (),
            released=moves.released,
            regained=moves.regained,
            embeddings=self._shadow.next(arrivals) if self._shadow else None,
            settings=self._settings_to_record(),
            rules=rules,
            shared=self._reading.shared,
            observed=observed,
            keeps=self._reading.keeps(learned),
            learned=learned,
        )

    def change_settings(self, read: Settings) -> None:
        """Takes on what it can of settings that were read again, from the next epoch on; says what needs a restart."""
        self._settings, others = with_those_read(self._settings, read)
        self._unrecorded = self._state.unrecorded(self._settings)
        self._is_due = self._unrecorded is not None
        if self._is_due:
            self._report_settings()
        if others:
            _logger.warning("these settings count after a restart: %s", ", ".join(others))

    def next_taken_over(self) -> EpochInput | None:
        """A piece of what others took of a partition that has come here."""
        arrivals = self._group.takeover.next()
        if not arrivals:
            return None
        moves = self._group.moves()
        return epoch_input(
            arrivals,
            adopted=True,
            released=moves.released,
            regained=moves.regained,
            settings=self._settings_to_record(),
            keeps=self._reading.keeps(),
        )

    def took(self, output: EpochOutput, seconds: float) -> None:
        """Says what an epoch gave and how long it took: after a repair the next one waits."""
        if output.repaired:
            self._pace.took(seconds)
            self._lists_pace.took(seconds)
        if self.ageing:
            self.ageing.note_lists(output.listed)

    def _aged(self) -> Aged | None:
        """What is due because time has passed; and some time is spent on finding out when what is.

        Nothing ages while an epoch is full, for lists will soon be made of what waits; nor where the worker is to end
        with the log: how long that takes would decide what it publishes. Nor before the group has said whose users are
        this worker's.
        """
        if self.ageing is None or self._reading.ends_with_log or not self._group.is_assigned():
            return None
        self.ageing.look_ahead()
        return self.ageing.next()

    def _settings_to_record(self) -> Recorded | None:
        """The settings, where the manifests do not say yet that they are in force."""
        settings, self._unrecorded = self._unrecorded, None
        self._is_due = False
        return settings

    def _report_settings(self) -> None:
        before = self._state.in_force
        if before is not None and self._unrecorded is not None:
            what = changes(before, self._unrecorded)
            _logger.info("settings have changed, from epoch %d on: %s", self._state.epoch + 1, what)

    def _prepared(self) -> bool:
        """Whether what the next piece of a repair reads is there; else a part of it is read now."""
        started = self._clock.monotonic()

        def stop() -> bool:
            self._between()
            return self._clock.monotonic() > started + PREPARE_S

        ready = self._state.repairs.prepare(PIECE, stop)
        if not ready:
            self._pace.took(self._clock.monotonic() - started)
        return ready
