"""What of an epoch counts: bad, late, repeated and void records are told apart from those that are taken."""

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field

import msgspec

from consumers.dead_letter import DeadLetter, Reason
from consumers.event_weights import EventWeights
from consumers.schemas import Interaction, Merge
from streamer.features.event_ids import digest_event_id, id_of_record
from streamer.pipeline.arrivals import Arrival
from streamer.pipeline.event_order import Ordering, Placed
from streamer.pipeline.observed_block import Retracted
from streamer.settings import Settings
from streamer.state.dedup import SeenEvents
from streamer.state.ledger import event_number
from streamer.state.merges import WaitingMerge
from streamer.state.stream_state import StreamState

ADMITTED_AT_ONCE = 32  # interactions: some .5 ms


@dataclass
class Admitted:
    """An epoch's interactions, sorted out; each list in the order of arrival."""

    placed: list[Placed] = field(default_factory=list)
    retractions: list[tuple[int, Retracted]] = field(default_factory=list)  # with the partition of each
    merges: list[WaitingMerge] = field(default_factory=list)
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
    between: Callable[[], None] | None = None,
) -> Admitted:
    """Sorts out an epoch; moves the watermark and remembers the event ids, each of its user.

    A record without an id is named by where it lies, and only a retraction that came before can have taken that id.

    `void_events`: digests of event ids that are known to be taken back later: a rebuild never takes them. `adopted`:
    another worker took them in their time; by this one's clock all of them may come too late. `between`: called after
    every ADMITTED_AT_ONCE; it may read the model.
    """
    admitted = Admitted()
    ordering = Ordering(settings.allowed_lateness_ms, state.clock_ms, state.newest_place)
    refuses_late = settings.too_late == "dead-letter" and not adopted
    number = state.engine.model.events
    for nth_arrival, arrival in enumerate(arrivals, 1):
        if between is not None and not nth_arrival % ADMITTED_AT_ONCE:
            between()
        payload = arrival.payload
        if isinstance(payload, DeadLetter):
            admitted.dead.append(payload)
            continue
        if isinstance(payload, Merge):
            _admit_merge(arrival, payload, state, admitted)
            continue
        digest = digest_event_id(payload.user_id, payload.event_id or id_of_record(arrival.partition, arrival.offset))
        if is_void(arrival, payload.user_id, state):
            admitted.void += 1
        elif payload.retract:
            state.seen_events.take(digest)  # an interaction that comes after its retraction is a duplicate
            if payload.event_id is not None:
                admitted.retractions.append((arrival.partition, Retracted(payload.user_id, payload.event_id)))
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
            own_id = digest if payload.event_id else b""
            admitted.placed.append(ordering.place(arrival, owned(payload, state), nth, event_number(digest), own_id))
    state.seen_events.forget_old()
    state.clock_ms, state.newest_place = ordering.clock_ms, ordering.newest
    return admitted


def _admit_merge(arrival: Arrival, merge: Merge, state: StreamState, admitted: Admitted) -> None:
    if is_void(arrival, merge.user_id, state) or is_void(arrival, merge.merge, state):
        admitted.void += 1
    elif _is_of_another(merge, state):
        admitted.dead.append(DeadLetter(arrival.record, Reason.OTHER_USER, "the session is another user's already"))
    else:
        admitted.merges.append(WaitingMerge(merge, arrival.partition))


def _is_of_another(merge: Merge, state: StreamState) -> bool:
    users = state.engine.model.users
    user = users.get(merge.user_id)
    owner, of_user = state.merges.owner(users.get(merge.merge)), state.merges.owner(user)
    return owner is not None and owner.user != (user if of_user is None else of_user.user)


def _is_new(event_id: str, digest: bytes, seen: SeenEvents) -> bool:
    return not seen.has_unscoped(event_id) and seen.take(digest)


def owned(interaction: Interaction, state: StreamState) -> Interaction:
    """An interaction as that of the user whose session it was done in."""
    users = state.engine.model.users
    owner = state.merges.owner(users.get(interaction.user_id)) if state.merges else None
    return interaction if owner is None else msgspec.structs.replace(interaction, user_id=users.ids[owner.user])


def is_void(arrival: Arrival, user_id: str, state: StreamState) -> bool:
    """Whether the user of an interaction was erased after it was written.

    By its offset, or by the log's clock: who reads the log anew may meet the erasure before what it erases.
    """
    erasure = state.erasure_of(user_id)
    if erasure is None:
        return False
    at_ms, before = erasure
    return arrival.offset < before.get(arrival.partition, 0) or arrival.record.timestamp_ms <= at_ms
