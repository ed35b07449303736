"""One process counts the feedback of an application: joins (`consumers.feedback`), commits, says the results."""

import logging
from collections.abc import Callable, Sequence

import msgspec

from consumers.counted import counted
from consumers.dead_letter import TOPIC_OF_LETTER, DeadLetter, dead_letter_record
from consumers.decode_feedback import FeedbackDecoder
from consumers.errors import LogUnavailable, PositionGone
from consumers.feedback.attribution import Attribution
from consumers.feedback.join import OF_OLD_LISTS, FeedbackJoin, JoinTopics
from consumers.feedback.join_state import JoinState
from consumers.feedback.rules import JoinRules
from consumers.feedback.totals import Arm
from consumers.log import Closable, Log, Positions
from consumers.records import NewRecord, Record, TopicPartition
from consumers.schemas import BUSINESS_KEYS, FEEDBACK_KEY, Business, CountedFeedback
from streamer.feedback.feedback_metrics import FeedbackMetrics
from streamer.runtime.clock import SYSTEM_CLOCK, Clock
from streamer.runtime.topics import create_missing, end_positions, state_folder, whole
from streamer.settings import Settings

Look = Callable[[Callable[[], list[Business]]], None]
REST_EVERY_S = 1.0
_encode = msgspec.json.Encoder().encode
_logger = logging.getLogger(__name__)


