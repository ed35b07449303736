"""Recovery: the epochs that were committed after the checkpoint are taken again, their outputs suppressed.

The manifest of an epoch says which records it took, so the same function takes the same input and gives the same state.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing

import msgspec

from consumers.errors import PositionGone, TopicConflict, UnknownTopic
from consumers.log import Log, Reader
from consumers.positions import from_topics
from consumers.records import Record, TopicPartition
from consumers.schemas import EpochManifest
from streamer.errors import StateUnreadable
from streamer.lists.publisher import APPLICATION, MADE_ANEW
from streamer.pipeline.arrivals import Arrival, in_order
from streamer.pipeline.epoch import Change, EpochInput, Erasure, epoch_input
from streamer.pipeline.ingest import Intake
from streamer.runtime.topics import input_topics, records_of, whole
from streamer.settings import Settings
from streamer.state.in_force import with_recorded
from streamer.state.stream_state import StreamState

FAR_FUTURE_MS = 1 << 60
_logger = logging.getLogger(__name__)
_decode = msgspec.json.Decoder(EpochManifest).decode


def manifests(log: Log, settings: Settings, state: StreamState, worker: str | None = "") -> list[EpochManifest]:
    """The committed epochs of a worker after the state, oldest first; of every worker for None.

    Raises UnknownTopic; StateUnreadable where the topic no longer has the first of them; TopicConflict where another
    application's are among them; PositionGone where the records of some are none of the topics of today.
    """
    tp = TopicPartition(settings.epochs_topic, 0)
    if 0 not in log.ends(tp.topic):
        raise UnknownTopic(f"there is no topic {tp.topic}; create it with `freshet topics create`")
    position = max(state.manifest_position, log.starts(tp.topic)[0])
    by_number: dict[tuple[str, int], EpochManifest] = {}
    foreign = 0
    for record in records_of(log, {tp: position}):
        try:
            manifest = _decode(record.value or b"")
        except msgspec.MsgspecError:
            foreign += 1
            continue
        headers = dict(record.headers)
        _check_application(headers, settings)
        if manifest.epoch > state.epoch and worker in (None, manifest.worker):
            if by_number or not state.made_anew:
                _check_inputs(manifest, headers)
            by_number.setdefault((manifest.worker, manifest.epoch), manifest)
    if foreign:
        _logger.warning("%d records of %s are no manifests; they are passed over", foreign, tp.topic)
    found = list(by_number.values())
    if found and worker is not None and found[0].epoch != state.epoch + 1:
        raise StateUnreadable(
            f"the state is at epoch {state.epoch}, and {tp.topic} begins with {found[0].epoch}: its retention is too "
            "short; restore a later checkpoint, or remove the state and the committed offsets to begin anew"
        )
    return found


def _check_application(headers: dict[str, bytes], settings: Settings) -> None:
    """Epochs of two applications in one topic: each would publish every list, and take the other's for its own."""
    application = headers.get(APPLICATION, settings.application.encode()).decode()
    if application != settings.application:
        raise TopicConflict(
            f"the epochs in {settings.epochs_topic} are those of the application {application}: give "
            f"{settings.application} an epochs_topic, recommendations_topic, quality_topic and dead_topic of its own, "
            f"or set application = {application!r}"
        )


def _check_inputs(manifest: EpochManifest, headers: dict[str, bytes]) -> None:
    if anew := headers.get(MADE_ANEW):
        raise PositionGone(
            f"{anew.decode()} was deleted and made anew before epoch {manifest.epoch}: the epochs before it cannot be "
            "taken again, for their records are gone; import an exported checkpoint"
        )


def inputs_again(
    log: Log, state: StreamState, epochs: Sequence[EpochManifest], stop: Callable[[], bool] = lambda: False
) -> Iterator[EpochInput]:
    """The very inputs of committed epochs, or of the first of them where it is to stop.

    Each is to be taken into the state before the next one is asked for, unless the state is only there to be asked.
    """
    if not epochs:
        return
    assume_first(state, epochs)
    with closing(_Source(log, state, epochs)) as source:
        for manifest in epochs:
            if stop():
                return
            yield source.epoch(manifest)


