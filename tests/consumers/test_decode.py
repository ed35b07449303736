"""Bytes to interactions: every reason is reached, every good form is taken, nothing is ever raised."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.dead_letter import DeadLetter, Reason, dead_letter_record
from consumers.decode import InteractionDecoder, decode_item, decode_user
from consumers.records import Headers, Record
from consumers.schemas import Interaction
from consumers.weights import EventWeights

NOW_MS = 1_600_000_000_000
GOOD: dict[str, Any] = {"user_id": "u", "item_id": "i", "event_type": "view", "timestamp": 1_500_000_000_000}
GOLDEN = Path(__file__).parents[1] / "golden" / "interactions.jsonl"


def decode(value: bytes | None, headers: Headers = (), **options: Any) -> Interaction | DeadLetter:
    return InteractionDecoder(**options).decode(Record("interactions", 0, 5, b"u", value, headers, 0), NOW_MS)


def decode_json(**changes: Any) -> Interaction | DeadLetter:
    return decode(json.dumps(GOOD | changes).encode())


BAD: list[tuple[Reason, bytes | None]] = [
    (Reason.TOMBSTONE, None),
    (Reason.OVERSIZED, b'{"user_id": "' + b"x" * 1_000_001 + b'"}'),
    (Reason.NOT_JSON, b"{"),
    (Reason.NOT_JSON, b""),
    (Reason.NOT_JSON, b"\xff\xfe"),
    (Reason.NOT_JSON, b"[" * 100_000),
    (Reason.NOT_AN_OBJECT, b"[1]"),
    (Reason.UNKNOWN_SCHEMA, b"\0\0\0\0\x01abc"),
    *[(Reason.MISSING_FIELD, json.dumps({k: v for k, v in GOOD.items() if k != name}).encode()) for name in GOOD],
    (Reason.MISSING_FIELD, json.dumps(GOOD | {"user_id": None}).encode()),
    (Reason.BAD_ID, json.dumps(GOOD | {"user_id": ""}).encode()),
    (Reason.BAD_ID, json.dumps(GOOD | {"item_id": 1.5}).encode()),
    (Reason.BAD_ID, json.dumps(GOOD | {"item_id": True}).encode()),
    (Reason.BAD_ID, json.dumps(GOOD | {"item_id": "x" * 1025}).encode()),
    (Reason.BAD_TYPE, json.dumps(GOOD | {"event_type": 3}).encode()),
    (Reason.BAD_TYPE, json.dumps(GOOD | {"context": "phone"}).encode()),
    (Reason.BAD_TIMESTAMP, json.dumps(GOOD | {"timestamp": -1}).encode()),
    (Reason.BAD_TIMESTAMP, json.dumps(GOOD | {"timestamp": 1.5}).encode()),
    (Reason.BAD_TIMESTAMP, json.dumps(GOOD | {"timestamp": "yesterday"}).encode()),
    (Reason.BAD_TIMESTAMP, json.dumps(GOOD | {"timestamp": 10**17}).encode()),
    (Reason.FUTURE_TIMESTAMP, json.dumps(GOOD | {"timestamp": NOW_MS + 300_001}).encode()),
    (Reason.BAD_VALUE, json.dumps(GOOD | {"value": "much"}).encode()),
]


@pytest.mark.parametrize(("reason", "value"), BAD)
def test_each_reason(reason: Reason, value: bytes | None) -> None:
    letter = decode(value)
    assert isinstance(letter, DeadLetter)
    assert letter.reason is reason
    assert letter.record.value == value


def test_every_reason_is_reached_and_documented() -> None:
    assert {reason for reason, _ in BAD} == set(Reason) - {Reason.TOO_LATE}  # needs a stream: tests/streamer/test_undo
    source = (Path(__file__).parents[2] / "consumers/dead_letter.py").read_text()
    assert all(f'"{reason}"  # ' in source for reason in Reason)


@pytest.mark.parametrize(
    ("timestamp", "expected"),
    [
        (0, 0),
        (1500000000000.0, 1500000000000),
        ("2017-07-14T02:40:00Z", 1500000000000),
        ("2017-07-14T02:40:00.123456", 1500000000123),
        ("2017-07-14T04:40:00+02:00", 1500000000000),
    ],
)
def test_times(timestamp: Any, expected: int) -> None:
    interaction = decode_json(timestamp=timestamp)
    assert isinstance(interaction, Interaction)
    assert interaction.timestamp == expected


def test_integers_become_their_text() -> None:
    interaction = decode_json(user_id=7, item_id=-(2**70), event_id=3, session_id=0)
    assert isinstance(interaction, Interaction)
    assert (interaction.user_id, interaction.item_id, interaction.event_id) == ("7", str(-(2**70)), "3")
    assert interaction.session_id == "0"


def test_field_map() -> None:
    value = json.dumps({"uid": 1, "user_id": "not me", "what": "i", "event_type": "view", "timestamp": 1}).encode()
    interaction = decode(value, field_map={"user_id": "uid", "item_id": "what"})
    assert isinstance(interaction, Interaction)
    assert (interaction.user_id, interaction.item_id) == ("1", "i")


def test_cloudevents() -> None:
    event = {"specversion": "1.0", "id": "e1", "type": "click", "source": "/shop", "time": "2017-07-14T02:40:00Z"}
    data = {"user_id": "u", "item_id": "i"}
    binary = tuple((f"ce_{name}", text.encode()) for name, text in event.items())
    expected = Interaction("u", "i", "click", 1500000000000, "e1")
    assert decode(json.dumps(data).encode(), binary) == expected
    assert decode(json.dumps(event | {"data": data}).encode()) == expected
    own = data | {"event_type": "buy", "event_id": "mine"}
    assert decode(json.dumps(own).encode(), binary) == Interaction("u", "i", "buy", 1500000000000, "mine")


def test_old_records_decode_for_ever() -> None:
    first, second = (decode(line.encode()) for line in GOLDEN.read_text().splitlines())
    assert first == Interaction("u", "i", "view", 1500000000000)
    context = {"device": "phone", "position": 3}
    assert second == Interaction("7", "8", "rating", 1500000000000, "9", 4.5, "s", context, True)


@given(st.binary(max_size=200))
def test_no_bytes_raise(value: bytes) -> None:
    assert isinstance(decode(value), Interaction | DeadLetter)


@given(st.data())
def test_no_mutation_of_a_good_record_raises(data: st.DataObject) -> None:
    value = bytearray(json.dumps(GOOD | {"value": 1, "context": {"a": [1]}}).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        value[data.draw(st.integers(0, len(value) - 1))] = data.draw(st.integers(0, 255))
    assert isinstance(decode(bytes(value)), Interaction | DeadLetter)


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)


@given(
    st.dictionaries(
        st.sampled_from([*GOOD, "value", "event_id", "specversion", "data"]),
        scalars | st.dictionaries(st.text(max_size=3), scalars, max_size=2),
    )
)
def test_no_json_object_raises(fields: dict[str, Any]) -> None:
    assert isinstance(decode(json.dumps(fields).encode()), Interaction | DeadLetter)
    assert isinstance(
        decode(json.dumps(fields).encode(), (("ce_specversion", b"1.0"), ("ce_id", b"\xff"))), Interaction | DeadLetter
    )


def test_a_dead_letter_keeps_everything() -> None:
    record = Record("interactions", 3, 17, b"key", b"{", (("trace", b"abc"),), 0)
    letter = InteractionDecoder().decode(record, NOW_MS)
    assert isinstance(letter, DeadLetter)
    kept = dead_letter_record(letter, "interactions.dead")
    assert (kept.topic, kept.key, kept.value) == ("interactions.dead", b"key", b"{")
    headers = dict(kept.headers)
    assert headers["trace"] == b"abc"
    assert headers["freshet.reason"] == b"not-json"
    assert headers["__streams.errors.topic"] == b"interactions"
    assert (headers["__streams.errors.partition"], headers["__streams.errors.offset"]) == (b"3", b"17")


def test_items_and_users() -> None:
    item = decode_item(b'{"item_id": 5, "title": "T", "categories": ["a"], "attributes": {"year": 1995}}')
    assert item
    assert (item.item_id, item.title, item.categories) == ("5", "T", ("a",))
    assert decode_user(b'{"user_id": "u"}')
    for bad in (b"", b"[]", b"{}", b'{"item_id": ""}', b'{"item_id": "a", "title": 3}'):
        assert decode_item(bad) is None


def test_event_weights() -> None:
    weights = EventWeights({"view": 1, "dislike": -1, "rating": "value"})
    assert weights.of("view", None) == 1
    assert weights.of("dislike", None) == -1
    assert weights.of("never heard of", 9.0) == 1
    assert weights.of("rating", 4.5) == 4.5
    assert weights.of("rating", None) == weights.of("rating", float("nan")) == 1
