"""A record of the topic `freshet.model`: what a worker learned from its own interactions since the record before.

The bytes: names and counts as MessagePack in a frame (`streamer.pipeline.frame`), then the numbers: weights and the
ranker's optimiser in 16 bits, the mean squares of gradients by their roots, sums of squared gradients in 32 bits.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from consumers.records import NewRecord, size_of
from streamer.pipeline.frame import Unreadable, frame, unframe
from tgn.context_embedding import ROWS
from tgn.sharing.learned_steps import LearnedStep, RankerStep

VERSION = 1
MAGIC = b"FRM"
_HALF, _WHOLE = "<f2", "<f4"
_MOST = np.float32(65_504)  # of 16 bits


class LearnedRecord(NamedTuple):
    """A step, or a part of one that was too large, and where it stands among the others."""

    seat: str  # whose it is
    epoch: int  # of that seat, in which it was completed
    part: int  # of the epoch, from 0
    is_first: bool  # all that the seat has ever learned by itself
    events: int  # from how many interactions it was learned
    total: int  # how many the seat had learned from by then
    seen: dict[str, int]  # other seats → how many of their interactions were in its weights
    items: Sequence[str]  # each once; `step.item` is places here
    step: LearnedStep

    def place(self) -> tuple[str, int, int]:
        """What no two records share, and in which order they are added."""
        return self.seat, self.epoch, self.part


class _StepColumns(msgspec.Struct, array_like=True, frozen=True):
    """On the wire. A later field comes last and has a default."""

    seat: str
    epoch: int
    part: int
    is_first: bool
    events: int
    total: int
    seen: dict[str, int]
    items: list[str]
    contexts: list[int]
    sizes: tuple[int, int, int]  # of a row, of the popularity's weights, of the ranker's; 0: it has no ranker
    kept: float
    steps: int


_encoder, _decoder = msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder(_StepColumns)


def encode_learned(record: LearnedRecord) -> bytes:
    """The bytes of a record."""
    step, ranker = record.step, record.step.ranker
    columns = _StepColumns(
        seat=record.seat,
        epoch=record.epoch,
        part=record.part,
        is_first=record.is_first,
        events=record.events,
        total=record.total,
        seen=dict(sorted(record.seen.items())),
        items=list(record.items),
        contexts=step.context.tolist(),
        sizes=(step.history.shape[1], len(step.popularity), 0 if ranker is None else len(ranker.fast)),
        kept=1.0 if ranker is None else ranker.kept,
        steps=0 if ranker is None else ranker.steps,
    )
    halves = [step.history, step.candidate, step.context_vector]
    if ranker is not None:
        halves += [ranker.fast, ranker.slow, np.sqrt(np.maximum(ranker.variance, np.float32(0)))]
    sums = (step.history_adagrad, step.candidate_adagrad, step.context_adagrad)
    numbers = [np.clip(array, -_MOST, _MOST).astype(_HALF) for array in halves]
    numbers += [array.astype(_WHOLE) for array in (*sums, step.popularity, step.popularity_adagrad)]
    return frame(MAGIC, VERSION, _encoder.encode(columns), b"".join(array.tobytes() for array in numbers))


def decode_learned(value: bytes) -> LearnedRecord:
    """A record from its bytes. Raises Unreadable."""
    packed, numbers = unframe(MAGIC, VERSION, value, "learned step")
    try:
        columns = _decoder.decode(packed)
        return LearnedRecord(
            seat=columns.seat,
            epoch=columns.epoch,
            part=columns.part,
            is_first=columns.is_first,
            events=columns.events,
            total=columns.total,
            seen=columns.seen,
            items=columns.items,
            step=_checked(columns, _step(columns, numbers)),
        )
    except (msgspec.MsgspecError, ValueError, OverflowError) as error:
        raise Unreadable(f"its columns do not fit together: {error}") from error


def _step(columns: _StepColumns, numbers: bytes) -> LearnedStep:
    n, m = len(columns.items), len(columns.contexts)
    d, scales, p = columns.sizes
    shapes: list[tuple[int, ...]] = [(n, d), (n, d), (m, d), *[(p,)] * (3 if p else 0)]
    kinds = [_HALF] * len(shapes) + [_WHOLE] * 5
    shapes += [(n,), (n,), (m,), (scales,), (scales,)]
    arrays, start = list[np.ndarray](), 0
    for shape, kind in zip(shapes, kinds, strict=True):
        count = int(np.prod(shape))
        arrays.append(np.frombuffer(numbers, kind, count, start).astype(np.float32).reshape(shape))
        start += count * np.dtype(kind).itemsize
    if start != len(numbers):
        raise ValueError("more numbers than rows")
    history, candidate, vector, *ranker = arrays[:-5]
    history_adagrad, candidate_adagrad, context_adagrad, popularity, popularity_adagrad = arrays[-5:]
    return LearnedStep(
        item=np.arange(n, dtype=np.int32),
        history=history,
        candidate=candidate,
        history_adagrad=history_adagrad,
        candidate_adagrad=candidate_adagrad,
        context=np.array(columns.contexts, np.int32),
        context_vector=vector,
        context_adagrad=context_adagrad,
        popularity=popularity,
        popularity_adagrad=popularity_adagrad,
        ranker=RankerStep(ranker[0], ranker[1], ranker[2] ** 2, columns.kept, columns.steps) if ranker else None,
    )


def _checked(columns: _StepColumns, step: LearnedStep) -> LearnedStep:
    """The step, unless it would spoil the weights that it is added to. Raises ValueError."""
    ranker = step.ranker
    arrays: list[Any] = [array for array in step if isinstance(array, np.ndarray)]
    arrays += [] if ranker is None else [*ranker[:3], np.array(ranker.kept)]
    if not all(np.isfinite(array).all() for array in arrays):
        raise ValueError("a number that is none")
    sums = (step.history_adagrad, step.candidate_adagrad, step.context_adagrad, step.popularity_adagrad)
    if any((array < 0).any() for array in sums) or columns.steps < 0 or not 0 <= columns.kept <= 1:
        raise ValueError("a sum of squares below 0")
    if len(set(columns.items)) < len(columns.items) or not all(columns.items) or not columns.seat:
        raise ValueError("a name that is none, or stands twice")
    rows = columns.contexts
    if len(set(rows)) < len(rows) or any(not 0 <= row < ROWS for row in rows):
        raise ValueError("a row that is none, or stands twice")
    if min(columns.epoch, columns.part, columns.events, columns.total, *columns.seen.values()) < 0:
        raise ValueError("a count below 0")
    return step


def records_of(topic: str, record: LearnedRecord, limit: int) -> list[NewRecord]:
    """The record of a step; where it would be too large, those of its parts, in a row. limit: bytes of the largest."""
    whole = _new(topic, record)
    if size_of(whole) <= limit or len(record.items) < 2:
        return [whole]
    middle = len(record.items) // 2
    first, rest = _rows(record, slice(0, middle)), _without_ranker(_rows(record, slice(middle, None)))
    made = records_of(topic, first, limit)
    return made + records_of(topic, rest._replace(part=record.part + len(made)), limit)


def _new(topic: str, record: LearnedRecord) -> NewRecord:
    return NewRecord(topic, record.seat.encode(), encode_learned(record))


def _without_ranker(record: LearnedRecord) -> LearnedRecord:
    """The items alone: another part has the rest."""
    step = record.step
    return record._replace(
        step=step._replace(
            context=step.context[:0],
            context_vector=step.context_vector[:0],
            context_adagrad=step.context_adagrad[:0],
            popularity=np.zeros_like(step.popularity),
            popularity_adagrad=np.zeros_like(step.popularity),
            ranker=None,
        )
    )


def _rows(record: LearnedRecord, rows: slice) -> LearnedRecord:
    """The record with some of its items alone."""
    step = record.step
    items = record.items[rows]
    return record._replace(
        items=items,
        step=step._replace(
            item=np.arange(len(items), dtype=np.int32),
            history=step.history[rows],
            candidate=step.candidate[rows],
            history_adagrad=step.history_adagrad[rows],
            candidate_adagrad=step.candidate_adagrad[rows],
        ),
    )
