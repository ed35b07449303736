"""Records in Avro, Protobuf and JSON Schema, by a real schema registry."""

import json
import os
import signal
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from consumers.dead_letter import DeadLetter, Reason
from consumers.decode_interactions import InteractionDecoder
from consumers.decode_nodes import NodeDecoder
from consumers.errors import RegistryUnavailable, SettingRefused
from consumers.open_log import OwnedLog
from consumers.records import NewRecord, Record
from consumers.schemas import Interaction
from streamer.errors import UsageError
from streamer.ops.doctor import examine
from streamer.runtime.decoders import get_registry
from streamer.runtime.signals import StopRequest
from streamer.runtime.supervisor import supervise
from streamer.runtime.topics import read_records, whole
from streamer.settings import Settings
from streamer.state.stream_state import StreamState
from streamer.web.materialized_view import View
from streamer.worker.worker import Worker
from tests.apicurio_registry import Registry
from tests.waiting import freeze, until
from tgn.serialization import all_pages

try:
    from confluent_kafka.schema_registry import Schema, SchemaReference, SchemaRegistryClient
    from confluent_kafka.schema_registry.avro import AvroSerializer
    from confluent_kafka.schema_registry.json_schema import JSONSerializer
    from confluent_kafka.serialization import MessageField, SerializationContext
except ModuleNotFoundError as absent:
    if os.environ.get("CI") == "true":
        raise
    pytest.skip(f"the extra schema-registry is not installed: {absent}", allow_module_level=True)

T_MS = 1_500_000_000_123
EVENT = {"user_id": "u", "item_id": "i", "event_type": "view", "timestamp": T_MS}

AVRO = {
    "type": "record",
    "name": "Event",
    "namespace": "shop",
    "fields": [
        {"name": "user_id", "type": "string"},
        {"name": "item_id", "type": "string"},
        {"name": "event_type", "type": "string"},
        {"name": "timestamp", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    ],
}
VALUE = {"name": "value", "type": "double", "default": 2.5}
CONTEXT = {
    "name": "context",
    "type": ["null", {"type": "record", "name": "Context", "fields": [{"name": "device", "type": "string"}]}],
    "default": None,
}
DRAFT = {"$schema": "http://json-schema.org/draft-07/schema#"}
JSON_SCHEMA = DRAFT | {
    "title": "event",
    "type": "object",
    "properties": {"user_id": {"type": "string"}, "value": {"type": "number"}},
    "required": ["user_id"],
}
PROTO = """
syntax = "proto3";
package shop;
import "google/protobuf/timestamp.proto";
enum Kind { NONE = 0; view = 1; }
message Other { string nothing = 1; }
message Outer {
  message Event {
    string user_id = 1;
    int64 item_id = 2;
    Kind event_type = 3;
    google.protobuf.Timestamp timestamp = 4;
    optional double value = 5;
    map<string, string> context = 6;
  }
}
"""


@pytest.fixture(scope="module")
def client(registry: Registry) -> "SchemaRegistryClient":
    return SchemaRegistryClient({"url": registry.url})


@pytest.fixture
def mine(registry: Registry, settings: Settings) -> Settings:
    return settings.model_copy(update={"schema_registry": registry.url})


def framed(schema_id: int, data: bytes) -> bytes:
    return b"\0" + schema_id.to_bytes(4) + data


def avro(client: "SchemaRegistryClient", schema: Any, value: Any, topic: str) -> bytes:
    """A value as Confluent's own serializer writes it; the schema is registered."""
    write = AvroSerializer(client, json.dumps(schema))
    return bytes(write(value, SerializationContext(topic, MessageField.VALUE)))


def decoded(value: bytes, registry: Registry, field_map: dict[str, str] | None = None) -> Interaction | DeadLetter:
    one = get_registry(registry.url, {})
    assert one is not None
    record = Record("interactions", 0, 0, b"u", value, (), T_MS)
    return InteractionDecoder(field_map, unframe=one.decode).decode(record, T_MS)


def test_avro_is_read_by_the_schema_that_wrote_it(registry: Registry, client: "SchemaRegistryClient") -> None:
    """A field that a later version adds is there for what it wrote, and absent before; both are taken."""
    event = EVENT | {"timestamp": datetime.fromtimestamp(T_MS / 1000, UTC)}
    first = avro(client, AVRO, event, "evolving")
    later = AVRO | {"fields": [*AVRO["fields"], VALUE, CONTEXT]}
    second = avro(client, later, event | {"context": {"device": "phone"}}, "evolving")
    assert first[1:5] != second[1:5]
    assert decoded(first, registry) == Interaction("u", "i", "view", T_MS)
    assert decoded(second, registry) == Interaction("u", "i", "view", T_MS, value=2.5, context={"device": "phone"})
    assert decoded(first, registry) == Interaction("u", "i", "view", T_MS)


def test_avro_says_what_json_would(registry: Registry, client: "SchemaRegistryClient") -> None:
    """Logical types, a field map, and a schema that refers to one of another subject."""
    client.register_schema(
        "shop.Product",
        Schema(json.dumps({"type": "record", "name": "Product", "namespace": "shop", "fields": [
            {"name": "sku", "type": "long"},
            {"name": "tags", "type": {"type": "array", "items": "bytes"}},
        ]}), "AVRO"),
    )  # fmt: skip
    main = {"type": "record", "name": "Sale", "namespace": "shop", "fields": [
        {"name": "uid", "type": {"type": "string", "logicalType": "uuid"}},
        {"name": "product", "type": "shop.Product"},
        {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["purchase"]}},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 6, "scale": 2}},
    ]}  # fmt: skip
    reference = SchemaReference("shop.Product", "shop.Product", 1)
    write = AvroSerializer(client, Schema(json.dumps(main), "AVRO", [reference]))
    who = UUID(int=7)
    sale = {"uid": who, "product": {"sku": 42, "tags": ["é".encode()]}, "kind": "purchase",
            "at": datetime.fromtimestamp(T_MS / 1000, UTC), "price": Decimal("9.50")}  # fmt: skip
    value = bytes(write(sale, SerializationContext("sales", MessageField.VALUE)))
    field_map = {"user_id": "uid", "item_id": "product.sku", "event_type": "kind", "timestamp": "at", "value": "price"}
    assert decoded(value, registry, field_map) == Interaction(str(who), "42", "purchase", T_MS, value=9.5)


