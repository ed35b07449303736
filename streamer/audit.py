"""Audit: one uninterrupted pass over the committed epochs, whose outputs and state must be those in the log."""

import hashlib
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from consumers.log import Log
from consumers.records import TopicPartition
from streamer.pipeline import Pipeline
from streamer.recovery import manifests, take_again
from streamer.settings import Settings
from streamer.state import StreamState
from tgn.pages import all_pages

Output = tuple[str, bytes | None, bytes | None]  # topic, key, value


class Audit(NamedTuple):
    """What an audit found."""

    epochs: int
    interactions: int
    outputs: int  # records that the epochs give
    lost: int  # of them, not in the log
    doubled: int  # in the log, not of any epoch
    digest: str  # of the state after the last epoch


def audit(log: Log, settings: Settings, advance: Callable[[int], None] = lambda records: None) -> Audit:
    """Takes every committed epoch from the log's start, and compares. Topics are taken to hold all that was written."""
    state = StreamState(settings)
    topics = (settings.interactions_topic, settings.items_topic, settings.users_topic)
    state.positions = {TopicPartition(t, p): start for t in topics for p, start in log.starts(t).items()}
    epochs = manifests(log, settings, state)
    expected: Counter[Output] = Counter()

    class Listening(Pipeline):
        """Keeps what each epoch gives."""

        def take(self, epoch):  # type: ignore[no-untyped-def]
            output = super().take(epoch)
            expected.update((r.topic, r.key, r.value) for r in output.records)
            return output

    take_again(log, settings, state, Listening(settings, state), epochs, advance)
    found = _outputs(log, settings)
    return Audit(
        len(epochs),
        sum(manifest.events for manifest in epochs),
        expected.total(),
        (expected - found).total(),
        (found - expected).total(),
        digest(state),
    )


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
    positions = {TopicPartition(topic, p): start for topic in topics for p, start in log.starts(topic).items()}
    reader, found = log.reader(positions), Counter[Output]()
    while True:
        records = reader.read(10_000, 0.5)
        found.update((record.topic, record.key, record.value) for record in records)
        if not records and reader.at_end() >= positions.keys():
            reader.close()
            return found
