"""The worker: reads the log, makes epochs, takes them, commits. What an epoch does is in `Pipeline`."""

import logging
from collections.abc import Callable
from contextlib import ExitStack

from consumers.crash_points import happened
from consumers.errors import CheckpointDamaged
from consumers.log import Closable, Log
from streamer.asking.question_queue import QuestionQueue
from streamer.lists.list_files import TestLists
from streamer.pipeline.epoch import EpochInput, EpochOutput
from streamer.pipeline.ingest import Intake
from streamer.runtime.clock import SYSTEM_CLOCK, Clock
from streamer.runtime.topics import create_missing, output_limits, output_topics
from streamer.settings import Settings
from streamer.worker.answering import answering_at
from streamer.worker.damaged_checkpoint import begin_anew
from streamer.worker.epochs import Epochs
from streamer.worker.group import Group
from streamer.worker.node_topics import NodeTopics
from streamer.worker.opening import Opening, Recovered
from streamer.worker.other_blocks import OtherBlocks, make_topics
from streamer.worker.other_steps import OtherSteps
from streamer.worker.prometheus import RunMetrics
from streamer.worker.reading import InputReader
from streamer.worker.rules_topic import RulesTopic
from streamer.worker.topic_watch import TopicWatch

_logger = logging.getLogger(__name__)


class Worker(Closable):
    """One engine on one log. `Worker.open` makes one, and its `close` closes what that opened."""

    def __init__(
        self,
        recovered: Recovered,
        reading: InputReader,
        group: Group,
        epochs: Epochs,
        clock: Clock,
        *,
        stop: Callable[[], bool],
        on_ready: Callable[[], None],
        on_damage: Callable[[str], None],
        opened: ExitStack,
        changed_settings: Callable[[], Settings | None],
    ) -> None:
        self.state, self._pipeline, self._commits = recovered.state, recovered.pipeline, recovered.commits
        self._complete = recovered.complete
        self._reading, self._group, self._epochs, self._clock = reading, group, epochs, clock
        self._stop, self._on_ready, self._on_damage, self._opened = stop, on_ready, on_damage, opened
        self._changed_settings = changed_settings

    @classmethod
    def open(
        cls,
        log: Log,
        settings: Settings,
        test_lists: TestLists | None = None,
        stop: Callable[[], bool] = lambda: False,
        metrics: RunMetrics | None = None,
        clock: Clock = SYSTEM_CLOCK,
        queue: QuestionQueue | None = None,
        changed_settings: Callable[[], Settings | None] = lambda: None,
    ) -> "Worker":
        """Opens a worker, whose state is that of the last committed epoch.

        (1) The committer, which fences an older worker of this seat; (2) the checkpoint, and the epochs committed after
        it, taken again with their outputs suppressed; (3) readers from there on.

        Args:
            log: stays open when the worker closes.
            test_lists: where the lists made before each event go.
            stop: asked between two pieces of work.
            metrics: told what is done.
            queue: whose questions the worker answers.
            changed_settings: asked before each epoch for settings that are to be in force from then on.
        """
        metrics = metrics or RunMetrics(settings, clock)
        metrics.starting()
        make_topics(log, settings)
        limits = output_limits(log, settings)
        if settings.keep_lists:
            create_missing(log, settings, names=(settings.lists_topic,))
        log.claim(settings.application, output_topics(settings))
        with ExitStack() as opened:
            committer = log.committer(settings.application)  # (1)
            opened.callback(committer.close)
            opening = Opening(log, settings, committer, limits, metrics, test_lists or TestLists(None), stop, clock)
            recovered = opening.recover()  # (2)
            state, intake = recovered.state, Intake(settings)
            rules = RulesTopic(log, settings, state)  # (3)
            catalogue = NodeTopics(log, settings, state, rules)
            opened.callback(catalogue.close)
            blocks = OtherBlocks(log, settings, state)
            opened.callback(blocks.close)
            topics = TopicWatch(log, settings, state, catalogue, blocks, clock)
            steps = OtherSteps(log, settings, state, committer.seat)
            opened.callback(steps.close)
            group = Group(log, settings, state, committer, intake, topics, blocks, recovered.moved, clock)
            opened.callback(group.close)
            reading = InputReader(settings, state, intake, group, blocks, steps, catalogue, rules, topics, clock, queue)
            between = (lambda: None) if queue is None else queue.serve
            epochs = Epochs(settings, state, reading, group, rules, limits, clock, between)
            answering = None
            if queue is not None:
                answering = answering_at(queue, log, settings, state, committer.seat, group.partitions, clock)
                recovered.pipeline.between = queue.serve
                recovered.commits.answer_meanwhile(queue, answering)
                opened.callback(queue.close)

            def ready() -> None:
                model = state.engine.model
                _logger.info("ready, at epoch %d: %d users, %d items", state.epoch, len(model.users), len(model.items))
                metrics.ready(log, state, reading.positions)
                metrics.watch(epochs.ageing)
                if queue is not None and answering is not None:
                    answering.warm_up()
                    queue.open(answering.answer)

            return cls(
                recovered,
                reading,
                group,
                epochs,
                clock,
                stop=stop,
                on_ready=ready,
                on_damage=lambda damage: begin_anew(log, settings, committer, damage),
                opened=opened.pop_all(),
                changed_settings=changed_settings,
            )

    def run(self, exit_at_end: bool = False) -> None:
        """Takes epochs until it is to stop, or until everything in the log is taken; then writes the checkpoint.

        Raises CheckpointDamaged where a page that is read only now is damaged or missing: the checkpoint has been set
        aside then, and the next worker rebuilds the state.
        """
        if not self._complete:  # it was asked to stop before the state was that of the last epoch
            return
        try:
            self._run(exit_at_end)
            return
        except CheckpointDamaged as error:
            damage = str(error)
        self._on_damage(damage)
        raise CheckpointDamaged(damage)

    def _run(self, exit_at_end: bool) -> None:
        self._reading.ends_with_log = exit_at_end
        self.state.warm_up()
        self._on_ready()
        while not self._stop():
            taken = self.step()
            if exit_at_end and not taken and self._reading.caught_up():
                _logger.info("everything in the log is taken: ending")
                break
        else:
            _logger.info("asked to end: writing the checkpoint")
        self.checkpoint()

    def step(self) -> EpochOutput | None:
        """One epoch: (1) read, (2) make the epoch, (3) take it, (4) commit. None when there was nothing.

        A piece of what is to be taken over from other workers follows, as an epoch of its own.
        """
        self._reading.read()  # (1)
        if (settings := self._changed_settings()) is not None:
            self._epochs.change_settings(settings)
        epoch = self._epochs.next()  # (2)
        output = self._take(epoch) if epoch else None  # (3), (4)
        if epoch is None:
            self._commits.commit_asked()
        return self._take_over() or output

    def _take(self, epoch: EpochInput) -> EpochOutput:
        started = self._clock.monotonic()
        output = self._pipeline.take(epoch)  # (3)
        happened("taken")
        took_s = self._clock.monotonic() - started
        self._epochs.took(output, took_s)
        self._commits.commit(epoch, output, took_s)  # (4)
        return output

    def _take_over(self) -> EpochOutput | None:
        epoch, output = self._epochs.next_taken_over(), None
        if epoch:
            output = self._pipeline.take(epoch)
            self._commits.commit_taken_over(output)
        self._group.open_taken_over()
        return output

    def checkpoint(self) -> None:
        """Writes the state as it is."""
        self._commits.checkpoint()

    def close(self) -> None:
        """Closes what the worker opened; the log stays open."""
        self._opened.close()
