"""What records said is known after a restart; no list names an item that may not be there by the stream's clock."""

import json
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from consumers.open_log import OwnedLog
from consumers.records import NewRecord
from consumers.schemas import Item, User
from streamer.ops.audit import digest
from streamer.pipeline.epoch import Erasure, ItemChange, UserChange
from streamer.settings import Settings
from streamer.state.stream_state import StreamState
from streamer.worker.worker import Worker
from tests.streamer.state.test_pending_repairs import World, event

ITEMS, USERS = 6, 3
TIMES = st.one_of(st.none(), st.integers(0, 40))
CHANGES = st.builds(
    lambda n, title, hidden, span: ItemChange(f"i{n}", Item(f"i{n}", title, hidden=hidden, available_from=span[0], expires_at=span[1])),
    st.integers(0, ITEMS - 1), st.sampled_from([None, "a title"]), st.sampled_from([False, False, False, True]),
    st.tuples(TIMES, TIMES),
)  # fmt: skip
TOMBSTONES = st.integers(0, ITEMS - 1).map(lambda n: ItemChange(f"i{n}", None))
OF_USERS = st.one_of(
    st.builds(lambda n, plan: UserChange(User(f"u{n}", attributes={"plan": plan})), st.integers(0, USERS - 1), st.sampled_from("ab")),
    st.builds(lambda n: Erasure(f"u{n}", -1), st.integers(0, USERS - 1)),
)  # fmt: skip
STEPS = st.lists(
    st.one_of(
        st.lists(
            st.tuples(st.integers(0, USERS - 1), st.integers(0, ITEMS - 1), st.integers(0, 12)), min_size=1, max_size=4
        ),
        st.one_of(CHANGES, CHANGES, TOMBSTONES, OF_USERS),
        st.just("checkpoint"),
    ),
    max_size=25,
)


def listed_in(output: Any) -> list[tuple[int, list[str]]]:
    """(time of the list, its items) of each published list."""
    values = [
        json.loads(record.value) for record in output.records if record.topic == "recommendations" and record.value
    ]
    return [(value["as_of"]["timestamp"], [item["item_id"] for item in value["items"]]) for value in values]


@given(STEPS)
@hypothesis_settings(max_examples=60)
def test_no_list_names_an_item_that_may_not_be_there(steps: list[Any]) -> None:
    """Whatever comes in whatever order; and with restarts the state is that of a run without any."""
    worlds = World(k=ITEMS), World(k=ITEMS)
    known: dict[str, Item] = {}
    users: dict[str, User] = {}
    clock_ms, count = 0, 0
    for step in steps:
        if step == "checkpoint":
            worlds[1].checkpoint(restart=True)
            continue
        values, changes = [], []
        if isinstance(step, list):
            for user, item, later_ms in step:
                clock_ms, count = clock_ms + later_ms, count + 1
                values.append(event(user, item, clock_ms, f"e{count}"))
        else:
            changes.append(step)
        if isinstance(step, ItemChange):
            known.pop(step.item_id, None)
            known |= {step.item_id: step.item} if step.item else {}
        elif isinstance(step, UserChange):
            users[step.user.user_id] = step.user
        elif isinstance(step, Erasure):
            users.pop(step.user_id, None)
        outputs = [world.take(values, *changes, repair=True) for world in worlds]
        assert listed_in(outputs[0]) == listed_in(outputs[1])
        for t, items in listed_in(outputs[0]):
            for item in filter(None, map(known.get, items)):
                assert not item.hidden
                assert item.available_from is None or item.available_from <= t
                assert item.expires_at is None or t < item.expires_at
    assert len({digest(world.state) for world in worlds}) == 1
    for world in worlds:
        catalogue, model = world.state.catalogue, world.state.engine.model
        found = {id_: catalogue.item(n) for n, id_ in enumerate(model.items.ids)}
        assert {id_: item for id_, item in found.items() if item} == known
        assert {id_: catalogue.user(n) for n, id_ in enumerate(model.users.ids) if catalogue.user(n)} == users
        mask = catalogue.listable(clock_ms)
        for n, id_ in enumerate(model.items.ids):
            item = known.get(id_, Item(id_))
            may = (item.available_from or 0) <= clock_ms and (item.expires_at is None or clock_ms < item.expires_at)
            assert mask[n] == (may and not item.hidden)
            assert catalogue.title_of(n) == item.title