def test_protobuf(registry: Registry, client: "SchemaRegistryClient") -> None:
    """A message that is nested and not the first, imports, an enum, a map; `optional` tells 0 from nothing."""
    schema_id = client.register_schema("proto", Schema(PROTO, "PROTOBUF"))
    seconds, nanos = divmod(T_MS, 1000)
    stamp = b"\x08" + varint(seconds) + b"\x10" + varint(nanos * 1_000_000)
    event = b"\x0a\x01u\x10\x2a\x18\x01\x22" + varint(len(stamp)) + stamp
    event += b"\x32\x0f\x0a\x06device\x12\x05phone"
    of_outer_event = b"\x04\x02\x00"  # two indexes, 1 and 0, in zigzag
    taken = Interaction("u", "42", "view", T_MS, context={"device": "phone"})
    assert decoded(framed(schema_id, of_outer_event + event), registry) == taken
    zero = b"\x29" + bytes(8)
    valued = decoded(framed(schema_id, of_outer_event + event + zero), registry)
    assert isinstance(valued, Interaction)
    assert valued.value == 0


def test_protobuf_that_imports_another_subject(registry: Registry, client: "SchemaRegistryClient") -> None:
    common = 'syntax = "proto3"; package common; message Who { string user_id = 1; }'
    client.register_schema("common.proto", Schema(common, "PROTOBUF"))
    main = """syntax = "proto3"; import "common.proto";
    message Event { common.Who who = 1; string item_id = 2; string event_type = 3; int64 timestamp = 4; }"""
    reference = SchemaReference("common.proto", "common.proto", 1)
    schema_id = client.register_schema("importing", Schema(main, "PROTOBUF", [reference]))
    event = b"\x0a\x03\x0a\x01u\x12\x01i\x1a\x04view\x20" + varint(T_MS)
    value = framed(schema_id, b"\0" + event)
    assert decoded(value, registry, {"user_id": "who.user_id"}) == Interaction("u", "i", "view", T_MS)


