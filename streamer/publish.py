"""The records that an epoch publishes: lists, quality, drift alarms, the manifest."""

import hashlib
from collections.abc import Mapping, Sequence

import msgspec

from consumers.records import Headers, NewRecord, TopicPartition
from consumers.schemas import DRIFT_KEY, AsOf, Drift, EpochManifest, ListedItem, Quality, RecommendationList
from streamer.drift import Alarm
from streamer.settings import Settings
from tgn.evidence import SOURCES
from tgn.model import Model
from tgn.prequential import Outcome

APPLICATION, MADE_ANEW = "freshet-application", "freshet-made-anew"  # headers of manifests
_encode = msgspec.json.Encoder().encode


class Publisher:
    """Makes records for the topics of the settings. The model's configuration and seed, and the trained embeddings in
    use, name its version: what it knows at a position follows from them."""

    def __init__(self, settings: Settings, model: Model) -> None:
        self._settings, self._model = settings, model
        self._model_version = "walk-counts-" + hashlib.blake2b(repr(model.config).encode(), digest_size=4).hexdigest()
        self._surface = "" if settings.surface == "default" else f"-{settings.surface}"

    def list_of(self, cause: str, user: str, as_of: AsOf, outcome: Outcome, n: int, headers: Headers = ()) -> NewRecord:
        """The published list in row n of an outcome. `cause`: the list's id without the surface."""
        settings, ids = self._settings, self._model.items.ids
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
        value = RecommendationList(
            cause + self._surface, user, settings.surface, items, as_of, self._version(), _fallback(items)
        )
        return NewRecord(settings.recommendations_topic, user.encode(), _encode(value), headers)

    def _version(self) -> str:
        trained = self._model.trained_version
        return f"{self._model_version}+{trained}" if trained else self._model_version

    def withdrawal(self, user: str) -> NewRecord:
        """The tombstone of a user's list."""
        return NewRecord(self._settings.recommendations_topic, user.encode(), None)

    def quality(self, figures: Mapping[str, tuple[float, float]], events: int, clock_ms: int) -> list[NewRecord]:
        """One record a metric. `figures`: (ours, popularity's) by metric."""
        topic = self._settings.quality_topic
        return [
            NewRecord(topic, name.encode(), _encode(Quality(name, ours, theirs, events, clock_ms)))
            for name, (ours, theirs) in figures.items()
        ]

    def alarm(self, alarm: Alarm) -> NewRecord:
        """A drift alarm."""
        value = Drift("log loss", **alarm._asdict())
        return NewRecord(self._settings.quality_topic, DRIFT_KEY, _encode(value))

    def manifest(self, value: EpochManifest, made_anew: Sequence[str] = ()) -> NewRecord:
        """What the epoch took; its headers say whose it is, and which topics it is the first to read anew."""
        headers: Headers = ((APPLICATION, self._settings.application.encode()),)
        if made_anew:
            headers += ((MADE_ANEW, ",".join(made_anew).encode()),)
        return NewRecord(self._settings.epochs_topic, None, _encode(value), headers, partition=0)


def ends_by_topic(ends: Mapping[TopicPartition, int]) -> dict[str, dict[str, int]]:
    """Topic → partition → next offset, as manifests hold it."""
    found: dict[str, dict[str, int]] = {}
    for tp, end in sorted(ends.items()):
        found.setdefault(tp.topic, {})[str(tp.partition)] = end
    return found


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
