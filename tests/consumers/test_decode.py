"""Bytes to interactions: every reason is reached, every good form is taken, nothing is ever raised."""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.dead_letter import DeadLetter, Reason, dead_letter_record
from consumers.decode_fields import Refused
from consumers.decode_interactions import InteractionDecoder
from consumers.decode_nodes import NodeDecoder, decode_item, decode_item_fields, decode_user, decode_user_fields
from consumers.event_weights import EventWeights
from consumers.records import Headers, NewRecord, Record, size_of
from consumers.schemas import Interaction, Item, User

NOW_MS = 1_600_000_000_000
GOOD: dict[str, Any] = {"user_id": "u", "item_id": "i", "event_type": "view", "timestamp": 1_500_000_000_000}
GOLDEN = Path(__file__).parents[1] / "golden" / "interactions.jsonl"


def decode(value: bytes | None, headers: Headers = (), **options: Any) -> Interaction | DeadLetter:
    return InteractionDecoder(**options).decode(Record("interactions", 0, 5, b"u", value, headers, 0), NOW_MS)


def decoded_by_json(**changes: Any) -> Interaction | DeadLetter:
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
    (Reason.MISSING_FIELD, json.dumps(GOOD | {"event_type": ""}).encode()),
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
    # numbers of any size cost their field a reason
    (Reason.BAD_VALUE, json.dumps(GOOD | {"value": 7}).encode().replace(b"7", b"1e400")),
    (Reason.BAD_VALUE, json.dumps(GOOD | {"value": 10**400}).encode()),
    (Reason.BAD_VALUE, json.dumps(GOOD | {"value": 7}).encode().replace(b"7", b"9" * 10_000)),
    (Reason.BAD_TIMESTAMP, json.dumps(GOOD | {"timestamp": 1 << 63}).encode()),
    (Reason.BAD_TIMESTAMP, json.dumps(GOOD | {"timestamp": 7}).encode().replace(b"7", b"9" * 10_000)),
    (Reason.BAD_ID, json.dumps(GOOD | {"item_id": 7}).encode().replace(b"7", b"9" * 10_000)),
    (Reason.NOT_JSON, json.dumps(GOOD | {"value": 7}).encode().replace(b"7", b'1e400, "item_id": "\\ud800"')),
]


@pytest.mark.parametrize(("reason", "value"), BAD)
def test_each_reason(reason: Reason, value: bytes | None) -> None:
    letter = decode(value)
    assert isinstance(letter, DeadLetter)
    assert letter.reason is reason
    assert letter.record.value == value


def test_every_reason_is_reached_and_documented() -> None:
    need_more = {Reason.TOO_LATE, Reason.OTHER_USER, Reason.OTHER_WORKER, Reason.NOT_OF_SCHEMA}  # a stream, a registry,
    need_more |= {Reason.UNKNOWN_LIST, Reason.NOT_LISTED, Reason.NOT_A_ROW}  # lists, a file
    assert {reason for reason, _ in BAD} == set(Reason) - need_more
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
    interaction = decoded_by_json(timestamp=timestamp)
    assert isinstance(interaction, Interaction)
    assert interaction.timestamp == expected


def test_integers_become_their_text() -> None:
    interaction = decoded_by_json(user_id=7, item_id=-(2**70), event_id=3, session_id=0)
    assert isinstance(interaction, Interaction)
    assert (interaction.user_id, interaction.item_id, interaction.event_id) == ("7", str(-(2**70)), "3")
    assert interaction.session_id == "0"


def test_field_map() -> None:
    value = json.dumps({"uid": 1, "user_id": "not me", "what": "i", "event_type": "view", "timestamp": 1}).encode()
    interaction = decode(value, field_map={"user_id": "uid", "item_id": "what"})
    assert isinstance(interaction, Interaction)
    assert (interaction.user_id, interaction.item_id) == ("1", "i")


