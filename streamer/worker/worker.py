"""The worker: reads the log, takes epochs, publishes. What it does between two commits is in `Pipeline`."""

import logging
import time
from collections.abc import Callable, Mapping, Set
from contextlib import closing

import numpy as np

from consumers.crash_points import happened
from consumers.errors import CheckpointDamaged, LogUnavailable, PositionGone, UnknownTopic
from consumers.log import Log, Positions, Reader
from consumers.records import ROW_HEADER, NewRecord, Record, TopicPartition
from consumers.schemas import EpochManifest
from streamer.errors import StateUnreadable
from streamer.lists.list_files import TestLists, list_column
from streamer.lists.publisher import most_erasures, most_refusals
from streamer.pipeline.arrivals import Arrival
from streamer.pipeline.epoch import EpochInput, EpochOutput, Erasure
from streamer.pipeline.ingest import Change, Intake
from streamer.pipeline.pipeline import Pipeline
from streamer.runtime.progress import progress
from streamer.runtime.telemetry import listed
from streamer.runtime.topic_reader import widened
from streamer.runtime.topics import input_topics, output_limits, whole
from streamer.settings import Settings
from streamer.state.in_force import changes
from streamer.state.pending_repairs import PIECE
from streamer.state.stream_state import StreamState
from streamer.worker import log_reach as reach
from streamer.worker.checkpoint_stamp import written_now
from streamer.worker.partition_merge import Aligner
from streamer.worker.prometheus import RunMetrics
from streamer.worker.rebuild import rebuild_into
from streamer.worker.recovery import assume_first, manifests, take_again
from streamer.worker.repair_pace import Pace
from streamer.worker.shadow import Shadow
from streamer.worker.takeover import Adoption

