"""What a worker learns is told and added: each step once, whatever comes when, and a restart anywhere changes nothing."""

import logging
from collections.abc import Sequence

import hypothesis
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.records import NewRecord, Record, TopicPartition
from streamer.ops.audit import digest
from streamer.pipeline.arrivals import in_order
from streamer.pipeline.epoch import CommittedBlock, CommittedStep, EpochInput, EpochOutput, epoch_input
from streamer.pipeline.ingest import Intake
from streamer.pipeline.learned_record import decode_learned
from streamer.pipeline.learning import ADDED_WHOLE, LATER, step_events
from streamer.pipeline.observed_block import decode_block
from streamer.pipeline.pipeline import Pipeline
from streamer.settings import Settings
from streamer.state.shared_learning import FORGOTTEN_AFTER
from streamer.state.stream_state import StreamState
from tests.streamer.state.test_pending_repairs import event
from tgn.model import Model

FAR_MS = 1 << 50
STEP = 3  # interactions of a step


class Log:
    """What workers have committed: blocks by partition, and steps of all."""

    def __init__(self) -> None:
        self.blocks: dict[int, list[bytes]] = {}
        self.steps: list[bytes] = []

    def take(self, output: EpochOutput) -> None:
        for record in output.records:
            if record.topic == "freshet.observed":
                self.blocks.setdefault(record.partition or 0, []).append(record.value or b"")
            elif record.topic == "freshet.model":
                self.steps.append(record.value or b"")


class Seat:
    """A worker without a broker: it has the partition of its number, and keeps what its epochs took."""

    def __init__(self, number: int, log: Log, limits: dict[str, int] | None = None) -> None:
        self.number, self.log, self.settings, self.limits = number, log, Settings(), limits
        self.store: dict[bytes, bytes] = {}
        self.offset = 0
        self.read: dict[int | str, int] = {}
        self.epochs: list[EpochInput] = []
        self.checkpoints = [(0, dict(self.store))]  # how many epochs each holds
        self._open()

    def _open(self) -> None:
        self.state, self.pipeline = opened(self.store, self.number, self.limits)

    def take(self, values: Sequence[bytes] = (), look: bool = False, keeps: int = STEP) -> EpochOutput:
        """An epoch of these records, after what the others have committed."""
        intake, arrivals = Intake(self.settings), []
        for value in values:
            record = Record("interactions", self.number, self.offset, b"k", value, (), 0)
            arrivals.append(intake.arrival(record, FAR_MS))
            self.offset += 1
        ends = {TopicPartition("interactions", self.number): self.offset} if values else {}
        epoch = epoch_input(
            in_order(arrivals), ends=ends, shared=3, observed=self._blocks() if look else (), keeps=keeps,
            learned=self._steps() if look else (),
        )  # fmt: skip
        self.epochs.append(epoch)
        output = self.pipeline.take(epoch)
        self.log.take(output)
        return output

    def _blocks(self) -> list[CommittedBlock]:
        found = []
        for partition, blocks in sorted(self.log.blocks.items()):
            if partition != self.number:
                first = self.read.get(partition, 0)
                found += [
                    CommittedBlock(partition, n, decode_block(one)) for n, one in enumerate(blocks[first:], first)
                ]
                self.read[partition] = len(blocks)
        return found

    def _steps(self) -> list[CommittedStep]:
        first, self.read["steps"] = self.read.get("steps", 0), len(self.log.steps)
        found = [CommittedStep(n, decode_learned(one)) for n, one in enumerate(self.log.steps[first:], first)]
        return [one for one in found if one.record.seat != str(self.number)]

    def checkpoint(self) -> None:
        for key, value in self.state.delta().items():
            if value is None:
                self.store.pop(key, None)
            else:
                self.store[key] = value
        self.checkpoints.append((len(self.epochs), dict(self.store)))

    def restart(self) -> None:
        """Goes on from a checkpoint of now."""
        self.checkpoint()
        self._open()


def opened(
    store: dict[bytes, bytes], number: int, limits: dict[str, int] | None = None
) -> tuple[StreamState, Pipeline]:
    settings = Settings()
    state = StreamState(settings, lambda prefix: sorted((k, v) for k, v in store.items() if k.startswith(prefix)))
    state.load()
    return state, Pipeline(settings, state, worker=str(number), limits=limits)


def steps_of(output: EpochOutput) -> list[bytes]:
    return [record.value or b"" for record in output.records if record.topic == "freshet.model"]


def some(number: int, count: int, first: int = 0) -> list[bytes]:
    """Interactions of users of a seat."""
    return [event(3 * (n % 4) + number, (n * n + number) % 7, 1_000 + n) for n in range(first, first + count)]


