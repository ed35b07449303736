"""`freshet plan`: what its costs add up to, where it refuses, and what it says."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.cli.main import main
from streamer.errors import PlanRefused
from streamer.ops.capacity import BUSY, Costs, Machine, PlannedStream, busy_share, capacity, most_rate, plan

COSTS = Costs(
    idle_us=0, epoch_us=0, block_us=0, scored_us=300, told_us=20, observed_us=20, asked_us=500, front_us=600,
    user_bytes=2_000, item_bytes=4_000, pair_bytes=40, process_bytes=0, overhead=1, ledger_bytes=40, delta_bytes=6_000,
    interaction_bytes=100, block_bytes=50, step_bytes=1_950, list_bytes=2_000, epoch_bytes=0,
)  # fmt: skip
# by hand: a thread has 600,000 µs a second; N workers: (own (300 + 20) + others 20) E / N + 500 R / N
PLANS = [
    (PlannedStream(10**6, 10**5, 1_000), 1, 4),  # .3 of one thread
    (PlannedStream(10**6, 10**5, 2_000), 1, 4),  # .6 of it
    (PlannedStream(10**6, 10**5, 2_001), 2, 4),  # 300,150 + 20,010 + 20,010 µs each
    (PlannedStream(10**6, 10**5, 5_000), 3, 8),  # 5,000 · 300 / (600,000 − 100,000)
    (PlannedStream(10**6, 10**5, 5_000, 1_000), 4, 8),  # (1,500,000 + 500,000) / 500,000
    (PlannedStream(10**6, 10**5, 20_000), 30, 64),  # 6,000,000 / 200,000
    (PlannedStream(10**6, 10**5, 25_000), 75, 256),  # 7,500,000 / 100,000
]
REFUSED = [
    (PlannedStream(10**6, 10**5, 26_854), Machine(), "26,853 per second is the most, with however many workers"),
    (PlannedStream(10**8, 10**5, 1_000), Machine(), "more workers do not help"),
    (PlannedStream(10**6, 10**5, 20_000), Machine(network_gbit=0.1), "Gbit/s"),
]


@pytest.mark.parametrize(("stream", "workers", "partitions"), PLANS)
def test_a_stream_takes_so_many_workers(stream: PlannedStream, workers: int, partitions: int) -> None:
    found = plan(stream, Machine(), COSTS)
    assert (found.workers, found.partitions, found.measured) == (workers, partitions, workers <= 4)
    assert found.busy == pytest.approx(busy_share(stream, COSTS, workers))
    assert found.busy <= BUSY
    assert workers == 1 or busy_share(stream, COSTS, workers - 1) > BUSY
    assert found.most_events_per_s == pytest.approx(
        128 * 600_000 / (320 + 127 * 20)
    )  # of 128 workers, two partitions each
    assert found.most_capacity == pytest.approx(found.most_events_per_s / 2_000)


@pytest.mark.parametrize(("stream", "machine", "why"), REFUSED)
def test_what_no_number_of_workers_serves_is_refused_with_what_comes_next(
    stream: PlannedStream, machine: Machine, why: str
) -> None:
    with pytest.raises(PlanRefused, match="the next design, which is not built") as refused:
        plan(stream, machine, COSTS)
    assert why in str(refused.value)


def test_bytes_by_hand() -> None:
    """Two workers of 1,500 interactions a second each, a day, 10⁶ users, 10⁵ items: all is one line of arithmetic."""
    found = plan(PlannedStream(10**6, 10**5, 3_000, 100, 1, 10, 2), Machine(), COSTS)
    assert found.workers == 2
    interactions = 3_000 * 86_400
    memory = 10**6 * 2_000 + 10**5 * 4_000 + 10**6 * 10 * 40
    assert found.memory_gib * 2**30 == pytest.approx(memory)
    assert found.disk_gib * 2**30 == pytest.approx(memory + interactions * 40)
    assert found.log_gib * 2**30 == pytest.approx(
        2 * (interactions * (100 + 2_000 + 2_000) + 100 * 86_400 * 2_000 + 10**6 * 2_000)
    )
    assert found.worker_in_mbit == pytest.approx(1_500 * (100 + 2_000) * 8 / 1e6)
    assert found.worker_out_mbit == pytest.approx((1_500 * (4_000 + 2_000) + 50 * 2_000) * 8 / 1e6)
    assert found.brokers_out_mbit == pytest.approx(2 * found.worker_in_mbit)
    assert (found.fronts, found.disk_mb_per_s) == (1, 18)


def test_an_epoch_costs_whatever_is_in_it_and_all_others_observe_it() -> None:
    """Two workers; by hand: idle, a wait of 50 ms after each epoch, as many of the other one's; fewer where fewer come."""
    costs = COSTS._replace(idle_us=1_000, epoch_us=2_000, wait_us=50_000, block_us=500)
    busy = busy_share(PlannedStream(10**6, 10**5, 1_000), costs, 2)
    epochs = (1 - busy) / 0.05
    assert busy == pytest.approx((1_000 + epochs * (2_000 + 500) + 500 * (300 + 20) + 500 * 20) / 1e6)
    seldom = busy_share(PlannedStream(10**6, 10**5, 8), costs, 2)
    assert seldom == pytest.approx((1_000 + 4 * 2_000 + 4 * 500 + 4 * (300 + 20) + 4 * 20) / 1e6)
    assert busy_share(PlannedStream(10**6, 10**5, most_rate(costs, 2)), costs, 2) == pytest.approx(BUSY)
    assert busy_share(PlannedStream(10**6, 10**5, most_rate(costs, 200)), costs, 200) == pytest.approx(BUSY)
    assert capacity(costs, 128) < capacity(costs, 32)  # who has few interactions has an epoch for each
    assert busy_share(PlannedStream(10**6, 10**5, 10_000), costs, 2) == pytest.approx(1.701)  # more than it can


