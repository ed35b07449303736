"""Blocks of `freshet.observed`: they give back what was put in, for ever, and other bytes are refused in words."""

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.pipeline.frame import Unreadable
from streamer.pipeline.observed_block import (
    DIGEST_BYTES,
    VERSION,
    Merged,
    ObservedBlock,
    Retracted,
    decode_block,
    encode_block,
    numbers_of,
)
from tests.golden.blocks import as_json, example
from tgn.context_embedding import ROWS
from tgn.graph import SLOTS

GOLDEN = Path(__file__).parents[2] / "golden"
VERSIONS = sorted(int(file.stem.partition("-")[2]) for file in GOLDEN.glob("observed-*.block"))
HEADER = struct.Struct("<3sBIII")
names = st.lists(st.text(min_size=1, max_size=5).filter(lambda text: text.isprintable()), min_size=1, unique=True)
times = st.integers(0, 1 << 61)


@st.composite
def blocks(draw: st.DrawFn) -> ObservedBlock:
    n = draw(st.integers(0, 6))
    users, items = draw(names), draw(names)

    def column(values: st.SearchStrategy[int], dtype: str = "i8") -> np.ndarray:
        return np.array(draw(st.lists(values, min_size=n, max_size=n)), dtype)

    start = draw(times)
    offset = start + np.cumsum(column(st.integers(1, 1 << 40)))
    has_id = column(st.booleans(), "?")
    m = int(has_id.sum())
    digests = np.frombuffer(draw(st.binary(min_size=m * DIGEST_BYTES, max_size=m * DIGEST_BYTES)), f"V{DIGEST_BYTES}")
    event = column(st.integers(0, (1 << 64) - 1), "u8")
    event[has_id] = numbers_of(digests)
    text = st.text(max_size=5)
    return ObservedBlock(
        start=start,
        end=draw(st.integers(int(offset[-1]) + 1 if n else start, 1 << 62)),
        clock_ms=draw(times),
        users=users,
        items=items,
        user=column(st.integers(0, len(users) - 1), "i4"),
        item=column(st.integers(0, len(items) - 1), "i4"),
        t=column(times),
        order_ms=column(times),
        weight=np.array(draw(st.lists(st.floats(-1e5, 1e5, width=32), min_size=n, max_size=n)), np.float32),
        context=np.array(draw(st.lists(st.integers(-1, ROWS - 1), min_size=n * SLOTS, max_size=n * SLOTS)), np.int16).reshape(n, SLOTS),
        offset=offset,
        record_ms=column(times),
        event=event,
        has_id=has_id,
        digests=digests,
        retractions=draw(st.lists(st.builds(Retracted, text, text), max_size=2)),
        merges=draw(st.lists(st.builds(Merged, text, text, st.dictionaries(st.sampled_from("012"), times)), max_size=2)),
    )  # fmt: skip


@given(blocks())
def test_a_block_gives_back_what_was_put_in(block: ObservedBlock) -> None:
    found = decode_block(encode_block(block))
    assert as_json(found) == as_json(block)
    assert [column.dtype for column in found if isinstance(column, np.ndarray)] == [
        column.dtype for column in block if isinstance(column, np.ndarray)
    ]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_block_is_read_for_ever(version: int) -> None:
    found = decode_block((GOLDEN / f"observed-{version}.block").read_bytes())
    assert json.loads((GOLDEN / f"observed-{version}.json").read_text()).items() <= json.loads(json.dumps(as_json(found))).items()  # fmt: skip


def test_the_present_version_has_a_golden_block() -> None:
    assert VERSION in VERSIONS, "python -m tests.golden.blocks"


def test_many_interactions_are_compressed() -> None:
    row = np.arange(3_000)
    few = example()
    many = few._replace(
        end=10_000,
        user=(row % 3).astype(np.int32),
        item=(row % 2).astype(np.int32),
        t=few.t[0] + row,
        order_ms=few.t[0] + row,
        weight=np.ones(3_000, np.float32),
        context=np.resize(few.context, (3_000, SLOTS)),
        offset=few.start + row,
        record_ms=few.t[0] + row,
        event=row.astype(np.uint64),
        has_id=np.zeros(3_000, bool),
        digests=few.digests[:0],
    )
    value = encode_block(many)
    assert len(value) < 3_000 * (8 + 2)  # of which 8 are the events' numbers
    assert as_json(decode_block(value)) == as_json(many)


