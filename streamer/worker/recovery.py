"""Recovery: the epochs that were committed after the checkpoint are taken again, their outputs suppressed.

The manifest of an epoch says which records it took, so the same function takes the same input and gives the same state.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

from consumers.dead_letter import DeadLetter, Reason
from consumers.decode_fields import is_framed
from consumers.errors import PositionGone, RegistryUnavailable, TopicConflict, UnknownTopic
from consumers.log import Closable, Log, Reader
from consumers.positions import from_topics
from consumers.records import INCARNATION_HEADER, Record, TopicPartition
from consumers.schemas import EpochManifest
from streamer.errors import StateUnreadable
from streamer.lists.publisher import APPLICATION, MADE_ANEW
from streamer.pipeline.arrivals import Arrival, in_order
from streamer.pipeline.epoch import Change, CommittedBlock, CommittedStep, EpochInput, Erasure, epoch_input
from streamer.pipeline.ingest import Intake
from streamer.pipeline.manifest import decode_manifest
from streamer.pipeline.observed_block import MAGIC
from streamer.runtime.topics import end_positions, input_topics, read_records, whole
from streamer.settings import Settings
from streamer.state.in_force import with_recorded
from streamer.state.stream_state import StreamState
from streamer.worker.log_reach import may_lack
from streamer.worker.other_blocks import read_block
from streamer.worker.other_steps import read_step

FAR_FUTURE_MS = 1 << 60
_logger = logging.getLogger(__name__)


def manifests(log: Log, settings: Settings, state: StreamState, worker: str | None = "") -> list[EpochManifest]:
    """The committed epochs of a worker after the state, oldest first; of every worker for None.

    Of two of one number that of the later start of its seat counts, else the first: see `INCARNATION_HEADER`.

    Raises UnknownTopic; StateUnreadable where the topic no longer has one of them; TopicConflict where another
    application's are among them; PositionGone where the records of some are none of the topics of today.
    """
    tp = TopicPartition(settings.epochs_topic, 0)
    if 0 not in log.ends(tp.topic):
        raise UnknownTopic(f"there is no topic {tp.topic}; create it with `freshet topics create`")
    position = max(state.manifest_position, log.starts(tp.topic)[0])
    by_number: dict[tuple[str, int], tuple[int, EpochManifest]] = {}
    foreign = 0
    for record in read_records(log, {tp: position}):
        manifest = decode_manifest(record.value)
        if manifest is None:
            foreign += 1
            continue
        headers = dict(record.headers)
        _check_application(headers, settings)
        if manifest.epoch > state.epoch and worker in (None, manifest.worker):
            if by_number or not state.made_anew:
                _check_inputs(manifest, headers)
            number, incarnation = (manifest.worker, manifest.epoch), _incarnation(headers)
            if number not in by_number or incarnation > by_number[number][0]:
                by_number[number] = incarnation, manifest
    if foreign:
        _logger.warning("%d records of %s are no manifests; they are passed over", foreign, tp.topic)
    found = [manifest for _, manifest in by_number.values()]
    numbers = [state.epoch, *(manifest.epoch for manifest in found)]
    gap = next((pair for pair in pairwise(numbers) if pair[1] != pair[0] + 1), None)
    if gap is not None and worker is not None:
        lacks = f"the state is at epoch {state.epoch}, and after {gap[0]} {tp.topic} goes on with {gap[1]}"
        if not may_lack(settings):
            raise StateUnreadable(
                f"{lacks}: its retention is too short, or records of it were lost; restore a later checkpoint, or set "
                'on_position_gone = "earliest" to go on with what there is'
            )
        _logger.warning("%s: going on with what there is", lacks)
    return found


def _incarnation(headers: Mapping[str, bytes]) -> int:
    """Which start of its seat wrote a manifest; 0 where it does not say."""
    text = headers.get(INCARNATION_HEADER, b"")
    return int(text) if text.isdigit() and len(text) < 19 else 0


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


def _check_reach(log: Log, settings: Settings, epochs: Sequence[EpochManifest]) -> None:
    """Raises PositionGone for an epoch that took what the log has not: to guess would lose or double records."""
    has = end_positions(log, *input_topics(settings))
    for manifest in epochs:
        for tp, end in from_topics(manifest.ends).items():
            if not 0 <= end <= has.get(tp, -1):
                ends = f"ends at {has[tp]}" if tp in has else "is none that is read"
                raise PositionGone(
                    f"epoch {manifest.epoch} in {settings.epochs_topic} says that it took {tp.topic}[{tp.partition}] "
                    f"up to {end}, which {ends}: the log lost records, or somebody else wrote that, and only workers "
                    f"may write to {settings.epochs_topic}; restore the log, or import an exported checkpoint"
                )


def inputs_again(
    log: Log, state: StreamState, epochs: Sequence[EpochManifest], stop: Callable[[], bool] = lambda: False
) -> Iterator[EpochInput]:
    """The very inputs of committed epochs, or of the first of them where it is to stop.

    Each is to be taken into the state before the next one is asked for, unless the state is only there to be asked.
    """
    if not epochs:
        return
    _check_reach(log, state.settings, epochs)
    assume_first(state, epochs)
    with _EpochReader(log, state, epochs) as source:
        for manifest in epochs:
            if stop():
                return
            state.epoch = max(state.epoch, manifest.epoch - 1)  # those in between are lost, see `manifests`
            yield source.epoch(manifest)


def first_positions(log: Log, settings: Settings) -> dict[TopicPartition, int]:
    """Where a state begins that has taken nothing: at the first record of every partition of the input topics."""
    return whole(log, *input_topics(settings))


def assume_first(state: StreamState, epochs: Iterable[EpochManifest]) -> None:
    """Of epochs that did not record their settings the first ones that were recorded are the nearest."""
    first = next((manifest.settings for manifest in epochs if manifest.settings is not None), None)
    if state.in_force is None and first is not None:
        state.assume(first)


class _EpochReader(Closable):
    """The input topics from the state's positions on, cut as the manifests say."""

    def __init__(self, log: Log, state: StreamState, epochs: Sequence[EpochManifest]) -> None:
        self._settings, self._state = state.settings, state
        self._intake = Intake(state.settings)
        ends = (tp for manifest in epochs for tp in from_topics(manifest.ends))
        first_blocks = {self._blocks_of(p): at[0] for one in reversed(epochs) for p, at in one.observed.items()}
        self._steps = TopicPartition(state.settings.model_topic, 0)
        first_step = next((one.learned[0] for one in epochs if one.learned), None)
        first = first_blocks if first_step is None else {**first_blocks, self._steps: first_step}
        self._read = {tp: state.positions.get(tp, 0) for tp in ends} | first  # next offset to read
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
        observed, records = self._observed(manifest), self._records_before(ends)
        arrivals = [self._arrival(record, manifest) for record in records if self._intake.is_interaction(record)]
        changes = [self._change(record, manifest) for record in records if not self._intake.is_interaction(record)]
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
            now_ms=manifest.now_ms,
            aged=manifest.aged,
            rules=manifest.rules,
            shared=manifest.shared,
            observed=observed,
            keeps=manifest.keeps,
            learned=self._learned(manifest),
        )

    def _blocks_of(self, partition: str) -> TopicPartition:
        return TopicPartition(self._settings.observed_topic, int(partition))

    def _observed(self, manifest: EpochManifest) -> list[CommittedBlock]:
        """The blocks of other workers that an epoch took; what lies before them is this worker's own."""
        ends = {self._blocks_of(partition): at[1] for partition, at in manifest.observed.items()}
        first = {self._blocks_of(partition): at[0] for partition, at in manifest.observed.items()}
        records = [one for one in self._records_before(ends) if one.offset >= first[one.topic_partition]]
        for partition, at in manifest.observed.items():  # where it came here, its own records are those from there on
            self._taken[TopicPartition(self._settings.interactions_topic, int(partition))] = at[2]
        blocks = filter(None, (_read_block_again(record, manifest) for record in records))
        return sorted(blocks, key=lambda one: one[:2])

    def _learned(self, manifest: EpochManifest) -> list[CommittedStep]:
        """The steps of other workers that an epoch added. Raises StateUnreadable where one is not to be had."""
        wanted = set(manifest.learned)
        records = self._records_before({self._steps: max(wanted) + 1}) if wanted else []
        found = [step for record in records if record.offset in wanted and (step := read_step(record))]
        if len(found) < len(wanted):
            raise StateUnreadable(
                f"epoch {manifest.epoch} added steps of {self._steps.topic} of which {len(wanted) - len(found)} are "
                "gone, or of another version: start the version that wrote them, or restore a later checkpoint"
            )
        return found

    def _arrival(self, record: Record, manifest: EpochManifest) -> Arrival:
        if _was_refused(record, str(record.partition), manifest):
            return self._intake.refused_arrival(record)
        arrival = self._intake.arrival(record, FAR_FUTURE_MS)
        _check_schema(arrival.payload)
        return arrival

    def _change(self, record: Record, manifest: EpochManifest) -> Change:
        if _was_refused(record, f"{record.topic}/{record.partition}", manifest):
            return self._intake.refused_change(record)
        change = self._intake.change(record)
        _check_schema(change[1])
        return change

    def _compacted_erasures(self, manifest: EpochManifest, changes: Sequence[Change]) -> list[Erasure]:
        """Erasures of the epoch whose tombstones the log no longer has: by the digests in its manifest."""
        by_name = not manifest.erased_at
        digest_of = self._state.digest_by_name if by_name else self._state.digest_user
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
                record = waiting.popleft()
                if record.offset >= self._taken[tp]:
                    records.append(record)
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


def _read_block_again(record: Record, manifest: EpochManifest) -> CommittedBlock | None:
    """The block that an epoch took; None for what was none. Raises StateUnreadable where it cannot be read any more."""
    block = read_block(record)
    if block is None and (record.value or b"").startswith(MAGIC):
        raise StateUnreadable(
            f"epoch {manifest.epoch} took the block in {record.topic}[{record.partition}] at offset {record.offset}, "
            "which this version cannot read: start the version that wrote it, or restore a later checkpoint"
        )
    return block


def _was_refused(record: Record, partition: str, manifest: EpochManifest) -> bool:
    """Whether a record was refused for a reason of the moment at which it was taken."""
    if not manifest.knows_schemas and is_framed(record.value or b""):
        return True
    return record.offset in manifest.refused.get(partition, ())


def _check_schema(taken: object) -> None:
    """Raises RegistryUnavailable for what was read by a schema once that is not to be had now."""
    if isinstance(taken, DeadLetter) and taken.reason is Reason.UNKNOWN_SCHEMA:
        record = taken.record
        raise RegistryUnavailable(
            f"{record.topic}[{record.partition}] offset {record.offset} was read by a schema that is not to be had "
            f"now: {taken.message}; name the registry that has it with schema_registry"
        )