ASK_GROUP_S = 0.5  # how often a worker that has nothing left asks whether the others have
TOPICS_EVERY_S = 5.0  # how often it is asked whether a topic is still the one that it was
PREPARE_S = 0.2  # how long what a repair needs is read at a time
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
        self._limits = output_limits(log, settings)
        log.claim(settings.application, _outputs(settings))
        self._committer = log.committer(settings.application)
        try:
            self._begin()
        except BaseException:
            self._committer.close()
            raise

    def _begin(self) -> None:
        log, settings = self._log, self._settings
        self._open_state()
        self._changes: list[Change] = []
        self._pace = Pace()
        self._gathered = 0.0  # when the last epoch's records were together
        self._checkpointed = self._topics_checked = time.monotonic()
        self._moved: set[TopicPartition] = set()  # whose position is another than the checkpoint's, of our own will
        self._recover()
        self._unrecorded = self.state.unrecorded(settings)  # for the manifest of the next epoch
        self._report_settings()
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
        self._ask_group_at = self._ask_absent_at = 0.0
        self._absent: dict[TopicPartition, int] = {}  # gained, and not in the topic: with the committed position
        self._paused: list[TopicPartition] = []
        self._exit_at_end = False

    def _open_state(self) -> None:
        self.state = StreamState(self._settings, self._committer.load_state)
        self._pipeline = Pipeline(self._settings, self.state, worker=self._committer.seat, limits=self._limits)

    def run(self, exit_at_end: bool = False) -> None:
        """Takes epochs until it is to stop, or until everything in the log is taken; then writes the checkpoint.

        Raises CheckpointDamaged where a page that is read only now is damaged or missing: the checkpoint has been set
        aside then, and the next worker rebuilds the state.
        """
        try:
            self._run(exit_at_end)
            return
        except CheckpointDamaged as error:
            damage = str(error)
        self._set_aside(damage)  # not before the error is gone: its frames hold the damaged files open
        raise CheckpointDamaged(damage)

    def _run(self, exit_at_end: bool) -> None:
        self._exit_at_end = exit_at_end
        if self._recovered:
            self.state.warm_up()
            self._metrics.ready(self._log, self.state, self._taken)
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
        if time.monotonic() - self._topics_checked > TOPICS_EVERY_S:
            self._check_topics()
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
            idle_s = 0.0 if len(self._adoption) or len(self.state.amendments) or self._is_leaving() else 0.2
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
        room = self._limits[self._settings.epochs_topic]
        events = min(self._settings.max_epoch_events, most_refusals(room))
        arrivals = self._aligner.release(self._member.at_end(), events)
        erasures = most_erasures(room, len(self.state.positions))
        changes, self._changes = _up_to(erasures, self._changes)
        idle = not arrivals and not changes
        repair = len(self.state.amendments) > 0 and (idle or self._pace.due()) and self._prepared()
        if idle and not repair:
            return None
        epoch = self._intake.epoch(arrivals, changes, repair)
        epoch.embeddings = self._shadow.next(arrivals) if self._shadow else None
        return self._with_moves(epoch)

    def _taken(self) -> dict[TopicPartition, int]:
        """The offset up to which each partition of this worker is taken, markers of transactions counted."""
        read = {} if len(self._aligner) else self._member.positions()
        positions = self.state.positions
        return {tp: max(read.get(tp, 0), positions.get(tp, 0)) for tp in self._aligner.partitions()}

    def _prepared(self) -> bool:
        """Whether what the next piece of a repair reads is there; else a part of it is read now."""
        started = time.monotonic()
        ready = self.state.amendments.prepare(PIECE, lambda: time.monotonic() > started + PREPARE_S)
        if not ready:
            self._pace.took(time.monotonic() - started)
        return ready

    def _is_leaving(self) -> bool:
        """Whether nothing more is waited for: everything that is this worker's has been read, and it is to end then."""
        mine = self._aligner.partitions()
        return self._exit_at_end and bool(mine) and self._member.at_end() >= mine

    def _caught_up(self) -> bool:
        """Whether everything in the log is taken, by whomever: what is nobody's for a moment may come here yet."""
        mine = self._aligner.partitions()
        ends = self._member.at_end() >= mine and self._catalogue.at_end() >= self._catalogue_positions.keys()
        waiting = len(self._aligner) or len(self._adoption) or len(self.state.amendments)
        return not waiting and ends and self._others_caught_up(mine)

    def _others_caught_up(self, mine: Set[TopicPartition]) -> bool:
        """Whether the group has taken everything of the partitions that are not here; asked now and then."""
        others = {tp for tp in self.state.positions if tp.topic == self._topic and tp not in mine}
        if not others or time.monotonic() < self._ask_group_at:
            return not others
        try:
            starts, committed = self._log.starts(self._topic), self._committer.positions()
            at = {tp: max(committed.get(tp, 0), starts[tp.partition]) for tp in others}
            with closing(self._log.reader(at)) as left:
                return _is_at_end(left, others)
        except LogUnavailable as error:  # also where a worker that died left its last commit undecided
            _logger.debug("it is asked later what the group has taken: %s", error)
            return False
        finally:
            self._ask_group_at = time.monotonic() + ASK_GROUP_S

    # the group

    def _existing(self, gained: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """Those that the topic has, now or since they were gained.

        A group that knows a topic from before it was made anew with fewer partitions gives out the former ones too.
        """
        if not gained and (not self._absent or time.monotonic() < self._ask_absent_at):
            return {}
        self._absent |= gained
        known = self._log.starts(self._topic)
        there = {tp: committed for tp, committed in self._absent.items() if tp.partition in known}
        self._absent = {tp: committed for tp, committed in self._absent.items() if tp not in there}
        self._ask_absent_at = time.monotonic() + TOPICS_EVERY_S
        return there

    def _follow_group(self) -> None:
        """Lets go of partitions that went to another worker, and takes over those that came."""
        gained, lost = self._member.changes()
        if gained:
            self._check_topics()
        for tp in lost:
            self._absent.pop(tp, None)
            self._aligner.drop(tp)
            self._adoption.drop(tp)
            self._released.add(tp.partition)
            self._regained.discard(tp.partition)
        for tp, committed in sorted(self._existing(gained).items()):
            self._released.discard(tp.partition)
            if self.state.listed.is_away(tp.partition):
                self._regained.add(tp.partition)
            position = self.state.positions.setdefault(tp, 0)
            if 0 <= committed < position and tp not in self._moved:
                _logger.warning(
                    "the group's offset of %s[%d] was set back to %d; the state goes on at %d, for what lies between "
                    "is in it and its lists are published; `freshet checkpoint rebuild` takes the whole log again",
                    *tp, committed, position,
                )  # fmt: skip
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
        """The epoch, told which partitions have moved and which settings have changed since the one before."""
        epoch.settings, self._unrecorded = self._unrecorded, None
        epoch.released, self._released = sorted(self._released), set()
        epoch.regained, self._regained = sorted(self._regained), set()
        return epoch

    def _recover(self) -> None:
        """Brings the state to the last committed epoch; a damaged checkpoint is set aside, the log makes it anew."""
        try:
            self._take_missed_again(self._load())
            return
        except CheckpointDamaged as error:
            damage = str(error)
        self._set_aside(damage)  # not before the error is gone: its frames hold the damaged files open
        self._open_state()
        self._take_missed_again(self._load())

    def _take_missed_again(self, loaded: bool) -> None:
        """Takes the epochs after the checkpoint again; where a rebuild is among them, all of them, as it did."""
        anew = self._meet_log()
        missed = manifests(self._log, self._settings, self.state, self._committer.seat)
        if loaded and any(manifest.rebuilt for manifest in missed):
            self._committer.discard_state()
            self._open_state()
            loaded = self._load()
            anew = self._meet_log()
            missed = manifests(self._log, self._settings, self.state, self._committer.seat)
        if anew:
            self._begin_anew(missed)
            missed = []
        state = self.state
        if loaded or missed:
            _logger.info("state of epoch %d, %d committed epochs to take again", state.epoch, len(missed))
        events = sum(manifest.events for manifest in missed)
        last_epoch = missed[-1].epoch if missed else state.epoch
        with progress("recovery", events, logger=_logger) as advance:
            advance = self._metrics.recovering(events, advance)
            assume_first(state, missed)
            rebuilt = max((n for n, manifest in enumerate(missed) if manifest.rebuilt), default=-1)
            if rebuilt >= 0:
                before, missed = missed[:rebuilt], missed[rebuilt + 1 :]
                rebuild_into(self._log, self._settings, state, before, self._committer.seat, advance, self._stop)
            take_again(self._log, self._settings, state, self._take_again, missed, advance, self._stop)
        self._test_lists.reached(state.epoch)
        self._recovered = state.epoch == last_epoch  # else it was asked to stop

    def _take_again(self, epoch: EpochInput) -> None:
        self._write_test_lists(self._pipeline.take(epoch))

    def _load(self) -> bool:
        """Loads the checkpoint, if there is one. The key of erased users is that of the seat, or becomes it."""
        loaded = self.state.load()
        self.state.erasure_key = self._committer.secret(self.state.erasure_key if self.state.has_key else b"")
        return loaded

    def _set_aside(self, damage: str) -> None:
        """Begins an empty checkpoint, where the log has all it takes to make it anew. Raises StateUnreadable."""
        short = [
            f"{topic}[{partition}] begins at {start}"
            for topic in (self._topic, self._settings.epochs_topic)
            for partition, start in self._log.starts(topic).items()
            if start
        ]
        if short and self._settings.on_position_gone == "stop":
            raise StateUnreadable(
                f"{damage}, and the log cannot make it anew: {short[0]}; import an exported checkpoint, "
                "or remove the state and the committed offsets to begin anew"
            )
        _logger.warning("%s; it is set aside, and the state is rebuilt from the log", damage)
        self._committer.discard_state()

    def _report_settings(self) -> None:
        before = self.state.in_force
        if before is not None and self._unrecorded is not None:
            what = changes(before, self._unrecorded)
            _logger.info("settings have changed, from epoch %d on: %s", self.state.epoch + 1, what)

    def _meet_log(self) -> bool:
        """Compares the state's positions with the log, beginning at its start where there are none; see the next."""
        topics, has = input_topics(self._settings), reach.bounds(self._log, self._settings)
        starts = {tp: start for tp, start in has.starts.items() if tp.topic in topics}
        self.state.positions = starts | self.state.positions
        return self._check_reach(has)

    def _check_reach(self, has: reach.Bounds) -> bool:
        """Finds positions whose records the log has dropped, or never had. What then is a setting, never silence.

        True where records of committed epochs are none of the topics of today.
        """
        state, settings = self.state, self._settings
        lost = reach.gone(settings, has, reach.of_state(state, settings), state.topic_ids)
        if lost and settings.on_position_gone == "stop":
            found = "; ".join(gone.found for gone in lost)
            raise PositionGone(f'{found}; set on_position_gone = "earliest" to go on with what there is')
        before, pending = dict(state.positions), state.made_anew
        state.made_anew = []
        for line in reach.go_on(state, settings, has, lost):
            _logger.warning("%s", line)
        self._moved = {tp for tp, position in state.positions.items() if before.get(tp) != position}
        state.topic_ids = has.ids
        anew = any(topic in input_topics(settings) for topic in state.made_anew)
        state.made_anew = sorted({*pending, *state.made_anew})
        return anew

    def _begin_anew(self, missed: list[EpochManifest]) -> None:
        """Passes over epochs whose records are gone, and notes at once where the state goes on instead."""
        if missed:
            self.state.epoch = missed[-1].epoch
            events = sum(manifest.events for manifest in missed)
            _logger.warning(
                "%d committed epochs with %d interactions cannot be taken again: their records were in the former "
                "topic; their lists stay",
                len(missed), events,
            )  # fmt: skip
        self.checkpoint()

    def _check_topics(self) -> None:
        """Now and then, and when partitions move: whether a topic was made anew while it was read."""
        self._topics_checked = time.monotonic()
        try:
            ids = self._log.topic_ids(self.state.topic_ids)
            self._follow_added()
        except (LogUnavailable, UnknownTopic) as error:  # who reads and commits waits for it, or says so
            _logger.debug("topics were not looked at: %s", error)
            return
        gone = [topic for topic, id_ in self.state.topic_ids.items() if ids.get(topic, id_) != id_]
        if not gone:
            return
        found = f"the topic {gone[0]} was deleted and made anew"
        if self._settings.on_position_gone == "stop":
            raise PositionGone(f'{found}; set on_position_gone = "earliest" to go on with what there is')
        raise LogUnavailable(f"{found}; opening it again")

    def _follow_added(self) -> None:
        """Reads partitions that were added to the topics of items and users, from their first record on."""
        topics = (self._settings.items_topic, self._settings.users_topic)
        there = whole(self._log, *topics)
        added = {tp: start for tp, start in there.items() if tp not in self._catalogue_positions}
        self._catalogue = widened(self._log, self._catalogue, added)
        self._catalogue_positions |= added
        self.state.positions |= added

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


def _up_to(erasures: int, changes: list[Change]) -> tuple[list[Change], list[Change]]:
    """The first changes, with no more than so many erasures, and the others."""
    for n, (_, change) in enumerate(changes):
        erasures -= isinstance(change, Erasure)
        if erasures < 0:
            return changes[:n], changes[n:]
    return changes, []


def _is_at_end(reader: Reader, partitions: Set[TopicPartition]) -> bool:
    """Whether there is nothing to read, not even after a moment."""
    for _ in range(10):
        if reader.read(1, 0.1):
            return False
        if reader.at_end() >= partitions:
            return True
    return False


def _outputs(settings: Settings) -> tuple[str, ...]:
    """The topics that epochs write to."""
    return settings.recommendations_topic, settings.epochs_topic, settings.quality_topic, settings.dead_topic


def _event_number(arrival: Arrival, count: int) -> int:
    """The row number that `produce` sent in a header, else how many records came before."""
    row = next((text for name, text in arrival.record.headers if name == ROW_HEADER), b"")
    return int(row) if row.isdigit() and len(row) < 19 else count
