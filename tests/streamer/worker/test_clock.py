"""What a worker does now and then, by a clock that the test moves."""

from consumers.open_log import OwnedLog
from consumers.records import NewRecord, Record, TopicPartition
from streamer.pipeline.ingest import Intake
from streamer.settings import Settings
from streamer.worker.commit import SOONER, TAKEN_AGAIN
from streamer.worker.partition_merge import PartitionMerge
from streamer.worker.prometheus import RunMetrics
from streamer.worker.repair_pace import REST_FACTOR, REST_S, RepairPace
from streamer.worker.takeover import Takeover
from streamer.worker.worker import Worker
from tests.clocks import ManualClock
from tests.scenarios.test_worker import interaction
from tests.streamer.worker.test_prometheus import told
from tests.streamer.worker.test_takeover import value

HERE, THERE = TopicPartition("interactions", 0), TopicPartition("interactions", 1)


def test_an_empty_partition_holds_the_others_back_for_the_alignment() -> None:
    clock, intake = ManualClock(), Intake(Settings())
    merge = PartitionMerge(500, clock)
    merge.open(HERE)
    merge.open(THERE)
    record = Record("interactions", 0, 0, b"", value("u", "i", 1), (), 0)
    merge.add(HERE, [intake.arrival(record, clock.now_ms())])
    assert merge.release(frozenset(), 10) == []
    clock.advance(0.4)
    assert merge.release(frozenset(), 10) == []
    clock.advance(0.2)
    assert [arrival.offset for arrival in merge.release(frozenset(), 10)] == [0]


def test_repairs_rest_in_proportion_to_what_they_took() -> None:
    clock = ManualClock()
    pace = RepairPace(clock)
    assert pace.due()
    for took_s, rests_s in ((0.001, REST_S), (2.0, 2 * REST_FACTOR)):
        pace.took(took_s)
        clock.advance(rests_s - 0.1)
        assert not pace.due()
        clock.advance(0.1)
        assert pace.due()


def test_the_checkpoint_is_written_once_its_interval_has_passed(log: OwnedLog, settings: Settings) -> None:
    clock = ManualClock()
    metrics = RunMetrics(settings, clock)
    worker = Worker.open(log, settings, metrics=metrics, clock=clock)
    for n, passed_s in enumerate((0, settings.checkpoint_interval_ms / 1000, 1)):
        clock.advance(passed_s)
        log.append([interaction("u", f"i{n}", n)])
        assert worker.step()
        assert told(metrics)["freshet_checkpoints_total"] == (n == 2)
    clock.advance(30)
    assert told(metrics)["freshet_checkpoint_age_seconds"] == 30
    worker.close()


def test_a_checkpoint_begins_sooner_where_many_interactions_came(log: OwnedLog, settings: Settings) -> None:
    metrics = RunMetrics(settings, clock := ManualClock())
    worker = Worker.open(
        log, settings.model_copy(update={"max_epoch_events": TAKEN_AGAIN}), metrics=metrics, clock=clock
    )
    sooner_s = settings.checkpoint_interval_ms / 1000 * SOONER
    for count, passed_s, written in (
        (TAKEN_AGAIN - 1, 2 * sooner_s, 0), (1, 0, 1), (TAKEN_AGAIN, sooner_s / 2, 1), (1, sooner_s, 2),
    ):  # fmt: skip
        clock.advance(passed_s)
        log.append([interaction(f"u{n % 9}", f"i{n % 9}", n) for n in range(count)])
        while not worker.step():
            pass
        assert told(metrics)["freshet_checkpoints_total"] == written
    worker.close()


def test_an_interaction_is_in_the_future_by_the_clock_that_was_passed_in(log: OwnedLog, settings: Settings) -> None:
    clock = ManualClock()
    later_ms = clock.now_ms() + settings.clock_skew_ms + 60_000
    worker = Worker.open(log, settings, clock=clock)
    log.append([interaction("u", "i", later_ms)])
    output = worker.step()
    assert output is not None
    assert output.dead == 1
    clock.advance(61)
    log.append([interaction("u", "i", later_ms)])
    output = worker.step()
    assert output is not None
    assert (output.dead, len(output.taken)) == (0, 1)
    worker.close()


def test_what_is_taken_over_is_in_the_future_by_the_same_clock(log: OwnedLog, settings: Settings) -> None:
    clock = ManualClock()
    later_ms = clock.now_ms() + settings.clock_skew_ms + 60_000
    log.append([NewRecord("interactions", b"", value("u", "i", later_ms)) for _ in range(2)])
    takeover = Takeover(log, Intake(settings), 1, False, clock)
    takeover.begin(HERE, 0, 2)
    refused = takeover.next()
    clock.advance(61)
    taken = takeover.next()
    assert [type(arrival.payload).__name__ for arrival in (*refused, *taken)] == ["DeadLetter", "Interaction"]
    takeover.close()
