"""A block of the topic `freshet.observed`: what the owner of a partition admitted of it in an epoch, in columns.

The bytes: columns as MessagePack in a frame (`streamer.pipeline.frame`), then the digests, which do not compress.
Integers stand in the narrowest type that holds them; times and offsets as differences from the one before.
"""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from streamer.pipeline.frame import Unreadable, frame, unframe
from tgn.context_embedding import ROWS
from tgn.graph import F32, I16, I32, I64, NONE, SLOTS, no_contexts

VERSION = 1
DIGEST_BYTES = 16
MAGIC = b"FRO"
_WIDTHS = 1, 2, 4, 8  # bytes of an integer
_KINDS = {bytes([width]): np.dtype(f"<i{width}") for width in _WIDTHS}


class Retracted(NamedTuple):
    """An interaction that was taken back, and whose id is reserved."""

    user_id: str
    event_id: str


class Merged(NamedTuple):
    """A merge that was admitted, see `consumers.schemas.Merge`."""

    user_id: str
    session_id: str
    upto: dict[str, int]


class ObservedBlock(NamedTuple):
    """N interactions of one partition in the order in which its owner took them, and what else it admitted."""

    start: int  # the offset of the partition from which the block reaches
    end: int  # up to here: the next offset to take
    clock_ms: int  # the owner's watermark after it
    users: Sequence[str]  # each once
    items: Sequence[str]
    user: I32  # [N] places in `users`
    item: I32  # [N] places in `items`
    t: I64  # [N] event time, epoch ms
    order_ms: I64  # [N] of the place where lateness is allowed, see `streamer.pipeline.event_order`
    weight: F32  # [N]
    context: I16  # [N, SLOTS] rows of tgn.context_embedding.Contexts, −1: none
    offset: I64  # [N] of the record, rising
    record_ms: I64  # [N] when the record was appended, epoch ms
    event: np.ndarray  # [N] uint64, see `streamer.state.ledger.event_number`
    has_id: np.ndarray  # [N] bool: whether the record has an event id, which no other record may have again
    digests: np.ndarray  # [M] 16 bytes each, of user and event id, of the M that have one
    retractions: Sequence[Retracted] = ()
    merges: Sequence[Merged] = ()


class _WireColumns(msgspec.Struct, array_like=True, frozen=True):
    """On the wire. A later field comes last and has a default."""

    start: int
    end: int
    clock_ms: int
    first_t: int
    first_record_ms: int
    users: list[str]
    items: list[str]
    has_id: bytes  # [N] a byte each; empty: all have one
    user: bytes
    item: bytes
    t: bytes
    late_ms: bytes
    weight: bytes  # one where all are equal
    context: bytes  # empty where nothing is known
    offset: bytes
    record_ms: bytes
    event: bytes  # [N − M]
    retractions: list[Retracted]
    merges: list[Merged]


_encoder, _decoder = msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder(_WireColumns)


def encode_block(block: ObservedBlock) -> bytes:
    """The bytes of a block."""
    n = len(block.t)
    weight = block.weight.astype("<f4")
    offsets = _steps(block.offset)
    offsets[:1] = block.offset[:1] - block.start
    user, item, t, late_ms, offset, record_ms = _narrow(
        block.user, block.item, _steps(block.t), block.order_ms - block.t, offsets, _steps(block.record_ms)
    )
    columns = _WireColumns(
        start=block.start,
        end=block.end,
        clock_ms=block.clock_ms,
        first_t=int(block.t[0]) if n else 0,
        first_record_ms=int(block.record_ms[0]) if n else 0,
        users=list(block.users),
        items=list(block.items),
        has_id=b"" if block.has_id.all() else block.has_id.astype(np.uint8).tobytes(),
        user=user,
        item=item,
        t=t,
        late_ms=late_ms,
        weight=(weight[:1] if n and (weight == weight[0]).all() else weight).tobytes(),
        context=b"" if (block.context == NONE).all() else block.context.astype("<i2").T.tobytes(),
        offset=offset,
        record_ms=record_ms,
        event=block.event[~block.has_id].astype("<u8").tobytes(),
        retractions=list(block.retractions),
        merges=list(block.merges),
    )
    return frame(MAGIC, VERSION, _encoder.encode(columns), block.digests.tobytes())