@pytest.mark.parametrize(
    ("field_map", "record", "expected"),
    [
        ({"user_id": "user.id"}, {"user": {"id": 7}}, {"user_id": "7"}),
        ({"user_id": "userId|anonymousId"}, {"userId": None, "anonymousId": "a"}, {"user_id": "a"}),
        ({"user_id": "a.b|c"}, {"a": 5, "c": 1}, {"user_id": "1"}),
        ({"user_id": "x", "session_id": "x"}, {"x": "one"}, {"user_id": "one", "session_id": "one"}),
        ({"user_id": "u", "device": "d.type"}, {"u": 1, "d": {"type": "ios"}}, {"context": {"device": "ios"}}),
        ({"user_id": "u", "context.shelf": "s"}, {"u": 1, "s": 2, "context": {"os": "x"}}, {"context": {"os": "x", "shelf": 2}}),
        ({"user_id": "u", "context.shelf": "s"}, {"u": 1, "s": 2, "context": 5}, Reason.BAD_TYPE),
        ({"user_id": "user.id"}, {"user": 7}, Reason.MISSING_FIELD),
    ],
)  # fmt: skip
def test_where_a_field_may_stand(field_map: dict[str, str], record: dict[str, Any], expected: Any) -> None:
    rest = {name: value for name, value in GOOD.items() if name != "user_id"}
    found = decode(json.dumps(rest | record).encode(), field_map=field_map)
    if isinstance(expected, Reason):
        assert isinstance(found, DeadLetter)
        assert found.reason is expected
    else:
        assert {name: getattr(found, name) for name in expected} == expected


def test_cloudevents() -> None:
    event = {"specversion": "1.0", "id": "e1", "type": "click", "source": "/shop", "time": "2017-07-14T02:40:00Z"}
    data = {"user_id": "u", "item_id": "i"}
    binary = tuple((f"ce_{name}", text.encode()) for name, text in event.items())
    expected = Interaction("u", "i", "click", 1500000000000, "e1")
    assert decode(json.dumps(data).encode(), binary) == expected
    assert decode(json.dumps(event | {"data": data}).encode()) == expected
    own = data | {"event_type": "buy", "event_id": "mine"}
    assert decode(json.dumps(own).encode(), binary) == Interaction("u", "i", "buy", 1500000000000, "mine")


def test_a_cloud_event_is_known_by_its_id_whatever_its_source() -> None:
    """So that who knows the id alone can take it back; a sender with other ids says so in the data."""

    def event_id(source: str, **data: str) -> str | None:
        event = {"specversion": "1.0", "id": "e1", "type": "click", "source": source, "time": "2017-07-14T02:40:00Z"}
        interaction = decode(json.dumps(event | {"data": {"user_id": "u", "item_id": "i"} | data}).encode())
        assert isinstance(interaction, Interaction)
        return interaction.event_id

    assert event_id("/shop") == event_id("/app") == "e1"
    assert event_id("/shop", event_id="/shop/e1") != event_id("/app", event_id="/app/e1")


@pytest.mark.parametrize("in_headers", [True, False])
def test_a_cloud_event_without_a_time_has_that_of_the_log(in_headers: bool) -> None:
    event = {"specversion": "1.0", "id": "e1", "type": "click", "source": "/shop"}
    data: dict[str, Any] = {"user_id": "u", "item_id": "i", "timestamp": None}
    headers = tuple((f"ce_{name}", text.encode()) for name, text in event.items()) if in_headers else ()

    def decoded(data: dict[str, Any], at_ms: int) -> Interaction | DeadLetter:
        value = json.dumps(data if in_headers else event | {"data": data}).encode()
        return InteractionDecoder().decode(Record("interactions", 0, 5, b"u", value, headers, at_ms), NOW_MS)

    assert decoded(data, 7) == Interaction("u", "i", "click", 7, "e1")
    assert decoded(data | {"timestamp": 9}, 7) == Interaction("u", "i", "click", 9, "e1")
    letter = decoded(data, -1)  # the log knows none either
    assert isinstance(letter, DeadLetter)
    assert letter.reason is Reason.MISSING_FIELD


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
    for bad in (b"", b"[]", b"{}", b'{"item_id": ""}', b'{"item_id": "a", "timestamp": -1}'):
        assert decode_item(bad) is None