def test_json_schema(registry: Registry, client: "SchemaRegistryClient") -> None:
    """What breaks the schema is refused, by the very rule, without a word of the user's."""
    write = JSONSerializer(json.dumps(JSON_SCHEMA), client)
    value = bytes(write(EVENT, SerializationContext("json", MessageField.VALUE)))
    assert decoded(value, registry) == Interaction("u", "i", "view", T_MS)
    broken = decoded(value[:5] + json.dumps(EVENT | {"value": "secret"}).encode(), registry)
    assert isinstance(broken, DeadLetter)
    assert broken.reason is Reason.NOT_OF_SCHEMA
    assert "$.value breaks the rule 'type'" in broken.message
    assert "secret" not in broken.message


def test_json_schema_that_refers_to_another_subject(registry: Registry, client: "SchemaRegistryClient") -> None:
    client.register_schema(
        "id.json", Schema(json.dumps(DRAFT | {"$id": "id.json", "type": "string", "maxLength": 3}), "JSON")
    )
    main = DRAFT | {"type": "object", "properties": {"user_id": {"$ref": "id.json"}}}
    schema_id = client.register_schema(
        "refers", Schema(json.dumps(main), "JSON", [SchemaReference("id.json", "id.json", 1)])
    )
    assert isinstance(decoded(framed(schema_id, json.dumps(EVENT).encode()), registry), Interaction)
    long = decoded(framed(schema_id, json.dumps(EVENT | {"user_id": "four"}).encode()), registry)
    assert isinstance(long, DeadLetter)
    assert long.reason is Reason.NOT_OF_SCHEMA


REFUSED = {
    "an id that nobody registered": (lambda ids: framed(999_999, b"x"), Reason.UNKNOWN_SCHEMA),
    "a frame without an id": (lambda ids: b"\0\0\1", Reason.UNKNOWN_SCHEMA),
    "Avro that ends early": (lambda ids: framed(ids["AVRO"], b"\x02u\x02"), Reason.NOT_OF_SCHEMA),
    "Avro with more behind it": (lambda ids: framed(ids["AVRO"], b"\x02u\x02i\x02v\x02rest"), Reason.NOT_OF_SCHEMA),
    "Avro of a text": (lambda ids: framed(ids["text"], b"\x02u"), Reason.NOT_AN_OBJECT),
    "Avro that lacks a field of ours": (lambda ids: framed(ids["poor"], b"\x02u"), Reason.MISSING_FIELD),
    "Protobuf without indexes": (lambda ids: framed(ids["PROTOBUF"], b""), Reason.NOT_OF_SCHEMA),
    "Protobuf of a message that is not there": (lambda ids: framed(ids["PROTOBUF"], b"\x02\x14"), Reason.NOT_OF_SCHEMA),
    "Protobuf that ends early": (lambda ids: framed(ids["PROTOBUF"], b"\0\x0a\x05u"), Reason.NOT_OF_SCHEMA),
    "JSON that is none": (lambda ids: framed(ids["JSON"], b"{oops"), Reason.NOT_OF_SCHEMA),
    "JSON that breaks its schema": (lambda ids: framed(ids["JSON"], b'{"user_id": 1}'), Reason.NOT_OF_SCHEMA),
    "a time in the future": (lambda ids: framed(ids["AVRO"], b"\x02u\x02i\x02v" + varint(2 * 10**14)), Reason.FUTURE_TIMESTAMP),
}  # fmt: skip


@pytest.fixture(scope="module")
def ids(client: "SchemaRegistryClient") -> dict[str, int]:
    """A schema of each kind, by name."""
    poor = {"type": "record", "name": "Poor", "fields": [AVRO["fields"][0]]}
    schemas = {
        "AVRO": Schema(json.dumps(AVRO), "AVRO"),
        "PROTOBUF": Schema(PROTO, "PROTOBUF"),
        "JSON": Schema(json.dumps(JSON_SCHEMA), "JSON"),
        "text": Schema('"string"', "AVRO"),
        "poor": Schema(json.dumps(poor), "AVRO"),
    }
    return {name: client.register_schema(f"kind-{name}", schema) for name, schema in schemas.items()}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_a_dead_letter(name: str, registry: Registry, ids: dict[str, int]) -> None:
    value, reason = REFUSED[name]
    letter = decoded(value(ids), registry)
    assert isinstance(letter, DeadLetter), letter
    assert letter.reason is reason, letter.message


