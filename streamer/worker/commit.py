"""Commits: outputs, positions and checkpoint in one step, and what is said of an epoch once it is committed."""

import logging
from collections.abc import Callable, Iterator
from itertools import islice

import numpy as np

from consumers.log import Committer, Log, Positions
from consumers.records import ROW_HEADER, NewRecord
from consumers.schemas import Interaction
from streamer.asking.question_queue import QuestionQueue
from streamer.lists.list_files import TestLists
from streamer.pipeline.arrivals import Arrival
from streamer.pipeline.epoch import EpochInput, EpochOutput
from streamer.runtime.clock import Clock
from streamer.runtime.telemetry import trace_lists
from streamer.runtime.topics import topic_of_surface
from streamer.settings import Settings
from streamer.state.stream_state import StreamState
from streamer.worker.answering import Answering
from streamer.worker.checkpoint_stamp import written_now
from streamer.worker.prometheus import RunMetrics

WRITTEN_AT_ONCE = 200  # records that nobody waits for: some 2 ms
PIECES_AT_ONCE, PIECES_A_SECOND = 16, 1_000
"""Of a checkpoint, beside each commit: some 2 ms, and a tenth of the time since the commit before. Where epochs are
long, as those of a repair, the next checkpoint would otherwise wait for ever longer, and have ever more pages."""
TAKEN_AGAIN, SOONER = 2_000, 0.2
"""A checkpoint begins after a share of its interval where so many interactions were taken: a restart takes them again.

The fewer checkpoints there are the less each interaction has of one: it changes nine pages of its own where there is
one each 1,000, three where there is one each 10,000. But the more pages change the longer interactions wait while
these are gathered, 20 ms for 5,000.
"""
_logger = logging.getLogger(__name__)


