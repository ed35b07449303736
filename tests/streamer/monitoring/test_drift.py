"""Drift alarms: prompt where quality falls suddenly, silent where it does not, the same after any restart."""

import json
import logging
from pathlib import Path

import msgspec
import numpy as np
import pytest

from consumers.open_log import OwnedLog
from consumers.records import Record, TopicPartition
from consumers.schemas import DRIFT_KEY, Drift, Quality
from streamer.cli.main import main
from streamer.cli.producing import interaction_chunks
from streamer.evaluation.replay import ReplayOptions, replay
from streamer.monitoring import drift
from streamer.monitoring.drift import BLOCK, MEMORY, Alarm, DriftMonitor
from streamer.runtime.topics import topic_specs
from streamer.settings import Settings
from streamer.web.materialized_view import View
from streamer.worker.worker import Worker
from tests.benchmarks.drift import Run, permuted, recovery
from tests.lazily import needs
from tests.worlds import MINUTE_MS, Events, repeat_buyer, table_of

pytestmark = needs("river", "drift")


def stream(*shares: tuple[float, int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Ranks and surprise of events of which a share is listed: (share, events), one after another.

    What is listed surprises by 1 to 2 nats, the rest by 9 to 10. Some events are not measured.
    """
    rng = np.random.default_rng(seed)
    hits = np.concatenate([rng.random(events) < share for share, events in shares])
    rank = np.where(hits, rng.integers(1, 11, len(hits)), np.where(rng.random(len(hits)) < 0.1, -1, 0))
    return rank, (np.where(hits, 1, 9) + rng.random(len(hits))).astype(np.float32)


def alarms(events: tuple[np.ndarray, np.ndarray], monitor: DriftMonitor | None = None) -> list[Alarm]:
    event = np.arange(len(events[0]))
    return (monitor or DriftMonitor()).add(event, event * 1_000, *events)


@pytest.mark.parametrize("seed", range(5))
def test_a_sudden_fall_is_noticed_soon(seed: int) -> None:
    found = alarms(stream((0.8, 10_000), (0.4, 2_000), seed=seed))
    assert len(found) == 1
    assert 10_000 < found[0].event < 10_400
    assert found[0].timestamp == found[0].event * 1_000
    assert abs(found[0].since - 10_000) < 300
    assert found[0].hr_before == pytest.approx(0.8, abs=0.05)
    assert found[0].hr_after < found[0].hr_before
    assert found[0].after > found[0].before


def test_where_no_list_had_a_hit_before_or_after_there_is_no_alarm() -> None:
    rank, surprise = stream((0.3, 10_000))
    rank[rank > 0] = 0
    surprise[5_000:] += 6
    assert alarms((rank, surprise)) == []
    rank[:10] = 1  # one block of all
    rank[4_900:4_950] = 1
    assert len(alarms((rank, surprise))) == 1


def test_a_fall_that_hits_do_not_show_is_noticed() -> None:
    rank, surprise = stream((0.3, 10_000))
    surprise[5_000:][rank[5_000:] == 0] += 6
    found = alarms((rank, surprise))
    assert len(found) == 1
    assert 5_000 < found[0].event < 5_400


@pytest.mark.parametrize("share", [0.05, 0.3, 0.9])
def test_no_alarm_where_nothing_changes(share: float) -> None:
    assert sum(len(alarms(stream((share, 20_000), seed=seed))) for seed in range(5)) == 0


def test_a_rise_and_a_slow_fall_are_no_alarms() -> None:
    assert alarms(stream((0.2, 5_000), (0.8, 5_000))) == []
    slow = [(0.8 - 0.4 * n / 400, 250) for n in range(400)]
    assert alarms(stream(*slow)) == []


def test_a_restart_and_the_cut_into_batches_change_nothing() -> None:
    rank, surprise = stream((0.8, 6_000), (0.3, 3_000), (0.7, 2_000), (0.2, 3_000))
    whole = DriftMonitor()
    expected = alarms((rank, surprise), whole)
    assert len(expected) == 2
    rng, event = np.random.default_rng(1), np.arange(len(rank))
    for longest in (7, 400):
        monitor, found, first = DriftMonitor(), [], 0
        while first < len(rank):
            part = slice(first, first + int(rng.integers(0, longest)) + 1)
            found += monitor.add(event[part], event[part] * 1_000, rank[part], surprise[part])
            kept = msgspec.msgpack.decode(msgspec.msgpack.encode(monitor.state()))
            if rng.random() < 0.3:
                monitor = DriftMonitor()
                monitor.restore(kept)
            first = part.stop
        assert found == expected
        assert monitor.state() == whole.state()


def test_the_arithmetic_alone_finds_what_river_documents() -> None:
    """One that has found a change is used up, where river's begins anew."""
    rng = np.random.default_rng(0)
    levels = np.repeat(rng.normal(size=20), 100)
    values = [float(value) for value in levels + rng.normal(scale=0.3, size=len(levels))]
    documented = drift.documented_adwin()
    found, adwin = list[bool](), drift.new_adwin()
    for value in values:
        assert adwin
        found.append(adwin(value))
        adwin = drift.new_adwin() if found[-1] else adwin
    assert found == [documented(value) for value in values]
    assert sum(found) > 10


def test_memory_is_bounded() -> None:
    monitor = DriftMonitor()
    alarms(stream((0.5, 100_000)), monitor)
    assert MEMORY <= len(monitor.state()[0]) < 2 * MEMORY


def test_without_river_it_says_so_once_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(drift, "find_spec", lambda name: None)
    drift.available.cache_clear()
    try:
        with caplog.at_level(logging.INFO):
            assert alarms(stream((0.9, 3_000), (0.1, 3_000))) == []
            alarms(stream((0.9, 3_000)))
        assert [record.message for record in caplog.records] == [
            "drift alarms are off: they need river, `pip install 'freshet-recommender[drift]'`"
        ]
        assert caplog.records[0].levelno == logging.INFO  # `replay` shows no more than warnings
    finally:
        drift.available.cache_clear()


def test_only_a_report_says_that_alarms_are_off(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(drift, "find_spec", lambda name: None)
    drift.available.cache_clear()
    file = tmp_path / "a.csv"
    file.write_text("user_id,item_id,timestamp\n" + "".join(f"u{n % 5},i{n % 7},{n}\n" for n in range(200)))
    try:
        assert main(["replay", str(file), "--json"]) == 0
        told = capfd.readouterr()
        assert json.loads(told.out)["drift"] is None
        assert "river" not in told.err
        assert main(["replay", str(file), "--report", str(tmp_path / "report.html")]) == 0
        assert capfd.readouterr().err.count("they need river") == 1
    finally:
        drift.available.cache_clear()


def test_permuted_items_are_an_alarm_and_the_same_stream_as_it_is_none(settings: Settings) -> None:
    table = table_of(repeat_buyer(users=600, events=6_000))
    assert replay(table, settings, ReplayOptions()).drift == []
    found = replay(permuted(table, 0), settings, ReplayOptions()).drift
    assert len(found) == 1
    assert 3_000 < found[0].event < 3_400
    assert abs(found[0].since - 3_000) <= BLOCK


def test_the_benchmark_counts_the_events_until_quality_is_back() -> None:
    event = np.arange(10_000)
    down = Run(event, (event < 5_000) | (event >= 5_700), [])
    assert recovery(down, 5_000, 1.0) == 5_700 - 5_000 + 450
    assert recovery(down, 5_000, Run(event, np.ones(10_000), [])) == 5_700 - 5_000 + 450
    assert recovery(down, 5_700, 1.0) == 500
    assert recovery(Run(event, event < 5_000, []), 5_000, 1.0) is None


def changed_minds(users: int = 600, events: int = 6_000) -> Events:
    """Everyone takes one item of their own again and again; from the middle on their neighbour's."""
    taken = np.random.default_rng(0).integers(0, users, events)
    return [(f"u{u}", f"i{(u + (n >= events // 2)) % users}", n * MINUTE_MS) for n, u in enumerate(taken)]


def test_a_change_of_taste_is_an_alarm_live_as_in_replay_whatever_restarts(settings: Settings, tmp_path: Path) -> None:
    events = changed_minds()
    found = replay(table_of(events), settings, ReplayOptions()).drift
    assert len(found) == 1
    assert len(events) // 2 < found[0].event < len(events) // 2 + 400
    mine = settings.model_copy(update={"max_epoch_events": 97, "checkpoint_interval_ms": 10**9})
    log = OwnedLog(tmp_path / "other")
    log.create(topic_specs(mine, partitions=1))
    for records, _ in interaction_chunks(table_of(events), "interactions"):
        log.append(records)
    for n in range(8):  # some restarts from a checkpoint, some from manifests
        worker = Worker.open(log, mine)
        for _ in range(4):
            worker.step()
        if n % 2:
            worker.checkpoint()
        worker.close()
    worker = Worker.open(log, mine)
    worker.run(exit_at_end=True)
    worker.close()
    assert [msgspec.json.decode(r.value or b"", type=Drift) for r in drift_records(log)] == [
        Drift("log loss", **alarm._asdict()) for alarm in found
    ]
    log.close()


def drift_records(log: OwnedLog) -> list[Record]:
    reader = log.reader({TopicPartition("quality", 0): 0})
    return [record for record in reader.read(10_000, 0) if record.key == DRIFT_KEY]


def test_the_page_reads_past_an_alarm(log: OwnedLog, settings: Settings) -> None:
    def record(offset: int, key: bytes, value: Drift | Quality) -> Record:
        return Record("quality", 0, offset, key, msgspec.json.encode(value), (), 0)

    view = View(log, settings)
    view.quality.note(record(0, DRIFT_KEY, Drift("log loss", 2.5, 4.2, 7, 1, 5, 0.5, 0.2)))
    view.quality.note(record(1, b"hr@10", Quality("hr@10", 0.5, 0.2, BLOCK, 1)))
    assert list(view.quality.newest) == ["hr@10"]
