"""Brings a state to the last committed epoch: the checkpoint, then the epochs after it, taken again."""

import logging
from collections.abc import Callable, Mapping
from typing import NamedTuple

from consumers.counted import counted
from consumers.errors import CheckpointDamaged
from consumers.log import Committer, Log
from consumers.records import TopicPartition
from consumers.schemas import EpochManifest
from streamer.lists.list_files import TestLists
from streamer.pipeline.pipeline import Pipeline
from streamer.runtime.clock import Clock
from streamer.runtime.progress import progress
from streamer.settings import Settings
from streamer.state.stream_state import StreamState
from streamer.worker.commit import Commits
from streamer.worker.damaged_checkpoint import begin_anew
from streamer.worker.log_reach import meet_log
from streamer.worker.node_topics import restore_catalogue
from streamer.worker.prometheus import RunMetrics
from streamer.worker.rebuild import rebuild_into
from streamer.worker.recovery import assume_first, inputs_again, manifests

_logger = logging.getLogger(__name__)


class Recovered(NamedTuple):
    """A state, and what goes on with it."""

    state: StreamState
    pipeline: Pipeline
    commits: Commits
    moved: frozenset[TopicPartition]  # whose position is another than the checkpoint's, of our own will
    complete: bool  # False: it was asked to stop before the last committed epoch


class Opening:
    """Recovers the state of a seat, whose committer is open.

    Args:
        limits: the largest record of each topic that is written to.
        test_lists: where the lists made before each event go.
        stop: asked between two epochs.
    """

    def __init__(
        self,
        log: Log,
        settings: Settings,
        committer: Committer,
        limits: Mapping[str, int],
        metrics: RunMetrics,
        test_lists: TestLists,
        stop: Callable[[], bool],
        clock: Clock,
    ) -> None:
        self._log, self._settings, self._committer, self._limits = log, settings, committer, limits
        self._metrics, self._test_lists, self._stop, self._clock = metrics, test_lists, stop, clock

    def recover(self) -> Recovered:
        """The state of the last committed epoch; a damaged checkpoint is set aside, the log makes it anew."""
        try:
            return self._take_missed_again()
        except CheckpointDamaged as error:
            damage = str(error)
        begin_anew(self._log, self._settings, self._committer, damage)
        return self._take_missed_again()

    def _take_missed_again(self) -> Recovered:
        """Takes the epochs after the checkpoint again; where a rebuild is among them, all of them, as it did."""
        state, loaded = self._load()
        met = meet_log(self._log, self._settings, state)
        missed = self._manifests_after(state)
        if loaded and any(manifest.rebuilt for manifest in missed):
            self._committer.discard_state()
            state, loaded = self._load()
            met = meet_log(self._log, self._settings, state)
            missed = self._manifests_after(state)
        restore_catalogue(self._log, self._settings, state)
        settings, committer = self._settings, self._committer
        pipeline = Pipeline(settings, state, worker=committer.seat, limits=self._limits)
        pipeline.test_sources = self._test_lists.is_open()
        commits = Commits(self._log, settings, state, committer, self._metrics, self._test_lists, self._clock)
        if met.anew:
            _pass_over(state, missed)
            commits.checkpoint()  # so that a restart goes on there too
            missed = []
        if loaded or missed:
            _logger.info("state of epoch %d, %d committed epochs to take again", state.epoch, len(missed))
        last_epoch = missed[-1].epoch if missed else state.epoch
        self._take_again(state, pipeline, commits, missed)
        self._test_lists.reached(state.epoch)
        return Recovered(
            state=state, pipeline=pipeline, commits=commits, moved=met.moved, complete=state.epoch == last_epoch
        )

    def _take_again(
        self, state: StreamState, pipeline: Pipeline, commits: Commits, missed: list[EpochManifest]
    ) -> None:
        events = sum(manifest.events for manifest in missed)
        with progress("recovery", events, logger=_logger) as advance:
            advance = self._metrics.recovering(events, advance)
            assume_first(state, missed)
            rebuilt = max((n for n, manifest in enumerate(missed) if manifest.rebuilt), default=-1)
            if rebuilt >= 0:
                before, missed = missed[:rebuilt], missed[rebuilt + 1 :]
                rebuild_into(self._log, self._settings, state, before, self._committer.seat, advance, self._stop)
            for epoch in inputs_again(self._log, state, missed, self._stop):
                commits.write_test_lists(pipeline.take(epoch))
                advance(len(epoch.arrivals))

    def _load(self) -> tuple[StreamState, bool]:
        """The state in the checkpoint, and whether there is one.

        The key of erased users is that of the seat, or becomes it.
        """
        state = StreamState(self._settings, self._committer.load_state)
        loaded = state.load()
        state.erasure_key = self._committer.secret(state.erasure_key if state.has_key else b"")
        return state, loaded

    def _manifests_after(self, state: StreamState) -> list[EpochManifest]:
        return manifests(self._log, self._settings, state, self._committer.seat)


def _pass_over(state: StreamState, missed: list[EpochManifest]) -> None:
    """Passes over epochs whose records are gone."""
    if not missed:
        return
    state.epoch = missed[-1].epoch
    events = sum(manifest.events for manifest in missed)
    _logger.warning(
        "%s with %s cannot be taken again: their records were in the former topic; their "
        "lists stay",
        counted(len(missed), "committed epoch"), counted(events, "interaction"),
    )  # fmt: skip
