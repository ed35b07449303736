"""Recovery: the epochs that were committed after the checkpoint are taken again, their outputs suppressed.

The manifest of an epoch says which records it took, so the same function takes the same input and gives the same state.
"""

from collections import deque
from collections.abc import Callable, Sequence

import msgspec

from consumers.errors import UnknownTopic
from consumers.log import Log, Reader
from consumers.records import Record, TopicPartition
from consumers.schemas import EpochManifest
from streamer.alignment import in_order
from streamer.errors import StateUnreadable
from streamer.intake import Intake
from streamer.logs import records_of
from streamer.pipeline import EpochInput
from streamer.settings import Settings
from streamer.state import StreamState

FAR_FUTURE_MS = 1 << 60
_decode = msgspec.json.Decoder(EpochManifest).decode


def manifests(log: Log, settings: Settings, state: StreamState, worker: str | None = "") -> list[EpochManifest]:
    """The committed epochs of a worker after the state, oldest first; of every worker for None.

    Raises UnknownTopic, and StateUnreadable where the topic no longer has the first of them.
    """
    tp = TopicPartition(settings.epochs_topic, 0)
    if 0 not in log.ends(tp.topic):
        raise UnknownTopic(f"there is no topic {tp.topic}; create it with `freshet topics create`")
    position = max(state.manifest_position, log.starts(tp.topic)[0])
    decoded = (_decode(record.value or b"") for record in records_of(log, {tp: position}))
    found = [m for m in decoded if m.epoch > state.epoch and worker in (None, m.worker)]
    if found and worker is not None and found[0].epoch != state.epoch + 1:
        raise StateUnreadable(
            f"the state is at epoch {state.epoch}, and {tp.topic} begins with {found[0].epoch}: its retention is too "
            "short; restore a later checkpoint, or remove the state and the committed offsets to begin anew"
        )
    return found


def take_again(
    log: Log,
    settings: Settings,
    state: StreamState,
    take: Callable[[EpochInput], object],
    epochs: Sequence[EpochManifest],
    advance: Callable[[int], None],
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Gives the very records of committed epochs to `take`, or of the first of them where it is to stop.

    `advance` is told the records of each.
    """
    if not epochs:
        return
    source = _Source(log, settings, state, epochs)
    for manifest in epochs:
        if stop():
            break
        take(source.epoch(manifest))
        advance(manifest.events)
    source.close()


class _Source:
    """The input topics from the state's positions on, cut as the manifests say."""

    def __init__(self, log: Log, settings: Settings, state: StreamState, epochs: Sequence[EpochManifest]) -> None:
        self._intake = Intake(settings)
        self._read = {tp: state.positions.get(tp, 0) for m in epochs for tp in _ends(m)}  # next offset to read
        self._reader: Reader = log.reader(self._read)
        self._waiting: dict[TopicPartition, deque[Record]] = {tp: deque() for tp in self._read}

    def epoch(self, manifest: EpochManifest) -> EpochInput:
        """The input of one committed epoch, bad records refused then refused again."""
        ends = _ends(manifest)
        self._fill(ends)
        arrivals, changes = [], []
        for tp, end in ends.items():
            waiting = self._waiting[tp]
            while waiting and waiting[0].offset < end:
                record = waiting.popleft()
                if self._intake.is_interaction(record):
                    was_future = record.offset in manifest.refused.get(str(tp.partition), ())
                    arrivals.append(self._intake.arrival(record, 0 if was_future else FAR_FUTURE_MS))
                else:
                    changes.append(self._intake.change(record))
        epoch = self._intake.epoch(in_order(arrivals), changes, manifest.repaired)
        epoch.ends = ends  # compaction may have taken the last ones
        epoch.adopted, epoch.released, epoch.regained = manifest.adopted, manifest.released, manifest.regained
        epoch.embeddings, epoch.repair_size = manifest.embeddings, manifest.repair_size
        return epoch

    def _fill(self, ends: dict[TopicPartition, int]) -> None:
        """Reads until every record before `ends` is here; what compaction removed is not waited for."""
        while any(self._read[tp] < end and tp not in self._reader.at_end() for tp, end in ends.items()):
            for record in self._reader.read(10_000, 1.0):
                self._waiting[record.topic_partition].append(record)
                self._read[record.topic_partition] = record.offset + 1

    def close(self) -> None:
        self._reader.close()


def _ends(manifest: EpochManifest) -> dict[TopicPartition, int]:
    return {TopicPartition(topic, int(p)): end for topic, parts in manifest.ends.items() for p, end in parts.items()}
