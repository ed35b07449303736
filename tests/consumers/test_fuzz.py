"""Whatever bytes arrive, a decoder answers with an interaction, a dead letter, a node or nothing; it never raises."""

import json
import random

from consumers.dead_letter import DeadLetter, dead_letter_record
from consumers.decode_interactions import InteractionDecoder
from consumers.decode_nodes import decode_item, decode_user
from consumers.records import Headers, Record
from streamer.pipeline.ingest import Intake
from streamer.settings import Settings
from tests.mutations import mutated

ROW = {
    "user_id": "u1", "item_id": 42, "event_type": "view", "timestamp": 1_500_000_000_000, "event_id": "e-1",
    "value": 3.5, "session_id": "s", "context": {"device": "phone", "geo": [1, 2]}, "retract": False,
}  # fmt: skip
EVENT = {"specversion": "1.0", "id": "1", "source": "/s", "type": "view", "time": "2017-07-14T02:40:00Z", "data": ROW}
NODE = {"item_id": "i", "user_id": "u", "title": "T", "categories": ["a", "b"], "attributes": {"x": 1}}
SEEDS = [json.dumps(value).encode() for value in (ROW, EVENT, NODE)] + [b"\0\0\0\0\x07avro", b"[]", b'""', b"null"]
WORDS = [b'"', b"{", b"}", b"[", b"]", b",", b":", b"null", b"true", b"1e999", b"-0", b"\\ud800", b"\\u0000", b"9" * 30,
         b"\xff\xfe", b"NaN", b"\x00", "\u2028".encode(), b"[" * 300, b'"user_id":1,']  # fmt: skip
HEADERS: list[Headers] = [
    (),
    (("ce_specversion", b"1.0"), ("ce_id", b"9"), ("ce_time", b"yesterday"), ("ce_type", b"\xff")),
    (("x", b""),),
]


def fuzz(n: int, seed: int) -> int:
    """Sends n mutated records through every decoder; gives how many interactions there still were."""
    chance, taken = random.Random(seed), 0
    decoders = [InteractionDecoder(), InteractionDecoder({"user_id": "uid", "timestamp": "ts"}, 0, 500)]
    intake = Intake(Settings())
    for number in range(n):
        value = mutated(chance.choice(SEEDS), chance, WORDS, SEEDS)
        record = Record("interactions", 0, number, value[:9], value, chance.choice(HEADERS), 0)
        for decoder in decoders:
            payload = decoder.decode(record, 1_600_000_000_000)
            if isinstance(payload, DeadLetter):
                assert dead_letter_record(payload, "dead").value == value
            else:
                taken += 1
                payload.user_id.encode()
                payload.item_id.encode()
        for decoded in (decode_item(value), decode_user(value)):
            assert decoded is None or decoded.attributes is None or isinstance(decoded.attributes, dict)
        for topic in ("items", "users"):
            intake.change(Record(topic, 0, number, value[:9] or None, chance.choice([value, None]), (), 0))
    return taken


def test_no_exception_leaves_a_decoder() -> None:
    assert fuzz(20_000, seed=0) > 500
