"""Sessions that become users': the state is that of a stream in which they had been the users' all the time."""

import json
from dataclasses import dataclass, field

import hypothesis
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.ops.audit import digest
from streamer.pipeline.epoch import Erasure, ItemChange
from tests.canonical import canonical
from tests.streamer.state.test_pending_repairs import Step, World, big_world, event, same

USERS, NOBODY = 4, -1
FAR = 10**7


def merge(user: int, session: int, upto: int = 0) -> bytes:
    return json.dumps({"user_id": f"u{user}", "merge": f"u{session}", "upto": {"0": upto}}).encode()


def lists_of(world: World) -> dict[str, list[str]]:
    """What is published, by names."""
    model = world.state.engine.model
    return {model.users.ids[u]: [model.items.ids[i] for i in items] for u, items in world.state.listed.lists().items()}


STREAM = [(1, 1), (4, 2), (1, 3), (4, 1), (2, 2), (4, 5), (2, 3), (1, 4)]  # of whom u4 is a session


def played(world: World, session_is: int) -> None:
    world.take([event(session_is if u == 4 else u, i, 1_000 * n, f"e{n}") for n, (u, i) in enumerate(STREAM)])


@pytest.mark.parametrize("user", [1, 3], ids=["a known user", "somebody new"])
@pytest.mark.parametrize("restart", [False, True])
def test_a_session_is_the_users_with_each_interaction_in_its_place(user: int, restart: bool) -> None:
    world, clean = World(), World()
    played(world, 4)
    played(clean, user)
    if restart:
        world.checkpoint(restart=True)
    output = world.take([merge(user, 4)])
    if restart:
        world.checkpoint(restart=True)
    same(world.canonical(), clean.canonical())
    records = {r.key: r.value for r in output.records if r.topic == "recommendations"}
    assert records[b"u4"] is None
    assert json.loads(records[f"u{user}".encode()] or b"")["user_id"] == f"u{user}"
    assert "u4" not in lists_of(world)
    for one in (world, clean):  # later ones follow
        who = 4 if one is world else user
        one.take([event(who, 6, 9_000, "later"), event(2, 6, 9_500), event(user, 2, 9_700)], repair=True)
    same(world.canonical(), clean.canonical())


def test_a_merge_waits_until_what_lies_before_it_is_taken() -> None:
    world = World()
    played(world, 4)
    before = world.canonical()
    place = world.offset + 3
    output = world.take([merge(1, 4, upto=place)])
    assert not [r for r in output.records if r.topic == "recommendations"]
    assert world.canonical() == before
    world.checkpoint(restart=True)
    world.take([event(4, 7, 20_000)])
    assert "u4" in world.canonical()["users"]
    world.take([event(2, 7, 21_000)])
    assert "u4" not in world.canonical()["users"]
    assert world.canonical()["users"]["u1"][0] == 7


def test_a_merge_is_taken_once() -> None:
    world = World()
    played(world, 4)
    world.take([merge(1, 4)])
    world.settle()
    whole = digest(world.state)
    for again in (merge(1, 4), merge(4, 1)):
        output = world.take([again])
        assert len(output.records) == 1  # its manifest
    world.state.epoch -= 2
    world.state.records -= 2
    world.state.positions = dict.fromkeys(world.state.positions, world.offset - 2)
    assert digest(world.state) == whole


def test_a_session_stays_the_users_whose_it_is() -> None:
    world = World()
    played(world, 4)
    world.take([merge(1, 4), merge(3, 1)])
    before = world.canonical()
    output = world.take([merge(2, 4), merge(3, 4), merge(1, 4)])
    assert [letter.reason for letter in output.admitted.dead] == ["other-user"]
    assert world.canonical() == before
    assert before["users"]["u3"][0] == 6
    both = World()
    played(both, 4)
    both.take([merge(2, 4), merge(1, 4)])  # of one epoch
    assert (both.canonical()["users"]["u2"][0], both.canonical()["users"]["u1"][0]) == (5, 3)


