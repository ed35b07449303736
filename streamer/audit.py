"""Audit: one uninterrupted pass over the committed epochs, whose outputs and state must be those in the log."""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec

from consumers.log import Log
from consumers.records import TopicPartition
from streamer.logs import output_limits, records_of, whole
from streamer.pipeline import EpochInput, EpochOutput, Pipeline
from streamer.recovery import manifests, take_again
from streamer.settings import Settings
from streamer.state import StreamState
from tgn.pages import all_pages

Output = tuple[str, bytes | None, bytes | None]  # topic, key, value


class Audit(NamedTuple):
    """What an audit found."""

    epochs: int
    interactions: int  # each once, whoever took it into its state besides
    outputs: int  # records that the epochs give
    lost: int  # of them, not in the log
    doubled: int  # in the log, not of any epoch
    digests: dict[str, str]  # of the state of each worker after its last epoch


def audit(log: Log, settings: Settings, advance: Callable[[int], None] = lambda records: None) -> Audit:
    """Takes every committed epoch from the log's start, and compares. Topics are taken to hold all that was written."""
    every = manifests(log, settings, StreamState(settings), None)
    expected: Counter[Output] = Counter()
    digests, limits = {}, output_limits(log, settings)
    for worker in sorted({manifest.worker for manifest in every}):
        state = StreamState(settings)
        topics = (settings.interactions_topic, settings.items_topic, settings.users_topic)
        state.positions = {TopicPartition(t, p): start for t in topics for p, start in log.starts(t).items()}
        epochs = manifests(log, settings, state, worker)
        take_again(log, settings, state, _Listening(settings, state, worker, expected, limits).take, epochs, advance)
        digests[worker] = digest(state)
    found = _outputs(log, settings)
    return Audit(
        len(every),
        sum(manifest.events for manifest in every if not manifest.adopted),
        expected.total(),
        (expected - found).total(),
        (found - expected).total(),
        digests,
    )


class _Listening(Pipeline):
    """Counts what each epoch gives."""

    def __init__(
        self, settings: Settings, state: StreamState, worker: str, outputs: Counter[Output], limits: Mapping[str, int]
    ) -> None:
        super().__init__(settings, state, worker=worker, limits=limits)
        self._outputs = outputs

    def take(self, epoch: EpochInput) -> EpochOutput:
        output = super().take(epoch)
        self._outputs.update((r.topic, r.key, r.value) for r in output.records)
        return output


def digest(state: StreamState) -> str:
    """A hash of everything that follows from the log: equal for equal states, by whatever checkpoints they came."""
    hashed = hashlib.blake2b(digest_size=16)
    for key, value in sorted(all_pages(state.engine.model).items()):
        hashed.update(key + value)
    hashed.update(msgspec.msgpack.encode(state.parts()))
    return hashed.hexdigest()


def _outputs(log: Log, settings: Settings) -> Counter[Output]:
    """Every record of the topics that epochs write to, as a read_committed reader sees them."""
    topics = (settings.recommendations_topic, settings.quality_topic, settings.dead_topic, settings.epochs_topic)
    return Counter((record.topic, record.key, record.value) for record in records_of(log, whole(log, *topics)))
