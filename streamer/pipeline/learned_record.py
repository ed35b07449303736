"""A record of the topic `freshet.model`: what a worker learned from its own interactions since the record before.

The bytes: names and counts as MessagePack in a frame (`streamer.pipeline.frame`), then the numbers: which of the names
a row is of; weights, the ranker's optimiser and the roots of its mean squares, of each the upper 16 bits of a float32;
sums of squared gradients in 32 bits. Version 1 has 16-bit floats, and both vectors of every item.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import msgspec
import numpy as np

from consumers.records import NewRecord, size_of
from streamer.pipeline.frame import Unreadable, frame, unframe
from tgn.context_embedding import ROWS
from tgn.graph import F32
from tgn.sharing.added_rows import LearnedRows
from tgn.sharing.learned_steps import LearnedStep, RankerStep

FIRST_VERSION, VERSION = 1, 2
MAGIC = b"FRM"
_OLD_HALF, _HALF, _WHOLE, _PLACE = "<f2", "<u2", "<f4", "<i4"


class LearnedRecord(NamedTuple):
    """A step, or a part of one that was too large, and where it stands among the others."""

    seat: str  # whose it is
    epoch: int  # of that seat, in which it was completed
    part: int  # of the epoch, from 0
    is_first: bool  # all that the seat has ever learned by itself
    events: int  # from how many interactions it was learned
    total: int  # how many the seat had learned from by then
    seen: dict[str, int]  # other seats → how many of their interactions were in its weights
    items: Sequence[str]  # each once; rows of the step's history and candidates are places here
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
    rows: tuple[int, int] | None = None  # of history and of candidates; None: of every item, as in version 1


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
        contexts=step.context.row.tolist(),
        sizes=(step.history.vector.shape[1], len(step.popularity), 0 if ranker is None else len(ranker.fast)),
        kept=1.0 if ranker is None else ranker.kept,
        steps=0 if ranker is None else ranker.steps,
        rows=(len(step.history.row), len(step.candidate.row)),
    )
    groups = (step.history, step.candidate, step.context)
    halves = [rows.vector for rows in groups]
    if ranker is not None:
        halves += [ranker.fast, ranker.slow, np.sqrt(np.maximum(ranker.variance, np.float32(0)))]
    wholes = [*(rows.adagrad for rows in groups), step.popularity, step.popularity_adagrad]
    numbers = (
        _flat([rows.row for rows in groups[:2]]).astype(_PLACE),
        _upper_half(_flat(halves).astype(np.float32, copy=False)),
        _flat(wholes).astype(_WHOLE),
    )
    return frame(MAGIC, VERSION, _encoder.encode(columns), b"".join(array.tobytes() for array in numbers))


def decode_learned(value: bytes) -> LearnedRecord:
    """A record from its bytes. Raises Unreadable."""
    version = FIRST_VERSION if value[len(MAGIC) : len(MAGIC) + 1] == bytes([FIRST_VERSION]) else VERSION
    packed, numbers = unframe(MAGIC, version, value, "learned step")
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


def _step(columns: _StepColumns, numbers: memoryview) -> LearnedStep:
    n, m = len(columns.items), len(columns.contexts)
    d, scales, p = columns.sizes
    h, c = columns.rows or (n, n)
    if min(h, c, d, scales, p) < 0:
        raise ValueError("a count below 0")
    counts = h + c if columns.rows else 0, (h + c + m) * d + 3 * p, h + c + m + 2 * scales
    kinds = _PLACE, _HALF if columns.rows else _OLD_HALF, _WHOLE
    blocks, start = list[np.ndarray](), 0
    for count, kind in zip(counts, kinds, strict=True):
        blocks.append(np.frombuffer(numbers, kind, count, start))
        start += blocks[-1].nbytes
    if start != len(numbers):
        raise ValueError("more numbers than rows")
    place = blocks[0].astype(np.int32) if columns.rows else np.tile(np.arange(n, dtype=np.int32), 2)
    history, candidate, vector, *ranker = _cut(_floats(blocks[1]), h * d, c * d, m * d, *((p, p, p) if p else ()))
    sums = _floats(blocks[2])
    history_sums, candidate_sums, context_sums, popularity, popularity_adagrad = _cut(sums, h, c, m, scales, scales)
    if (sums[: h + c + m] < 0).any() or (popularity_adagrad < 0).any():
        raise ValueError("a sum of squares below 0")
    return LearnedStep(
        history=LearnedRows(place[:h], history.reshape(h, d), history_sums),
        candidate=LearnedRows(place[h:], candidate.reshape(c, d), candidate_sums),
        context=LearnedRows(np.array(columns.contexts, np.int32), vector.reshape(m, d), context_sums),
        popularity=popularity,
        popularity_adagrad=popularity_adagrad,
        ranker=RankerStep(ranker[0], ranker[1], ranker[2] ** 2, columns.kept, columns.steps) if ranker else None,
    )


def _cut(array: np.ndarray, *sizes: int) -> list[np.ndarray]:
    """Parts of these sizes, in a row."""
    return [array[end - size : end] for size, end in zip(sizes, accumulate(sizes), strict=True)]


def _flat(arrays: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([array.ravel() for array in arrays])


def _upper_half(numbers: F32) -> np.ndarray:
    """The upper 16 bits of each, rounded to the nearest: eight bits of the number, and its whole range."""
    bits = numbers.view(np.uint32)
    return ((bits + np.uint32(0x7FFF) + (bits >> 16 & np.uint32(1))) >> 16).astype(_HALF)


def _floats(block: np.ndarray) -> F32:
    """What a block of a record says. Raises ValueError for a number that is none."""
    if block.dtype == np.dtype(_HALF):
        block = np.left_shift(block, 16, dtype=np.uint32).view(np.float32)
    numbers = block.astype(np.float32, copy=not block.flags.writeable)
    if not np.isfinite(numbers).all():
        raise ValueError("a number that is none")
    return numbers


def _checked(columns: _StepColumns, step: LearnedStep) -> LearnedStep:
    """The step, unless it would spoil the weights that it is added to. Raises ValueError."""
    if columns.steps < 0 or not 0 <= columns.kept <= 1:
        raise ValueError("a mean that is none")
    n = len(columns.items)
    if "" in columns.items or not columns.seat:
        raise ValueError("a name that is none")
    for room, rows in ((n, step.history.row), (n, step.candidate.row), (ROWS, step.context.row)):
        if len(rows) and (rows.min() < 0 or rows.max() >= room):
            raise ValueError("a row that is none")
    if min(columns.epoch, columns.part, columns.events, columns.total, *columns.seen.values()) < 0:
        raise ValueError("a count below 0")
    return step


def records_of(topic: str, record: LearnedRecord, limit: int) -> list[NewRecord]:
    """The record of a step; where it would be too large, those of its parts, in a row. limit: bytes of the largest."""
    whole = _new(topic, record)
    if size_of(whole) <= limit or len(record.items) < 2:
        return [whole]
    middle = len(record.items) // 2
    first, rest = _items(record, 0, middle), _without_ranker(_items(record, middle, len(record.items)))
    made = records_of(topic, first, limit)
    return made + records_of(topic, rest._replace(part=record.part + len(made)), limit)


def _new(topic: str, record: LearnedRecord) -> NewRecord:
    return NewRecord(topic, record.seat.encode(), encode_learned(record))


def _without_ranker(record: LearnedRecord) -> LearnedRecord:
    """The items alone: another part has the rest."""
    step = record.step
    return record._replace(
        step=step._replace(
            context=step.context.take(slice(0)),
            popularity=np.zeros_like(step.popularity),
            popularity_adagrad=np.zeros_like(step.popularity),
            ranker=None,
        )
    )


def _items(record: LearnedRecord, first: int, end: int) -> LearnedRecord:
    """The record with items [first, end) alone."""
    step = record.step
    return record._replace(
        items=record.items[first:end],
        step=step._replace(
            history=_of_items(step.history, first, end), candidate=_of_items(step.candidate, first, end)
        ),
    )


def _of_items(rows: LearnedRows, first: int, end: int) -> LearnedRows:
    mine = (first <= rows.row) & (rows.row < end)
    kept = rows.take(np.flatnonzero(mine))
    return kept._replace(row=kept.row - np.int32(first))
