"""The records that an epoch publishes: lists, quality, drift alarms, the manifest."""

from collections.abc import Mapping, Sequence
from itertools import accumulate

import msgspec

from consumers.records import RECORD_BYTES, Headers, NewRecord, size_of
from consumers.schemas import (
    CHALLENGER_KEYS,
    DRIFT_KEY,
    AsOf,
    ChallengerQuality,
    Drift,
    EpochManifest,
    Quality,
    RecommendationList,
)
from streamer.lists.listed_items import configuration_name, fallback_of, listed_items, model_version
from streamer.lists.rule_book import AttributesOf, RuleBook
from streamer.monitoring.drift import Alarm
from streamer.monitoring.prequential_quality import PairedFigure
from streamer.settings import Settings
from tgn.graph import F64
from tgn.model import Model
from tgn.prequential import Outcome

APPLICATION, MADE_ANEW = "freshet-application", "freshet-made-anew"  # headers of manifests
_encode = msgspec.json.Encoder().encode


class Publisher:
    """Makes records for the topics of the settings. The model's configuration and seed, and the trained embeddings in
    use, name its version: what it knows at a position follows from them.

    Args:
        attributes: of users, by whose groups experiments may deal.
        limits: the largest record of each topic, see `Log.record_limits`.
    """

    def __init__(
        self, settings: Settings, model: Model, attributes: AttributesOf, limits: Mapping[str, int] | None = None
    ) -> None:
        self._settings, self._model, self._attributes = settings, model, attributes
        self._list_bytes = (limits or {}).get(settings.recommendations_topic, RECORD_BYTES)
        self._configuration = configuration_name(model.config)
        self._surface = "" if settings.surface == "default" else f"-{settings.surface}"

    def list_id(self, cause: str) -> str:
        """The id of a list that something has caused."""
        return cause + self._surface

    def make_list(
        self,
        cause: str,
        user: str,
        as_of: AsOf,
        outcome: Outcome,
        n: int,
        headers: Headers = (),
        book: RuleBook | None = None,
        propensity: F64 | None = None,
    ) -> NewRecord:
        """The published list in row n of an outcome.

        Args:
            cause: the list's id without the surface.
            book: the rules that made it.
            propensity: [N, K] of each place; None: 1.
        """
        settings, items = self._settings, listed_items(outcome, n, self._model.items.ids)
        if propensity is not None:
            drawn = zip(items, propensity[n].tolist(), strict=False)
            items = tuple(msgspec.structs.replace(item, propensity=chance) for item, chance in drawn)
        value = RecommendationList(
            list_id=self.list_id(cause),
            user_id=user,
            surface=settings.surface,
            items=items,
            as_of=as_of,
            model_version=model_version(self._configuration_of(user, book), self._model),
            fallback=fallback_of(items),
            rules=None if book is None else book.version,
            experiment=None if book is None else book.arm_of(user, self._attributes),
        )
        record = self._list_record(value, headers)
        return record if size_of(record) <= self._list_bytes else self._cut(value, headers)

    def _configuration_of(self, user: str, book: RuleBook | None) -> str:
        """Names the model that made the list: the live one, or a challenger."""
        challenger = None if book is None else book.challenger_of(user, self._attributes)
        if book is None or challenger is None:
            return self._configuration
        return configuration_name(book.challengers[challenger].beside(self._model.config))

    def _list_record(self, value: RecommendationList, headers: Headers) -> NewRecord:
        fields = msgspec.structs.asdict(value)
        if not value.cut:
            del fields["cut"]
        for name in ("rules", "experiment"):
            if fields[name] is None:
                del fields[name]
        return NewRecord(self._settings.recommendations_topic, value.user_id.encode(), _encode(fields), headers)

    def _cut(self, value: RecommendationList, headers: Headers) -> NewRecord:
        """As many items of a list as its topic takes in one record, the first ones."""
        empty = msgspec.structs.replace(value, items=(), cut=len(value.items))
        room = self._list_bytes - size_of(self._list_record(empty, headers))
        ends = accumulate(len(_encode(item)) + 1 for item in value.items)
        kept = sum(end <= room for end in ends)
        cut = msgspec.structs.replace(value, items=value.items[:kept], cut=len(value.items) - kept)
        return self._list_record(cut, headers)

    def withdrawal(self, user: str) -> NewRecord:
        """The tombstone of a user's list."""
        return NewRecord(self._settings.recommendations_topic, user.encode(), None)

    def quality(self, figures: Mapping[str, tuple[float, float]], events: int, clock_ms: int) -> list[NewRecord]:
        """One record a metric. `figures`: (ours, popularity's) by metric."""
        topic = self._settings.quality_topic
        return [
            NewRecord(
                topic,
                name.encode(),
                _encode(Quality(metric=name, value=ours, popularity=theirs, events=events, timestamp=clock_ms)),
            )
            for name, (ours, theirs) in figures.items()
        ]

    def challenger_quality(
        self, challenger: str, figures: Mapping[str, PairedFigure], events: int, clock_ms: int
    ) -> list[NewRecord]:
        """One record a metric. challenger: `experiment/arm`."""
        experiment, _, arm = challenger.partition("/")
        return [
            NewRecord(
                self._settings.quality_topic,
                b"%s%s/%s" % (CHALLENGER_KEYS, challenger.encode(), name.encode()),
                _encode(
                    ChallengerQuality(
                        experiment=experiment, arm=arm, metric=name, **figure._asdict(), events=events,
                        timestamp=clock_ms,
                    )
                ),
            )
            for name, figure in figures.items()
        ]  # fmt: skip

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


def most_refusals(room: int) -> int:
    """How many interactions an epoch may take, whose manifest names each that lies in the future; room: bytes."""
    return room * 2 // 5 // 22  # an offset has up to 19 digits


def most_erasures(room: int, partitions: int) -> int:
    """How many users an epoch may erase, whose manifest has a digest and the positions for each; room: bytes."""
    return max(room * 2 // 5 // (40 + 32 * partitions), 1)
