"""One epoch: records → score, learn, observe → records to publish. No I/O, no clock: a function of its input."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from consumers.dead_letter import DeadLetter, Reason, dead_letter_record
from consumers.records import NewRecord, TopicPartition
from consumers.schemas import (
    DRIFT_KEY,
    AsOf,
    Drift,
    EpochManifest,
    Interaction,
    Item,
    ListedItem,
    Quality,
    RecommendationList,
)
from consumers.weights import EventWeights
from streamer.alignment import Arrival
from streamer.drift import Alarm
from streamer.settings import Settings
from streamer.state import StreamState
from tgn.evidence import SOURCES
from tgn.prequential import Outcome

QUALITY_EVERY = 500  # measured events between two figures on the quality topic
_encode = msgspec.json.Encoder().encode


@dataclass
class NodeChange:
    """A record of the items topic: `item` None is a tombstone."""

    item_id: str
    item: Item | None


@dataclass
class EpochInput:
    """What an epoch takes: changes of the catalogue first, then interactions in order."""

    arrivals: list[Arrival] = field(default_factory=list)
    changes: list[NodeChange] = field(default_factory=list)
    dead: list[DeadLetter] = field(default_factory=list)  # of the catalogue
    ends: dict[TopicPartition, int] = field(default_factory=dict)


@dataclass
class EpochOutput:
    """What an epoch gives."""

    records: list[NewRecord]
    taken: list[Arrival]  # the interactions that counted, in order
    outcome: Outcome | None
    duplicates: int = 0
    dead: int = 0


class Pipeline:
    """Takes epochs into a `StreamState`."""

    def __init__(self, settings: Settings, state: StreamState) -> None:
        self._settings, self._state = settings, state
        self._weights = EventWeights(settings.event_weights)
        self._model_version = _version(state.engine.model.config)

    def take(self, epoch: EpochInput) -> EpochOutput:
        """The one way of an epoch, live and in recovery: (1) catalogue, (2) interactions, (3) positions."""
        state = self._state
        for change in epoch.changes:
            self._apply(change)
        letters = [*epoch.dead, *(a.payload for a in epoch.arrivals if isinstance(a.payload, DeadLetter))]
        good = [a for a in epoch.arrivals if not isinstance(a.payload, DeadLetter)]
        fresh = state.seen_events.add([a.payload.event_id for a in good])
        taken = [a for a, is_fresh in zip(good, fresh.tolist(), strict=True) if is_fresh]
        records = [dead_letter_record(letter, self._settings.dead_topic) for letter in letters]
        outcome = self._learn_and_list(taken, epoch, records) if taken else None
        state.positions.update(epoch.ends)
        state.records += len(epoch.arrivals)
        state.epoch += 1
        records.append(self._manifest(epoch))
        return EpochOutput(records, taken, outcome, len(good) - len(taken), len(letters))

    def _apply(self, change: NodeChange) -> None:
        model = self._state.engine.model
        node = model.items.encode([change.item_id])[0]
        if change.item is None:
            model.delete(node)
        else:
            model.introduce(node, change.item.timestamp or self._state.clock_ms)

    def _learn_and_list(self, taken: list[Arrival], epoch: EpochInput, records: list[NewRecord]) -> Outcome:
        state = self._state
        interactions: list[Interaction] = [arrival.payload for arrival in taken]
        columns = state.engine.encode(
            [i.user_id for i in interactions],
            [i.item_id for i in interactions],
            [i.timestamp for i in interactions],
            [self._weights.of(i.event_type, i.value) for i in interactions],
        )
        outcome = state.engine.take(columns)
        state.clock_ms = max(state.clock_ms, int(columns.t.max()))
        positions = _positions_after(taken, epoch, state.positions, self._settings.interactions_topic)
        for n in np.flatnonzero(outcome.changed):
            records.append(self._list_record(taken[n], outcome, int(n), positions[n]))
        before = state.quality.events
        state.quality.add(outcome.rank, outcome.popularity_rank)
        if before // QUALITY_EVERY != state.quality.events // QUALITY_EVERY:
            records += self._quality_records()
        event = state.records + _places(taken, epoch)
        alarms = state.drift.add(event, columns.t, outcome.rank, outcome.surprise)
        records += [self._drift_record(alarm) for alarm in alarms]
        return outcome

    def _list_record(self, arrival: Arrival, outcome: Outcome, n: int, positions: dict[str, int]) -> NewRecord:
        settings, ids = self._settings, self._state.engine.model.items.ids
        size = int(outcome.published.size[n])
        rows = zip(
            outcome.published.item[n, :size].tolist(),
            outcome.published.score[n, :size].tolist(),
            outcome.evidence.source[n, :size].tolist(),
            outcome.evidence.cause[n, :size].tolist(),
            strict=True,
        )
        items = tuple(
            ListedItem(
                ids[item],
                round(score, 6),
                SOURCES[source],
                _reason(SOURCES[source], ids[cause] if cause >= 0 else None),
            )
            for item, score, source, cause in rows
        )
        surface = "" if settings.surface == "default" else f"-{settings.surface}"
        value = RecommendationList(
            f"{arrival.partition}-{arrival.offset}{surface}",
            arrival.payload.user_id,
            settings.surface,
            items,
            AsOf(arrival.payload.timestamp, positions),
            self._model_version,
            _fallback(items),
        )
        return NewRecord(settings.recommendations_topic, arrival.payload.user_id.encode(), _encode(value))

    def _quality_records(self) -> list[NewRecord]:
        state, topic = self._state, self._settings.quality_topic
        return [
            NewRecord(
                topic,
                name.encode(),
                _encode(Quality(name, ours, theirs, state.quality.events, state.clock_ms)),
            )
            for name, (ours, theirs) in state.quality.figures().items()
        ]

    def _drift_record(self, alarm: Alarm) -> NewRecord:
        value = Drift("log loss", **alarm._asdict())
        return NewRecord(self._settings.quality_topic, DRIFT_KEY, _encode(value))

    def _manifest(self, epoch: EpochInput) -> NewRecord:
        ends: dict[str, dict[str, int]] = {}
        for tp, end in sorted(epoch.ends.items()):
            ends.setdefault(tp.topic, {})[str(tp.partition)] = end
        refused: dict[str, list[int]] = {}
        for arrival in epoch.arrivals:
            if isinstance(arrival.payload, DeadLetter) and arrival.payload.reason is Reason.FUTURE_TIMESTAMP:
                refused.setdefault(str(arrival.partition), []).append(arrival.offset)
        value = EpochManifest(self._state.epoch, ends, len(epoch.arrivals), refused)
        return NewRecord(self._settings.epochs_topic, None, _encode(value), partition=0)


def _places(taken: Sequence[Arrival], epoch: EpochInput) -> np.ndarray:
    """[N] which of the epoch's arrivals each taken one is."""
    if len(taken) == len(epoch.arrivals):
        return np.arange(len(taken))
    place = {(a.partition, a.offset): n for n, a in enumerate(epoch.arrivals)}
    return np.array([place[a.partition, a.offset] for a in taken])