def first_positions(log: Log, settings: Settings) -> dict[TopicPartition, int]:
    """Where a state begins that has taken nothing: at the first record of every partition of the input topics."""
    return whole(log, *input_topics(settings))


def assume_first(state: StreamState, epochs: Iterable[EpochManifest]) -> None:
    """Of epochs that did not record their settings the first ones that were recorded are the nearest."""
    first = next((manifest.settings for manifest in epochs if manifest.settings is not None), None)
    if state.in_force is None and first is not None:
        state.assume(first)


class _Source:
    """The input topics from the state's positions on, cut as the manifests say."""

    def __init__(self, log: Log, state: StreamState, epochs: Sequence[EpochManifest]) -> None:
        self._settings, self._state = state.settings, state
        self._intake = Intake(state.settings)
        ends = (tp for manifest in epochs for tp in from_topics(manifest.ends))
        self._read = {tp: state.positions.get(tp, 0) for tp in ends}  # next offset to read
        self._taken = {tp: position if state.epoch else 0 for tp, position in self._read.items()}  # next one to take
        self._reader: Reader = log.reader(self._read)
        self._waiting: dict[TopicPartition, deque[Record]] = {tp: deque() for tp in self._read}

    def epoch(self, manifest: EpochManifest) -> EpochInput:
        """The input of one committed epoch, bad records refused then refused again."""
        if manifest.settings is not None:
            self._settings = with_recorded(self._settings, manifest.settings)
            self._intake = Intake(self._settings)
        ends = from_topics(manifest.ends)
        offsets = sum(
            end - self._taken[tp] for tp, end in ends.items() if tp.topic != self._settings.interactions_topic
        )
        records = self._records_before(ends)
        arrivals = [self._arrival(record, manifest) for record in records if self._intake.is_interaction(record)]
        changes = [self._intake.change(record) for record in records if not self._intake.is_interaction(record)]
        return epoch_input(
            in_order(arrivals),
            changes,
            ends=ends,  # compaction may have taken the last ones
            erasures=self._compacted_erasures(manifest, changes),
            repair=manifest.repaired,
            repair_size=manifest.repair_size,
            adopted=manifest.adopted,
            released=manifest.released,
            regained=manifest.regained,
            embeddings=manifest.embeddings,
            settings=manifest.settings,
            compacted=offsets - len(changes),
        )

    def _arrival(self, record: Record, manifest: EpochManifest) -> Arrival:
        was_future = record.offset in manifest.refused.get(str(record.partition), ())
        return self._intake.arrival(record, 0 if was_future else FAR_FUTURE_MS)

    def _compacted_erasures(self, manifest: EpochManifest, changes: Sequence[Change]) -> list[Erasure]:
        """Erasures of the epoch whose tombstones the log no longer has: by the digests in its manifest."""
        by_name = not manifest.erased_at
        digest_of = self._state.digest_by_name if by_name else self._state.digest_of
        there = {digest_of(change.user_id).hex() for _, change in changes if isinstance(change, Erasure)}
        if len(there) >= len(manifest.erased):  # digests of another worker's key are not to be matched
            return []
        gone = {bytes.fromhex(digest) for digest in manifest.erased if digest not in there}
        known = (id_ for id_ in self._state.engine.model.users.ids if id_)
        users = {digest: id_ for id_ in known if (digest := digest_of(id_)) in gone}
        return [
            Erasure(users.get(digest, ""), manifest.erased_at.get(digest.hex(), -1), digest, by_name)
            for digest in sorted(gone)
        ]

    def _records_before(self, ends: Mapping[TopicPartition, int]) -> list[Record]:
        """What of the log comes next and before these offsets, partition by partition."""
        self._fill(ends)
        records = []
        for tp, end in ends.items():
            waiting = self._waiting[tp]
            while waiting and waiting[0].offset < end:
                records.append(waiting.popleft())
        self._taken |= ends
        return records

    def _fill(self, ends: Mapping[TopicPartition, int]) -> None:
        """Reads until every record before `ends` is here; what compaction removed is not waited for."""
        while any(self._read[tp] < end and tp not in self._reader.at_end() for tp, end in ends.items()):
            for record in self._reader.read(10_000, 1.0):
                self._waiting[record.topic_partition].append(record)
                self._read[record.topic_partition] = record.offset + 1

    def close(self) -> None:
        self._reader.close()
