"""Records of `freshet.model`: they give back what was put in, for ever, and other bytes are refused in words."""

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.records import size_of
from streamer.pipeline.frame import Unreadable, frame, unframe
from streamer.pipeline.learned_record import (
    MAGIC,
    VERSION,
    decode_learned,
    encode_learned,
    records_of,
)
from tests.golden.steps import as_json, example
from tgn.sharing.added_rows import LearnedRows

GOLDEN = Path(__file__).parents[2] / "golden"
VERSIONS = sorted(int(file.stem.partition("-")[2]) for file in GOLDEN.glob("learned-*.step"))
NAMES = [
    "seat",
    "epoch",
    "part",
    "is_first",
    "events",
    "total",
    "seen",
    "items",
    "contexts",
    "sizes",
    "kept",
    "steps",
    "rows",
]
ROOM = 1_000_000


def forged(change: Any = lambda numbers: numbers, **columns: object) -> bytes:
    """A record some of whose columns and numbers are others, behind a right checksum."""
    packed, numbers = unframe(MAGIC, VERSION, encode_learned(example()), "step")
    held = msgspec.msgpack.decode(packed)
    for name, column in columns.items():
        held[NAMES.index(name)] = column
    return frame(MAGIC, VERSION, msgspec.msgpack.encode(held), change(bytes(numbers)))


@given(st.integers(0, 6), st.integers(0, 2), st.sampled_from([1, 4, 32]), st.integers(1, 9))
def test_a_step_gives_back_what_was_put_in(n: int, m: int, d: int, p: int) -> None:
    record = example(n, m, d, p)._replace(items=[f"i{k}" for k in range(n)])
    found = decode_learned(encode_learned(record))
    assert as_json(found) == as_json(record)
    assert encode_learned(found) == encode_learned(record)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_step_is_read_for_ever(version: int) -> None:
    found = decode_learned((GOLDEN / f"learned-{version}.step").read_bytes())
    wanted = json.loads((GOLDEN / f"learned-{version}.json").read_text())
    assert wanted.items() <= json.loads(json.dumps(as_json(found))).items()


def test_the_present_version_has_a_golden_step() -> None:
    assert VERSION in VERSIONS, "python -m tests.golden.steps"


def test_sixteen_bits_hold_what_is_learned_to_a_quarter_of_a_hundredth() -> None:
    record, rng = example(200, 2, 32, 900), np.random.default_rng(3)
    record = record._replace(items=[f"i{n}" for n in range(200)])
    ranker = record.step.ranker
    assert ranker is not None
    history = (rng.normal(0, 0.05, (200, 32)) * 10.0 ** rng.integers(-2, 2, (200, 1))).astype(np.float32)
    variance = (10.0 ** rng.uniform(-11, 0, 900)).astype(np.float32)
    everything = LearnedRows(np.arange(200, dtype=np.int32), history, np.zeros(200, np.float32))
    step = record.step._replace(history=everything, ranker=ranker._replace(variance=variance))
    step.candidate.vector[0, 0], step.candidate.vector[1, 0] = 1e9, -1e-30
    found = decode_learned(encode_learned(record._replace(step=step))).step
    np.testing.assert_allclose(found.history.vector, history, rtol=1 / 256, atol=0)
    assert found.ranker is not None
    np.testing.assert_allclose(found.ranker.variance, variance, rtol=0.02)
    np.testing.assert_allclose(found.candidate.vector[:2, 0], [1e9, -1e-30], rtol=1 / 256)
    assert (found.candidate.adagrad == step.candidate.adagrad).all()