def _positions_after(
    taken: Sequence[Arrival], epoch: EpochInput, before: dict[TopicPartition, int], topic: str
) -> list[dict[str, int]]:
    """What each list knew: the next offset of every partition after each taken event."""
    reached = {str(tp.partition): offset for tp, offset in sorted(before.items()) if tp.topic == topic}
    after, n = [], 0
    for arrival in epoch.arrivals:
        reached[str(arrival.partition)] = arrival.offset + 1
        if n < len(taken) and arrival is taken[n]:
            after.append(dict(sorted(reached.items(), key=lambda entry: int(entry[0]))))
            n += 1
    return after


def _reason(source: str, cause: str | None) -> str:
    match source:
        case "repeat":
            return "chosen before"
        case "transition":
            return f"often chosen right after {cause}"
        case "co-interaction":
            return f"often chosen along with {cause}"
        case "taste":
            return "suits what was chosen lately"
        case "new":
            return "new"
    return "popular now"


def _fallback(items: Sequence[ListedItem]) -> str | None:
    """What the list was made from where the user's own history gave nothing."""
    sources = {item.source for item in items}
    if sources & {"repeat", "transition", "co-interaction", "taste"}:
        return None
    return "popular" if "popular" in sources else "new"


def _version(config: Any) -> str:
    """Names the model: learned online, so its configuration and seed decide what it knows at a position."""
    return "walk-counts-" + hashlib.blake2b(repr(config).encode(), digest_size=4).hexdigest()