def ranker_of(seat: Seat) -> np.ndarray:
    return seat.state.engine.model.ranker.fast.copy()


def rows_of(model: Model) -> dict[str, list[float]]:
    return {id_: model.embeddings.candidate[node].tolist() for node, id_ in enumerate(model.items.ids)}


def test_with_one_worker_nothing_is_another() -> None:
    """Neither its lists nor a byte of its checkpoint."""
    alone, watched = Seat(0, Log()), Seat(0, Log())
    for one, shared in ((alone, 0), (watched, 3)):
        for first in range(0, 12, 4):
            intake = Intake(one.settings)
            records = [
                Record("interactions", 0, first + n, b"k", value, (), 0) for n, value in enumerate(some(0, 4, first))
            ]
            output = one.pipeline.take(epoch_input([intake.arrival(r, FAR_MS) for r in records], shared=shared))
            assert steps_of(output) == []
        one.state.erasure_key = b"k" * 32
        one.checkpoint()
    assert digest(alone.state) == digest(watched.state)
    assert alone.store == watched.store
    assert not any(key.startswith(b"learned/") for key in alone.store)


def test_a_step_is_told_once_enough_was_learned_and_by_its_epoch() -> None:
    seat = Seat(0, Log())
    outputs = [seat.take([value]) for value in some(0, 7)]
    assert [len(steps_of(output)) for output in outputs] == [0, 0, 1, 0, 0, 1, 0]
    told = [decode_learned(one) for one in seat.log.steps]
    assert [(one.seat, one.epoch, one.events, one.total, one.is_first) for one in told] == [
        ("0", 3, 3, 3, True),
        ("0", 6, 3, 6, False),
    ]


def test_steps_are_small_as_long_as_much_is_learned_of_each() -> None:
    assert [step_events(learned) for learned in (0, LATER - 1, LATER, 10 * LATER)] == [20, 20, 50, 50]


def test_what_one_learned_is_in_the_others_weights() -> None:
    log = Log()
    owner, other = Seat(0, log), Seat(1, log)
    owner.take(some(0, 9))
    before = ranker_of(other)
    assert other.take(look=True).added == 1
    assert not np.allclose(before, ranker_of(other))
    np.testing.assert_allclose(ranker_of(other), ranker_of(owner), atol=1e-4)
    mine, theirs = rows_of(owner.state.engine.model), rows_of(other.state.engine.model)
    assert mine.keys() == theirs.keys()
    assert other.state.learning.lag() == {"0": 0}
    other.take(some(1, 5))
    assert other.state.learning.lag() == {"0": 5}
    assert decode_learned(log.steps[-1]).seen == {"0": 9}
    owner.take(some(0, 3, 9), look=True)
    other.take(look=True)
    assert other.state.learning.lag() == {"0": 0}


def test_a_step_that_comes_twice_counts_once() -> None:
    log = Log()
    owner, other = Seat(0, log), Seat(1, log)
    owner.take(some(0, 3))
    owner.take(some(0, 3, 3))
    log.steps += log.steps  # as at least once
    assert other.take(look=True).added == 2
    after = ranker_of(other)
    log.steps.append(log.steps[0])
    assert other.take(look=True).added == 0
    assert (after == ranker_of(other)).all()


def test_the_order_is_that_of_seats_and_epochs_and_not_of_the_topic() -> None:
    log = Log()
    seats = [Seat(number, log) for number in range(3)]
    for first in (0, 3):
        for number in (1, 0):
            seats[number].take(some(number, 3, first))
    one, other = Seat(2, log), Seat(2, Log())
    shuffled = [log.steps[n] for n in (0, 1, 2, 3)]
    other.log.steps, other.log.blocks = [shuffled[n] for n in (1, 3, 0, 2)], log.blocks
    for seat in (one, other):
        assert seat.take(look=True).added == 4
    assert (ranker_of(one) == ranker_of(other)).all()
    assert rows_of(one.state.engine.model) == rows_of(other.state.engine.model)


def test_a_step_in_parts_is_the_whole_step() -> None:
    whole, cut = Log(), Log()
    takers = []
    values = [event(3 * (n % 4), n % 60, 1_000 + n) for n in range(120)]
    for log, limits in ((whole, None), (cut, {"freshet.model": 20_000})):
        Seat(0, log, limits).take(values)
        takers.append(Seat(1, log))
        takers[-1].take(look=True)
    assert len(whole.steps) == 1 < len(cut.steps)
    assert (ranker_of(takers[0]) == ranker_of(takers[1])).all()
    one, other = (rows_of(seat.state.engine.model) for seat in takers)
    assert one == other