def test_who_is_erased_is_erased_with_their_sessions() -> None:
    world, clean = World(), World()
    for one in (world, clean):
        one.take([event(2, 1, 0, "of-2"), event(2, 2, 10)])
    world.take([event(987654321, 1, 20, "s"), event(123456789, 2, 30)])
    world.take([merge(123456789, 987654321), merge(123456789, 55, upto=99)])
    world.checkpoint()
    output = world.take([], Erasure("u123456789", -1))
    assert (b"u123456789", None) in [(r.key, r.value) for r in output.records]
    manifest = json.loads(output.records[-1].value or b"")
    assert [len(of) for of in manifest["sessions_erased"].values()] == [1]
    world.checkpoint(restart=True)
    same(world.canonical(), clean.canonical())
    everything = b"".join(key + value for key, value in world.store.items())
    assert b"987654321" not in everything
    assert b"123456789" not in everything
    old = World()
    old.state.erased, old.state.erasure_key = world.state.erased, world.state.erasure_key
    old.take([event(987654321, 1, 20, "s"), event(123456789, 2, 30), merge(123456789, 987654321)])
    assert not old.canonical()["users"]  # a rebuild counts nothing of them


def test_a_retraction_finds_it_under_either_name() -> None:
    for name in (1, 4):
        world, clean = World(), World()
        played(world, 4)
        clean.take([event(1 if u == 4 else u, i, 1_000 * n) for n, (u, i) in enumerate(STREAM) if n != 3])
        world.take([merge(1, 4), event(name, 1, 3_000, "e3", retract=True)], repair=True)
        same(world.canonical(), clean.canonical())


def test_what_is_sent_again_counts_once_after_the_merge_too() -> None:
    world = World()
    played(world, 4)
    world.take([merge(1, 4)])
    output = world.take([event(4, 2, 1_000, "e1")])
    assert output.admitted.duplicates == 1


KINDS = ["next"] * 8 + ["late", "retract", "merge", "merge", "again", "delete", "erase", "repair"]
STEPS = st.builds(Step, st.sampled_from(KINDS), st.integers(0, 10**6), st.booleans(), st.booleans())


@dataclass
class Fact:
    """An interaction that counts. `by`: under whose name it was sent, `of`: whose it is."""

    t: int
    offset: int
    by: int
    of: int
    item: int
    id: str


@dataclass
class Truth:
    """What should be, of the records so far."""

    facts: list[Fact] = field(default_factory=list)
    owners: dict[int, int] = field(default_factory=dict)

    def merge(self, user: int, session: int) -> None:
        owner = self.owners.get(user, user)
        if session in (user, owner) or session in self.owners:
            return
        for one in (session, *(s for s, of in self.owners.items() if of == session)):
            self.owners[one] = owner
        for fact in self.facts:
            if fact.of == session:
                fact.of = owner

    def erase(self, user: int) -> None:
        for fact in self.facts:
            if fact.by == user:
                fact.by = NOBODY  # a name that is erased takes nothing back any more
        self.facts = [fact for fact in self.facts if fact.of != user]
        self.owners = {s: of for s, of in self.owners.items() if user not in (s, of)}


