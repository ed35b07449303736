"""Quality as it moves, drift alarms and what lists bring: what a view keeps of the topic of quality."""

import math
from collections import OrderedDict, deque
from typing import NamedTuple

import msgspec

from consumers.records import Record
from consumers.schemas import BUSINESS_KEYS, DRIFT_KEY, Drift, Quality
from streamer.web.view.business_figures import BusinessFigures
from streamer.web.view.foreign_records import MAX_SHOWN_CHARACTERS, BadRecord, bound, decode_as

FIGURES, DRIFTS, POINTS = 1_000, 50, 2_000
LATELY = 10_000  # interactions
_quality = msgspec.json.Decoder(Quality)
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

    def clear(self) -> None:
        """Forgets all of it."""
        for kept in (self.newest, self.history, self.drifts, self.business):
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
        elif record.value is not None:
            note = self._note_drift if record.key == DRIFT_KEY else self._note_quality
            note(record.value)

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

    def _note_drift(self, value: bytes) -> None:
        drift = decode_as(_drift, value, "drift alarm")
        if not all(map(math.isfinite, (drift.before, drift.after, drift.hr_before, drift.hr_after))):
            raise BadRecord("the figures of a drift alarm are finite")
        self.drifts.append(drift)
