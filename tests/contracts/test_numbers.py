"""A number that no field can hold, at every door: what the topic says of it, HTTP and files of JSON say too."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from starlette.testclient import TestClient

from consumers.dead_letter import DeadLetter
from consumers.decode_nodes import DecodedNode
from consumers.errors import DataRefused
from consumers.feedback.rules import what_is_missing
from consumers.files.interactions import Reading, items_of_file, read_file, users_of_file
from consumers.files.rows import OWN, cells_of
from consumers.open_log import OwnedLog
from consumers.records import Record, TopicPartition
from consumers.schemas import Feedback, Interaction
from streamer.features.contexts import rows_of_contexts, rows_of_table
from streamer.runtime.decoders import feedback_decoder, interaction_decoder, node_decoder
from streamer.runtime.topics import read_records, topic_specs
from streamer.settings import Settings
from streamer.web.api import Gateway
from streamer.web.materialized_view import View

NOW_MS = 1_600_000_000_000
NUMBERS = [
    "NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1e308", "9" * 30, "-" + "9" * 30, str(1 << 63), str(-(1 << 63) - 1),
    str(1 << 64), "9" * 400, "9" * 5_000, "-" + "9" * 5_000, "0.1", "-0",
]  # fmt: skip
INTERACTION = {"user_id": "u", "item_id": "i", "event_type": "view", "timestamp": 1_000, "event_id": "e"}
FEEDBACK = {"list_id": "0-1", "user_id": "u", "event": "purchase", "timestamp": 1_000, "value": 1, "event_id": "e"}
FIELDS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "interactions": (INTERACTION, (*INTERACTION, "value", "session_id", "retract", "context", "context.device")),
    "items": (
        {"item_id": "i"},
        ("item_id", "title", "categories", "categories.[]", "timestamp", "available_from", "expires_at", "hidden",
         "price", "attributes", "attributes.price", "attributes.of.all"),
    ),
    "users": ({"user_id": "u"}, ("user_id", "timestamp", "age", "attributes.age")),
    "feedback": (FEEDBACK, (*FEEDBACK, "item_id")),
}  # fmt: skip
CASES = [(kind, field) for kind, (_, fields) in FIELDS.items() for field in fields]


def written(kind: str, field: str, number: str) -> bytes:
    """A record with the number, as it is, in the field."""
    record = json.loads(json.dumps(FIELDS[kind][0]))
    *path, last = field.split(".")
    place = record
    for name in path:
        place = place.setdefault(name, [] if last == "[]" else {})
    if last == "[]":
        place.append("NUMBER")
    else:
        place[last] = "NUMBER"
    return json.dumps(record).replace('"NUMBER"', number).encode()


class Doors:
    """One log with a service, and what each door makes of a record: what is taken, or why not."""

    def __init__(self, log: OwnedLog, settings: Settings) -> None:
        self._log, self._settings = log, settings
        self.client = TestClient(Gateway(log, settings, View(log, settings)).app(), base_url="http://localhost")

    def topic(self, kind: str, value: bytes) -> Any:
        record = Record("t", 0, 0, b"k", value, (), NOW_MS)
        if kind in ("interactions", "feedback"):
            decoder: Any = (interaction_decoder if kind == "interactions" else feedback_decoder)(self._settings)
            found: Any = decoder.decode(record, NOW_MS)
        else:
            nodes = node_decoder(self._settings)
            found = (nodes.item if kind == "items" else nodes.user)(record)
        if isinstance(found, DeadLetter):
            return str(found.reason)
        if isinstance(found, Feedback) and (missing := what_is_missing(found, self._settings.feedback_events)):
            return str(missing[0])  # as the join does
        return told(found.node if isinstance(found, DecodedNode) else found)

    def http(self, kind: str, value: bytes, content_type: str) -> Any:
        topic = getattr(self._settings, f"{kind}_topic")
        before = self._log.ends(topic)[0]
        answer = self.client.post(f"/v1/{kind}", content=value, headers={"Content-Type": content_type})
        if answer.status_code == 400:
            assert self._log.ends(topic)[0] == before
            return answer.json()["error"]["code"]
        assert answer.status_code == 202, answer.text
        [record] = read_records(self._log, {TopicPartition(topic, 0): before})
        assert record.value
        return self.topic(kind, record.value)

    def file(self, kind: str, value: bytes, folder: Path) -> Any:
        file = folder / f"{kind}.jsonl"
        file.write_bytes(value + b"\n")
        if kind == "interactions":
            table = read_file(file, Reading(now_ms=NOW_MS)).table
            [row], rows = table.to_pylist(), rows_of_table(table).tolist()
            return row.pop("reason") or {name: row.get(name) for name in OWN} | {
                "rows": rows,
                "retract": "retract" in row,
            }
        try:
            nodes = (items_of_file if kind == "items" else users_of_file)(file, Reading(now_ms=NOW_MS))
        except DataRefused:  # no line is an object
            return "not-json"
        return str(nodes.refusals.rows[0].reason) if nodes.refusals.rows else told(nodes.entries[0][1])


def told(found: Any) -> Any:
    """What a record says, and its context as the model takes it."""
    if isinstance(found, Interaction):
        return cells_of(found) | {"rows": rows_of_contexts([found.context]).tolist()}
    return msgspec.to_builtins(found)


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    folder = tmp_path_factory.mktemp("doors")
    settings = Settings.load(log=str(folder / "log"), state=str(folder / "state"))
    log = OwnedLog(folder / "log")
    log.create(topic_specs(settings, partitions=1))
    yield Doors(log, settings)
    log.close()


@pytest.mark.parametrize(("kind", "field"), CASES)
def test_every_door_says_the_same(doors: Doors, kind: str, field: str, tmp_path: Path) -> None:
    differ = {}
    for number in NUMBERS:
        value = written(kind, field, number)
        found = {"topic": doors.topic(kind, value)}
        found["json"] = doors.http(kind, value, "application/json")
        found["ndjson"] = doors.http(kind, value, "application/x-ndjson")
        if kind != "feedback":
            found["file"] = doors.file(kind, value, tmp_path)
        if any(one != found["topic"] for one in found.values()):
            differ[number[:12]] = found
    assert not differ


ELSEWHERE = [
    ("/v1/rules/preview", '{"rules": {"surface": "home", "explore": NUMBER}, "users": ["u"]}'),
    ("/v1/users/u/merge", '{"session": NUMBER}'),
    ("/v1/session", '{"key": NUMBER}'),
    ("/v1/recommendations", '{"user_id": "u", "k": NUMBER}'),
    ("/v1/recommendations", '{"user_id": "u", "context": {"device": NUMBER}}'),
    ("/v1/interactions", "[NUMBER]"),
    ("/v1/feedback", "NUMBER"),
    ("/v1/items", '{"item_id": "i", "hidden": [NUMBER]}'),
]


@pytest.mark.parametrize(("path", "body"), ELSEWHERE)
@pytest.mark.parametrize("number", ["NaN", "1e999", "9" * 5_000])
def test_where_no_number_belongs_it_is_the_senders_fault(doors: Doors, path: str, body: str, number: str) -> None:
    answer = doors.client.post(
        path, content=body.replace("NUMBER", number), headers={"Content-Type": "application/json"}
    )
    assert 400 <= answer.status_code < 500, answer.text
