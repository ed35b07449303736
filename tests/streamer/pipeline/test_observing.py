"""What one worker admits, the other observes: the same interactions, without a decision of its own, undone as they are."""

import json
from collections.abc import Sequence
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.records import Record, TopicPartition
from streamer.ops.audit import digest
from streamer.pipeline.arrivals import in_order
from streamer.pipeline.epoch import CommittedBlock, EpochOutput, Erasure, epoch_input
from streamer.pipeline.ingest import Intake
from streamer.pipeline.observed_block import ObservedBlock, decode_block, numbers_of
from streamer.pipeline.observing import observe
from streamer.pipeline.pipeline import Pipeline
from streamer.settings import Settings
from streamer.state.stream_state import StreamState
from tests.canonical import canonical
from tests.streamer.state.test_pending_repairs import event, same
from tgn.graph import no_contexts

FAR_MS = 1 << 50
LONG_MS = 10_000  # of lateness: what is taken back has moved the clock, and nothing may be too late by it
SEATS = (0, 1)  # of the workers where there are two


class Seat:
    """A worker without a log, one of so many: it has the partition of its number, and observes those of the others."""

    def __init__(self, number: int, of: int = len(SEATS), **settings: Any) -> None:
        self.number, self._of, self.settings = number, of, Settings(**settings)
        self.store: dict[bytes, bytes] = {}
        self.offset = 0
        self.coming: list[CommittedBlock] = []
        self.erasures: list[Erasure] = []
        self._open()

    def _open(self) -> None:
        self.state = StreamState(
            self.settings, lambda prefix: sorted((k, v) for k, v in self.store.items() if k.startswith(prefix))
        )
        self.state.load()
        for partition in range(self._of):
            self.state.positions.setdefault(TopicPartition("interactions", partition), 0)
        self.pipeline = Pipeline(self.settings, self.state, worker=str(self.number))

    def take(
        self, values: Sequence[bytes] = (), now_ms: int = 0, shared: int | None = None, repair: bool = False
    ) -> EpochOutput:
        """An epoch of what has come, and of these records, which were appended at `now_ms`."""
        shared = self._of if shared is None else shared
        intake, arrivals = Intake(self.settings), []
        for value in values:
            record = Record("interactions", self.number, self.offset, b"k", value, (), now_ms)
            arrivals.append(intake.arrival(record, FAR_MS))
            self.offset += 1
        ends = {TopicPartition("interactions", self.number): self.offset} if values else {}
        said = [(Record("users", 0, 0, None, None, (), 0), erasure) for erasure in self.erasures]
        observed, self.coming, self.erasures = self.coming, [], []
        return self.pipeline.take(
            epoch_input(in_order(arrivals), said, ends=ends, shared=shared, observed=observed, repair=repair)
        )

    def restart(self) -> None:
        """Goes on from a checkpoint."""
        for key, value in self.state.delta().items():
            if value is None:
                self.store.pop(key, None)
            else:
                self.store[key] = value
        self._open()

    def settle(self) -> None:
        """Makes the graph what the ledger says."""
        while len(self.state.repairs):
            self.take(repair=True)

    def canonical(self) -> dict[str, Any]:
        return canonical(self.state.engine.model)

    def history(self, user: str) -> list[tuple[Any, ...]]:
        """What the ledger has of a user, by names."""
        model = self.state.engine.model
        node = model.users.get(user)
        entries = [] if node is None else self.state.ledger.entries(node)
        names = ("t", "event", "weight", "context")
        return [(model.items.ids[one["item"]], *(one[name].tolist() for name in names)) for one in entries]


def blocks_of(output: EpochOutput, first: int) -> list[CommittedBlock]:
    records = [one for one in output.records if one.topic == "freshet.observed"]
    return [CommittedBlock(r.partition or 0, n, decode_block(r.value or b"")) for n, r in enumerate(records, first)]


class Pair:
    """Two workers, or more; what one admits comes to the others when they are told to look."""

    def __init__(self, of: int = len(SEATS), **settings: Any) -> None:
        self.seats = [Seat(number, of, **settings) for number in range(of)]
        self.waiting: list[list[CommittedBlock]] = [[] for _ in self.seats]
        self.written = [0] * of

    def take(self, number: int, values: Sequence[bytes] = (), now_ms: int = 0) -> EpochOutput:
        output = self.seats[number].take(values, now_ms)
        blocks = blocks_of(output, self.written[number])
        self.written[number] += len(blocks)
        for other, waiting in enumerate(self.waiting):
            waiting += blocks if other != number else []
        return output

    def look(self, number: int) -> None:
        """Observes what waits, each partition by itself: in which order they are taken together follows from the times
        that they have reached, which what is taken back has moved too.
        """
        waiting, self.waiting[number] = self.waiting[number], []
        for partition in sorted({block.partition for block in waiting}) or [number]:
            self.seats[number].coming += [block for block in waiting if block.partition == partition]
            self.take(number)

    def settle(self) -> None:
        for seat in self.seats:
            self.look(seat.number)
        for seat in self.seats:
            seat.settle()


