"""Whether the log still has what a state goes on with: records that it dropped, topics that were made anew."""

import logging
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from consumers.counted import counted
from consumers.errors import PositionGone
from consumers.log import Log, Positions
from consumers.records import TopicPartition
from streamer.runtime.topics import end_positions, input_topics, whole
from streamer.settings import Settings
from streamer.state.stream_state import StreamState

_logger = logging.getLogger(__name__)


class Bounds(NamedTuple):
    """What the log holds of the topics that a state is made from."""

    starts: dict[TopicPartition, int]
    ends: dict[TopicPartition, int]
    ids: dict[str, str]


class Gone(NamedTuple):
    """Where a state cannot go on. `partition` None: the whole topic, which is another one now."""

    topic: str
    partition: int | None
    found: str


def bounds(log: Log, settings: Settings) -> Bounds:
    """Asks the log of the topics that a worker goes on with. Raises UnknownTopic."""
    return bounds_of(log, *input_topics(settings), settings.epochs_topic)


def bounds_of(log: Log, *topics: str) -> Bounds:
    """Asks the log of these topics. Raises UnknownTopic."""
    return Bounds(whole(log, *topics), end_positions(log, *topics), log.topic_ids(topics))


def gone(settings: Settings, has: Bounds, positions: Positions, ids: Mapping[str, str]) -> list[Gone]:
    """Where these positions are none of the log. `ids`: of the topics to which they belong.

    Compaction may take the first records of items and users away: a position before the first one is fine there.
    """
    anew = [topic for topic, id_ in ids.items() if has.ids.get(topic, id_) != id_]
    found = [Gone(topic, None, f"the topic {topic} was deleted and made anew") for topic in anew]
    for tp, position in sorted(positions.items()):
        if tp.topic in anew:
            continue
        if tp not in has.ends:
            found.append(
                Gone(*tp, f"{tp.topic} has no partition {tp.partition} any more, the state has {position} of it")
            )
            continue
        start, end = has.starts[tp], has.ends[tp]
        first = start if tp.topic == settings.interactions_topic else 0
        if not first <= position <= end:
            found.append(
                Gone(*tp, f"{tp.topic}[{tp.partition}] holds offsets {start} to {end}, the state goes on at {position}")
            )
    return found


def may_lack(settings: Settings) -> bool:
    """Whether the operator has said to go on with what the log has."""
    return settings.on_position_gone == "earliest" or settings.on_log_damaged == "accept"


def stop_where_gone(settings: Settings, lost: Sequence[Gone]) -> None:
    """Raises PositionGone where that is what the settings say."""
    if lost and not may_lack(settings):
        found = "; ".join(one.found for one in lost)
        raise PositionGone(f'{found}; set on_position_gone = "earliest" to go on with what there is')


def of_state(state: StreamState, settings: Settings) -> dict[TopicPartition, int]:
    """The positions of a state, that in the topic of epochs too."""
    return state.positions | {TopicPartition(settings.epochs_topic, 0): state.manifest_position}


def go_on(state: StreamState, settings: Settings, has: Bounds, lost: list[Gone]) -> list[str]:
    """Sets the state's positions to the first that the log has. Gives a line for each place, with what is lost."""
    said = []
    for topic, partition, found in lost:
        former = {
            tp: position
            for tp, position in of_state(state, settings).items()
            if tp.topic == topic and partition in (None, tp.partition)
        }
        now = {tp: start for tp, start in has.starts.items() if tp.topic == topic and partition in (None, tp.partition)}
        records = sum(has.ends[tp] - start for tp, start in now.items())
        if any(position > has.ends.get(tp, -1) for tp, position in former.items()) or partition is None:
            at = ", ".join(f"{tp.partition}: {position}" for tp, position in former.items())
            said.append(
                f"{found}: going on at its first record, {counted(records, 'record', verb='are')} to be taken; what "
                f"the former one held after the state's position ({at}) is lost, and how much that was is not known"
            )
            state.made_anew = sorted({*state.made_anew, topic})
        else:
            missing = sum(start - former[tp] for tp, start in now.items())
            said.append(f"{found}: going on at the first one, {counted(missing, 'record', verb='are')} lost")
        _set(state, settings, topic, former, now)
    return said


def _set(state: StreamState, settings: Settings, topic: str, former: Positions, now: Positions) -> None:
    if topic == settings.epochs_topic:
        state.manifest_position = next(iter(now.values()), 0)
        return
    state.positions = {tp: position for tp, position in state.positions.items() if tp not in former} | dict(now)
    if topic == settings.interactions_topic:  # offsets of the former topic say nothing of the new one's
        partitions = {tp.partition for tp in former} if topic in state.made_anew else set()
        state.erased = {
            digest: (at_ms, {p: end for p, end in before.items() if p not in partitions})
            for digest, (at_ms, before) in state.erased.items()
        }


class Met(NamedTuple):
    """How a state met the log."""

    moved: frozenset[TopicPartition]  # partitions that go on elsewhere than the state was
    anew: bool  # records of committed epochs are none of the topics of today


def meet_log(log: Log, settings: Settings, state: StreamState) -> Met:
    """Makes the state's positions some that the log has, beginning at its start where there are none.

    Where the log has dropped records that the state goes on with, or never had them, what then is a setting, never
    silence. Raises PositionGone where it is to stop.
    """
    has = bounds(log, settings)
    starts = {tp: start for tp, start in has.starts.items() if tp.topic in input_topics(settings)}
    before = state.positions = starts | state.positions
    lost = gone(settings, has, of_state(state, settings), state.topic_ids)
    stop_where_gone(settings, lost)
    pending, state.made_anew = state.made_anew, []
    for line in go_on(state, settings, has, lost):
        _logger.warning("%s", line)
    state.topic_ids = has.ids
    anew = any(topic in input_topics(settings) for topic in state.made_anew)
    state.made_anew = sorted({*pending, *state.made_anew})
    return Met(frozenset(tp for tp, position in state.positions.items() if before.get(tp) != position), anew)
