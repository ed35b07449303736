"""The worker: reads the log, takes epochs, publishes. What it does between two commits is in `Pipeline`."""

import logging
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np

from consumers.dead_letter import DeadLetter, Reason
from consumers.decode import InteractionDecoder, decode_item
from consumers.errors import UnknownTopic
from consumers.log import Log
from consumers.records import Record, TopicPartition
from consumers.schemas import EpochManifest
from streamer.alignment import Aligner, Arrival, in_order
from streamer.amendments import Pace
from streamer.lists_out import TestLists, list_column
from streamer.pipeline import EpochInput, EpochOutput, Erasure, ItemChange, Pipeline
from streamer.settings import Settings
from streamer.state import StreamState

FAR_FUTURE_MS = 1 << 60
_logger = logging.getLogger(__name__)
_manifest = msgspec.json.Decoder(EpochManifest)
_Change = ItemChange | Erasure | DeadLetter | None


class Worker:
    """One engine on one log.

    Opening it: (1) the committer, which fences an older worker of this seat; (2) the checkpoint; (3) the epochs
    committed after it, taken again with their outputs suppressed; (4) a reader from there on.
    """

    def __init__(self, log: Log, settings: Settings, lists_out: Path | None = None) -> None:
        self._log, self._settings = log, settings
        self._topic = settings.interactions_topic
        self._decoder = InteractionDecoder(settings.field_map, settings.clock_skew_ms, settings.max_record_bytes)
        self._committer = log.committer(settings.application)
        self.state = StreamState(settings, self._committer.load_state)
        self._pipeline = Pipeline(settings, self.state)
        self._last_t: dict[TopicPartition, int] = {}
        self._changes: list[tuple[Record, _Change]] = []
        self._pace = Pace()
        self._checkpointed = time.monotonic()
        self._recover()
        self._aligner = Aligner([tp for tp in self.state.positions if tp.topic == self._topic], settings.alignment_ms)
        self._reader = log.reader(self.state.positions)
        self._paused: list[TopicPartition] = []
        self._test_lists = TestLists(lists_out)

    def run(self, stop: Callable[[], bool], exit_at_end: bool = False) -> None:
        """Takes epochs until `stop`, or until everything in the log is taken; then writes the checkpoint."""
        while not stop():
            taken = self.step()
            if exit_at_end and not taken and self._caught_up():
                break
        self.checkpoint()

    def step(self) -> EpochOutput | None:
        """One epoch: (1) read for a commit interval, (2) order, (3) take, (4) commit. None when there was nothing."""
        self._read()
        epoch = self._next_epoch()
        if epoch is None:
            return None
        started = time.monotonic()
        output = self._pipeline.take(epoch)
        if output.repaired:
            self._pace.took(time.monotonic() - started)
        due = (
            bool(output.erased) or time.monotonic() - self._checkpointed > self._settings.checkpoint_interval_ms / 1000
        )
        self._committer.commit(output.records, self.state.positions, self._delta() if due else None)
        self._write_test_lists(output)
        if output.dead:
            _logger.warning("%d records went to %s", output.dead, self._settings.dead_topic)
        if output.erased:
            self._report_erasure(output)
        return output

    def checkpoint(self) -> None:
        """Writes the state as it is."""
        self._committer.commit([], self.state.positions, self._delta())

    def close(self) -> None:
        """Closes what the worker opened; the log stays open."""
        self._test_lists.close()
        self._reader.close()
        self._committer.close()

    # reading

    def _read(self) -> None:
        """Fills the aligner for at most a commit interval, counted from the first record.

        A partition that is far ahead of the others is paused, so that what is read is what the others wait for.
        """
        full = self._aligner.full(self._settings.max_epoch_events)
        if full != self._paused:
            self._reader.pause(full)
            self._paused = full
        interval_s = self._settings.commit_interval_ms / 1000
        deadline = None if not len(self._aligner) else time.monotonic() + interval_s
        while True:
            wait_s = 0.2 if deadline is None else deadline - time.monotonic()
            if wait_s <= 0:
                return
            records = self._reader.read(self._settings.max_epoch_events, wait_s)
            self._admit(records)
            if not records or self._aligner.full(self._settings.max_epoch_events):
                return
            deadline = deadline or time.monotonic() + interval_s

    def _admit(self, records: list[Record]) -> None:
        """Decodes records into the aligner's queues, or into the list of catalogue changes."""
        now_ms = int(time.time() * 1000)
        queues: dict[TopicPartition, list[Arrival]] = {}
        for record in records:
            if record.topic == self._topic:
                queues.setdefault(record.topic_partition, []).append(self._arrival(record, now_ms))
            else:
                self._changes.append((record, self._change(record)))
        for tp, arrivals in queues.items():
            self._aligner.add(tp, arrivals)

    def _arrival(self, record: Record, now_ms: int) -> Arrival:
        """A decoded interaction; a bad one waits at the event time of the one before it."""
        tp = record.topic_partition
        payload = self._decoder.decode(record, now_ms)
        if not isinstance(payload, DeadLetter):
            self._last_t[tp] = payload.timestamp
        return Arrival(self._last_t.get(tp, 0), tp.partition, record.offset, payload, record)

    def _change(self, record: Record) -> _Change:
        """The change that a record of the items or users topic makes; None where it makes none."""
        if record.key is None:
            return DeadLetter(record, Reason.BAD_ID, "there is no key")
        if record.topic == self._settings.users_topic:
            user_id = record.key.decode("utf-8", "replace")
            return Erasure(user_id, record.timestamp_ms) if record.value is None else None
        if record.value is None:
            return ItemChange(record.key.decode("utf-8", "replace"), None)
        item = decode_item(record.value)
        return ItemChange(item.item_id, item) if item else DeadLetter(record, Reason.BAD_TYPE, "this is no item")

    def _next_epoch(self) -> EpochInput | None:
        """What has come and may be taken. Repairs wait for one another while there is other work."""
        arrivals = self._aligner.release(self._reader.at_end(), self._settings.max_epoch_events)
        changes, self._changes = self._changes, []
        idle = not arrivals and not changes
        repair = len(self.state.amendments) > 0 and (idle or self._pace.due())
        return self._epoch_of(arrivals, changes, repair) if repair or not idle else None

    def _epoch_of(self, arrivals: list[Arrival], changes: list[tuple[Record, _Change]], repair: bool) -> EpochInput:
        epoch = EpochInput(arrivals, repair=repair)
        for arrival in arrivals:
            epoch.ends[TopicPartition(self._topic, arrival.partition)] = arrival.offset + 1
        for record, change in changes:
            epoch.ends[record.topic_partition] = record.offset + 1
            if isinstance(change, DeadLetter):
                epoch.dead.append(change)
            elif change:
                epoch.changes.append(change)
        return epoch

    def _caught_up(self) -> bool:
        return not len(self._aligner) and self._reader.at_end() >= self.state.positions.keys()

    # recovery

    def _recover(self) -> None:
        loaded = self.state.load()
        topics = (self._topic, self._settings.items_topic, self._settings.users_topic)
        starts = {TopicPartition(t, p): offset for t in topics for p, offset in self._log.starts(t).items()}
        self.state.positions = starts | self.state.positions
        missed = self._manifests()
        if loaded or missed:
            _logger.info("state of epoch %d, %d committed epochs to take again", self.state.epoch, len(missed))
        for manifest in missed:
            self._take_again(manifest)

    def _manifests(self) -> list[EpochManifest]:
        """The committed epochs after the checkpoint, oldest first."""
        tp = TopicPartition(self._settings.epochs_topic, 0)
        if 0 not in self._log.ends(tp.topic):
            raise UnknownTopic(f"there is no topic {tp.topic}; create it with `freshet topics create`")
        reader = self._log.reader({tp: max(self.state.manifest_position, self._log.starts(tp.topic)[0])})
        found: list[EpochManifest] = []
        while records := reader.read(1000, 0.2) or tp not in reader.at_end():
            for record in records if isinstance(records, list) else ():
                manifest = _manifest.decode(record.value or b"")
                if manifest.epoch > self.state.epoch:
                    found.append(manifest)
        reader.close()
        return found

    def _take_again(self, manifest: EpochManifest) -> None:
        """Takes the very records of a committed epoch; its outputs are in the log already."""
        ends = {
            TopicPartition(topic, int(p)): end for topic, parts in manifest.ends.items() for p, end in parts.items()
        }
        reader = self._log.reader({tp: self.state.positions[tp] for tp in ends})
        arrivals: list[Arrival] = []
        changes: list[tuple[Record, _Change]] = []
        positions = {tp: self.state.positions[tp] for tp in ends}
        while any(positions[tp] < end for tp, end in ends.items()):
            for record in reader.read(10_000, 1.0):
                tp = record.topic_partition
                positions[tp] = record.offset + 1
                if record.offset >= ends[tp]:
                    continue
                if record.topic == self._topic:
                    was_future = record.offset in manifest.refused.get(str(tp.partition), ())
                    arrivals.append(self._arrival(record, 0 if was_future else FAR_FUTURE_MS))
                else:
                    changes.append((record, self._change(record)))
        reader.close()
        self._pipeline.take(self._epoch_of(in_order(arrivals), changes, manifest.repaired))

    # output

    def _delta(self) -> dict[bytes, bytes | None]:
        self._checkpointed = time.monotonic()
        self.state.manifest_position = self._log.ends(self._settings.epochs_topic)[0]
        return self.state.delta()

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
        if self._test_lists.enabled and output.outcome:
            events = [_event_number(a, n) for n, a in enumerate(output.taken, self.state.records - len(output.taken))]
            ids = self.state.engine.model.items.ids
            self._test_lists.write(np.array(events), list_column(output.outcome.test, np.arange(len(events)), ids))


def _event_number(arrival: Arrival, count: int) -> int:
    """The row number that `produce` sent as the event id, else how many records came before."""
    event_id = arrival.payload.event_id
    return int(event_id) if event_id and event_id.isascii() and event_id.isdigit() else count
