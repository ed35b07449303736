"""What each worker learns is added to the others': their steps at an epoch's start, its own told at an epoch's end."""

import logging

import numpy as np

from consumers.records import NewRecord
from streamer.pipeline.epoch import EpochInput
from streamer.pipeline.learned_record import LearnedRecord, records_of
from streamer.state.shared_learning import Others
from streamer.state.stream_state import StreamState
from tgn.graph import I32
from tgn.sharing.learned_steps import TOLD, LearnedStep, add, fits, take_step

STEP_EVENTS, LATER_STEP_EVENTS = 20, 50  # interactions of a step, at least, at first and later,
LATE_STEP_EVENTS = 5  # likewise, where none was made for a while
LATER = 5_000  # after so many: weights move less and less
ADDED_WHOLE = 200  # interactions that neither knows of the other's, up to which all of both is added
_logger = logging.getLogger(__name__)


def step_events(learned: int) -> int:
    """From how many interactions a step is made, at least. learned: from how many the worker has learned."""
    return STEP_EVENTS if learned < LATER else LATER_STEP_EVENTS


def add_learned(state: StreamState, epoch: EpochInput, worker: str) -> int:
    """Adds steps of other workers, by (seat, epoch, part); returns how many came for the first time.

    Where both sides have learned from many interactions that the other does not know, they have gone one way twice: of
    a step so much is added as ADDED_WHOLE is of these.
    """
    learning = state.learning
    if not epoch.keeps:
        learning.drop()
        return 0
    unshared, model = learning.keep(state.engine.model), state.engine.model
    counting, places = list[LearnedRecord](), {seat: other[:2] for seat, other in learning.seats.items()}
    for record in sorted((one.record for one in epoch.learned), key=LearnedRecord.place):
        if _counts(state, record, places.get(record.seat)):
            places[record.seat] = record.epoch, record.part
            counting.append(record)
    events, steps = sum(one.events for one in counting if not one.part), list[tuple[LearnedStep, float]]()
    for record in counting:
        own = learning.total - record.seen.get(worker, 0)
        unknown = min(max(events, record.events), own)
        nodes = np.array(model.items.encode(record.items), np.int32)
        steps.append((_at(record.step, nodes), min(1.0, ADDED_WHOLE / max(unknown, 1))))
        learning.seats[record.seat] = Others(
            record.epoch, record.part, record.total, record.seen.get(worker, 0), model.events
        )
    if steps:
        add(model, unshared, steps)
    learning.position = max([learning.position, *(at + 1 for at, _ in epoch.learned)])
    learning.forget(model.events)
    return len(counting)


def _counts(state: StreamState, record: LearnedRecord, last: tuple[int, int] | None) -> bool:
    """Whether a step is new here. What a worker learned in all its life is for those who know nothing of it yet.

    last: the place of the last one of its seat.
    """
    if not fits(state.engine.model, record.step):
        _logger.warning("a step of %s is of a model of another shape, and is passed over", record.seat)
        return False
    if last is None:
        return True
    return (record.epoch, record.part) > last and not (record.is_first and record.epoch != last[0])


def own_step(state: StreamState, epoch: EpochInput, worker: str, events: int, limit: int) -> list[NewRecord]:
    """The records of a step of what the epoch completes; none where that is not enough yet.

    Args:
        events: from how many interactions the epoch learned.
        limit: bytes of the largest record of the topic.
    """
    learning = state.learning
    if learning.unshared is None or epoch.adopted:
        return []
    learning.events += events
    learning.total += events
    if not events or learning.events < epoch.keeps:
        return []
    model = state.engine.model
    step = take_step(model, learning.unshared, TOLD if learning.told else 1.0)
    items = np.union1d(step.history.row, step.candidate.row)
    place = np.zeros(len(model.embeddings.moved), np.int32)
    place[items] = np.arange(len(items))
    record = LearnedRecord(
        seat=worker,
        epoch=state.epoch + 1,
        part=0,
        is_first=not learning.told,
        events=learning.events,
        total=learning.total,
        seen={seat: other.total for seat, other in learning.seats.items()},
        items=[model.items.ids[node] for node in items.tolist()],
        step=_at(step, place),
    )
    learning.events, learning.told = 0, True
    return records_of(state.settings.model_topic, record, limit)


def _at(step: LearnedStep, row: I32) -> LearnedStep:
    """The step with other numbers for its items. row: [I] the new one by the old."""
    history, candidate = step.history, step.candidate
    return step._replace(
        history=history._replace(row=row[history.row]), candidate=candidate._replace(row=row[candidate.row])
    )
