"""Rebuild: the state made again from the log, without anything that was taken back: what was learned of it goes too."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from consumers.decode import InteractionDecoder
from consumers.errors import PositionGone
from consumers.log import Log
from consumers.records import NewRecord
from consumers.schemas import AsOf, Interaction
from streamer.checkpoint import written_now
from streamer.dedup import digest_of
from streamer.errors import StateUnreadable
from streamer.logs import output_limits
from streamer.pipeline import Pipeline, by_partition
from streamer.publish import Publisher
from streamer.recovery import FAR_FUTURE_MS, manifests, take_again
from streamer.settings import Settings
from streamer.state import StreamState


class Rebuilt(NamedTuple):
    """What a rebuild did."""

    epochs: int
    interactions: int
    taken_back: int  # interactions that were never taken this time
    lists: int  # published because they are others now


def rebuild(log: Log, settings: Settings, advance: Callable[[int], None] = lambda records: None) -> Rebuilt:
    """Takes every committed epoch of the checkpoint again, into an empty state that takes the checkpoint's place.

    (1) Which interactions were retracted later, (2) the epochs without them, (3) lists that come out differently,
    (4) one commit. Raises StateUnreadable without a checkpoint, PositionGone where the log no longer reaches back.
    """
    committer = log.committer(settings.application)
    old = StreamState(settings, committer.load_state)
    if not old.load():
        raise StateUnreadable("there is no checkpoint to rebuild; `freshet run` makes the first one")
    _check_reach(log, old)
    fresh = StreamState(settings)
    fresh.positions, fresh.erased = dict.fromkeys(old.positions, 0), dict(old.erased)
    retracted, limits = _retracted(log, settings, old), output_limits(log, settings)
    epochs = [m for m in manifests(log, settings, fresh, committer.seat) if m.epoch <= old.epoch]
    take_again(log, settings, fresh, Pipeline(settings, fresh, retracted, committer.seat, limits).take, epochs, advance)
    fresh.amendments.repair()
    fresh.manifest_position = old.manifest_position
    lists = _lists_anew(settings, old, fresh, limits)
    delta = dict.fromkeys(key for key, _ in committer.load_state()) | fresh.delta() | written_now()
    committer.commit(lists, {}, delta)
    committer.purge_state()
    committer.close()
    taken = fresh.engine.model.events
    return Rebuilt(len(epochs), taken, old.engine.model.events - taken, len(lists))


def _check_reach(log: Log, state: StreamState) -> None:
    for topic in {tp.topic for tp in state.positions}:
        if any(log.starts(topic).values()):
            raise PositionGone(f"{topic} no longer holds its first records: what was learned of them would be lost")


def _retracted(log: Log, settings: Settings, state: StreamState) -> frozenset[bytes]:
    """Digests of the event ids that retractions before the state's positions name."""
    decoder = InteractionDecoder(settings.field_map, settings.clock_skew_ms, settings.max_record_bytes)
    ends = {tp: end for tp, end in state.positions.items() if tp.topic == settings.interactions_topic and end > 0}
    reader, found, left = log.reader(dict.fromkeys(ends, 0)), set(), set(ends)
    while left:
        for record in reader.read(10_000, 1.0):
            payload = decoder.decode(record, FAR_FUTURE_MS)
            if record.offset < ends[record.topic_partition] and isinstance(payload, Interaction) and payload.retract:
                found.add(digest_of(payload.user_id, payload.event_id or ""))
            if record.offset + 1 >= ends[record.topic_partition]:
                left.discard(record.topic_partition)
        left -= reader.at_end()
    reader.close()
    return frozenset(found)


def _lists_anew(settings: Settings, old: StreamState, fresh: StreamState, limits: Mapping[str, int]) -> list[NewRecord]:
    """The lists of everybody who has one, where they are others than those published."""
    model, publisher = fresh.engine.model, Publisher(settings, fresh.engine.model, limits)
    before = {old.engine.model.users.ids[user]: items for user, items in old.listed.lists().items()}
    names = [name for name in before if name and model.users.get(name) is not None]
    users = np.array([model.users.get(name) for name in names], np.int32)
    outcome = fresh.engine.relist(users, fresh.clock_ms)
    fresh.listed.note(users, outcome.published.item)
    as_of = AsOf(fresh.clock_ms, by_partition(fresh.positions, settings.interactions_topic))
    records = []
    for n, name in enumerate(names):
        items = [model.items.ids[item] for item in outcome.published.item[n, : outcome.published.size[n]]]
        if items != [old.engine.model.items.ids[item] for item in before[name]]:
            records.append(publisher.list_of(f"{fresh.epoch}-{name}", name, as_of, outcome, n))
    return records + [publisher.withdrawal(name) for name in before if name and model.users.get(name) is None]