STREAM = [event(2, 1, 1_000, "a"), event(2, 2, 2_000), event(4, 1, 3_000, "b", event_type="purchase")]


def test_the_other_one_knows_what_was_admitted_and_publishes_nothing() -> None:
    pair = Pair()
    pair.take(0, [*STREAM, event(2, 1, 1_000, "a"), b"no JSON"], now_ms=5)
    pair.look(1)
    owner, other = pair.seats
    for user in ("u2", "u4"):
        assert other.history(user) == owner.history(user) != []
    assert set(other.state.seen_events.digests()) == set(owner.state.seen_events.digests())
    assert other.state.positions == owner.state.positions
    assert other.state.listed.lists() == {}
    assert (other.state.clock_ms, other.state.watermarks) == (0, {0: 3_000})
    assert (other.state.records, other.state.quality.events, other.state.engine.model.events) == (0, 0, 3)
    same(other.canonical(), owner.canonical())


def test_with_one_worker_nothing_is_another() -> None:
    alone, sharing = Seat(0), Seat(0)
    outputs = [one.take(STREAM, shared=shared) for one, shared in ((alone, 0), (sharing, 2))]
    lists = [[(r.topic, r.key, r.value) for r in output.records[:-1]] for output in outputs]
    assert lists[0] == [one for one in lists[1] if one[0] != "freshet.observed"]
    assert len(lists[1]) == len(lists[0]) + 1
    assert digest(alone.state) == digest(sharing.state)


def test_an_epoch_that_admitted_nothing_leaves_no_gap() -> None:
    pair = Pair()
    pair.take(0, [event(2, 1, 1_000, "a")])
    pair.take(0, [b"no JSON", event(2, 1, 1_000, "a")])
    pair.look(1)
    assert pair.seats[1].state.positions[TopicPartition("interactions", 0)] == 3


def test_a_partition_that_moves_goes_on_with_its_event_ids_and_its_watermark() -> None:
    pair = Pair(too_late="dead-letter")
    pair.take(0, STREAM)
    pair.take(1, [event(1, 9, 10, "own")])
    pair.look(1)
    taker = pair.seats[1]
    taker.restart()
    taker.number, taker.offset = 0, 3  # the partition is its own now
    output = taker.take([event(4, 1, 3_000, "b"), event(4, 3, 2_500), event(4, 3, 4_000)])
    assert (output.admitted.duplicates, output.dead, len(output.taken)) == (1, 1, 1)  # 2,500 is behind 3,000
    (made,) = [json.loads(r.value or b"") for r in output.records if r.topic == "recommendations"]
    assert made["as_of"]["positions"] == {"0": 6, "1": 1}
    assert [entry[0] for entry in taker.history("u4")] == ["i1", "i3"]


def test_a_list_that_its_owner_published_before_is_published_again_by_who_took_over() -> None:
    pair = Pair()
    pair.take(0, STREAM)
    pair.look(1)
    taker = pair.seats[1]
    taker.number, taker.offset = 0, 3
    first = taker.take([event(2, 1, 9_000)])
    assert [r.key for r in first.records if r.topic == "recommendations"] == [b"u2"]
    taker.coming = [CommittedBlock(0, 1, pair_block(9_500, 4))]  # it went back meanwhile
    taker.take()
    taker.offset = 5
    again = taker.take([event(2, 1, 9_900)])
    assert [r.key for r in again.records if r.topic == "recommendations"] == [b"u2"]


def pair_block(t: int, offset: int) -> Any:
    seat = Seat(0)
    seat.offset = offset
    seat.state.positions[TopicPartition("interactions", 0)] = offset
    return blocks_of(seat.take([event(2, 1, t)]), 0)[0].block


@pytest.mark.parametrize("cut", [0, 1, 2, 3])
def test_what_comes_twice_counts_once(cut: int) -> None:
    """At least once an owner's epochs may come again, cut elsewhere."""
    pair, once = Pair(), Pair()
    once.take(0, STREAM)
    once.look(1)
    pair.take(0, STREAM[:cut])
    again = Seat(0)
    whole = blocks_of(again.take(STREAM), pair.written[0])
    pair.waiting[1] += whole
    pair.look(1)
    pair.waiting[1] += [CommittedBlock(0, 9, whole[0].block)]
    pair.look(1)
    same(pair.seats[1].canonical(), once.seats[1].canonical())
    assert pair.seats[1].history("u4") == once.seats[1].history("u4")
    assert pair.seats[1].state.seen_events.digests() == once.seats[1].state.seen_events.digests()