def test_a_challenger_is_a_model_again() -> None:
    """One beside each of two workers: what an own interaction adds, what others tell twice, all arrays twice."""
    stream = PlannedStream(10**6, 10**5, 2_500, 0, 1, 10)
    costs = COSTS._replace(challenger_us=100, challenger_memory=1)
    without, beside = plan(stream, Machine(), costs), plan(stream._replace(challengers=1), Machine(), costs)
    assert (without.workers, beside.workers) == (2, 2)
    assert beside.busy == pytest.approx((1_250 * (300 + 100 + 20) + 1_250 * 40) / 1e6)
    assert without.busy == pytest.approx((1_250 * (300 + 20) + 1_250 * 20) / 1e6)
    assert beside.memory_gib == pytest.approx(2 * without.memory_gib)
    assert beside.disk_mb_per_s == pytest.approx(2 * without.disk_mb_per_s)
    assert (beside.log_gib, beside.worker_in_mbit) == (without.log_gib, without.worker_in_mbit)
    with pytest.raises(PlanRefused, match="more workers do not help"):
        plan(stream._replace(challengers=30), Machine(), costs)


@given(st.integers(1, 2_000))
def test_more_workers_take_more_and_never_more_than_the_limit(workers: int) -> None:
    assert capacity(COSTS, 1) == 1
    assert capacity(COSTS, workers) < capacity(COSTS, workers + 1) < COSTS.scored_us / COSTS.observed_us


@given(st.floats(1, 25_000), st.floats(0, 5_000))
def test_a_plan_is_the_fewest_workers_that_are_not_too_busy(events: float, requests: float) -> None:
    stream = PlannedStream(10**5, 10**4, events, requests, 0.1)
    found = plan(stream, Machine(), COSTS)
    assert busy_share(stream, COSTS, found.workers) <= BUSY * (1 + 1e-9)
    assert found.workers == 1 or busy_share(stream, COSTS, found.workers - 1) > BUSY * (1 - 1e-9)


def test_the_command_says_what_is_measured_and_what_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    small = ["plan", "--users", "100000", "--items", "10000", "--events-per-second"]
    assert main([*small, "500"]) == 0
    said = capsys.readouterr().out
    assert "workers     1, busy 30% of a thread" in said
    assert "fronts      none: no list is asked for" in said
    assert "one worker was measured alone" in said
    assert "capacity" not in said
    assert (
        main([*small, "1000", "--requests-per-second", "500"]) == 0
    )  # one worker keeps up, and is busier than is planned for
    said = capsys.readouterr().out
    assert "workers     2, each busy 45% of a thread" in said
    assert "fronts      1 of `freshet serve`" in said
    assert "capacity    1.5 times that of one worker alone" in said
    assert "so many workers were measured together" in said
    assert main([*small, "6500", "--retention-days", "1", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["workers"] > 4
    assert not told["measured"]
    assert main([*small, "500", "--challengers", "0"]) == 0
    assert main([*small, "500", "--challengers", "1"]) == 0
    assert "workers     1, busy 33% of a thread" in capsys.readouterr().out
    assert main([*small, "115741"]) == 1
    assert "the next design, which is not built" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*small, "0"])
    assert "is no number above 0" in capsys.readouterr().err
