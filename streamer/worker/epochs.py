"""What the next epoch is."""

import logging
from collections.abc import Mapping

from streamer.lists.publisher import most_erasures, most_refusals
from streamer.pipeline.epoch import EpochInput, EpochOutput, epoch_input
from streamer.runtime.clock import Clock
from streamer.settings import Settings
from streamer.state.in_force import Recorded, changes
from streamer.state.pending_repairs import PIECE
from streamer.state.stream_state import StreamState
from streamer.worker.group import Group
from streamer.worker.reading import Reading
from streamer.worker.repair_pace import RepairPace
from streamer.worker.shadow import Shadow

PREPARE_S = 0.2  # how long what a repair needs is read at a time
_logger = logging.getLogger(__name__)


class Epochs:
    """Makes the inputs of epochs from what has been read.

    Args: limits: the largest record of each topic that is written to.
    """

    def __init__(
        self,
        settings: Settings,
        state: StreamState,
        reading: Reading,
        group: Group,
        limits: Mapping[str, int],
        clock: Clock,
    ) -> None:
        self._state, self._reading, self._group = state, reading, group
        self._clock, self._pace = clock, RepairPace(clock)
        self._room = limits[settings.epochs_topic]  # bytes of a manifest
        self._most = min(settings.max_epoch_events, most_refusals(self._room))
        folder = settings.embeddings
        self._shadow = Shadow(state.engine, folder, settings.shadow_events, clock) if folder else None
        self._unrecorded = state.unrecorded(settings)  # for the manifest of the next epoch
        self._report_settings()

    def next(self) -> EpochInput | None:
        """What has come and may be taken. Repairs wait for one another while there is other work."""
        arrivals = self._reading.arrivals(self._most)
        changes = self._reading.changes(most_erasures(self._room, len(self._state.positions)))
        idle = not arrivals and not changes
        repair = len(self._state.amendments) > 0 and (idle or self._pace.due()) and self._prepared()
        if idle and not repair:
            return None
        moves = self._group.moves()
        return epoch_input(
            arrivals,
            changes,
            repair=repair,
            repair_size=PIECE,
            released=moves.released,
            regained=moves.regained,
            embeddings=self._shadow.next(arrivals) if self._shadow else None,
            settings=self._settings_to_record(),
        )

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
        )

    def took(self, output: EpochOutput, seconds: float) -> None:
        """Says how long an epoch took: after a repair the next one waits."""
        if output.repaired:
            self._pace.took(seconds)

    def _settings_to_record(self) -> Recorded | None:
        """The settings, where the manifests do not say yet that they are in force."""
        settings, self._unrecorded = self._unrecorded, None
        return settings

    def _report_settings(self) -> None:
        before = self._state.in_force
        if before is not None and self._unrecorded is not None:
            what = changes(before, self._unrecorded)
            _logger.info("settings have changed, from epoch %d on: %s", self._state.epoch + 1, what)

    def _prepared(self) -> bool:
        """Whether what the next piece of a repair reads is there; else a part of it is read now."""
        started = self._clock.monotonic()
        ready = self._state.amendments.prepare(PIECE, lambda: self._clock.monotonic() > started + PREPARE_S)
        if not ready:
            self._pace.took(self._clock.monotonic() - started)
        return ready