def test_a_block_that_is_too_large_is_cut_into_a_row_of_blocks() -> None:
    values = [event(2 * (n % 5), n % 7, 1_000 + n, f"e{n}" if n % 3 else None) for n in range(400)]
    values.append(event(0, 0, 1_000, "e399", retract=True))
    whole, seat = Pair(), Seat(0)
    seat.pipeline = Pipeline(seat.settings, seat.state, limits={"freshet.observed": 1_000})
    output = seat.take(values)
    blocks = blocks_of(output, 0)
    assert len(blocks) > 4
    assert max(len(r.value or b"") for r in output.records if r.topic == "freshet.observed") <= 1_000
    assert [one.block.start for one in blocks[1:]] == [one.block.end for one in blocks[:-1]]
    whole.take(0, values)
    whole.look(1)
    other = Seat(1)
    other.coming = blocks
    other.take()
    assert other.history("u2") == whole.seats[1].history("u2")
    assert other.state.seen_events.digests() == whole.seats[1].state.seen_events.digests()
    assert other.state.positions == whole.seats[1].state.positions


def test_a_session_is_the_users_in_the_other_worker_too() -> None:
    pair, clean = Pair(), Pair()
    session = [event(6, 3, 4_000, "s"), event(6, 4, 5_000)]
    merge = json.dumps({"user_id": "u2", "merge": "u6", "upto": {"0": 5}}).encode()
    for number in (0, 1):
        pair.take(0, [STREAM, session][number])
        pair.look(1)
    pair.take(0, [merge])
    pair.take(0, [event(6, 5, 6_000)])
    clean.take(0, [*STREAM, *(event(2, i, t, e) for i, t, e in ((3, 4_000, "s"), (4, 5_000, None), (5, 6_000, None)))])
    for one in (pair, clean):
        one.settle()
    for number in SEATS:
        same(pair.seats[number].canonical(), clean.seats[number].canonical())
    taken_back = event(2, 3, 4_000, "s", retract=True)
    pair.take(0, [taken_back])
    clean.take(0, [taken_back])
    for one in (pair, clean):
        one.settle()
        assert len(one.seats[1].history("u2")) == 4
    assert pair.seats[1].state.listed.lists() == {}


users, items = st.integers(0, 5), st.integers(0, 4)


@st.composite
def steps(draw: st.DrawFn) -> list[tuple[Any, ...]]:
    """(what, seat or user, …) in an order of all; users are of the seat that their number leaves."""
    kinds = ["event"] * 6 + ["look", "look", "retract", "repeat", "erase", "restart"]
    return [
        (draw(st.sampled_from(kinds)), draw(users), draw(items), draw(st.integers(0, 5_000)), draw(st.booleans()))
        for _ in range(draw(st.integers(1, 25)))
    ]


@hypothesis.settings(max_examples=60, deadline=None)
@given(steps(), st.sampled_from([0, LONG_MS]), st.sampled_from([2, 3]))
def test_a_worker_is_what_it_would_be_without_what_was_taken_back(
    plan: list[tuple[Any, ...]], lateness_ms: int, workers: int
) -> None:
    """Whatever comes when: retractions before and after their events, repetitions, erasures, restarts."""
    undone = {n for n, _ in enumerate(plan) if is_undone(plan, n)}
    pair, clean = (Pair(workers, allowed_lateness_ms=lateness_ms) for _ in range(2))
    for n, step in enumerate(plan):
        play(pair, n, step, plan)
        if n not in undone and step[0] in ("event", "look"):
            play(clean, n, step, plan)
    for one in (pair, clean):
        one.settle()
    for number in range(workers):
        same(pair.seats[number].canonical(), clean.seats[number].canonical())
    for user in range(6):
        mine, *theirs = (sorted(seat.history(f"u{user}")) for seat in pair.seats)
        assert theirs == [mine] * (workers - 1)


def is_undone(plan: list[tuple[Any, ...]], n: int) -> bool:
    what, user, _, _, has_id = plan[n]
    if what != "event":
        return False
    erased = any(other[:2] == ("erase", user) for other in plan[n:])
    return erased or (has_id and any(named(plan, m) == n for m in range(len(plan)) if plan[m][0] == "retract"))


def named(plan: list[tuple[Any, ...]], n: int) -> int | None:
    """The event with an id that a step names: of the same user, before it or after it."""
    _, user, item, _, _ = plan[n]
    ids = [m for m, step in enumerate(plan) if step[0] == "event" and step[1] == user and step[4]]
    return ids[item % len(ids)] if ids else None