def test_what_is_cut_off_anywhere_is_refused() -> None:
    value = encode_block(example())
    for end in range(len(value)):
        with pytest.raises(Unreadable):
            decode_block(value[:end])


def test_a_bit_that_has_changed_anywhere_is_found() -> None:
    value = encode_block(example())
    for place in range(len(value)):
        changed = bytearray(value)
        changed[place] ^= 1 << place % 8
        with pytest.raises(Unreadable):
            decode_block(bytes(changed))


@given(st.binary() | st.binary().map(lambda rest: value_of(rest, b"")))
def test_foreign_bytes_are_refused(value: bytes) -> None:
    with pytest.raises(Unreadable):
        decode_block(value)


def value_of(raw: bytes, digests: bytes) -> bytes:
    """A record with a right header and checksum."""
    packed = pa.compress(raw, codec="zstd", asbytes=True) if len(raw) > 300 else raw
    rest = packed + digests
    return HEADER.pack(b"FRO", VERSION, zlib.crc32(rest), len(raw), len(packed)) + rest


def forged(**columns: object) -> bytes:
    """A block some of whose columns are others, behind a right checksum."""
    held, digests = columns_of(encode_block(example()))
    order = [
        "start",
        "end",
        "clock_ms",
        "first_t",
        "first_record_ms",
        "users",
        "items",
        "has_id",
        "user",
        "item",
        "t",
        "late_ms",
        "weight",
        "context",
        "offset",
        "record_ms",
        "event",
        "retractions",
        "merges",
    ]
    for name, column in columns.items():
        held[order.index(name)] = column
    return value_of(msgspec.msgpack.encode(held), digests)


def columns_of(value: bytes) -> tuple[list[Any], bytes]:
    """What of a small block is not compressed, and the digests."""
    _, _, _, size, packed = HEADER.unpack_from(value)
    assert packed == size
    rest = value[HEADER.size :]
    return msgspec.msgpack.decode(rest[:packed]), rest[packed:]


@pytest.mark.parametrize(
    "columns",
    [
        {"user": b"\x01" + bytes([0, 1, 2, 3, 0, 1, 2])},  # a place behind the users
        {"item": b"\x01" + bytes([255] * 7)},
        {"user": b"\x01\x00"},  # one user for seven times
        {"user": b"\x03" + bytes(21)},  # integers of three bytes
        {"late_ms": b""},
        {"context": b"\xff\x7f" * 7 * SLOTS},  # a row behind the table
        {"context": b"\x00\x00" * 7},
        {"weight": np.full(7, np.nan, np.float32).tobytes()},
        {"weight": bytes(8)},
        {"users": ["ann", "", "bob"]},
        {"first_t": -5},
        {"first_t": 1 << 63},
        {"first_record_ms": 1 << 63},
        {"end": 1_030},
        {"offset": b"\x01" + bytes(7)},
        {"has_id": bytes(7)},
        {"event": b""},
        {"merges": [["ann", "visitor"]]},
    ],
    ids=str,
)  # fmt: skip
def test_columns_that_do_not_fit_are_refused(columns: dict[str, object]) -> None:
    assert as_json(decode_block(forged())) == as_json(example())
    with pytest.raises(Unreadable, match="its columns do not fit together"):
        decode_block(forged(**columns))


def test_a_later_version_is_named() -> None:
    value = bytearray(encode_block(example()))
    value[3] = VERSION + 1
    with pytest.raises(Unreadable, match=f"it is of version {VERSION + 1}, this version reads {VERSION}"):
        decode_block(bytes(value))


def test_a_field_that_a_later_version_adds_is_passed_over() -> None:
    held, digests = columns_of(encode_block(example()))
    later = decode_block(value_of(msgspec.msgpack.encode([*held, "new"]), digests))
    assert as_json(later) == as_json(example())
