"""What an older version wrote: records decode for ever, a checkpoint is read or refused in one clear line."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from consumers import schemas
from consumers.dead_letter import DeadLetter, Reason, dead_letter_record
from consumers.decode_feedback import FeedbackDecoder
from consumers.decode_interactions import InteractionDecoder
from consumers.decode_nodes import decode_item, decode_user
from consumers.records import Record
from streamer.errors import StateUnreadable
from streamer.ops.checkpoint_archive import read_file
from streamer.settings import Settings
from streamer.state.stream_state import FORMAT, READS, StreamState
from tests.golden.make import known

HERE = Path(__file__).parent
RECORDS: list[dict[str, Any]] = json.loads((HERE / "records.json").read_text())
FORMATS = sorted(int(file.stem.partition("-")[2]) for file in HERE.glob("checkpoint-*.parquet"))
PARTS = {"ListedItem", "AsOf"}  # of a list
LATER_MS = 4_000_000_000_000


def decoded(golden: dict[str, Any]) -> Any:
    value = json.dumps(golden["value"]).encode()
    headers = tuple((name, text.encode()) for name, text in golden.get("headers", {}).items())
    match golden["schema"]:
        case "Interaction":
            return InteractionDecoder().decode(Record("interactions", 0, 0, None, value, headers, 0), LATER_MS)
        case "Item":
            return decode_item(value)
        case "User":
            return decode_user(value)
        case "Feedback":
            return FeedbackDecoder().decode(Record("feedback", 0, 0, None, value, headers, 0), LATER_MS)
    return msgspec.json.decode(value, type=getattr(schemas, golden["schema"]))


@pytest.mark.parametrize("golden", RECORDS, ids=lambda golden: golden["schema"])
def test_records_decode_for_ever(golden: dict[str, Any]) -> None:
    found = msgspec.json.decode(msgspec.json.encode(msgspec.structs.asdict(decoded(golden))))
    assert golden["is"].items() <= found.items()


def test_every_schema_has_golden_records() -> None:
    structs = {
        name for name, kind in vars(schemas).items() if isinstance(kind, type) and issubclass(kind, msgspec.Struct)
    }
    assert {golden["schema"] for golden in RECORDS} == structs - PARTS


def test_dead_letters_keep_their_headers_and_codes() -> None:
    record = Record("interactions", 1, 7, b"k", b"{", (("h", b"1"),), 0)
    written = dict(dead_letter_record(DeadLetter(record, Reason.NOT_JSON, "why"), "dead").headers)
    prefix = "__streams.errors."
    golden = {"exception": b"not-json", "message": b"why", "topic": b"interactions", "partition": b"1", "offset": b"7"}
    assert {
        "h": b"1",
        "freshet.reason": b"not-json",
        **{prefix + k: v for k, v in golden.items()},
    }.items() <= written.items()
    codes = "tombstone oversized not-json not-an-object unknown-schema missing-field bad-id bad-type bad-timestamp"
    assert {*codes.split(), "future-timestamp", "bad-value", "too-late", "other-worker", "other-user"} <= set(Reason)
    assert {"unknown-list", "not-listed"} <= set(Reason)


@pytest.mark.parametrize("format_", FORMATS)
def test_a_checkpoint_is_read_or_refused_in_one_line(format_: int, settings: Settings) -> None:
    pages = dict(read_file(HERE / f"checkpoint-{format_}.parquet"))
    state = StreamState(
        settings.model_copy(update={"k": 5}), lambda prefix: ((k, v) for k, v in pages.items() if k.startswith(prefix))
    )
    if format_ not in READS:
        with pytest.raises(StateUnreadable, match=f"^the state has format {format_}, this version reads {FORMAT}; .+$"):
            state.load()
        return
    assert state.load()
    expected = json.loads((HERE / f"checkpoint-{format_}.json").read_text())
    assert expected.items() <= json.loads(json.dumps(known(state))).items()
    assert len(state.engine.recommend("u3", state.clock_ms)) == 5
    state.check_ledger()
    assert state.has_catalogue == ("items" in expected)
    assert (state.erasure_of("u5") is not None, state.erasure_of("u3")) == (True, None)
    pages.update((key, value) for key, value in state.delta().items() if value is not None)  # as this version writes it
    again = StreamState(
        settings.model_copy(update={"k": 5}), lambda prefix: ((k, v) for k, v in pages.items() if k.startswith(prefix))
    )
    assert again.load()
    assert again.parts() == state.parts()
    assert again.erasure_of("u5") is not None


def test_the_present_format_has_a_golden_checkpoint() -> None:
    assert FORMAT in FORMATS, "python -m tests.golden.make"
