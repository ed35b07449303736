"""Whatever lies on the input topics, an epoch takes it: no exception, and every number of the state stays finite."""

import json
from typing import Any, NamedTuple

import hypothesis
import msgspec
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from consumers.records import Record, TopicPartition
from consumers.schemas import RecommendationList
from streamer.pipeline.arrivals import in_order
from streamer.pipeline.epoch import epoch_input
from streamer.pipeline.ingest import Intake
from streamer.pipeline.pipeline import Pipeline
from streamer.settings import Settings
from streamer.state.stream_state import StreamState
from tgn.serialization import all_pages

NOW_MS = 1_700_000_000_000
SETTINGS = Settings(event_weights={"rating": "value", "view": 1, "dislike": -1}, k=5)
IDS = st.sampled_from(["a", "b", "c", 1, 2, 0])
ODD: list[Any] = [
    0, -1, -0.0, 0.5, 1 << 31, 1 << 53, (1 << 63) - 1, 1 << 63, 1 << 64, 10**30, "huge", 1e39, 1e30, -1e30, 1e-50,
    1e300, float("nan"), float("inf"), "", "a", "\0", "é", "long", "2017-07-14T02:40:00Z", "1e400", True,
    False, None, [], {}, [[]], {"a": 1}, NOW_MS, NOW_MS + 10_000, 253_402_300_799_999,
]  # fmt: skip
SCALARS = st.sampled_from(ODD) | IDS | st.integers() | st.floats() | st.text(max_size=5)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(
    ["title", "categories", "timestamp", "attributes", "price", "lat", "lon", "brand", "device", "age", "context", "value",
     "event_id", "retract", "event_type", "session_id", "specversion", "data", "item_id", "user_id"]
)  # fmt: skip
TIMES = st.integers(NOW_MS - 10**9, NOW_MS) | st.sampled_from([0, NOW_MS])


class Sent(NamedTuple):
    topic: str
    key: bytes | None
    value: bytes | None


def as_bytes(value: Any) -> bytes:
    """A few texts stand for what would be a long line where an example fails."""
    text = json.dumps(value).encode()
    for short, said in ((b'"1e400"', b"1e400"), (b'"huge"', b"9" * 400), (b'"long"', b'"' + b"x" * 3_000 + b'"')):
        text = text.replace(short, said)
    return text


@st.composite
def records(draw: st.DrawFn) -> Sent:
    topic = draw(st.sampled_from(["interactions", "interactions", "items", "users"]))
    row: Any = {"user_id": draw(IDS), "item_id": draw(IDS), "timestamp": draw(TIMES)}
    if topic == "interactions":
        row |= {"event_type": draw(st.sampled_from(["view", "rating", "dislike"]))}
    row |= draw(st.dictionaries(NAMES, VALUES, max_size=3))
    key = draw(st.sampled_from([b"a", b"b", b"1", None, b"", b"\xff", b"k" * 2_000]))
    value = draw(st.sampled_from([as_bytes(row)] * 8 + [None, b"", b"{", b"[1]"]))
    return Sent(topic, key, value)


def assert_finite(state: StreamState) -> None:
    """Every number of the model, but for the room that nothing has taken yet."""
    model = state.engine.model
    users, items = len(model.users), len(model.items)
    heads = model.graph.heads
    parts = {
        "ring_weight": model.graph.users.ring_weight[:users],
        "popularity": model.graph.items.popularity[:items],
        "log_popularity": model.graph.items.log_popularity[:items],
        "transitions": model.graph.transitions.weight[:items],
        "co": model.graph.co.weight[:items],
        "totals": model.graph.co.total[:items],
        "heads": np.concatenate([heads.key[s, : heads.size[s]] for s in range(len(heads.size))]),
        **{f"embeddings.{n}": part for n, part in enumerate(model.embeddings)},
        **{f"ranker.{n}": part for n, part in enumerate(model.ranker)},
        **{f"memory.{n}": part for n, part in enumerate((*model.memories.user, *model.memories.item))},
        "content": model.content[0][:items],
    }
    for name, part in parts.items():
        assert np.isfinite(np.asarray(part, np.float64)).all(), name


@hypothesis.settings(max_examples=120)
@given(st.lists(st.lists(records(), max_size=8), max_size=4))
def test_an_epoch_takes_whatever_comes(epochs: list[list[Sent]]) -> None:
    store: dict[bytes, bytes | None] = {}

    def pages(prefix: bytes) -> list[tuple[bytes, bytes]]:
        return sorted((key, value) for key, value in store.items() if value and key.startswith(prefix))

    state, offset = StreamState(SETTINGS, pages), 0
    intake, pipeline = Intake(SETTINGS), Pipeline(SETTINGS, state)
    for sent in epochs:
        arrivals, changes = [], []
        for one in sent:
            record = Record(one.topic, 0, offset, one.key, one.value, (), NOW_MS)
            offset += 1
            if intake.is_interaction(record):
                arrivals.append(intake.arrival(record, NOW_MS))
            else:
                changes.append(intake.change(record))
        output = pipeline.take(epoch_input(in_order(arrivals), changes, repair=True))
        for made in output.records:
            if made.topic == "recommendations" and made.value is not None:
                found = msgspec.json.decode(made.value, type=RecommendationList)
                assert all(abs(item.score) < 1_000 for item in found.items)
        assert_finite(state)
        assert state.clock_ms <= NOW_MS + SETTINGS.clock_skew_ms
        store |= state.delta()
    again = StreamState(SETTINGS, pages)
    if again.load():
        assert all_pages(again.engine.model).keys() == all_pages(state.engine.model).keys()
        assert again.positions == state.positions
        assert TopicPartition("interactions", 0) in state.positions or not any(
            one.topic == "interactions" for sent in epochs for one in sent
        )