@examples(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.sampled_from(["AVRO", "PROTOBUF", "JSON", "text", "poor"]), data=st.binary(max_size=200))
def test_no_bytes_stop_the_stream(kind: str, data: bytes, registry: Registry, ids: dict[str, int]) -> None:
    assert isinstance(decoded(framed(ids[kind], data), registry), Interaction | DeadLetter)


def test_items_and_users_with_framed_keys(registry: Registry, client: "SchemaRegistryClient", mine: Settings) -> None:
    item = {"type": "record", "name": "Product", "fields": [
        {"name": "item_id", "type": "long"},
        {"name": "title", "type": ["null", "string"], "default": None},
        {"name": "price", "type": "double"},
    ]}  # fmt: skip
    value = avro(client, item, {"item_id": 7, "title": "Tea", "price": 3.5}, "items")
    one = get_registry(registry.url, {})
    assert one is not None
    found = NodeDecoder(unframe=one.decode).item(Record("items", 0, 0, b"7", value, (), T_MS))
    assert not isinstance(found, DeadLetter)
    assert (found.node.item_id, found.node.title, found.node.attributes) == ("7", "Tea", {"price": 3.5})


def test_a_worker_takes_framed_records_and_a_registry_that_is_away_costs_time_alone(
    registry: Registry, client: "SchemaRegistryClient", mine: Settings, log: OwnedLog
) -> None:
    """Interactions, items with framed keys, a tombstone and an unknown id, the registry gone half-way."""
    of_text = client.register_schema("keys", Schema('"string"', "AVRO"))
    item = avro(client, {"type": "record", "name": "P", "fields": [AVRO["fields"][1]]}, {"item_id": "gone"}, "p")
    key = framed(of_text, b"\x08gone")
    for user in ("a", "b"):
        for item_id in ("gone", "stays"):
            log.append([NewRecord("interactions", user.encode(), _avro_event(client, user, item_id))])
    log.append([NewRecord("items", key, item), NewRecord("items", key, None)])
    log.append([NewRecord("interactions", b"x", framed(999_999, b"x"))])
    with Worker.open(log, mine) as worker:
        worker.run(exit_at_end=True)
    assert _dead(log) == ["unknown-schema"]
    assert worker.state.engine.model.events == 4
    listed = [record.value for record in read_records(log, whole(log, "recommendations"))]
    assert b"stays" in b"".join(value or b"" for value in listed)
    assert b"gone" not in (listed[-1] or b"")

    late = _avro_event(client, "c", "stays", name="Late")  # by a schema that the worker has not asked for yet
    log.append([NewRecord("interactions", b"c", late)])
    freeze(registry.pid)
    waits: list[int] = []

    def waiting() -> None:
        waits.append(1)
        os.kill(registry.pid, signal.SIGCONT)

    supervise(lambda: Worker.open(log, mine), lambda one: one.run(exit_at_end=True), StopRequest(), waiting)
    assert waits
    assert _dead(log) == ["unknown-schema"]
    with Worker.open(log, mine) as again:
        again.run(exit_at_end=True)
        assert again.state.engine.model.events == 5


