"""Feedback on the embedded log: from the door to the topic of quality, `/v1/status` and `/metrics`."""

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from starlette.testclient import TestClient

from consumers.errors import LogBusy, PositionGone
from consumers.open_log import OwnedLog
from consumers.records import NewRecord, TopicSpec
from streamer.feedback.carrying import carry_embedded
from streamer.feedback.counting import FeedbackCounting
from streamer.feedback.feedback_metrics import SILENT_S, FeedbackMetrics
from streamer.ops.audit import audit
from streamer.runtime.topics import read_records, topic_specs, whole
from streamer.settings import Settings
from streamer.web.api import Gateway
from streamer.web.materialized_view import View
from streamer.worker.worker import Worker
from tests.clocks import ManualClock
from tests.consumers.feedback.feedback_world import counted, make_log
from tests.faults.test_feedback import HOUR_MS, RULES, check, renamed, said, whole_log
from tests.scenarios.test_audit import CLEAN, findings
from tests.scenarios.test_worker import send
from tests.streamer.worker.test_metric_help import TABLE
from tests.waiting import until
from tests.worlds import checkerboard


@contextmanager
def counting(log: OwnedLog, settings: Settings) -> Iterator[tuple[FeedbackCounting, FeedbackMetrics]]:
    metrics = FeedbackMetrics()
    with FeedbackCounting(log, settings, metrics) as opened:
        yield opened, metrics


def count(log: OwnedLog, settings: Settings) -> CollectorRegistry:
    """Counts all that is in the log."""
    with counting(log, settings) as (opened, metrics):
        carry_embedded(log, opened, lambda: False, exit_at_end=True)
        assert opened.is_complete()
        assert metrics.is_ready()
        generate_latest(metrics.registry)
        return metrics.registry


@pytest.fixture
def ruled(settings: Settings) -> Settings:
    return settings.model_copy(update={n: v if n == "attribution" else float(v) for n, v in RULES.items()})


def test_the_numbers_are_those_of_the_log_and_a_start_says_them_again(log: OwnedLog, ruled: Settings) -> None:
    world = make_log(4, lists=200, events=1_000, partitions=1, late_ms=5 * HOUR_MS, step_ms=60_000)
    records = renamed(world, ruled)
    for part in (records[:500], records[500:], records[-100:]):
        log.append(part)
        count(log, ruled)
        expected = counted(whole_log(log, ruled), "last-touch", 12 * HOUR_MS, HOUR_MS)
        check(said(log, ruled), expected)


def test_a_partition_that_is_not_read_yet_holds_the_watermark_back(ruled: Settings, tmp_path: Path) -> None:
    """Each partition is read to its end before the next one is begun, which ended before its records came."""
    mine = ruled.model_copy(update={"log": tmp_path / "of two"})
    with closing(OwnedLog(tmp_path / "of two")) as log:
        log.create(topic_specs(mine, partitions=2))
        with counting(log, mine) as (opened, _):
            records = renamed(make_log(4, 200, 1_000, partitions=2, late_ms=5 * HOUR_MS, step_ms=60_000), mine)
            for topic in (mine.lists_topic, mine.feedback_topic):
                log.append([record for record in records if record.topic == topic])
                for at, start in whole(log, topic).items():
                    opened.take(list(read_records(log, {at: start})))
                    opened.finish(opened.state.positions)
        expected = counted(whole_log(log, mine), "last-touch", 12 * HOUR_MS, HOUR_MS)
        check(said(log, mine), expected)


