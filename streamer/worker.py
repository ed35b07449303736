"""The worker: reads the log, takes epochs, publishes. What it does between two commits is in `Pipeline`."""

import logging
import time
from collections.abc import Callable

import numpy as np

from consumers.effects import happened
from consumers.errors import CheckpointDamaged, PositionGone
from consumers.log import Log, Positions
from consumers.records import NewRecord, Record, TopicPartition
from streamer.adoption import Adoption
from streamer.alignment import Aligner, Arrival
from streamer.amendments import PIECE, Pace
from streamer.checkpoint import written_now
from streamer.intake import Change, Intake
from streamer.lists_out import TestLists, list_column
from streamer.metrics import RunMetrics
from streamer.pipeline import EpochInput, EpochOutput, Pipeline
from streamer.progress import progress
from streamer.recovery import manifests, take_again
from streamer.settings import Settings
from streamer.shadow import Shadow
from streamer.state import StreamState
from streamer.tracing import listed

PREPARE_S = 0.2  # how long what a repair needs is read at a time
JOINING_S = 15.0  # how long a worker waits for its first partition before it takes it that there is none for it
_logger = logging.getLogger(__name__)


class Worker:
    """One engine on one log.

    Opening it: (1) the committer, which fences an older worker of this seat; (2) the checkpoint; (3) the epochs
    committed after it, taken again with their outputs suppressed; (4) a reader from there on.

    Args: test_lists: where the lists made before each event go; stop: asked between two pieces of work; metrics: what
    to tell what is done.
    """

    def __init__(
        self,
        log: Log,
        settings: Settings,
        test_lists: TestLists | None = None,
        stop: Callable[[], bool] = lambda: False,
        metrics: RunMetrics | None = None,
    ) -> None:
        self._metrics = metrics or RunMetrics(settings)
        self._metrics.starting()
        self._log, self._settings, self._stop = log, settings, stop
        self._topic = settings.interactions_topic
        self._test_lists = test_lists or TestLists(None)
        self._intake = Intake(settings)
        self._committer = log.committer(settings.application)
        self._open_state()
        self._changes: list[Change] = []
        self._pace = Pace()
        self._gathered = 0.0  # when the last epoch's records were together
        self._checkpointed = time.monotonic()
        self._recover()
        folder = settings.embeddings
        self._shadow = Shadow(self.state.engine, folder, settings.shadow_events) if folder else None
        self._aligner = Aligner(settings.alignment_ms)
        mine = {tp: position for tp, position in self.state.positions.items() if tp.topic == self._topic}
        self._catalogue_positions = {tp: p for tp, p in self.state.positions.items() if tp.topic != self._topic}
        self._member = log.subscribe(self._committer, mine)
        self._catalogue = log.reader(self._catalogue_positions)
        from_start = settings.on_position_gone == "earliest"
        self._adoption = Adoption(log, self._intake, settings.max_epoch_events, from_start)
        self._released: set[int] = set()  # partitions that went to another worker since the last epoch
        self._regained: set[int] = set()  # partitions that came back from one
        self._joining_until = time.monotonic() + JOINING_S
        self._paused: list[TopicPartition] = []

    def _open_state(self) -> None:
        self.state = StreamState(self._settings, self._committer.load_state)
        self._pipeline = Pipeline(self._settings, self.state, worker=self._committer.seat)

    def run(self, exit_at_end: bool = False) -> None:
        """Takes epochs until it is to stop, or until everything in the log is taken; then writes the checkpoint."""
        if self._recovered:
            self.state.warm_up()
            self._metrics.ready(self._log, self.state, self._aligner.partitions)
        while self._recovered and not self._stop():
            taken = self.step()
            if exit_at_end and not taken and self._caught_up():
                break
        if self._recovered:
            self.checkpoint()

    def step(self) -> EpochOutput | None:
        """One epoch: (1) read for a commit interval, (2) order, (3) take, (4) commit. None when there was nothing.

        A piece of what is to be taken over from other workers follows, as an epoch of its own.
        """
        self._read()
        epoch = self._next_epoch()
        output = self._take(epoch) if epoch else None
        return self._adopt() or output

    def _take(self, epoch: EpochInput) -> EpochOutput:
        started = time.monotonic()
        output = self._pipeline.take(epoch)
        happened("taken")
        took_s = time.monotonic() - started
        if output.repaired:
            self._pace.took(took_s)
        mine = {tp: end for tp, end in epoch.ends.items() if tp.topic == self._topic}
        switched = epoch.embeddings is not None  # what it switched to need not be there later
        self._commit(output.records, mine, bool(output.erased) or switched or self._checkpoint_is_due())
        self._metrics.epoch(epoch, output, took_s)
        if output.outcome is not None:
            listed((output.taken[n].record for n in np.flatnonzero(output.outcome.changed).tolist()), time.time_ns())
        self._write_test_lists(output)
        if output.dead:
            _logger.warning("%d records went to %s", output.dead, self._settings.dead_topic)
        if output.erased:
            self._report_erasure(output)
        return output

    def checkpoint(self) -> None:
        """Writes the state as it is."""
        self._commit([], {}, True)

    def close(self) -> None:
        """Closes what the worker opened; the log stays open."""
        self._adoption.close()
        self._member.close()
        self._catalogue.close()
        self._committer.close()

    # reading

    def _read(self) -> None:
        """Fills the aligner until a commit interval after the last time: what comes after a pause is taken at once.

        A partition that is far ahead of the others is paused, so that what is read is what the others wait for.
        """
        full = self._aligner.full(self._settings.max_epoch_events)
        if full != self._paused:
            self._member.pause(full)
            self._paused = full
        interval_s = self._settings.commit_interval_ms / 1000
        due = self._gathered + interval_s
        while True:
            idle_s = 0.0 if len(self._adoption) or len(self.state.amendments) else 0.2
            wait_s = max(due - time.monotonic(), 0.0) if len(self._aligner) else idle_s
            records = self._member.read(self._settings.max_epoch_events, wait_s)
            self._follow_group()
            self._admit(records)
            self._admit(self._catalogue.read(self._settings.max_epoch_events, 0))
            gathered = not records or time.monotonic() >= due
            if gathered or self._aligner.full(self._settings.max_epoch_events):
                self._gathered = time.monotonic()
                return

    def _admit(self, records: list[Record]) -> None:
        """Decodes records into the aligner's queues, or into the list of changes of items and users."""
        now_ms = int(time.time() * 1000)
        queues: dict[TopicPartition, list[Arrival]] = {}
        for record in records:
            if self._intake.is_interaction(record):
                queues.setdefault(record.topic_partition, []).append(self._intake.arrival(record, now_ms))
            else:
                self._changes.append(self._intake.change(record))
        for tp in queues.keys() & self._aligner.partitions():  # not of one that was lost just now
            self._aligner.add(tp, queues[tp])

    def _next_epoch(self) -> EpochInput | None:
        """What has come and may be taken. Repairs wait for one another while there is other work."""
        arrivals = self._aligner.release(self._member.at_end(), self._settings.max_epoch_events)
        changes, self._changes = self._changes, []
        idle = not arrivals and not changes
        repair = len(self.state.amendments) > 0 and (idle or self._pace.due()) and self._prepared()
        if idle and not repair:
            return None
        epoch = self._intake.epoch(arrivals, changes, repair)
        epoch.embeddings = self._shadow.next(arrivals) if self._shadow else None
        return self._with_moves(epoch)

    def _prepared(self) -> bool:
        """Whether what the next piece of a repair reads is there; else a part of it is read now."""
        started = time.monotonic()
        ready = self.state.amendments.prepare(PIECE, lambda: time.monotonic() > started + PREPARE_S)
        if not ready:
            self._pace.took(time.monotonic() - started)
        return ready

    def _caught_up(self) -> bool:
        mine = self._aligner.partitions()
        joined = bool(mine) or time.monotonic() > self._joining_until
        ends = self._member.at_end() >= mine and self._catalogue.at_end() >= self._catalogue_positions.keys()
        waiting = len(self._aligner) or len(self._adoption) or len(self.state.amendments)
        return joined and not waiting and ends

    # the group

    def _follow_group(self) -> None:
        """Lets go of partitions that went to another worker, and takes over those that came."""
        gained, lost = self._member.changes()
        for tp in lost:
            self._aligner.drop(tp)
            self._adoption.drop(tp)
            self._released.add(tp.partition)
            self._regained.discard(tp.partition)
        for tp, committed in sorted(gained.items()):
            self._released.discard(tp.partition)
            if self.state.listed.is_away(tp.partition):
                self._regained.add(tp.partition)
            position = self.state.positions.setdefault(tp, 0)
            if position < committed:
                self._adoption.begin(tp, position, committed)
            else:
                self._open(tp, position)

    def _open(self, tp: TopicPartition, position: int) -> None:
        """Takes a partition from here on, and publishes for its users."""
        self._aligner.open(tp)
        self._member.begin(tp, position)

    def _adopt(self) -> EpochOutput | None:
        """Takes a piece of what others took and listed; it moves no position of the group."""
        epoch, output = self._adoption.next(), None
        if epoch is not None:
            output = self._pipeline.take(self._with_moves(epoch))
            self._commit(output.records, {}, self._checkpoint_is_due())
        for tp, committed in self._adoption.finished().items():
            self._open(tp, committed)
        return output

    def _with_moves(self, epoch: EpochInput) -> EpochInput:
        """The epoch, told which partitions have moved since the one before."""
        epoch.released, self._released = sorted(self._released), set()
        epoch.regained, self._regained = sorted(self._regained), set()
        return epoch

    def _recover(self) -> None:
        """Brings the state to the last committed epoch."""
        loaded = self._load()
        state = self.state
        topics = (self._topic, self._settings.items_topic, self._settings.users_topic)
        starts = {TopicPartition(t, p): offset for t in topics for p, offset in self._log.starts(t).items()}
        state.positions = starts | state.positions
        self._check_reach(starts)
        missed = manifests(self._log, self._settings, state, self._committer.seat)
        if loaded or missed:
            _logger.info("state of epoch %d, %d committed epochs to take again", state.epoch, len(missed))
        events = sum(manifest.events for manifest in missed)
        with progress("recovery", events, logger=_logger) as advance:
            advance = self._metrics.recovering(events, advance)
            take_again(self._log, self._settings, state, self._take_again, missed, advance, self._stop)
        self._test_lists.reached(state.epoch)
        self._recovered = not missed or state.epoch == missed[-1].epoch  # else it was asked to stop

    def _take_again(self, epoch: EpochInput) -> None:
        self._write_test_lists(self._pipeline.take(epoch))

    def _load(self) -> bool:
        """Loads the checkpoint; a damaged one is set aside, and the log has all it takes to make it anew."""
        try:
            return self.state.load()
        except CheckpointDamaged as error:
            _logger.warning("%s; it is set aside, and the state is rebuilt from the log", error)
        self._committer.discard_state()  # not before the error is gone: its frames hold the damaged files open
        self._open_state()
        return False

    def _check_reach(self, starts: dict[TopicPartition, int]) -> None:
        """Finds positions whose records the log has dropped, or never had. What then is a setting, never silence."""
        ends = self._log.ends(self._topic)
        for tp in [tp for tp in starts if tp.topic == self._topic]:
            position, start, end = self.state.positions[tp], starts[tp], ends[tp.partition]
            if start <= position <= end:
                continue
            gone = f"{tp.topic}[{tp.partition}] holds offsets {start} to {end}, the state goes on at {position}"
            if self._settings.on_position_gone == "stop":
                raise PositionGone(f'{gone}; set on_position_gone = "earliest" to go on with what there is')
            _logger.warning("%s: going on at %d, %d records are lost", gone, start, max(start - position, 0))
            self.state.positions[tp] = start

    # output

    def _commit(self, records: list[NewRecord], positions: Positions, checkpoint: bool) -> None:
        started = time.monotonic()
        delta = self._delta() if checkpoint else None
        self._committer.commit(records, positions, delta)
        self._metrics.committed(time.monotonic() - started, delta)

    def _checkpoint_is_due(self) -> bool:
        return time.monotonic() - self._checkpointed > self._settings.checkpoint_interval_ms / 1000

    def _delta(self) -> dict[bytes, bytes | None]:
        self._checkpointed = time.monotonic()
        self.state.manifest_position = self._log.ends(self._settings.epochs_topic)[0]
        return self.state.delta() | written_now()

    def _report_erasure(self, output: EpochOutput) -> None:
        """Says what was erased and what is left to the topics' retention; off the disk it goes now."""
        self._committer.purge_state()
        settings = self._settings
        kept = (settings.interactions_topic, settings.feedback_topic, settings.dead_topic, settings.epochs_topic)
        _logger.info(
            "erased %d users: %d interactions taken back, lists withdrawn; %s keep their records until retention ends",
            output.erased, output.taken_back, ", ".join(kept),
        )  # fmt: skip

    def _write_test_lists(self, output: EpochOutput) -> None:
        if not self._test_lists.wants(self.state.epoch):
            return
        if output.outcome:
            events = [_event_number(a, n) for n, a in enumerate(output.taken, self.state.records - len(output.taken))]
            ids = self.state.engine.model.items.ids
            self._test_lists.write(np.array(events), list_column(output.outcome.test, np.arange(len(events)), ids))
        self._test_lists.reached(self.state.epoch)


def _event_number(arrival: Arrival, count: int) -> int:
    """The row number that `produce` sent as the event id, else how many records came before."""
    event_id = arrival.payload.event_id
    return int(event_id) if event_id and event_id.isascii() and event_id.isdigit() else count