def test_lists_are_served_while_the_registry_is_away(
    registry: Registry, client: "SchemaRegistryClient", mine: Settings, log: OwnedLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The view is current, and has no word of the event that it could not read."""
    log.append([NewRecord("interactions", b"u", _avro_event(client, "u", "i"))])
    with Worker.open(log, mine) as worker:
        worker.run(exit_at_end=True)
    view = View(log, mine.model_copy(update={"schema_registry": "http://127.0.0.1:1"}))
    view.start()
    try:
        until(view.ready.is_set)
        assert view.list_of("u") is not None
        assert not view.feed.entries
    finally:
        view.stop()


def test_what_was_refused_for_its_schema_stays_refused_when_the_schema_is_there(
    client: "SchemaRegistryClient", mine: Settings, log: OwnedLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recovery decides by the manifest, not by what the registry knows at the restart; items likewise."""
    seldom = mine.model_copy(update={"checkpoint_interval_ms": 10**9})
    newest = {"type": "enum", "name": "Newest", "symbols": ["A"]}
    unknown = client.register_schema("newest", Schema(json.dumps(newest), "AVRO")) + 1
    next_one = AVRO | {"name": "Next"}
    event = framed(unknown, b"\x02u\x02i\x02v" + varint(2 * T_MS))
    log.append([NewRecord("items", b"i", framed(unknown, b"\x02i")), NewRecord("interactions", b"u", event)])
    with Worker.open(log, seldom) as worker:
        until(lambda: worker.step() and len(_dead(log)) == 2, every_s=0)
        state = _pages(worker.state)
    assert sorted(_dead(log)) == ["unknown-schema", "unknown-schema"]
    assert client.register_schema("next", Schema(json.dumps(next_one), "AVRO")) == unknown
    monkeypatch.setattr("streamer.runtime.decoders._registries", {})  # as a new process would begin
    with Worker.open(log, seldom) as again:
        assert _pages(again.state) == state
        again.run(exit_at_end=True)
    assert again.state.engine.model.events == 0


def test_a_registry_that_is_named_no_more_is_asked_for(
    client: "SchemaRegistryClient", mine: Settings, log: OwnedLog
) -> None:
    """What was read by a schema once is never passed over in silence."""
    log.append([NewRecord("interactions", b"u", _avro_event(client, "u", "i"))])
    seldom = mine.model_copy(update={"checkpoint_interval_ms": 10**9})
    with Worker.open(log, seldom) as worker:
        until(lambda: worker.step() is not None, every_s=0)
    with pytest.raises(RegistryUnavailable, match="name the registry"):
        Worker.open(log, seldom.model_copy(update={"schema_registry": None}))


SECRETS = {
    "a password in the address": ({"schema_registry": "http://ann:hush@localhost:1"}, "schema_registry"),
    "a wrong type": ({"schema_registry_config": {"basic.auth.user.info": ["ann:hush"]}}, "schema_registry_config"),
}


@pytest.mark.parametrize("name", SECRETS)
def test_a_setting_that_is_refused_shows_no_secret(name: str, settings: Settings) -> None:
    given, setting = SECRETS[name]
    with pytest.raises(UsageError, match=setting) as refused:
        Settings.load(**given)
    assert "hush" not in str(refused.value)


def test_a_key_that_the_client_does_not_know_is_named(registry: Registry) -> None:
    with pytest.raises(SettingRefused, match=r"basic\.auth\.user\.inof"):
        get_registry(registry.url, {"basic.auth.user.inof": "ann:hush"})


def test_doctor_asks_the_registry(registry: Registry, mine: Settings, log: OwnedLog) -> None:
    log.close()
    found = {finding.check: finding for finding in examine(mine)}
    assert found["schema registry"].fine
    away = mine.model_copy(update={"schema_registry": "http://127.0.0.1:1"})
    found = {finding.check: finding for finding in examine(away)}
    assert not found["schema_registry"].fine


def _avro_event(client: "SchemaRegistryClient", user: str, item: str, name: str = "Event") -> bytes:
    event = {"user_id": user, "item_id": item, "event_type": "view", "timestamp": datetime.fromtimestamp(1.5e9, UTC)}
    return avro(client, AVRO | {"name": name}, event, name)


def _dead(log: OwnedLog) -> list[str]:
    letters = read_records(log, whole(log, "interactions.dead"))
    return [dict(letter.headers)["freshet.reason"].decode() for letter in letters]


def _pages(state: StreamState) -> dict[bytes, bytes]:
    return dict(all_pages(state.engine.model))


def varint(number: int) -> bytes:
    found = b""
    while number > 0x7F:
        found += bytes([number & 0x7F | 0x80])
        number >>= 7
    return found + bytes([number])