def test_from_published_list_to_status(log: OwnedLog, settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    send(log, checkerboard(events=60))
    worker = Worker.open(log, settings)
    worker.run(exit_at_end=True)
    worker.close()
    view = View(log, settings)
    view.start()
    client = TestClient(Gateway(log, settings, view).app(), base_url="http://localhost")
    until(view.ready.is_set)
    user = next(iter(view.feed.users))
    listed = json.loads(view.list_of(user) or b"")
    at_ms, item = listed["as_of"]["timestamp"] + 1_000, listed["items"][0]["item_id"]
    quoted: dict[str, Any] = {"list_id": listed["list_id"], "user_id": user, "timestamp": at_ms}
    sent = [
        quoted | {"event": "impression"},
        quoted | {"event": "click", "item_id": item},
        quoted | {"event": "purchase", "item_id": item, "value": 12.5},
        quoted | {"event": "click", "item_id": "not in it"},
        quoted | {"event": "click", "item_id": item, "timestamp": at_ms + 40 * 24 * HOUR_MS},
        quoted | {"event": "impression", "list_id": "to come", "timestamp": at_ms + 40 * 24 * HOUR_MS},
    ]
    assert client.post("/v1/feedback", json=sent).status_code == 202
    registry = count(log, settings)
    assert "1 record of feedback went to interactions.dead: not-listed" in caplog.text
    assert "1 records of feedback are of more than attribution_window_s" in caplog.text

    def shown() -> dict[str, Any]:
        business = client.get("/v1/status").json()["business"]
        return {one["metric"]: one for one in business}

    found = until(shown)
    assert found["ctr"]["value"] == 1 / len(listed["items"])
    assert found["revenue_per_user"]["value"] == 12.5
    assert found["cvr"]["by"]["position"]["1"] == [1, 1]
    assert (found["ctr"]["surface"], found["ctr"]["arm"], found["ctr"]["users"]) == ("default", "none", 1)
    lines = {}
    for line in generate_latest(registry).decode().splitlines():
        if line.startswith("# HELP"):
            _, _, name, help_ = line.split(" ", 3)
            lines[name] = help_
    assert lines.keys() >= {"freshet_business", "freshet_feedback_total"}
    assert {name: help_ for name, help_ in lines.items() if TABLE[name] != help_} == {}
    until(lambda: client.get("/v1/status").json()["dead_letters"])
    status = client.get("/v1/status").json()
    [letter] = status["dead_letters"]
    assert status["feedback"] == {
        "taken": 6,
        "waiting": 1,
        "repeated": 0,
        "dead": 1,
        "timestamp": status["feedback"]["timestamp"],
    }
    assert "freshet_view_feedback_waiting 1.0" in client.get("/metrics").text
    assert (letter["reason"], letter["topic"]) == ("not-listed", "feedback")
    view.stop()
    assert findings(audit(log, settings)) == CLEAN  # what feedback wrote is nothing foreign


def test_a_foreign_record_under_our_key_is_passed_over(log: OwnedLog, settings: Settings) -> None:
    bad = (b"no json", b'{"metric": "ctr"}', b"[]")
    log.append([NewRecord("quality", b"business/home/none/ctr", value) for value in bad])
    view = View(log, settings)
    view.start()
    until(view.ready.is_set)
    assert view.skipped["quality"] == len(bad)
    assert view.quality.business.shown() == []
    view.stop()


def test_one_process_counts_an_application(log: OwnedLog, settings: Settings) -> None:
    with (
        counting(log, settings),
        pytest.raises(LogBusy, match="another process counts the feedback of this application"),
    ):
        FeedbackCounting(log, settings, FeedbackMetrics())


def test_results_are_not_ready_while_the_log_says_nothing() -> None:
    clock = ManualClock()
    metrics = FeedbackMetrics(clock)
    metrics.ready()
    assert metrics.is_ready()
    clock.advance(SILENT_S + 1)
    assert (metrics.is_ready(), metrics.stage_line()) == (False, "no word from the log for 5 s")
    metrics.ready()
    assert metrics.is_ready()


def test_a_topic_that_was_made_anew_is_said(log: OwnedLog, settings: Settings, tmp_path: Path) -> None:
    log.append(renamed(make_log(4, lists=20, events=40, partitions=1), settings))
    count(log, settings)
    other = OwnedLog(tmp_path / "other")
    other.create([TopicSpec(spec.name, 1, spec.cleanup) for spec in log.topics().values()])
    with pytest.raises(PositionGone, match=r"the topic was made anew; remove .*rows"):
        FeedbackCounting(other, settings, FeedbackMetrics())
    other.close()


def test_a_state_that_is_damaged_is_made_anew(log: OwnedLog, ruled: Settings, tmp_path: Path) -> None:
    log.append(renamed(make_log(4, lists=50, events=200, partitions=1, step_ms=60_000), ruled))
    count(log, ruled)
    before = said(log, ruled)
    rows = tmp_path / "state" / "feedback" / "rows"
    for file in [*rows.glob("*.sst"), *rows.glob("MANIFEST-*")]:
        file.write_bytes(b"\0" * file.stat().st_size)
    count(log, ruled)
    assert said(log, ruled) == before
