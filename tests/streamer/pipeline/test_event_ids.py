"""Event ids belong to their user; a record without one is named by where it lies, and is never a duplicate."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from consumers.open_log import OwnedLog
from consumers.records import NewRecord
from streamer.evaluation.replay import ReplayOptions, replay
from streamer.features.event_ids import digest_event_id, digest_unscoped
from streamer.features.topic_table import read_topic
from streamer.ops.checkpoint_archive import read_file
from streamer.pipeline.admission import Admitted
from streamer.settings import Settings
from streamer.state.dedup import SeenEvents
from streamer.state.stream_state import StreamState
from streamer.worker.rebuild import rebuild
from streamer.worker.worker import Worker
from tests.streamer.state.test_pending_repairs import World, event

GOLDEN = Path(__file__).parents[2] / "golden"


def counts(admitted: Admitted) -> tuple[int, int, int]:
    return len(admitted.placed), admitted.duplicates, admitted.void


def done_by(world: World) -> dict[str, int]:
    users = world.state.engine.model.users.ids
    return {user: len(world.state.ledger.entries(n)) for n, user in enumerate(users) if user}


CASES: dict[str, tuple[list[bytes], tuple[int, int, int], dict[str, int]]] = {  # records → taken, repeated, void; left
    "one user repeats": ([event(1, 1, 1, "a"), event(1, 2, 2, "a")], (1, 1, 0), {"u1": 1}),
    "two users, one id": ([event(1, 1, 1, "a"), event(2, 1, 2, "a")], (2, 0, 0), {"u1": 1, "u2": 1}),
    "another user's retraction comes first": (
        [event(3, 1, 1, "a", retract=True), event(1, 1, 2, "a")], (1, 0, 0), {"u1": 1}
    ),
    "another user's retraction comes after": (
        [event(1, 1, 2, "a"), event(3, 1, 3, "a", retract=True)], (1, 0, 0), {"u1": 1}
    ),
    "one's own retraction comes first": ([event(1, 1, 1, "a", retract=True), event(1, 1, 2, "a")], (0, 1, 0), {}),
    "one's own retraction comes after": ([event(1, 1, 1, "a"), event(1, 1, 2, "a", retract=True)], (1, 0, 0), {"u1": 0}),
    "no id, equal rows": ([event(1, 1, 1), event(1, 1, 1)], (2, 0, 0), {"u1": 2}),
    "an empty id is none": ([event(1, 1, 1, ""), event(1, 1, 1, "")], (2, 0, 0), {"u1": 2}),
    "no id, retracted": ([event(1, 1, 1), event(1, 1, 1), event(1, 1, 1, "@0-0", retract=True)], (2, 0, 0), {"u1": 1}),
    "no id, retracted first": ([event(1, 1, 1, "@0-1", retract=True), event(1, 1, 2)], (0, 0, 1), {}),
    "no id, retracted by another": ([event(1, 1, 1), event(2, 1, 1, "@0-0", retract=True)], (1, 0, 0), {"u1": 1}),
    "ids that look alike when joined": (
        [event(1, 1, 1, "2a"), json.dumps(json.loads(event(1, 1, 2, "a")) | {"user_id": "u12"}).encode()],
        (2, 0, 0), {"u1": 1, "u12": 1},
    ),
}  # fmt: skip


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize(("records", "expected", "left"), CASES.values(), ids=CASES)
def test_whose_an_id_is(
    records: list[bytes], expected: tuple[int, int, int], left: dict[str, int], restart: bool
) -> None:
    world = World()
    total = (0, 0, 0)
    for record in records:
        output = world.take([record], repair=True)
        total = tuple(a + b for a, b in zip(total, counts(output.admitted), strict=True))  # type: ignore[assignment]
        world.checkpoint(restart=restart)
    assert total == expected
    assert done_by(world) == left


def older(pages: dict[bytes, bytes]) -> StreamState:
    state = StreamState(Settings(k=5), lambda prefix: sorted((k, v) for k, v in pages.items() if k.startswith(prefix)))
    assert state.load()
    return state


@pytest.fixture
def golden() -> World:
    """A world that goes on from a checkpoint of a version whose digests were of the id alone."""
    world = World(k=5)
    world.store = dict(read_file(GOLDEN / "checkpoint-9.parquet"))
    world._open()
    world.offset = 10_000
    return world


@pytest.mark.parametrize("restart", [False, True])
def test_ids_of_an_older_checkpoint_count_for_everybody(golden: World, restart: bool) -> None:
    world = golden
    before = done_by(world)
    t = world.state.clock_ms
    assert counts(world.take([event(3, 2, t, "8"), event(99, 2, t, "8")]).admitted) == (0, 2, 0)
    assert counts(world.take([event(3, 2, t, "new"), event(99, 2, t, "new")]).admitted) == (2, 0, 0)
    world.checkpoint(restart=restart)
    assert counts(world.take([event(3, 2, t, "new"), event(98, 2, t, "8"), event(98, 2, t, "new")]).admitted) == (
        1,
        2,
        0,
    )
    assert done_by(world) == before | {"u3": before["u3"] + 1, "u99": 1, "u98": 1}


def test_what_an_older_checkpoint_holds_is_taken_back_by_its_id(golden: World) -> None:
    world = golden
    users = world.state.engine.model.users.ids
    user = next(n for n, name in enumerate(users) if name and len(world.state.ledger.entries(n)))
    kept = world.state.ledger.entries(user)["event"]
    ids = {int.from_bytes(digest_unscoped(str(n))[:8], "little"): str(n) for n in range(300)}
    id_ = next(ids[int(number)] for number in kept)
    for name, left in (("somebody", len(kept)), (users[user], len(kept) - 1)):
        row = json.loads(event(0, 1, world.state.clock_ms, id_, retract=True)) | {"user_id": name}
        world.take([json.dumps(row).encode()], repair=True)
        assert len(world.state.ledger.entries(user)) == left


def test_older_ids_leave_the_window() -> None:
    seen = SeenEvents(3)
    seen.load([((0).to_bytes(8, "big"), msgspec.msgpack.encode([digest_unscoped(x) for x in "abc"]))])
    assert seen.has_unscoped("a")
    for n, user in enumerate("xyz"):
        assert seen.take(digest_event_id(user, "a"))
        seen.forget_old()
        assert seen.has_unscoped("c") == (n < 2)
    assert not seen.has_unscoped("a")
    assert not seen.take(digest_event_id("z", "a"))


def interaction(user: str, item: str, t: int, **more: Any) -> NewRecord:
    row = {"user_id": user, "item_id": item, "event_type": "view", "timestamp": t} | more
    return NewRecord("interactions", user.encode(), json.dumps(row).encode())


def test_a_rebuild_and_a_replay_know_whose_an_id_is(log: OwnedLog, settings: Settings) -> None:
    log.append([interaction(f"u{n % 3}", f"i{n % 5}", n, event_id=str(n // 3)) for n in range(30)])
    log.append([interaction("u0", "i0", 40), interaction("u1", "i1", 41)])  # offsets 30, 31
    worker = Worker.open(log, settings)
    worker.run(exit_at_end=True)
    worker.close()
    assert worker.state.engine.model.events == 32
    table = read_topic(log, "interactions", settings).table
    result = replay(table, settings, ReplayOptions())
    assert (result.duplicates, sum(result.dead.values())) == (0, 0)
    log.append([interaction("u1", "i", 42, event_id=id_, retract=True) for id_ in ("0", "@0-31", "@0-30")])
    worker = Worker.open(log, settings)
    worker.run(exit_at_end=True)
    worker.close()
    assert rebuild(log, settings).interactions == 30