NODE = {"item_id": "a", "user_id": "u"}
ITEMS: list[tuple[dict[str, Any], Item, int]] = [  # fields, what they say, how many are left out
    ({"title": 1984}, Item("a", "1984"), 0),
    ({"title": 3.5}, Item("a", "3.5"), 0),
    ({"title": ["T"]}, Item("a"), 1),
    ({"title": True}, Item("a"), 1),
    ({"categories": "x|y z"}, Item("a", categories=("x", "y z")), 0),
    ({"categories": ["x", 3, None, {}, ""]}, Item("a", categories=("x", "3")), 1),
    ({"categories": {"x": 1}}, Item("a"), 1),
    ({"timestamp": "2017-07-14T02:40:00Z"}, Item("a", timestamp=1500000000000), 0),
    ({"timestamp": 0}, Item("a", timestamp=0), 0),
    ({"available_from": "2017-07-14T02:40:00Z"}, Item("a", available_from=1500000000000), 0),
    ({"expires_at": 253_402_300_799_999, "hidden": "no"}, Item("a", expires_at=253_402_300_799_999), 0),
    ({"price": 3.5, "brand": "b", "tags": ["x"]}, Item("a", attributes={"price": 3.5, "brand": "b", "tags": ["x"]}), 0),
    ({"price": 3, "attributes": {"price": 4, "x": None}}, Item("a", attributes={"price": 4}), 0),
    ({"attributes": [1], "price": None}, Item("a"), 1),
    ({"size": 10**30}, Item("a", attributes={"size": str(10**30)}), 0),
    ({"sizes": [{"x": 10**30}]}, Item("a", attributes={"sizes": [{"x": str(10**30)}]}), 0),
    ({"size": float("inf"), "brand": "b"}, Item("a", attributes={"brand": "b"}), 1),
]
BAD_NODES: list[tuple[Reason, dict[str, Any]]] = [
    (Reason.MISSING_FIELD, {"item_id": None}),
    (Reason.BAD_ID, {"item_id": ""}),
    (Reason.BAD_ID, {"item_id": True}),
    (Reason.BAD_ID, {"item_id": 1.5}),
    (Reason.BAD_ID, {"item_id": 10**2000}),
    (Reason.BAD_TIMESTAMP, {"timestamp": -1}),
    (Reason.BAD_TIMESTAMP, {"timestamp": (1 << 63) - 1}),
    (Reason.BAD_TIMESTAMP, {"timestamp": 1 << 63}),
    (Reason.BAD_TIMESTAMP, {"timestamp": 10**400}),
    (Reason.BAD_TIMESTAMP, {"timestamp": "soon"}),
    (Reason.BAD_TIMESTAMP, {"timestamp": [1]}),
    (Reason.BAD_TIMESTAMP, {"timestamp": True}),
    (Reason.FUTURE_TIMESTAMP, {"timestamp": NOW_MS + 300_001}),
]


@pytest.mark.parametrize(("fields", "expected", "left_out"), ITEMS)
def test_unknown_fields_are_attributes_and_a_bad_field_costs_itself(
    fields: dict[str, Any], expected: Item, left_out: int
) -> None:
    item, warnings = decode_item_fields({"item_id": "a"} | fields)
    assert item == expected
    assert len(warnings) == left_out
    assert decode_item(json.dumps({"item_id": "a"} | fields).encode().replace(b"Infinity", b"1e400")) == expected
    user, _ = decode_user_fields({"user_id": 7} | fields)
    assert isinstance(user, User)
    assert user.user_id == "7"
    assert "title" not in fields or isinstance(fields["title"], bool) or user.attributes == fields  # a user's attribute


@pytest.mark.parametrize("field", ["available_from", "expires_at"])
@pytest.mark.parametrize("value", [fields["timestamp"] for _, fields in BAD_NODES if "timestamp" in fields])
def test_when_an_item_may_be_listed_has_the_forms_of_a_timestamp_and_may_lie_ahead(field: str, value: Any) -> None:
    record = Record("items", 0, 5, b"a", json.dumps({"item_id": "a", field: value}).encode(), (), NOW_MS)
    found = NodeDecoder().item(record)
    if value == NOW_MS + 300_001:
        assert not isinstance(found, DeadLetter)
        assert getattr(found.node, field) == value
        return
    assert isinstance(found, DeadLetter)
    assert found.reason is Reason.BAD_TIMESTAMP
    assert found.message.startswith(f"{field}: ")
    user = NodeDecoder().user(Record("users", 0, 5, b"u", json.dumps({"user_id": "u", field: 1}).encode(), (), NOW_MS))
    assert not isinstance(user, DeadLetter)
    assert user.node.attributes == {field: 1}, "of a user it is an attribute like any other"