def test_all_that_one_ever_learned_is_for_those_who_know_nothing_of_it() -> None:
    """Who was alone for a while tells all of it again; a third one needs that, the other has it."""
    log = Log()
    owner, other = Seat(0, log), Seat(1, log)
    owner.take(some(0, 30), keeps=0)
    owner.take(some(0, 3, 30))
    assert decode_learned(log.steps[-1]).total > 20
    other.take(look=True)
    owner.take(some(0, 5, 33), keeps=0)
    owner.take(some(0, 3, 38))
    assert [decode_learned(one).is_first for one in log.steps] == [True, True]
    assert other.take(look=True).added == 0
    third = Seat(2, log)
    third.read["steps"] = 1  # the topic no longer has the first
    assert third.take(look=True).added == 1
    np.testing.assert_allclose(ranker_of(third), ranker_of(owner), atol=1e-4)


def test_who_does_not_come_back_is_forgotten() -> None:
    log = Log()
    owner, other = Seat(0, log), Seat(1, log)
    owner.take(some(0, 3))
    other.take(look=True)
    assert list(other.state.learning.seats) == ["0"]
    other.state.engine.model.events = other.state.learning.seats["0"].at + FORGOTTEN_AFTER
    other.take(look=False)
    assert list(other.state.learning.seats) == ["0"]
    other.state.engine.model.events += 1
    other.take()
    assert other.state.learning.seats == {}


def test_where_both_learned_long_apart_a_part_is_added() -> None:
    pair = [Seat(number, Log()) for number in range(2)]
    for number, seat in enumerate(pair):
        seat.take(some(number, 1_000))
    pair[0].log.steps += pair[1].log.steps
    step = decode_learned(pair[1].log.steps[0]).step.ranker
    assert step is not None
    before = ranker_of(pair[0])
    pair[0].read["steps"] = 1
    pair[0].take(look=True)
    np.testing.assert_allclose(ranker_of(pair[0]) - before, step.fast * (ADDED_WHOLE / 1_000), atol=1e-5)


def test_what_another_one_took_first_is_not_learned_from_again() -> None:
    seat = Seat(0, Log())
    seat.take(some(0, 2))
    before = ranker_of(seat), seat.state.learning.events
    records = [Record("interactions", 1, n, b"k", value, (), 0) for n, value in enumerate(some(1, 20))]
    arrivals = [Intake(seat.settings).arrival(record, FAR_MS) for record in records]
    output = seat.pipeline.take(epoch_input(in_order(arrivals), adopted=True, keeps=STEP))
    assert len(output.taken) == 20
    assert (before[0] == ranker_of(seat)).all()
    assert seat.state.learning.events == before[1]


def test_a_step_of_another_shape_is_passed_over_and_said(caplog: pytest.LogCaptureFixture) -> None:
    log = Log()
    owner, other = Seat(0, log), Seat(1, log)
    owner.take(some(0, 3))
    record = decode_learned(log.steps[0])
    narrow = record._replace(step=record.step._replace(popularity=record.step.popularity[:2]))
    with caplog.at_level(logging.WARNING):
        output = other.pipeline.take(epoch_input(keeps=STEP, learned=[CommittedStep(0, narrow)]))
    assert output.added == 0
    assert "of another shape" in caplog.text


PLANS = st.lists(
    st.tuples(
        st.sampled_from(["events", "events", "events", "look", "look", "checkpoint", "restart", "alone"]),
        st.integers(0, 2),
        st.integers(1, 4),
    ),
    min_size=1,
    max_size=18,
)


@hypothesis.settings(max_examples=60, deadline=None)
@given(PLANS, st.integers(2, 3))
def test_whatever_comes_when_the_epochs_give_the_same_state_again(plan: list[tuple[str, int, int]], count: int) -> None:
    """Taken again from the log's start, or after any checkpoint: the same bytes of state, pending part and outputs."""
    log = Log()
    seats = [Seat(number, log) for number in range(count)]
    given_out: list[list[list[NewRecord]]] = [[] for _ in seats]
    for what, number, size in plan:
        seat = seats[number % count]
        if what == "checkpoint":
            seat.checkpoint()
        elif what == "restart":
            seat.restart()
        else:
            values = some(seat.number, size, seat.offset) if what in ("events", "alone") else []
            output = seat.take(values, look=what == "look", keeps=0 if what == "alone" else STEP)
            given_out[seat.number].append(list(output.records))
    for seat in seats:
        last = digest(seat.state)
        for taken, store in seat.checkpoints:
            state, pipeline = opened(store, seat.number)
            for epoch, records in zip(seat.epochs[taken:], given_out[seat.number][taken:], strict=True):
                assert pipeline.take(epoch).records == records
            assert digest(state) == last
