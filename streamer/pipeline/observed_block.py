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
        return _checked(_read(_decoder.decode(columns), digests))
    except (msgspec.MsgspecError, ValueError, OverflowError) as error:
        raise Unreadable(f"its columns do not fit together: {error}") from error


def _read(columns: _WireColumns, digests: bytes) -> ObservedBlock:
    late_ms = _widen(columns.late_ms)
    n = len(late_ms)
    has_id = np.frombuffer(columns.has_id, np.uint8).astype(bool) if columns.has_id else np.ones(n, bool)
    held = np.frombuffer(digests, f"V{DIGEST_BYTES}")
    event = np.zeros(n, np.uint64)
    event[has_id] = numbers_of(held)
    event[~has_id] = np.frombuffer(columns.event, "<u8")
    t = _sums(columns.first_t, columns.t)
    weight = np.frombuffer(columns.weight, "<f4")
    context = np.frombuffer(columns.context, "<i2").reshape(SLOTS, -1).T if columns.context else no_contexts(n)
    return ObservedBlock(
        start=columns.start,
        end=columns.end,
        clock_ms=columns.clock_ms,
        users=columns.users,
        items=columns.items,
        user=_widen(columns.user).astype(np.int32),
        item=_widen(columns.item).astype(np.int32),
        t=t,
        order_ms=t + late_ms,
        weight=np.repeat(weight, n) if len(weight) == 1 else weight,
        context=np.ascontiguousarray(context, np.int16),
        offset=columns.start + np.cumsum(_widen(columns.offset)),
        record_ms=_sums(columns.first_record_ms, columns.record_ms),
        event=event,
        has_id=has_id,
        digests=held,
        retractions=columns.retractions,
        merges=columns.merges,
    )


def _checked(block: ObservedBlock) -> ObservedBlock:
    """The block, unless a kernel could read behind an array by it. Raises ValueError."""
    n = len(block.t)
    rows = (block.user, block.item, block.order_ms, block.weight, block.context, block.offset, block.record_ms)
    if any(len(column) != n for column in (*rows, block.has_id)) or len(block.digests) != block.has_id.sum():
        raise ValueError("columns of several lengths")
    places = ((block.user, len(block.users)), (block.item, len(block.items)), (block.context + 1, ROWS + 1))
    if any(((column < 0) | (column >= most)).any() for column, most in places):
        raise ValueError("a place that is none")
    named = all(block.users) and all(block.items)
    if not (np.isfinite(block.weight).all() and named and (block.t >= 0).all()):
        raise ValueError("a weight, a name or a time that is none")
    within = [block.start - 1, *block.offset[:1].tolist(), *block.offset[-1:].tolist(), block.end]
    if (np.diff(block.offset) <= 0).any() or within != sorted(within) or (n and block.offset[-1] >= block.end):
        raise ValueError("offsets that do not rise")
    return block


def numbers_of(digests: np.ndarray) -> np.ndarray:
    """[M] uint64 what the ledger keeps of digests [M] of 16 bytes: `streamer.state.ledger.event_number` of each."""
    first = np.frombuffer(digests.tobytes(), "<u8").reshape(-1, DIGEST_BYTES // 8)[:, 0]
    return np.asarray(np.maximum(first, np.uint64(1)))


def _steps(values: I64) -> I64:
    """[N] each value less the one before; the first is 0."""
    steps = np.zeros(len(values), np.int64)
    np.subtract(values[1:], values[:-1], out=steps[1:])
    return steps


def _sums(first: int, steps: bytes) -> I64:
    return first + np.cumsum(_widen(steps))


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
    if packed[:1] not in {bytes([width]) for width in _WIDTHS}:
        raise ValueError("integers of a width that is none")
    return np.frombuffer(packed, f"<i{packed[0]}", offset=1).astype(np.int64)