@pytest.mark.parametrize(("reason", "fields"), BAD_NODES)
@pytest.mark.parametrize("kind", ["item", "user"])
def test_each_reason_of_items_and_users(kind: str, reason: Reason, fields: dict[str, Any]) -> None:
    fields = {"user_id" if name == "item_id" and kind == "user" else name: value for name, value in fields.items()}
    record = Record(f"{kind}s", 0, 5, b"a", json.dumps(NODE | fields).encode(), (), NOW_MS)
    letter = getattr(NodeDecoder(), kind)(record)
    assert isinstance(letter, DeadLetter)
    assert letter.reason is reason
    with pytest.raises(Refused, match=str(reason)):
        {"item": decode_item_fields, "user": decode_user_fields}[kind](NODE | fields, NOW_MS + 300_000)


def test_a_node_larger_than_a_record_may_be_is_refused() -> None:
    value = json.dumps(NODE | {"text": "x" * 1_000_000}).encode()
    letter = NodeDecoder().item(Record("items", 0, 5, b"a", value, (), NOW_MS))
    assert isinstance(letter, DeadLetter)
    assert letter.reason is Reason.OVERSIZED


@pytest.mark.parametrize("limit", [200_000, 1_048_588])
@pytest.mark.parametrize(
    ("key", "size", "headers"),
    [
        (b"k", 1_048_300, ()),
        (b"k", 12_000_000, ()),
        (b"k" * 100_000, 10, ()),
        (b"k" * 1_000_000, 1_000_000, ()),
        (b"k", 10, (("tracestate", b"x" * 1_047_800),)),
        (b"k", 1_048_000, tuple((f"h{n}", b"x" * 500) for n in range(1_000))),
        (None, None, (("h", b"x" * 2_000_000), ("small", b"1"))),
    ],
)
def test_a_dead_letter_fits_its_topic(key: bytes | None, size: int | None, headers: Headers, limit: int) -> None:
    value = None if size is None else b"v" * size
    letter = DeadLetter(Record("interactions", 3, 17, key, value, headers, 0), Reason.NOT_JSON, "m" * 10_000)
    kept = dead_letter_record(letter, "interactions.dead", limit)
    said = dict(kept.headers)
    assert size_of(kept) <= limit
    if value is not None and kept.value != value:
        assert kept.value
        assert value.startswith(kept.value)
        assert size_of(kept) == limit, "no more is cut than has to be"
        assert said["freshet.original-bytes"] == str(size).encode()
        assert said["freshet.original-digest"] == b"sha256:" + hashlib.sha256(value).hexdigest().encode()
    else:
        assert "freshet.original-bytes" not in said
    assert (kept.key == key) == ("freshet.original-key-bytes" not in said)
    left_out = sum(header not in kept.headers for header in headers)
    assert said.get("freshet.headers-left-out", b"0") == str(left_out).encode()


def test_size_of_is_never_less_than_the_broker_counts() -> None:
    assert size_of(NewRecord("t", None, None)) >= 61 + 7
    assert size_of(NewRecord("t", b"k", b"v" * 10, (("ä", b"x"),))) >= 61 + 7 + 1 + 10 + 3 + 2


def test_types_are_weighed_without_regard_to_case() -> None:
    means: dict[str, list[float]] = {}
    weights = EventWeights({"Purchase": 5, "rating": "value-mean", "View": 1, "VIEW": 2}, means=means)
    assert [weights.weigh(kind, None) for kind in ("purchase", "PURCHASE", "View", "VIEW", "other")] == [5, 5, 1, 2, 1]
    assert [weights.weigh(kind, stars) for kind, stars in (("rating", 3.0), ("Rating", 5.0))] == [0, 2]
    assert means == {"rating": [2, 4.0]}  # one mean, under the name that the settings have


