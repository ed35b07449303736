"""Quality as it moves, drift alarms and what lists bring: what a view keeps of the topic of quality."""

import math
from collections import OrderedDict, deque
from typing import NamedTuple

import msgspec

from consumers.records import Record
from consumers.schemas import (
    BUSINESS_KEYS,
    CHALLENGER_KEYS,
    DRIFT_KEY,
    FEEDBACK_KEY,
    ChallengerQuality,
    CountedFeedback,
    Drift,
    Quality,
)
from streamer.web.view.business_figures import BusinessFigures
from streamer.web.view.foreign_records import MAX_SHOWN_CHARACTERS, BadRecord, bound, decode_as

FIGURES, DRIFTS, POINTS = 1_000, 50, 2_000
LATELY = 10_000  # interactions
_quality = msgspec.json.Decoder(Quality)
_challenger = msgspec.json.Decoder(ChallengerQuality)
_feedback = msgspec.json.Decoder(CountedFeedback)
_drift = msgspec.json.Decoder(Drift)


class QualityPoint(NamedTuple):
    """Hit rate over the first `events` measured ones, ours and popularity's, and the event time of the last, ms."""

    events: int
    ours: float
    popularity: float
    timestamp: int


class QualityFigures:
    """The newest figure of each metric, the hit rate's course, the last drift alarms, and what lists bring."""

    def __init__(self) -> None:
        self.newest: OrderedDict[str, Quality] = OrderedDict()
        self.history: deque[QualityPoint] = deque(maxlen=POINTS)
        self.drifts: deque[Drift] = deque(maxlen=DRIFTS)
        self.business = BusinessFigures()
        self.feedback: CountedFeedback | None = None  # None: nobody has counted it
        self._challengers: OrderedDict[bytes, ChallengerQuality] = OrderedDict()

    def clear(self) -> None:
        """Forgets all of it."""
        self.feedback = None
        for kept in (self.newest, self.history, self.drifts, self.business, self._challengers):
            kept.clear()

    def lately(self) -> QualityPoint | None:
        """The hit rate over the last LATELY measured interactions or some more, as far as `history` reaches back.

        None: nothing is known of two moments. `events` is over how many it is.
        """
        points = list(self.history)
        newest = points[-1] if points else None
        before = next((one for one in reversed(points) if newest and one.events <= newest.events - LATELY), None)
        if before is None and len(points) > 1:
            before = points[0]
        if newest is None or before is None or before.events >= newest.events:
            return None
        events = newest.events - before.events
        ours, theirs = (
            (one * newest.events - other * before.events) / events
            for one, other in ((newest.ours, before.ours), (newest.popularity, before.popularity))
        )
        return QualityPoint(events, ours, theirs, newest.timestamp)

    def note(self, record: Record) -> None:
        """Takes a record of the topic. Raises BadRecord."""
        if record.key is not None and record.key.startswith(BUSINESS_KEYS):
            if not self.business.note(record.key, record.value):
                raise BadRecord("these are no figures of what lists bring")
        elif record.key is not None and record.key.startswith(CHALLENGER_KEYS):
            if record.value is not None:
                self._note_challenger(record.key, record.value)
        elif record.value is not None:
            note = {DRIFT_KEY: self._note_drift, FEEDBACK_KEY: self._note_feedback}.get(record.key or b"")
            (note or self._note_quality)(record.value)

    def _note_quality(self, value: bytes) -> None:
        figure = decode_as(_quality, value, "figure of quality")
        if not (math.isfinite(figure.value) and math.isfinite(figure.popularity)):
            raise BadRecord("a figure of quality is finite")
        if len(figure.metric) > MAX_SHOWN_CHARACTERS:
            raise BadRecord("the name of the metric is too long")
        measure = figure.metric.partition("@")[0]
        for name in [name for name in self.newest if name != figure.metric and name.partition("@")[0] == measure]:
            del self.newest[name]  # of lists of another length, before `k` was changed
            if measure == "hr":
                self.history.clear()
        self.newest[figure.metric] = figure
        bound(self.newest, FIGURES)
        if measure == "hr":
            if self.history and figure.events < self.history[-1].events:
                self.history.clear()  # it is measured anew
            self.history.append(QualityPoint(figure.events, figure.value, figure.popularity, figure.timestamp))

    def challengers(self) -> list[ChallengerQuality]:
        """The newest figure of each challenger and metric."""
        return list(self._challengers.copy().values())

    def _note_challenger(self, key: bytes, value: bytes) -> None:
        figure = decode_as(_challenger, value, "figure of a challenger")
        if not all(map(math.isfinite, (figure.value, figure.live, figure.error or 0.0))):
            raise BadRecord("the figures of a challenger are finite")
        if len(key) > MAX_SHOWN_CHARACTERS:
            raise BadRecord("the key of a challenger's figure is too long")
        self._challengers[key] = figure
        self._challengers.move_to_end(key)
        bound(self._challengers, FIGURES)

    def _note_feedback(self, value: bytes) -> None:
        self.feedback = decode_as(_feedback, value, "count of feedback")

    def _note_drift(self, value: bytes) -> None:
        drift = decode_as(_drift, value, "drift alarm")
        if not all(map(math.isfinite, (drift.before, drift.after, drift.hr_before, drift.hr_after))):
            raise BadRecord("the figures of a drift alarm are finite")
        self.drifts.append(drift)