def play(pair: Pair, n: int, step: tuple[Any, ...], plan: list[tuple[Any, ...]]) -> None:
    what, user, item, t, has_id = step
    number, target = user % len(pair.seats), named(plan, n)
    if what == "look":
        pair.look(number)
    elif what == "restart":
        pair.seats[number].restart()
    elif what == "erase":
        for seat in pair.seats:
            seat.erasures.append(Erasure(f"u{user}", n))
        pair.take(number)
    elif what == "event":
        pair.take(number, [event(user, item, t, f"e{n}" if has_id else None)], n)
    elif target is not None and (what == "retract" or target < n):
        _, _, item, t, _ = plan[target]
        more = {"retract": True} if what == "retract" else {}
        pair.take(number, [event(user, item, t, f"e{target}", **more)], n)


ERASED_AT_MS, ERASED_BEFORE = 40, 6  # the log's time; the offset of partition 2


@st.composite
def blocks_of_partitions(draw: st.DrawFn) -> list[CommittedBlock]:
    """Up to three blocks in a row of each of three partitions, of interactions whose times go back and forth."""
    found = []
    for partition in range(3):
        end = 0
        for at in range(draw(st.integers(0, 3))):
            n = draw(st.integers(0, 4))
            users, items = draw(st.permutations(["u0", "u1", "u2"])), draw(st.permutations(["i0", "i1"]))
            t = np.array(draw(st.lists(st.integers(0, 50), min_size=n, max_size=n)), np.int64)
            offset = end + np.cumsum(np.array(draw(st.lists(st.integers(1, 2), min_size=n, max_size=n)), np.int64)) - 1
            start, end = end, int(offset[-1]) + 1 if n else end + 1
            digests = np.frombuffer(b"".join(bytes([partition + 1, place]) * 8 for place in offset.tolist()), "V16")
            found.append(
                CommittedBlock(
                    partition,
                    at,
                    ObservedBlock(
                        start=start,
                        end=end,
                        clock_ms=50,
                        users=users,
                        items=items,
                        user=np.array(draw(st.lists(st.integers(0, 2), min_size=n, max_size=n)), np.int32),
                        item=np.array(draw(st.lists(st.integers(0, 1), min_size=n, max_size=n)), np.int32),
                        t=t,
                        order_ms=t,
                        weight=np.ones(n, np.float32),
                        context=no_contexts(n),
                        offset=offset,
                        record_ms=t + 10,
                        event=numbers_of(digests),
                        has_id=np.ones(n, bool),
                        digests=digests,
                    ),
                )
            )
    return draw(st.permutations(found).map(lambda blocks: sorted(blocks, key=lambda one: one.at)))


@given(blocks_of_partitions(), st.integers(0, 5), st.integers(0, 8))
def test_blocks_of_several_partitions_are_observed_in_the_order_of_their_times(
    blocks: list[CommittedBlock], position: int, taken_back: int
) -> None:
    state = StreamState(Settings(), lambda prefix: iter(()))
    state.load()
    state.positions[TopicPartition("interactions", 0)] = position
    state.erased[state.digest_user("u1")] = ERASED_AT_MS, {2: ERASED_BEFORE}
    every = [(one.partition, n, one.block) for one in blocks for n in range(len(one.block.t))]
    void = [block.event[n] for _, n, block in every[taken_back : taken_back + 2]]
    expected, reached = list[tuple[Any, ...]](), dict[int, int]()
    for partition, n, block in every:
        offset, user = int(block.offset[n]), block.users[block.user[n]]
        erased = user == "u1" and (
            block.record_ms[n] <= ERASED_AT_MS or (partition == 2 and offset < ERASED_BEFORE)
        )  # fmt: skip
        if erased or block.event[n] in void or (partition == 0 and offset < position):
            continue
        t = int(block.t[n])
        reached[partition] = max(reached.get(partition, 0), t)
        expected.append((reached[partition], partition, offset, user, block.items[block.item[n]], t))

    found = observe(state, blocks, np.array(void, np.uint64))

    model, ledger = state.engine.model, list[tuple[Any, ...]]()
    for node, user in enumerate(model.users.ids):
        entries = state.ledger.entries(node)
        ledger += [(int(one["order"]), user, model.items.ids[one["item"]], int(one["t"])) for one in entries]
    assert [one[1:] for one in sorted(ledger)] == [one[3:] for one in sorted(expected)]
    assert found.events == model.events == len(expected)
    assert set(model.users.ids) == {one[3] for one in expected}
    ids = {d for p, _, b in blocks for d, at in zip(b.digests.tolist(), b.offset.tolist(), strict=True) if p or at >= position}  # fmt: skip
    assert set(state.seen_events.digests()) == ids