class Commits:
    """Makes what epochs give durable. The committer is the worker's, which closes it."""

    def __init__(
        self,
        log: Log,
        settings: Settings,
        state: StreamState,
        committer: Committer,
        metrics: RunMetrics,
        test_lists: TestLists,
        clock: Clock,
    ) -> None:
        self._log, self._settings, self._state, self._committer = log, settings, state, committer
        self._metrics, self._test_lists, self._clock = metrics, test_lists, clock
        self._checkpointed, self._taken_before = clock.monotonic(), state.records
        self._between: Callable[[], None] = lambda: None
        self._during: Callable[[Callable[[], None]], None] = lambda work: work()
        self._asked: Callable[[], list[NewRecord]] = list
        self._saving: Iterator[None] | None = None  # the checkpoint that is being written
        self._saved_at = self._checkpointed  # when pieces of one were written last

    def answer_meanwhile(self, queue: QuestionQueue, answering: Answering) -> None:
        """Has questions answered while pages are made and while a commit is waited for; commits what they leave."""
        self._between, self._during, self._asked = queue.serve, queue.serve_during, answering.records

    def commit(self, epoch: EpochInput, output: EpochOutput, took_s: float) -> None:
        """(1) Commits outputs and positions, and writes pieces of a checkpoint where one is due; (2) tells who measures
        it, or waits for it.

        With an erasure the checkpoint is written whole, and with a switch of embeddings: what it switched to need not
        be there later. `took_s`: how long the epoch took.
        """
        mine = {tp: end for tp, end in epoch.ends.items() if tp.topic == self._settings.interactions_topic}
        must = bool(output.erased) or epoch.embeddings is not None
        self._write(output.records, mine, must)  # (1)
        self._metrics.epoch(epoch, output, took_s)  # (2)
        if output.outcome is not None:
            published = output.published.tolist()
            trace_lists((output.taken[n].record for n in published), self._clock.now_ms() * 1_000_000)
        self.write_test_lists(output)
        if output.dead:
            _logger.warning("%d records went to %s", output.dead, self._settings.dead_topic)
        if output.erased:
            self._report_erasure(output)

    def commit_taken_over(self, output: EpochOutput) -> None:
        """Commits an epoch that another worker has published; it moves no position of the group."""
        self._write(output.records, {}, must=False)

    def commit_asked(self) -> None:
        """Commits what answers have left, where no epoch takes it along."""
        records = self._asked()
        if records:
            self._meanwhile(lambda: self._log.append(records))
        self._go_on_saving()

    def checkpoint(self) -> None:
        """Writes the state as it is."""
        self._write([], {}, True)

    def write_test_lists(self, output: EpochOutput) -> None:
        """Writes the lists made before each event to the file that was asked for, unless it has them."""
        if not self._test_lists.wants(self._state.epoch):
            return
        if output.outcome:
            first = self._state.records - len(output.taken)
            events = np.array([_event_number(arrival, n) for n, arrival in enumerate(output.taken, first)])
            ids = self._state.engine.model.items.ids
            payloads = [one.payload for one in output.taken if isinstance(one.payload, Interaction)]
            self._test_lists.write(
                events,
                output.outcome.test,
                output.outcome.source,
                np.arange(len(events)),
                ids,
                [interaction.user_id for interaction in payloads],
                [interaction.timestamp for interaction in payloads],
            )
        self._test_lists.reached(self._state.epoch)

    def _write(self, records: list[NewRecord], positions: Positions, must: bool) -> None:
        """must: the checkpoint of what is committed is written whole."""
        started = self._clock.monotonic()
        records = [*self._asked(), *records, *self._kept(records)]
        is_long = len(records) > WRITTEN_AT_ONCE
        self._meanwhile(lambda: self._committer.commit(records, positions), is_long)
        self._between()
        self._metrics.committed(self._clock.monotonic() - started)
        self._go_on_saving(must)
        if must or (self._saving is None and self._checkpoint_is_due()):
            self._saving = self._checkpoint()
            self._go_on_saving(must)

    def _checkpoint(self) -> Iterator[None]:
        """Writes a checkpoint, a piece at each step."""
        self._checkpointed, self._taken_before = self._clock.monotonic(), self._state.records
        delta = checkpoint_pages(self._log, self._settings, self._state, self._clock, self._between)
        yield from self._committer.saving(delta)
        self._metrics.checkpointed(self._clock.monotonic() - self._checkpointed, delta)

    def _go_on_saving(self, to_the_end: bool = False) -> None:
        """Writes pieces of the checkpoint that has begun."""
        if self._saving is None:
            return
        now = self._clock.monotonic()
        most = PIECES_AT_ONCE + int((now - self._saved_at) * PIECES_A_SECOND)
        self._saved_at, pieces = now, 0
        for _ in islice(self._saving, None if to_the_end else most):
            pieces += 1
            self._between()
        if to_the_end or pieces < most:
            self._saving = None

    def _meanwhile(self, work: Callable[[], None], is_long: bool = False) -> None:
        """Has questions answered while the log is waited for. To hand over what neither waits nor is long would take
        longer than to do it."""
        if is_long or self._committer.waits:
            self._during(work)
        else:
            work()

    def _kept(self, records: list[NewRecord]) -> list[NewRecord]:
        """The published lists among records, for the topic of lists."""
        if not self._settings.keep_lists:
            return []
        settings = self._settings
        topics = {settings.recommendations_topic, *(topic_of_surface(settings, name) for name in self._state.beside)}
        return [
            NewRecord(settings.lists_topic, record.key, record.value)
            for record in records
            if record.value is not None and record.topic in topics
        ]

    def _checkpoint_is_due(self) -> bool:
        many = self._state.records - self._taken_before >= TAKEN_AGAIN
        interval_s = self._settings.checkpoint_interval_ms / 1000 * (SOONER if many else 1)
        return self._clock.monotonic() - self._checkpointed > interval_s

    def _report_erasure(self, output: EpochOutput) -> None:
        """Says what was erased and what is left to the topics' retention; off the disk it goes now."""
        self._committer.purge_state()
        settings = self._settings
        kept = (settings.interactions_topic, settings.feedback_topic, settings.dead_topic, settings.epochs_topic)
        _logger.info(
            "erased %d users: %d interactions taken back, lists withdrawn; %s keep their records until retention ends",
            output.erased, output.taken_back, ", ".join(kept),
        )  # fmt: skip


def checkpoint_pages(
    log: Log, settings: Settings, state: StreamState, clock: Clock, between: Callable[[], None]
) -> dict[bytes, bytes | None]:
    """What has changed in the state since the last checkpoint, and when that was; between: see `StreamState.delta`."""
    state.manifest_position = log.ends(settings.epochs_topic)[0]
    return state.delta(between) | written_now(clock)


def _event_number(arrival: Arrival, count: int) -> int:
    """The row number that `produce` sent in a header, else how many records came before."""
    row = next((text for name, text in arrival.record.headers if name == ROW_HEADER), b"")
    return int(row) if row.isdigit() and len(row) < 19 else count
