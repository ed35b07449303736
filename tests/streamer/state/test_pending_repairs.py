"""Late, repeated, retracted, deleted, erased and bad records, in any order and cut, leave the state of the clean stream."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import hypothesis
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.records import Record, TopicPartition
from consumers.schemas import EpochManifest, User
from streamer.ops.audit import digest
from streamer.pipeline.epoch import EpochOutput, Erasure, ItemChange, UserChange, epoch_input
from streamer.pipeline.ingest import Intake
from streamer.pipeline.pipeline import Pipeline
from streamer.settings import Settings
from streamer.state.stream_state import StreamState
from tests.canonical import canonical
from tgn.graph import NONE

FAR_MS = 1 << 50
SOMEBODY = 987654321


class World:
    """A pipeline with a checkpoint in memory: records go in, epochs are cut where the test says."""

    def __init__(self, piece: int = 0, **settings: Any) -> None:
        self.settings, self.piece = Settings(**settings), piece
        self.store: dict[bytes, bytes] = {}
        self.offset = 0
        self._open()

    def _open(self) -> None:
        self.state = StreamState(self.settings, self._pages)
        self.state.load()
        self.state.positions.setdefault(TopicPartition("interactions", 0), 0)
        self.pipeline = Pipeline(self.settings, self.state)

    def _pages(self, prefix: bytes) -> list[tuple[bytes, bytes]]:
        return sorted((k, v) for k, v in self.store.items() if k.startswith(prefix))

    def take(
        self, values: Sequence[bytes], *changes: ItemChange | UserChange | Erasure, repair: bool = False
    ) -> EpochOutput:
        intake = Intake(self.settings)
        arrivals = []
        for value in values:
            record = Record("interactions", 0, self.offset, b"k", value, (), 0)
            arrivals.append(intake.arrival(record, FAR_MS)._replace(timestamp=0))
            self.offset += 1
        ends = {TopicPartition("interactions", 0): self.offset}
        said = [(Record("items", 0, 0, None, None, (), 0), change) for change in changes]
        return self.pipeline.take(epoch_input(arrivals, said, ends=ends, repair=repair, repair_size=self.piece))

    def take_alone(self, deleted: Iterable[int], interactions: Iterable[tuple[int, bytes]]) -> None:
        """Nothing but deletions of items, then interactions, each at its offset."""
        for item in sorted(deleted):
            self.take([], ItemChange(f"i{item}", None))
        for offset, value in interactions:
            self.offset = offset
            self.take([value])

    def settle(self) -> list[EpochOutput]:
        """Epochs of nothing but repairs, until nothing is left to be repaired."""
        outputs = []
        while len(self.state.repairs):
            outputs.append(self.take([], repair=True))
            assert outputs[-1].repaired
            assert len(outputs) < 10_000
        return outputs

    def checkpoint(self, restart: bool = False) -> None:
        for key, value in self.state.delta().items():
            if value is None:
                self.store.pop(key, None)
            else:
                self.store[key] = value
        if restart:
            self._open()

    def canonical(self) -> dict[str, Any]:
        return canonical(self.state.engine.model)


def event(user: int, item: int, t: int, event_id: object = None, **more: object) -> bytes:
    row = {"user_id": f"u{user}", "item_id": f"i{item}", "event_type": "view", "timestamp": t, "event_id": event_id}
    return json.dumps(row | {"context": {"device": f"d{t % 5}"}} | more).encode()


def same(a: Any, b: Any) -> None:
    """Equal where it is exact; floats to 1e-6 relative, as the contract promises."""
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            same(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            same(x, y)
    elif isinstance(a, float):
        assert a == pytest.approx(b, rel=1e-6, abs=1e-12)
    else:
        assert a == b


def test_a_retracted_event_leaves_no_trace_in_state_or_list() -> None:
    world, clean = World(), World()
    stream = [event(u, i, 1_000 * n, f"e{n}") for n, (u, i) in enumerate([(1, 1), (1, 2), (2, 1), (2, 3), (1, 4)])]
    world.take(stream)
    world.checkpoint(restart=True)
    output = world.take([event(2, 3, 3_000, "e3", retract=True)], repair=True)
    clean.take(stream[:3] + stream[4:])
    same(world.canonical(), clean.canonical())
    (changed,) = [r for r in output.records if r.topic == "recommendations"]
    assert changed.key == b"u2"
    assert b'"i3"' not in (changed.value or b"")


def test_a_user_whose_every_event_is_retracted_has_no_list() -> None:
    world = World()
    world.take([event(1, 1, 0, "a"), event(2, 2, 1, "b")])
    output = world.take([event(2, 2, 1, "b", retract=True)], repair=True)
    assert [(r.key, r.value) for r in output.records if r.topic == "recommendations"] == [(b"u2", None)]


def test_a_retraction_may_come_before_what_it_takes_back() -> None:
    world, clean = World(), World()
    world.take([event(1, 1, 0, "a"), event(1, 2, 5, "x", retract=True), event(1, 2, 5, "x")], repair=True)
    clean.take([event(1, 1, 0, "a")])
    same(world.canonical(), clean.canonical())


def test_a_deleted_item_is_taken_out_of_everything() -> None:
    world, clean = World(), World()
    stream = [event(u, i, 1_000 * n) for n, (u, i) in enumerate([(1, 1), (1, 2), (2, 2), (2, 3), (3, 1), (3, 2)])]
    world.take(stream)
    output = world.take([], ItemChange("i2", None), repair=True)
    clean.take([value for value in stream if b'"i2"' not in value])
    clean.take([], ItemChange("i2", None))
    same(world.canonical(), clean.canonical())
    lists = {r.key: r.value for r in output.records if r.topic == "recommendations"}
    assert lists
    assert all(b'"i2"' not in (value or b"") for value in lists.values())


def test_an_erased_user_is_nowhere_and_returns_as_somebody_new() -> None:
    world, clean = World(), World()
    world.take([], UserChange(User("u987654321", attributes={"age": 30})))
    world.take([event(SOMEBODY, 1, 0, "of-u987654321"), event(SOMEBODY, 2, 1, "also"), event(2, 1, 2, "u2-a")])
    world.checkpoint()
    output = world.take([], Erasure("u987654321", -1))
    assert (b"u987654321", None) in [(r.key, r.value) for r in output.records]
    manifest = output.records[-1]
    assert b"u987654321" not in (manifest.value or b"")
    world.checkpoint(restart=True)
    clean.take([event(2, 1, 2, "u2-a")])
    same(world.canonical(), clean.canonical())
    everything = b"".join(key + value for key, value in world.store.items())
    assert b"u987654321" not in everything
    assert (world.state.engine.model.graph.users.attribute == NONE).all()
    assert b"u2" in everything
    world.take([event(SOMEBODY, 3, 9)])
    assert world.canonical()["users"]["u987654321"][0] == 1


@dataclass
class Step:
    """One thing that happens to a stream."""

    kind: str
    n: int  # of the event that it concerns
    cut: bool  # the epoch ends after it
    restart: bool


KINDS = ["next"] * 8 + ["late", "repeat", "retract", "bad", "delete", "erase", "early retract", "repair"]
STEPS = st.builds(
    Step,
    st.sampled_from(KINDS),
    st.integers(0, 10**6),
    st.booleans(),
    st.booleans(),
)


@pytest.mark.parametrize("piece", [0, 1, 250, 600], ids=["at once", "smallest pieces", "small pieces", "larger pieces"])
@pytest.mark.parametrize("window", [2, 20])
@hypothesis.settings(max_examples=50)
@given(data=st.lists(STEPS, max_size=40), seed=st.integers(0, 2**32))
def test_any_interleaving_gives_the_state_of_the_clean_stream(
    window: int, piece: int, data: list[Step], seed: int
) -> None:
    check_interleaving(data, seed, window, piece)


@pytest.mark.parametrize("piece", [1, 30, 120])
@hypothesis.settings(max_examples=50)
@given(data=st.lists(STEPS, max_size=40), seed=st.integers(0, 2**32))
def test_any_interleaving_with_a_piece_in_every_epoch_gives_the_state_of_the_clean_stream(
    piece: int, data: list[Step], seed: int
) -> None:
    check_interleaving(data, seed, 3, piece, eager=True)


def check_interleaving(steps: list[Step], seed: int, window: int = 20, piece: int = 0, eager: bool = False) -> None:
    """Plays the steps in one world; what should be left of them, in order, in another; both must be the same.

    piece: the size of a repair, 0: all at once; eager: every epoch repairs, not only those that are told to.
    """
    rng = np.random.default_rng(seed)
    lateness_ms = 10**9
    world = World(piece, allowed_lateness_ms=lateness_ms, window=window, too_late="dead-letter")
    clean = World(allowed_lateness_ms=lateness_ms, window=window)
    facts: list[tuple[int, int, int, int, str]] = []  # t, offset, user, item, id of what should count
    past: list[tuple[int, int, int, str]] = []  # user, item, t, id of all that was made
    deleted: set[int] = set()
    batch: list[bytes] = []
    t = 10**7

    def end_epoch(*changes: ItemChange | Erasure, repair: bool = False) -> None:
        world.take(batch, *changes, repair=repair or eager)
        batch.clear()

    def offset() -> int:
        return world.offset + len(batch)

    for number, step in enumerate(steps):
        user, item = int(rng.integers(0, 5)), int(rng.integers(0, 8))
        kind = step.kind if past or step.kind in ("next", "early retract") else "next"
        if kind in ("next", "late"):
            t += int(rng.integers(1, 10**6))
            when = t if kind == "next" else max(t - int(rng.integers(1, 10**7)), 0)
            past.append((user, item, when, f"e{number}"))
            facts.append((when, offset(), user, item, f"e{number}"))
            batch.append(event(user, item, when, f"e{number}"))
        elif kind == "early retract":
            batch.append(event(user, item, t, f"e{number}", retract=True))
            batch.append(event(user, item, t, f"e{number}"))
        elif kind == "bad":
            batch.append(b"{oops")
        elif kind in ("repeat", "retract"):
            user, item, when, id_ = past[step.n % len(past)]
            batch.append(event(user, item, when, id_, retract=kind == "retract"))
            if kind == "retract":
                facts = [fact for fact in facts if fact[4] != id_]
        elif kind == "delete":
            end_epoch()
            facts = [fact for fact in facts if fact[3] != item]
            deleted.add(item)
            end_epoch(ItemChange(f"i{item}", None))
        elif kind == "erase":
            end_epoch()
            facts = [fact for fact in facts if fact[2] != user]
            end_epoch(Erasure(f"u{user}", -1))
        elif kind == "repair":
            end_epoch(repair=True)
        if step.cut:
            end_epoch()
        if step.restart:
            end_epoch()
            world.checkpoint(restart=step.n % 2 == 0)
    end_epoch()
    world.settle()
    clean.take_alone(deleted, ((place, event(user, item, when, id_)) for when, place, user, item, id_ in sorted(facts)))
    same(world.canonical(), clean.canonical())


def test_what_comes_too_late_is_kept_as_a_dead_letter() -> None:
    world = World(allowed_lateness_ms=10, too_late="dead-letter")
    output = world.take([event(1, 1, 1_000), event(1, 2, 995), event(1, 3, 989)])
    assert [placed.late for placed in output.admitted.placed] == [False, True]
    assert [letter.reason for letter in output.admitted.dead] == ["too-late"]


def big_world(piece: int) -> World:
    """One item that everybody has touched, one user who has touched most."""
    world = World(piece)
    rng = np.random.default_rng(0)
    stream = [(int(u), int(i)) for u, i in zip(rng.integers(0, 40, 600), rng.integers(1, 30, 600), strict=True)]
    for n in range(0, 600, 5):
        stream[n] = (0, stream[n][1])
    for user in range(40):
        stream.insert(10 * user, (user, 0))
    world.take([event(u, i, 1_000 * n, f"e{n}") for n, (u, i) in enumerate(stream)])
    world.checkpoint(restart=True)
    return world


def undo_all_kinds(world: World) -> list[EpochOutput]:
    """Deletes the item, erases the user and retracts of others, with events in between; gives what was put out."""
    now = [10**6]

    def events(n: int) -> list[bytes]:
        now[0] += 1_000
        return [event(u, 40 + u % 3, now[0] + u) for u in range(n)]

    outputs = [world.take(events(3), ItemChange("i0", None))]
    outputs.append(world.take(events(4), repair=True))
    outputs.append(world.take(events(5), Erasure("u0", -1)))
    outputs.append(world.take([event(7, 0, now[0] + 50)], repair=True))  # with the item, after its deletion
    gone = [
        json.loads(value) for value in (event(u, 1, 0, f"e{n}", retract=True) for u in (2, 3) for n in range(0, 600))
    ]
    outputs.append(world.take([json.dumps(row).encode() for row in gone]))
    outputs.append(world.take(events(6), repair=True))
    return [*outputs, *world.settle()]


@pytest.mark.parametrize("piece", [1, 500, 5_000])
def test_pieces_come_to_what_all_at_once_comes_to(piece: int) -> None:
    pieces, whole = big_world(piece), big_world(0)
    outputs = undo_all_kinds(pieces)
    undo_all_kinds(whole)
    assert pieces.canonical() == whole.canonical()
    assert sum(output.repaired for output in outputs) >= (5 if piece == 5_000 else 20)


def test_what_is_deleted_or_erased_is_in_no_list_from_then_on() -> None:
    world = big_world(300)
    outputs = undo_all_kinds(world)
    for output in outputs:
        for record in output.records:
            if record.topic == "recommendations":
                assert b'"i0"' not in (record.value or b"")
    from_erasure = [r for output in outputs[2:] for r in output.records if r.key == b"u0"]
    assert [r.value for r in from_erasure][:1] == [None]
    lists = world.state.listed.lists()
    ids = world.state.engine.model.items.ids
    assert all("i0" not in [ids[item] for item in items] for items in lists.values())


def test_an_erased_user_is_out_of_graph_and_ledger_in_the_same_epoch() -> None:
    world = big_world(1)
    world.take([], Erasure("u0", -1))
    assert len(world.state.repairs)
    graph = world.state.engine.model.graph
    assert graph.users.events[0] == 0
    assert (graph.users.ring_item[0] < 0).all()
    assert not any(int(key >> np.uint64(32)) == 1 for key in graph.pairs.key if key)
    assert not len(world.state.ledger.entries(0))


@pytest.mark.parametrize("piece", [40, 200])
def test_a_checkpoint_between_two_pieces_holds_what_is_left_to_do(piece: int) -> None:
    through, restarted = big_world(piece), big_world(piece)
    begun = 0
    for world in (through, restarted):
        world.take([event(0, 1, 0, f"e{n}", retract=True) for n in (5, 300, 595)], ItemChange("i0", None))
        for n in range(200):
            if not len(world.state.repairs):
                break
            more = [event(0, 1, 0, f"e{n}", retract=True)] if n % 50 == 20 else []
            world.take([event(n % 40, n % 35, 10**6 + n), *more], repair=True)
            if world is restarted:
                begun += len(world.state.repairs.state()[3]) > 5  # items that are half built
                world.checkpoint(restart=n % 3 == 0)
            else:
                world.checkpoint()
    assert n > 20
    assert begun > 10
    assert canonical(through.state.engine.model) == canonical(restarted.state.engine.model)
    assert through.state.parts() == restarted.state.parts()
    assert digest(through.state) == digest(restarted.state)


@pytest.mark.parametrize(
    "what", ["one of a user", "all of a user", "one of an item", "all of an item", "more on the way"]
)
@pytest.mark.parametrize("size", [300, 1_500])
def test_a_piece_observes_no_more_than_it_may_of_a_node_of_any_size(what: str, size: int) -> None:
    """User 0 does every other thing; others touch item 0 half of the time."""
    middle, late = size // 4 * 2, (5, 8, size - 1)

    def done(m: int, **more: object) -> bytes:
        user, item = (0, 1 + m % 7) if m % 2 else (1 + m % 37, m % 4 and 1 + m % 5)
        return event(user, item, 1_000 * m, f"e{m}", **more)

    retracted = {
        "one of a user": [middle + 1],
        "more on the way": [middle + 1, 11],
        "one of an item": [middle // 4 * 4],
    }
    changes = {"all of a user": [Erasure("u0", -1)], "all of an item": [ItemChange("i0", None)]}

    def played(piece: int) -> tuple[World, int]:
        world = World(piece)
        for n in range(0, size, 500):
            world.take([done(m) for m in range(n, min(n + 500, size))])
        world.checkpoint(restart=True)
        observed: list[int] = []
        model = world.state.engine.model
        observe_again = model.observe_again

        def counted(part: Any, nearby: Any, order: Any) -> None:
            observed.append(len(order))
            observe_again(part, nearby, order)

        model.observe_again = counted  # type: ignore[method-assign]
        world.take([done(m, retract=True) for m in retracted.get(what, ())], *changes.get(what, ()))
        more = [[done(m, retract=True)] for m in late] if what == "more on the way" else []
        longest, pieces = sum(observed), 0
        while len(world.state.repairs) or more:
            observed.clear()
            world.take(more.pop(0) if more and pieces % 5 == 2 else [], repair=True)
            longest = max(longest, sum(observed))
            pieces += 1
        return world, longest

    pieces, longest = played(400)
    whole, everything = played(0)
    assert pieces.canonical() == whole.canonical()
    assert 0 < longest <= 100 < everything


def test_the_manifest_says_how_large_a_piece_was_and_an_old_one_means_all() -> None:
    world = big_world(700)
    output = world.take([], ItemChange("i0", None), repair=True)
    manifest = msgspec.json.decode(output.records[-1].value or b"", type=EpochManifest)
    assert (manifest.repaired, manifest.repair_size) == (True, 700)
    old = msgspec.json.decode(b'{"epoch": 1, "ends": {}, "events": 0, "repaired": true}', type=EpochManifest)
    assert old.repair_size == 0


@pytest.mark.parametrize("users", [300, 3_000])
def test_a_piece_reads_no_more_than_it_may(users: int) -> None:
    world = World(20_000)
    for first in range(0, users, 1_000):
        world.take(
            [event(u, i, u, f"{u}-{i}") for u in range(first, min(first + 1_000, users)) for i in (0, 1 + u % 97)]
        )
    world.checkpoint(restart=True)
    read: list[int] = []
    ledger_read = world.state.ledger.read

    def counted(of: np.ndarray) -> Any:
        found = ledger_read(of)
        read.append(len(found[0]))
        return found

    world.state.ledger.read = counted  # type: ignore[method-assign]
    world.take([], ItemChange("i0", None))
    longest = 0
    while len(world.state.repairs):
        read.clear()
        world.take([], repair=True)
        longest = max(longest, sum(read))
    assert 0 < longest <= 20_000


def test_the_mean_that_ratings_are_compared_with_is_part_of_the_state() -> None:
    through, restarted = (World(event_weights={"rating": "value-mean"}) for _ in range(2))
    for n in range(60):
        value = event(n % 5, n % 11, 1_000 * n, event_type="rating", value=float(n * 7 % 10))
        for world in (through, restarted):
            world.take([value])
        restarted.checkpoint(restart=n % 7 == 0)
    assert through.state.value_means["rating"] == [60, pytest.approx(4.5)]
    assert digest(through.state) == digest(restarted.state)