class FeedbackCounting(Closable):
    """Takes records of the log into the state of the join, and says what changed.

    (1) Dead letters go to their topic; (2) rows, totals and positions are one write; (3) results, absolute totals, and
    what became of records go to the topic of quality. A kill between (1) and (2) leaves a dead letter twice; one
    between (2) and (3) changes nothing, since every result is said again after a start.

    Args:
        look: called about once a second with what makes the results, once those are of the whole log.

    Raises LogBusy where another process has the state open, UnknownTopic, PositionGone.
    """

    def __init__(
        self,
        log: Log,
        settings: Settings,
        metrics: FeedbackMetrics,
        clock: Clock = SYSTEM_CLOCK,
        look: Look | None = None,
    ) -> None:
        create_missing(log, settings, names=(settings.lists_topic, settings.feedback_topic))
        self._log, self._settings, self._metrics, self._clock = log, settings, metrics, clock
        self._look = look
        self.topics = (settings.lists_topic, settings.feedback_topic, settings.users_topic)
        rules = join_rules(settings)
        folder = state_folder(settings) / "feedback" / "rows"
        self._limit = log.record_limits((settings.dead_topic,))[settings.dead_topic]
        self.state = JoinState(folder, rules.name(), rules.window_ms)
        try:
            self.starts = self._places(str(folder))
        except BaseException:
            self.state.close()
            raise
        decoder = FeedbackDecoder(settings.clock_skew_ms, settings.max_record_bytes)
        self._join = FeedbackJoin(self.state, rules, JoinTopics(*self.topics), decoder)
        self._final_ms = rules.lateness_ms
        self._ends = self._first_ends = self._asked_ends()
        self._unsaid: set[Arm] = set(self.state.totals.cells)
        self._rested = clock.monotonic()
        self._caught_up, self._complete = False, False
        self._of_old_lists = self.state.counters.get(OF_OLD_LISTS, 0)
        self._said: CountedFeedback | None = None
        metrics.watch(self.state)

    def places(self) -> dict[TopicPartition, int]:
        """The next record to take of each partition."""
        return {at: max(start, self.state.positions.get(at, 0)) for at, start in self.starts.items()}

    def take(self, records: Sequence[Record]) -> None:
        """Takes records, each partition's in its order, and commits."""
        self._commit(self._join.take(records))

    def rest(self, reached: Positions) -> None:
        """Forgets what is over, and says what has changed; once a second, however often it is called.

        reached: how far partitions are read. Raises LogUnavailable where partitions were added: they are read once
        this is opened again.
        """
        now = self._clock.monotonic()
        if now < self._rested + REST_EVERY_S:
            return
        self._rest(reached, now)

    def finish(self, reached: Positions) -> None:
        """The same at once."""
        self._rest(reached, self._clock.monotonic())

    def is_complete(self) -> bool:
        """Whether all that was in the log when it was asked for its ends before is counted and said."""
        return self._complete

    def _rest(self, reached: Positions, now: float) -> None:
        self._rested = now
        if not self._caught_up:
            self._caught_up = all(reached.get(at, 0) >= end for at, end in self._first_ends.items())
        ends = self._asked_ends()
        if self._caught_up:
            self._metrics.ready()
        if added := ends.keys() - self.starts.keys():
            raise LogUnavailable(f"{sorted(added)[0].topic} has more partitions than before; opening it again")
        feedback = {at: end for at, end in ends.items() if at.topic == self._settings.feedback_topic}
        self._commit(self._join.expire(reached, self._ends | feedback))
        self._complete = self._caught_up and all(reached.get(at, 0) >= end for at, end in ends.items())
        self._ends = ends
        if self._caught_up and self._unsaid:
            self._log.append([self._result(one) for arm in sorted(self._unsaid) for one in self._results(arm)])  # (3)
            self._unsaid = set()
        if self._caught_up and (counts := self._counts()) != self._said:
            self._log.append([NewRecord(self._settings.quality_topic, FEEDBACK_KEY, _encode(counts))])
            self._said = counts
        if self._caught_up and self._look is not None:
            self._look(self.results)

    def results(self) -> list[Business]:
        """What has been counted, of every arm and metric."""
        return [one for arm in sorted(self.state.totals.cells) for one in self._results(arm)]

    def _commit(self, dead: Sequence[DeadLetter]) -> None:
        letters = [dead_letter_record(letter, self._settings.dead_topic, self._limit) for letter in dead]
        if letters:
            self._log.append(letters)  # (1)
            why = ", ".join(sorted({letter.reason for letter in dead}))
            went = counted(len(letters), "record of feedback", "records of feedback")
            _logger.warning("%s went to %s: %s", went, self._settings.dead_topic, why)
        self._unsaid |= self.state.commit()  # (2)
        before, self._of_old_lists = self._of_old_lists, self.state.counters.get(OF_OLD_LISTS, 0)
        if self._of_old_lists > before:
            _logger.warning(
                "%d records of feedback are of more than attribution_window_s (%g s) after the lists that they quote; "
                "feedback on the lists of a recorded stream needs the timestamps of that stream",
                self._of_old_lists - before, self._settings.attribution_window_s,
            )  # fmt: skip

    def _results(self, arm: Arm) -> Sequence[Business]:
        watermark_ms = self.state.watermark_ms()
        return list(self.state.totals.records(arm, watermark_ms, watermark_ms - self._final_ms))

    def _counts(self) -> CountedFeedback:
        counters = self.state.counters
        return CountedFeedback(
            taken=counters.get("taken", 0),
            waiting=counters.get("waiting", 0),
            repeated=counters.get("repeated", 0),
            dead=sum(n for what, n in counters.items() if what.startswith("dead/")),
            timestamp=self.state.watermark_ms(),
        )

    def _result(self, one: Business) -> NewRecord:
        key = b"%s%s/%s/%s" % (BUSINESS_KEYS, one.surface.encode(), one.arm.encode(), one.metric.encode())
        return NewRecord(self._settings.quality_topic, key, _encode(one))

    def _asked_ends(self) -> dict[TopicPartition, int]:
        return end_positions(self._log, *self.topics)

    def _places(self, folder: str) -> dict[TopicPartition, int]:
        """Where partitions are read from; what retention has taken meanwhile is said."""
        starts, ends, known = (
            whole(self._log, *self.topics),
            end_positions(self._log, *self.topics),
            self.state.positions,
        )
        for at, position in known.items():
            if position > ends.get(at, -1):
                raise PositionGone(
                    f"{at.topic}[{at.partition}] ends before {position}: the topic was made anew; remove {folder}, and "
                    "feedback is counted from what the log has"
                )
            if position < starts[at]:
                _logger.warning(
                    "%s[%d] begins at %d: %s lost",
                    *at,
                    starts[at],
                    counted(starts[at] - position, "record", verb="are"),
                )
        return {at: max(start, known.get(at, 0)) for at, start in starts.items()}

    def close(self) -> None:
        """Closes the state; what was taken is committed."""
        self.state.close()


def join_rules(settings: Settings) -> JoinRules:
    """The rules of the settings."""
    return JoinRules(
        settings.feedback_events,
        Attribution(settings.attribution, _ms(settings.attribution_window_s)),
        _ms(settings.feedback_lateness_s),
        _ms(settings.feedback_window_s),
    )


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def is_of_feedback(record: Record, settings: Settings) -> bool:
    """Whether who counts feedback wrote a record of an output topic: a result, or a dead letter."""
    if record.topic == settings.quality_topic:
        return record.key == FEEDBACK_KEY or (record.key or b"").startswith(BUSINESS_KEYS)
    return record.topic == settings.dead_topic and (TOPIC_OF_LETTER, settings.feedback_topic.encode()) in record.headers