def decode_block(value: bytes) -> ObservedBlock:
    """A block from its bytes. Raises Unreadable."""
    columns, digests = unframe(MAGIC, VERSION, value, "block")
    try:
        return _read(_decoder.decode(columns), digests)
    except (msgspec.MsgspecError, ValueError, OverflowError) as error:
        raise Unreadable(f"its columns do not fit together: {error}") from error


def _read(columns: _WireColumns, digests: memoryview) -> ObservedBlock:
    """The block, unless a kernel could read behind an array by it. Raises ValueError."""
    user, item, late_ms, steps = (
        _widen(packed) for packed in (columns.user, columns.item, columns.late_ms, columns.offset)
    )
    n, held = len(late_ms), np.frombuffer(digests, f"V{DIGEST_BYTES}")
    has_id = np.frombuffer(columns.has_id, np.uint8).astype(bool) if columns.has_id else np.ones(n, bool)
    event = numbers_of(held)
    if columns.has_id:
        event, of_ids = np.zeros(n, np.uint64), event
        event[has_id], event[~has_id] = of_ids, np.frombuffer(columns.event, "<u8")
    t, record_ms = _sums(columns.first_t, columns.t), _sums(columns.first_record_ms, columns.record_ms)
    weight = np.frombuffer(columns.weight, "<f4")
    if len(weight) == 1:
        weight = np.full(n, weight[0])
    context = no_contexts(n)
    if columns.context:
        context = np.ascontiguousarray(np.frombuffer(columns.context, "<i2").reshape(SLOTS, -1).T, np.int16)
        _check_places(context + 1, ROWS + 1)
    if {len(column) for column in (user, item, t, steps, record_ms, weight, context, has_id, event)} != {n}:
        raise ValueError("columns of several lengths")
    _check_places(user, len(columns.users))
    _check_places(item, len(columns.items))
    named = "" not in columns.users and "" not in columns.items
    if not (named and np.isfinite(weight).all() and t.min(initial=0) >= 0):
        raise ValueError("a weight, a name or a time that is none")
    offset = columns.start + steps.cumsum()
    ends = [columns.start, *offset[:1].tolist(), *(offset[-1:] + 1).tolist(), columns.end]
    if not (offset[1:] > offset[:-1]).all() or ends != sorted(ends):
        raise ValueError("offsets that do not rise")
    return ObservedBlock(
        start=columns.start,
        end=columns.end,
        clock_ms=columns.clock_ms,
        users=columns.users,
        items=columns.items,
        user=user.astype(np.int32),
        item=item.astype(np.int32),
        t=t,
        order_ms=t + late_ms,
        weight=weight,
        context=context,
        offset=offset,
        record_ms=record_ms,
        event=event,
        has_id=has_id,
        digests=held,
        retractions=columns.retractions,
        merges=columns.merges,
    )


def _check_places(places: np.ndarray, most: int) -> None:
    if places.size and not (places.min() >= 0 and places.max() < most):
        raise ValueError("a place that is none")


def numbers_of(digests: np.ndarray) -> np.ndarray:
    """[M] uint64 what the ledger keeps of digests [M] of 16 bytes: `streamer.state.ledger.event_number` of each."""
    first = np.frombuffer(digests.data, "<u8").reshape(-1, DIGEST_BYTES // 8)[:, 0]
    return np.asarray(np.maximum(first, np.uint64(1)))


def _steps(values: I64) -> I64:
    """[N] each value less the one before; the first is 0."""
    steps = np.zeros(len(values), np.int64)
    np.subtract(values[1:], values[:-1], out=steps[1:])
    return steps


def _sums(first: int, steps: bytes) -> I64:
    return first + _widen(steps).cumsum()


def _narrow(*columns: np.ndarray) -> list[bytes]:
    """Of each column [N] the width of the narrowest integers that hold its values, then these."""
    together = np.array(columns, np.int64)
    if not together.size:
        return [b"\x01"] * len(columns)
    lows, highs = together.min(axis=1).tolist(), together.max(axis=1).tolist()
    packed = []
    for values, low, high in zip(together, lows, highs, strict=True):
        width = next(width for width in _WIDTHS if -(1 << 8 * width - 1) <= low and high < 1 << 8 * width - 1)
        packed.append(bytes([width]) + values.astype(f"<i{width}").tobytes())
    return packed


def _widen(packed: bytes) -> I64:
    if packed[:1] not in _KINDS:
        raise ValueError("integers of a width that is none")
    return np.frombuffer(packed, _KINDS[packed[:1]], offset=1).astype(np.int64)