def test_event_weights() -> None:
    weights = EventWeights({"view": 1, "dislike": -1, "rating": "value"})
    assert weights.weigh("view", None) == 1
    assert weights.weigh("dislike", None) == -1
    assert weights.weigh("never heard of", 9.0) == 1
    assert weights.weigh("rating", 4.5) == 4.5
    assert weights.weigh("rating", None) == weights.weigh("rating", float("nan")) == 1


@pytest.mark.parametrize("value", [1e39, -1e39, 1e308, 1e30, 100_001, -100_001, 1e-50])
def test_a_weight_that_32_bits_or_the_setting_do_not_hold_is_refused(value: float) -> None:
    assert math.isnan(EventWeights({"rating": "value"}).weigh("rating", value))
    assert EventWeights({"rating": "value"}).weigh("view", value) == 1


@pytest.mark.parametrize("value", [0, -0.0, 1, 100, 5_000, -5, 100_000, 0.5])
def test_a_plausible_weight_is_taken(value: float) -> None:
    assert EventWeights({"rating": "value"}).weigh("rating", value) == value


SOURCE = {"connector": "postgresql", "table": "purchases", "ts_ms": 1_500_000_000_500}
ROW = {"id": 7, "user_id": "u", "product": "i"}
MAP = {"item_id": "product", "event_id": "id"}


def change_event(op: str, before: object = None, after: object = None, **more: object) -> dict[str, Any]:
    return {"op": op, "before": before, "after": after, "source": SOURCE, "ts_ms": 1_500_000_000_900} | more


@pytest.mark.parametrize("op", ["c", "r", "u"])
@pytest.mark.parametrize("with_schema", [False, True])
def test_a_row_that_is_there_is_an_interaction(op: str, with_schema: bool) -> None:
    """A type and a time that the row has count before those of its table and its commit."""
    event = change_event(op, after=ROW)
    value = {"schema": {"type": "struct"}, "payload": event} if with_schema else event
    taken = decode(json.dumps(value).encode(), field_map=MAP)
    assert isinstance(taken, Interaction)
    assert (taken.user_id, taken.item_id, taken.event_type) == ("u", "i", "purchases")
    assert (taken.timestamp, taken.event_id, taken.retract) == (SOURCE["ts_ms"], "7", False)
    own = change_event(op, after=ROW | {"event_type": "buy", "timestamp": "2017-07-14T02:40:00Z"})
    taken = decode(json.dumps(own).encode(), field_map=MAP)
    assert isinstance(taken, Interaction)
    assert (taken.event_type, taken.timestamp) == ("buy", 1_500_000_000_000)


def test_a_row_that_was_deleted_is_taken_back() -> None:
    taken = decode(json.dumps(change_event("d", before=ROW)).encode(), field_map=MAP)
    assert isinstance(taken, Interaction)
    assert (taken.user_id, taken.event_id, taken.retract) == ("u", "7", True)


@pytest.mark.parametrize(
    ("event", "field_map", "reason"),
    [
        (change_event("t"), MAP, Reason.MISSING_FIELD),  # a truncation
        (change_event("m", message={"prefix": "x"}), MAP, Reason.MISSING_FIELD),
        (change_event("c", after=[1]), MAP, Reason.MISSING_FIELD),
        (change_event("d", before={"id": 7, "user_id": None, "product": None}), MAP, Reason.MISSING_FIELD),
        (change_event("d", before=ROW), {"item_id": "product"}, Reason.MISSING_FIELD),  # without an event id
        (change_event("c", after=ROW | {"user_id": 1.5}), MAP, Reason.BAD_ID),
    ],
)
def test_a_change_of_no_interaction_is_refused(
    event: dict[str, Any], field_map: dict[str, str], reason: Reason
) -> None:
    refused = decode(json.dumps(event).encode(), field_map=field_map)
    assert isinstance(refused, DeadLetter)
    assert refused.reason == reason


def test_an_interaction_with_names_of_a_change_event_is_what_it_says() -> None:
    taken = decoded_by_json(op="d", source="shop")
    assert isinstance(taken, Interaction)
    assert not taken.retract