@pytest.mark.parametrize("piece", [0, 1, 250], ids=["at once", "smallest pieces", "small pieces"])
@pytest.mark.parametrize("window", [2, 20])
@pytest.mark.parametrize("eager", [False, True])
@hypothesis.settings(max_examples=40)
@given(data=st.lists(STEPS, max_size=40), seed=st.integers(0, 2**32))
def test_any_interleaving_gives_the_state_of_the_stream_that_knew_from_the_start(
    window: int, piece: int, eager: bool, data: list[Step], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    world = World(piece, allowed_lateness_ms=10**9, window=window)
    clean = World(allowed_lateness_ms=10**9, window=window)
    truth, past, deleted, batch, t = Truth(), list[Fact](), set[int](), list[bytes](), FAR
    merges: list[tuple[int, int]] = []

    def end_epoch(*changes: ItemChange | Erasure, repair: bool = False) -> None:
        world.take(batch, *changes, repair=repair or eager)
        batch.clear()

    for number, step in enumerate(data):
        who, item = int(rng.integers(0, 7)), int(rng.integers(0, 8))
        kind = step.kind if past or step.kind in ("merge", "delete", "erase") else "next"
        if kind in ("next", "late"):
            t += int(rng.integers(1, 10**6))
            when = t if kind == "next" else max(t - int(rng.integers(1, 10**7)), 0)
            fact = Fact(when, world.offset + len(batch), who, truth.owners.get(who, who), item, f"e{number}")
            truth.facts.append(fact)
            past.append(fact)
            batch.append(event(who, item, when, fact.id))
        elif kind == "retract":
            fact = past[step.n % len(past)]
            if fact.by == NOBODY:
                continue
            name = fact.by if step.n % 2 or fact.of != truth.owners.get(fact.by) else fact.of
            batch.append(event(name, fact.item, fact.t, fact.id, retract=True))
            truth.facts = [one for one in truth.facts if one is not fact]
        elif kind in ("merge", "again"):
            pair = int(rng.integers(0, USERS)), int(rng.integers(0, 7))
            user, session = merges[step.n % len(merges)] if kind == "again" and merges else pair
            if user == session:
                continue
            merges.append((user, session))
            batch.append(merge(user, session))
            truth.merge(user, session)
        elif kind == "delete":
            end_epoch()
            truth.facts = [fact for fact in truth.facts if fact.item != item]
            deleted.add(item)
            end_epoch(ItemChange(f"i{item}", None))
        elif kind == "erase":
            end_epoch()
            truth.erase(who)
            end_epoch(Erasure(f"u{who}", -1))
        elif kind == "repair":
            end_epoch(repair=True)
        if step.cut:
            end_epoch()
        if step.restart:
            end_epoch()
            world.checkpoint(restart=step.n % 2 == 0)
    end_epoch()
    world.settle()
    facts = sorted(truth.facts, key=lambda fact: (fact.t, fact.offset))
    clean.take_alone(deleted, ((fact.offset, event(fact.of, fact.item, fact.t, fact.id)) for fact in facts))
    same(world.canonical(), clean.canonical())


@pytest.mark.parametrize("piece", [40, 300])
def test_a_merge_between_two_pieces_of_a_repair_comes_to_the_same(piece: int) -> None:
    """While an item that all have touched is on its way, with a checkpoint after each epoch."""
    pieces, whole = big_world(piece), big_world(0)
    for world in (pieces, whole):
        world.take([event(0, 1, 0, f"e{n}", retract=True) for n in (5, 300, 595)], ItemChange("i0", None))
        for n in range(30):
            records = [event(n % 40, n % 35, 10**6 + n)]
            if n % 5 == 2:
                records.append(merge(n % 7, 10 + n))
            world.take(records, repair=world is pieces)
            if world is pieces:
                world.checkpoint(restart=n % 3 == 0)
        world.settle()
    same(pieces.canonical(), whole.canonical())
    assert canonical(pieces.state.engine.model)["users"].keys().isdisjoint({"u12", "u17", "u22", "u27", "u32", "u37"})


def test_a_checkpoint_between_holds_what_is_left_to_do() -> None:
    through, restarted = big_world(200), big_world(200)
    for world in (through, restarted):
        for n in range(60):
            records = [event(n % 40, n % 35, 10**6 + n)]
            if n % 4 == 1 and n < 40:
                records.append(merge(n % 3, 4 + n, upto=world.offset + n))
            world.take(records, repair=True)
            world.checkpoint(restart=world is restarted and n % 3 == 0)
        world.settle()
    assert through.state.merges.owners()
    assert through.state.parts() == restarted.state.parts()
    assert digest(through.state) == digest(restarted.state)
