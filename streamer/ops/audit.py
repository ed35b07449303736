"""Audit: one uninterrupted pass over the committed epochs, whose outputs and state must be those in the log."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from consumers.counted import agreeing, counted
from consumers.dead_letter import PLACE_OF_LETTER
from consumers.decode_fields import UNDECODABLE
from consumers.errors import UnknownTopic
from consumers.log import Log
from consumers.records import NewRecord, Record, TopicPartition, TopicSpec
from consumers.schemas import EpochManifest, RecommendationList
from streamer.errors import StateUnreadable
from streamer.feedback.counting import is_of_feedback
from streamer.pipeline.manifest import decode_manifest
from streamer.pipeline.pipeline import Pipeline
from streamer.runtime.topics import end_positions, output_limits, read_records, whole
from streamer.settings import Settings
from streamer.state.in_force import MODEL, equations_of, with_model, with_recorded
from streamer.state.stream_state import StreamState
from streamer.worker.rebuild import lists_anew, rebuild_into, rebuilt_manifest
from streamer.worker.recovery import assume_first, first_positions, inputs_again, manifests
from tgn.config import EQUATIONS
from tgn.serialization import all_pages


class Audit(NamedTuple):
    """What an audit found."""

    epochs: int
    interactions: int  # each once, whoever took it into its state besides
    outputs: int  # records that the epochs give
    lost: int  # of them, not in the log
    doubled: int  # in the log more often than epochs gave them
    differing: int  # lists of an epoch's id with something else in them, manifests likewise
    superseded: int  # not in the log, and need not be: compaction or retention took them, newer ones are there
    foreign: int  # in the log, and nothing that a worker wrote
    untold: int  # not in the log as the epochs give them, but changes of items and users before them are gone
    digests: dict[str, str]  # of the state of each worker after its last epoch

    def is_fine(self) -> bool:
        """Whether every output is there once, as far as that can be told."""
        return not (self.lost or self.doubled or self.differing)

    def text(self) -> str:
        """What was found, for people."""
        lines = [
            f"{self.epochs:,} epochs taken again: of {self.outputs:,} outputs {self.lost:,} are lost, "
            f"{self.doubled:,} doubled, {self.differing:,} differ"
        ]
        if self.superseded:
            lines.append(f"{self.superseded:,} are gone by compaction or retention, as they may be")
        if self.foreign:
            of, are = counted(self.foreign, "record"), agreeing(self.foreign, "are")
            lines.append(f"{of} of the output topics {are} of no epoch: something else wrote there")
        if self.untold:
            lines.append(
                f"{self.untold:,} cannot be compared: compaction took records of items or users that came before them"
            )
        return "\n".join(lines)


@dataclass
class _Output:
    """What an epoch gave."""

    topic: str
    key: bytes | None
    value: object  # bytes; of a manifest what is the same under any key
    list_id: object
    certain: bool  # all that was taken before it is still in the log
    found: bool = False


def audit(log: Log, settings: Settings, advance: Callable[[int], None] = lambda records: None) -> Audit:
    """Takes every committed epoch from the log's start, by the settings that were in force, and compares.

    Workers may go on meanwhile: what lies behind the ends that outputs had before the epochs were read is theirs, and
    is not judged.

    Raises StateUnreadable where the log no longer has its first interactions or epochs, or epochs are of a version
    whose model computed otherwise.
    """
    _check_reach(log, settings)
    before = _output_ends(log, settings)
    every = manifests(log, settings, StreamState(settings), None)
    _check_equations(every)
    outputs: dict[tuple[str, int], list[_Output]] = {}
    digests = {}
    for worker in sorted({manifest.worker for manifest in every}):
        mine = [manifest for manifest in every if manifest.worker == worker]
        pass_ = _Pass(log, settings, worker)
        digests[worker] = digest(pass_.take(mine, advance))
        outputs |= pass_.outputs
    expected = [output for manifest in every for output in outputs[manifest.worker, manifest.epoch]]
    topics = {*_output_topics(settings, every), *(output.topic for output in expected)}
    found = _Comparison(log, settings, expected, before).count(sorted(topics))
    events = sum(manifest.events for manifest in every if not manifest.adopted)
    return Audit(len(every), events, len(expected), **found, digests=digests)


def digest(state: StreamState) -> str:
    """A hash of everything that follows from the log: equal for equal states, by whatever checkpoints they came."""
    hashed = hashlib.blake2b(digest_size=16)
    for key, value in sorted(all_pages(state.engine.model).items()):
        hashed.update(key + value)
    for key, value in state.challengers.pages():
        hashed.update(key + value)
    hashed.update(msgspec.msgpack.encode(state.parts()))
    return hashed.hexdigest()


def _check_reach(log: Log, settings: Settings) -> None:
    for topic in (settings.interactions_topic, settings.epochs_topic):
        if any(start for start in log.starts(topic).values()):
            raise StateUnreadable(f"{topic} no longer holds its first records: there is nothing to compare with")


def _check_equations(every: Iterable[EpochManifest]) -> None:
    """An epoch is taken again to the same bytes by the equations that it was taken by, which the first one names."""
    for manifest in every:
        if manifest.settings is not None and (found := equations_of(manifest.settings)) != EQUATIONS:
            raise StateUnreadable(
                f"epoch {manifest.epoch} of {manifest.worker or 'the worker'} was taken by equations {found} of the "
                f"model, this version has {EQUATIONS}: only the version that took it can make its lists again"
            )


def _output_topics(settings: Settings, every: Iterable[EpochManifest]) -> set[str]:
    found = {t for s in _in_force(settings, every) for t in (s.recommendations_topic, s.quality_topic, s.dead_topic)}
    return found | {settings.epochs_topic}


def _output_ends(log: Log, settings: Settings) -> dict[TopicPartition, int]:
    """Where outputs end now, on every topic that they may have been written to; epochs say under which settings."""
    every = manifests(log, settings, StreamState(settings), None)
    there = log.topic_names()
    surfaces = {topic for topic in there if topic.startswith(f"{settings.recommendations_topic}.")}
    return end_positions(log, *sorted((_output_topics(settings, every) | surfaces) & there))


def _in_force(settings: Settings, every: Iterable[EpochManifest]) -> list[Settings]:
    """All that were, in one epoch or another."""
    return [settings, *(with_recorded(settings, m.settings) for m in every if m.settings is not None)]


class _Pass:
    """The epochs of one worker, with what each of them gives."""

    def __init__(self, log: Log, settings: Settings, worker: str) -> None:
        self._log, self._settings, self._worker = log, settings, worker
        self.outputs: dict[tuple[str, int], list[_Output]] = {}  # by worker and epoch
        stored = log.stored_state(settings.application)
        self._key = stored.secret() if stored.seat() == worker else b""
        self._certain, self._epochs = True, list[EpochManifest]()
        self._limits = output_limits(log, settings)

    def take(self, epochs: Sequence[EpochManifest], advance: Callable[[int], None]) -> StreamState:
        """The state after the last one.

        A worker whose checkpoint went and whose model is another since, or which was told to, has made its state anew
        from the epochs before: so does this.
        """
        numbers = [manifest.epoch for manifest in epochs]
        if gap := next((n for n, number in enumerate(numbers, 1) if n != number), 0):
            raise StateUnreadable(f"{self._settings.epochs_topic} lacks epoch {gap} of {self._worker or 'the worker'}")
        recorded = next((m.settings for m in epochs if m.settings is not None), None)
        settings = with_model(self._settings, recorded) if recorded is not None else self._settings
        self._epochs = list(epochs)
        state, begun, rebuilt = self._empty(settings), 0, None
        for n, manifest in enumerate(epochs):
            other = manifest.settings is not None and any(
                manifest.settings.get(name) != (recorded or {}).get(name) for name in MODEL
            )
            recorded = manifest.settings if manifest.settings is not None else recorded
            if not (other or manifest.rebuilt):
                continue
            self._listen(settings, state, epochs[begun:n], advance)
            begun = n
            if other and manifest.settings is not None:
                settings = with_model(self._settings, manifest.settings)
                state = self._anew(settings, epochs[:n], rebuilt)
            if manifest.rebuilt:
                fresh = self._anew(settings, epochs[:n], n)
                records = [*lists_anew(state, fresh, self._worker, self._limits), rebuilt_manifest(fresh, self._worker)]
                self._note(manifest.epoch, records)
                state, begun, rebuilt = fresh, n + 1, n
        self._listen(settings, state, epochs[begun:], advance)
        return state

    def _empty(self, settings: Settings) -> StreamState:
        state = StreamState(settings)
        assume_first(state, self._epochs)
        state.erasure_key = self._key or state.erasure_key
        state.positions = first_positions(self._log, settings)
        return state

    def _anew(self, settings: Settings, epochs: Sequence[EpochManifest], rebuilt: int | None) -> StreamState:
        """The state after epochs without their outputs; the first `rebuilt` of them as a rebuild takes them."""
        state = self._empty(settings)
        if rebuilt is not None:
            rebuild_into(self._log, settings, state, epochs[:rebuilt], self._worker, lambda records: None)
        rest = epochs if rebuilt is None else epochs[rebuilt + 1 :]
        pipeline = Pipeline(settings, state, worker=self._worker, limits=self._limits)
        for epoch in inputs_again(self._log, state, rest):
            pipeline.take(epoch)
        return state

    def _listen(
        self, settings: Settings, state: StreamState, epochs: Sequence[EpochManifest], advance: Callable[[int], None]
    ) -> None:
        pipeline = Pipeline(settings, state, worker=self._worker, limits=self._limits)
        for epoch in inputs_again(self._log, state, epochs):
            self._certain &= not epoch.compacted
            self._note(state.epoch + 1, pipeline.take(epoch).records)
            advance(len(epoch.arrivals))

    def _note(self, epoch: int, records: Iterable[NewRecord]) -> None:
        topic = self._settings.epochs_topic
        self.outputs[self._worker, epoch] = [
            _Output(
                topic=r.topic,
                key=r.key,
                value=_comparable(r, topic),
                list_id=_identify(r, topic),
                certain=self._certain,
            )
            for r in records
        ]


class _Comparison:
    """The outputs of all epochs, in their order, against what is in the log.

    Args:
        before: where outputs ended before the epochs were read: what lies behind is of later ones.
    """

    def __init__(
        self, log: Log, settings: Settings, expected: Sequence[_Output], before: Mapping[TopicPartition, int]
    ) -> None:
        self._log, self._settings, self._epochs_topic, self._before = log, settings, settings.epochs_topic, before
        self._by_key: dict[tuple[str, bytes | None], list[_Output]] = defaultdict(list)
        self._by_value: dict[tuple[str, bytes | None, object], list[_Output]] = defaultdict(list)
        self._by_id: dict[tuple[str, object], list[_Output]] = defaultdict(list)
        for output in expected:
            self._by_key[output.topic, output.key].append(output)
            self._by_value[output.topic, output.key, output.value].append(output)
            if output.list_id is not None:
                self._by_id[output.topic, output.list_id].append(output)
        self._all_certain = all(output.certain for output in expected)
        self._last_certain = dict[TopicPartition, int]()  # the offset of the newest record that can be told for sure
        self._foreign_last: set[tuple[str, bytes | None]] = set()  # keys whose newest record is of no epoch
        self._found = dict.fromkeys(("lost", "doubled", "differing", "superseded", "foreign", "untold"), 0)

    def count(self, topics: Sequence[str]) -> dict[str, int]:
        """How many there are of each kind."""
        specs = self._log.topics(topics)
        there = [topic for topic in topics if topic in specs]
        if missing := {topic for topic, _ in self._by_key} - set(there):
            raise UnknownTopic(f"there is no topic {min(missing)}; outputs of epochs were written to it")
        others = [record for record in read_records(self._log, whole(self._log, *there)) if not self._match(record)]
        for record in others:
            is_later = record.offset >= self._before.get(record.topic_partition, 0)
            if not is_later and not is_of_feedback(record, self._settings):
                self._tell(record)
        for (topic, key), outputs in self._by_key.items():
            self._look_for_missing(specs[topic], key, outputs)
        return self._found

    def _match(self, record: Record) -> bool:
        """Takes a record for the first output like it that was not found yet."""
        same = self._by_value.get((record.topic, record.key, _comparable(record, self._epochs_topic)), [])
        output = next((output for output in same if not output.found), None)
        if output is None:
            self._foreign_last.add((record.topic, record.key))
            return False
        output.found = True
        if output.certain:
            self._last_certain[record.topic_partition] = record.offset
        self._foreign_last.discard((record.topic, record.key))
        return True

    def _tell(self, record: Record) -> None:
        """What a record is that is no output, or one once too often."""
        if (record.topic, record.key, _comparable(record, self._epochs_topic)) in self._by_value:
            self._found["doubled"] += 1
            return
        same_id = self._by_id.get((record.topic, _identify(record, self._epochs_topic)), [])
        if not same_id:  # a list that is others' by what the log still has may have been an epoch's by what it had
            may_be_ours = not self._all_certain and record.offset > self._last_certain.get(record.topic_partition, -1)
            self._found["untold" if may_be_ours else "foreign"] += 1
            return
        output = next((output for output in same_id if not output.found), same_id[0])
        output.found = True
        self._found["differing" if output.certain else "untold"] += 1

    def _look_for_missing(self, spec: TopicSpec, key: bytes | None, outputs: Sequence[_Output]) -> None:
        last = max((n for n, output in enumerate(outputs) if output.found), default=-1)
        first = next((n for n, output in enumerate(outputs) if output.found), len(outputs))
        compacted = "compact" in spec.cleanup
        newer = compacted and (spec.name, key) in self._foreign_last
        withdrawn = compacted and last < 0 and outputs[-1].value is None
        cut_off = any(self._log.starts(spec.name).values()) and "delete" in spec.cleanup and spec.retention_ms >= 0
        for n, output in enumerate(outputs):
            if output.found:
                continue
            if (compacted and n < last) or newer or withdrawn or (cut_off and n < first):
                self._found["superseded"] += 1
            else:
                self._found["lost" if output.certain else "untold"] += 1


def _comparable(record: NewRecord | Record, epochs_topic: str) -> object:
    """The value; of a dead letter with the place of its record, which no record that others wrote has.

    Of a manifest that erased somebody without the digests, whose key may be another worker's.
    """
    manifest = _manifest(record, epochs_topic)
    if manifest is None or not manifest.erased:
        place = tuple(header for header in record.headers if header[0] in PLACE_OF_LETTER)
        return (record.value, place) if place else record.value
    void = sorted(sorted(before.items()) for before in manifest.erased.values())
    plain = msgspec.structs.replace(manifest, erased={}, erased_at={})
    return repr((plain, void, sorted(manifest.erased_at.values())))


def _identify(record: NewRecord | Record, epochs_topic: str) -> object:
    """What no two outputs share: the id of a list, worker and number of an epoch; None for other records."""
    if record.topic == epochs_topic:
        manifest = _manifest(record, epochs_topic)
        return None if manifest is None else (manifest.worker, manifest.epoch)
    try:
        return msgspec.json.decode(record.value or b"", type=RecommendationList).list_id
    except UNDECODABLE:
        return None


def _manifest(record: NewRecord | Record, epochs_topic: str) -> EpochManifest | None:
    return decode_manifest(record.value) if record.topic == epochs_topic else None
