"""What of an epoch counts: bad, late, repeated and void records are told apart from those that are taken."""

from collections.abc import Container, Sequence
from dataclasses import dataclass, field

from consumers.dead_letter import DeadLetter, Reason
from consumers.event_weights import EventWeights
from consumers.schemas import Interaction
from streamer.features.event_ids import digest_of, id_of_record
from streamer.pipeline.arrivals import Arrival
from streamer.pipeline.event_order import Ordering, Placed
from streamer.settings import Settings
from streamer.state.dedup import SeenEvents
from streamer.state.ledger import event_number
from streamer.state.stream_state import StreamState


@dataclass
class Admitted:
    """An epoch's interactions, sorted out; each list in the order of arrival."""

    placed: list[Placed] = field(default_factory=list)
    retractions: list[Interaction] = field(default_factory=list)
    dead: list[DeadLetter] = field(default_factory=list)
    duplicates: int = 0
    void: int = 0  # of users that were erased, or taken back, after the record was written


def admit(
    arrivals: Sequence[Arrival],
    state: StreamState,
    settings: Settings,
    weights: EventWeights,
    void_events: Container[bytes] = (),
    adopted: bool = False,
) -> Admitted:
    """Sorts out an epoch; moves the watermark and remembers the event ids, each of its user.

    A record without an id is named by where it lies, and only a retraction that came before can have taken that id.

    `void_events`: digests of event ids that are known to be taken back later: a rebuild never takes them. `adopted`:
    another worker took them in their time; by this one's clock all of them may come too late.
    """
    admitted = Admitted()
    ordering = Ordering(settings.allowed_lateness_ms, state.clock_ms, state.newest_place)
    refuses_late = settings.too_late == "dead-letter" and not adopted
    number = state.engine.model.events
    for arrival in arrivals:
        payload = arrival.payload
        if isinstance(payload, DeadLetter):
            admitted.dead.append(payload)
            continue
        digest = digest_of(payload.user_id, payload.event_id or id_of_record(arrival.partition, arrival.offset))
        if is_void(arrival, payload.user_id, state):
            admitted.void += 1
        elif payload.retract:
            state.seen_events.take(digest)  # an interaction that comes after its retraction is a duplicate
            admitted.retractions.append(payload)
        elif digest in void_events:
            admitted.void += 1
        elif not weights.takes(payload.event_type, payload.value):
            message = f"the weight of its value is not within {weights.max_weight:g}, or lost in 32 bits"
            admitted.dead.append(DeadLetter(arrival.record, Reason.BAD_VALUE, message))
        elif refuses_late and ordering.too_late(payload):
            behind_ms = ordering.clock_ms - payload.timestamp
            admitted.dead.append(DeadLetter(arrival.record, Reason.TOO_LATE, f"{behind_ms} ms behind the watermark"))
        elif not payload.event_id and state.seen_events.has(digest):
            admitted.void += 1
        elif payload.event_id and not _is_new(payload.event_id, digest, state.seen_events):
            admitted.duplicates += 1
        else:
            nth = number + len(admitted.placed)
            admitted.placed.append(ordering.place(arrival, payload, nth, event_number(digest)))
    state.seen_events.forget_old()
    state.clock_ms, state.newest_place = ordering.clock_ms, ordering.newest
    return admitted


def _is_new(event_id: str, digest: bytes, seen: SeenEvents) -> bool:
    return not seen.has_unscoped(event_id) and seen.take(digest)


def is_void(arrival: Arrival, user_id: str, state: StreamState) -> bool:
    """Whether the user of an interaction was erased after it was written.

    By its offset, or by the log's clock: who reads the log anew may meet the erasure before what it erases.
    """
    erasure = state.erasure_of(user_id)
    if erasure is None:
        return False
    at_ms, before = erasure
    return arrival.offset < before.get(arrival.partition, 0) or arrival.record.timestamp_ms <= at_ms