def test_a_list_is_made_anew_when_an_item_in_it_expires_and_the_item_comes_into_later_ones() -> None:
    world = World(k=3)
    world.take([], ItemChange("i1", Item("i1", expires_at=100)), ItemChange("i2", Item("i2", available_from=100)))
    first = world.take([event(1, 1, 10, "a"), event(2, 1, 20, "b"), event(2, 3, 30, "c")])
    assert {item for _, items in listed_in(first) for item in items} == {"i1", "i3"}
    expired = world.take([event(3, 3, 100, "d")], repair=True)
    lists = listed_in(expired)
    assert len(lists) == 3, "those of u1 and u2 named what has expired"
    assert {item for _, items in lists for item in items} == {"i2", "i3"}
    shown = world.take([], ItemChange("i1", Item("i1", expires_at=1_000)))
    assert not listed_in(shown)
    (later,) = listed_in(world.take([event(1, 3, 130, "e")]))
    assert {"i1", "i2"} <= set(later[1])
    assert world.state.engine.model.graph.items.introduced[world.state.engine.model.items.get("i2")] == 100


def test_an_item_that_comes_later_is_new_when_it_comes() -> None:
    """However many are introduced in the meantime."""
    world = World(k=5, every_item_below=0)
    world.take([event(1, 1, 1, "a")], ItemChange("late", Item("late", available_from=10_000)))
    for n in range(3_000):
        world.state.engine.introduce(Item(f"n{n}"), 5)
    (listed,) = listed_in(world.take([event(1, 2, 10_000, "b")]))
    assert "late" in listed[1]


def interaction(user: int, item: int, t: int) -> NewRecord:
    return NewRecord("interactions", f"u{user}".encode(), event(user, item, t))


def without_catalogue(pages: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """The checkpoint as the format before had it."""
    stream = msgspec.msgpack.decode(pages[b"stream"])
    stream["format"] = 10
    del stream["pages"]["catalogue"]
    kept = {key: value for key, value in pages.items() if not key.startswith(b"catalogue/")}
    return kept | {b"stream": msgspec.msgpack.encode(stream)}


def test_a_checkpoint_without_a_catalogue_gets_it_from_the_topics(log: OwnedLog, settings: Settings) -> None:
    """And nothing else is taken again: what came after a deletion or an erasure stays."""
    tea, pot = b'{"item_id": "i1", "title": "Tea", "price": 3}', b'{"item_id": "i2", "expires_at": 5000}'
    parts = [
        [
            NewRecord("items", b"i1", tea),
            NewRecord("items", b"i2", pot),
            NewRecord("items", b"i3", b'{"item_id": "i3"}'),
        ],
        [
            NewRecord("users", b"u1", b'{"user_id": "u1", "plan": "gold"}'),
            NewRecord("users", b"u2", b'{"user_id": "u2"}'),
        ],
        [interaction(user, item, 1_000 + 10 * user + item) for user in range(4) for item in range(5)],
        [NewRecord("items", b"i1", None), NewRecord("items", b"i3", None), NewRecord("users", b"u2", None)],
        [NewRecord("items", b"i1", tea), NewRecord("users", b"u2", b'{"user_id": "u2", "plan": "free"}')],
        [interaction(user, item, 2_000 + 10 * user + item) for user in range(4) for item in range(5)],
    ]
    for records in parts:
        log.append(records)
        worker = Worker.open(log, settings)
        worker.run(exit_at_end=True)
        worker.close()
    before = worker.state
    stored = log.stored_state(settings.application)
    pages = dict(stored.pages())
    older = without_catalogue(pages)
    stored.write({key: older.get(key) for key in pages if older.get(key) != pages[key]})
    log.append([interaction(1, 1, 3_000)])
    again = Worker.open(log, settings)
    assert again.state.catalogue.records() == before.catalogue.records()
    assert digest(again.state) == digest(before)
    again.run(exit_at_end=True)
    again.close()
    reopened = StreamState(settings, stored.pages)
    assert reopened.load()
    assert reopened.has_catalogue
    assert digest(reopened) == digest(again.state)
    model = reopened.engine.model
    tea_node, pot_node, user_node = (model.items.get("i1"), model.items.get("i2"), model.users.get("u2"))
    assert None not in (tea_node, pot_node, user_node)
    item, user = reopened.catalogue.item(tea_node or 0), reopened.catalogue.user(user_node or 0)
    assert item
    assert user
    assert (item.title, item.attributes, user.attributes) == ("Tea", {"price": 3}, {"plan": "free"})
    assert reopened.catalogue.span(pot_node or 0).until_ms == 5_000