def test_a_step_that_is_too_large_is_told_in_parts() -> None:
    record = example(100, 2)._replace(items=[f"item {n}" for n in range(100)])
    whole = records_of("model", record, ROOM)
    assert len(whole) == 1
    limit = size_of(whole[0]) // 3
    parts = records_of("model", record, limit)
    assert len(parts) > 3
    assert {part.key for part in parts} == {b"f-3"}
    assert all(size_of(part) <= limit for part in parts)
    found = [decode_learned(part.value or b"") for part in parts]
    assert [one.part for one in found] == list(range(len(parts)))
    assert [item for one in found for item in one.items] == list(record.items)
    for name in ("history", "candidate"):
        of_parts = [(one.items, getattr(one.step, name)) for one in found]
        whole_rows = getattr(record.step, name)
        told = [items[row] for items, rows in of_parts for row in rows.row.tolist()]
        assert told == [record.items[row] for row in whole_rows.row.tolist()]
        assert (np.concatenate([rows.vector for _, rows in of_parts]) == whole_rows.vector).all()
        assert (np.concatenate([rows.adagrad for _, rows in of_parts]) == whole_rows.adagrad).all()
    assert [one.step.ranker is None for one in found] == [False] + [True] * (len(parts) - 1)
    assert sum(len(one.step.context.row) for one in found) == 2
    assert (sum(one.step.popularity for one in found) == record.step.popularity).all()
    assert {one.events for one in found} == {52}


def test_what_is_cut_off_anywhere_is_refused() -> None:
    value = encode_learned(example())
    for end in range(len(value)):
        with pytest.raises(Unreadable):
            decode_learned(value[:end])


def test_a_bit_that_has_changed_anywhere_is_found() -> None:
    value = encode_learned(example())
    for place in range(len(value)):
        changed = bytearray(value)
        changed[place] ^= 1 << place % 8
        with pytest.raises(Unreadable):
            decode_learned(bytes(changed))


@given(st.binary() | st.binary().map(lambda rest: frame(MAGIC, VERSION, rest, b"")))
def test_foreign_bytes_are_refused(value: bytes) -> None:
    with pytest.raises(Unreadable):
        decode_learned(value)


@pytest.mark.parametrize(
    "columns",
    [
        {"items": ["tea"]},
        {"items": ["tea", "", "a", "b", "c"]},
        {"contexts": [7, 1_024]},
        {"contexts": [-1, 7]},
        {"sizes": [4, 5, 0]},
        {"sizes": [-4, 5, 6]},
        {"sizes": [4, 5]},
        {"sizes": [1 << 40, 5, 6]},
        {"seat": ""},
        {"epoch": -1},
        {"events": -1},
        {"seen": {"f-1": -1}},
        {"kept": float("nan")},
        {"kept": 1.5},
        {"steps": -1},
        {"rows": [5, 5]},
        {"rows": [-2, 5]},
        {"rows": None},
        {"change": lambda numbers: np.full(1, 5, "<i4").tobytes() + numbers[4:]},
        {"change": lambda numbers: np.full(1, -1, "<i4").tobytes() + numbers[4:]},
        {"change": lambda numbers: numbers[:28] + np.full(1, 0x7FC0, "<u2").tobytes() + numbers[30:]},
        {"change": lambda numbers: numbers[:-4] + np.full(1, np.inf, "<f4").tobytes()},
        {"change": lambda numbers: numbers[:-4] + np.full(1, -1, "<f4").tobytes()},
        {"change": lambda numbers: numbers + b"\x00"},
    ],
)
def test_columns_that_do_not_fit_are_refused(columns: dict[str, Any]) -> None:
    assert as_json(decode_learned(forged())) == as_json(example())
    with pytest.raises(Unreadable, match="its columns do not fit together"):
        decode_learned(forged(**columns))


def test_a_later_version_is_named() -> None:
    value = bytearray(encode_learned(example()))
    value[3] = VERSION + 1
    with pytest.raises(Unreadable, match=f"it is of version {VERSION + 1}, this version reads {VERSION}"):
        decode_learned(bytes(value))


def test_a_field_that_a_later_version_adds_is_passed_over() -> None:
    packed, numbers = unframe(MAGIC, VERSION, encode_learned(example()), "step")
    held = [*msgspec.msgpack.decode(packed), "new"]
    later = decode_learned(frame(MAGIC, VERSION, msgspec.msgpack.encode(held), numbers))
    assert as_json(later) == as_json(example())


def test_a_vector_takes_72_bytes_and_the_ranker_seventeen_thousand() -> None:
    record = example(500, 2, 32, 2_836)._replace(items=[f"{n:07}" for n in range(500)])
    assert len(encode_learned(record)) < 500 * (72 + 9) + 250 * 72 + 2_836 * 6 + 1_000
