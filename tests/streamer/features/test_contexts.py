"""What a user brings along: from records and tables to rows of the model, and what is learned of it."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.records import Record
from consumers.schemas import Item, User
from streamer.engine.engine import Engine
from streamer.evaluation.replay import ReplayOptions, replay
from streamer.features.contexts import NAMES, rows_of_attributes, rows_of_contexts, rows_of_table
from streamer.features.item_content import hash_content
from streamer.pipeline.epoch import UserChange
from streamer.pipeline.ingest import Intake
from streamer.settings import Settings
from tests.worlds import table_of
from tgn.config import Part
from tgn.context_embedding import NEW_USER, ROWS
from tgn.graph import NONE, SLOTS

CONTEXTS: list[dict[str, Any] | None] = [
    {"device": "phone", "region": 13, "position": 4},
    {"device": "desk", "region": 13.0, "country": True},
    None,
    {"device": None, "geo": {"lat": 1.0}, "os": ""},
]


def test_a_table_and_records_give_the_same_rows() -> None:
    rows = rows_of_contexts(CONTEXTS)
    flat = {name: [(c or {}).get(name) for c in CONTEXTS] for name in ("device", "os", "country")}
    columns = table_of([("u", "i", 0)] * 4)
    columns = columns.append_column("region", pa.chunked_array([[13.0, 13.0, None, None]]))
    nested = pa.array([None if c is None else {"device": c.get("device")} for c in CONTEXTS])
    for name in ("os", "country"):
        columns = columns.append_column(name, pa.chunked_array([flat[name]]))
    for table in (
        columns.append_column("device", pa.chunked_array([flat["device"]])),
        columns.append_column("context", nested),
    ):
        assert rows_of_table(table).tolist() == rows.tolist()
    assert (rows[2:] == NONE).all()
    assert rows[0, NAMES.index("device")] != rows[1, NAMES.index("device")]
    known = rows[rows != NONE]
    assert ((known > NEW_USER) & (known < ROWS)).all()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(10**400),
    lambda value: st.lists(value, max_size=3) | st.dictionaries(st.text(), value, max_size=3),
)


@given(st.dictionaries(st.sampled_from(["lat", "lon", "age", "device", "geo"]) | st.text(), JSON))
def test_whatever_a_record_says_is_taken(attributes: dict[str, Any]) -> None:
    rows = [rows_of_attributes(attributes), rows_of_contexts([attributes])[0]]
    assert all(((row >= NONE) & (row < ROWS)).all() for row in rows)
    assert np.isfinite(hash_content(Item("x", attributes=attributes))).all()


def test_a_value_is_another_under_another_name_and_numbers_near_each_other_are_one() -> None:
    of = rows_of_attributes
    assert of({"age": 24})[0] == of({"age": "25"})[0] != of({"age": 60})[0]
    assert of({"level": 3})[0] != of({"level": 4})[0]
    assert of({"a": "x"})[0] != of({"b": "x"})[0]
    assert of({"a": ["x"], "b": None}).tolist() == [NONE] * SLOTS
    assert len(of({f"a{n}": "x" for n in range(50)})) == SLOTS


def regional(events: int = 4_000, seed: int = 0) -> pa.Table:
    """Users come twice, from a region of two, and everybody there takes one of the region's own five items."""
    rng = np.random.default_rng(seed)
    region = rng.integers(0, 2, events // 2)
    item = rng.integers(0, 5, events) + 5 * np.repeat(region, 2)
    table = table_of([(f"u{n // 2}", f"i{item[n]}", n * 1000) for n in range(events)])
    return table.append_column("region", pa.array([f"r{r}" for r in np.repeat(region, 2)]))


def hits_at_5(table: pa.Table, first: bool, users: dict[str, str] | None = None, **settings: Any) -> float:
    """Share of the second half whose item is among the first five; of users' first events, or of their second."""
    given = Settings(k=5, every_item_below=0, **settings)
    engine, ranks = Engine(given), []
    for user, region in (users or {}).items():
        engine.describe(User(user, attributes={"region": region}))
    replay(table, given, ReplayOptions(), watch=lambda taken: ranks.append(taken.outcome.rank), engine=engine)
    rank = np.concatenate(ranks)[len(table) // 2 :][0 if first else 1 :: 2]
    return float((rank > 0).mean())


@pytest.mark.parametrize("off", [(), ("context",)])
def test_what_is_taken_in_a_region_is_listed_there(off: tuple[Part, ...]) -> None:
    table = regional().rename_columns(
        ["device" if name == "region" else name for name in regional().column_names]
    )  # known at the request
    known = hits_at_5(table, True, request_context=True, without=(*off, "transitions", "co-interaction"))
    assert known > 0.9 if not off else known < 0.7


def test_a_region_is_not_known_when_a_list_is_asked_for() -> None:
    assert hits_at_5(regional(), True, request_context=True) < 0.7


def test_attributes_of_a_user_count_from_the_first_event_on() -> None:
    table = regional()
    users = dict(zip(table["user_id"].to_pylist(), table["region"].to_pylist(), strict=True))
    bare = table.drop_columns(["region"])
    assert hits_at_5(bare, True, users) > 0.9
    assert hits_at_5(bare, True) < 0.7


def test_a_record_of_the_users_topic_is_a_change_or_a_dead_letter() -> None:
    def change(value: bytes) -> Any:
        return Intake(Settings()).change(Record("users", 0, 0, b"u1", value, (), 0))[1]

    assert change(b'{"user_id": "u1", "attributes": {"age": 30}}') == UserChange(User("u1", attributes={"age": 30}))
    assert "JSON list" in change(b"[]").message
