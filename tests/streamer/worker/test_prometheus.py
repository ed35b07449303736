"""What `freshet run` tells Prometheus and an orchestrator."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from consumers.open_log import OwnedLog
from consumers.records import NewRecord
from consumers.schemas import CountedFeedback
from streamer.ops.audit import digest
from streamer.settings import Settings
from streamer.state.shared_learning import Others
from streamer.web.api import Gateway
from streamer.web.materialized_view import View
from streamer.worker.prometheus import Histogram, RunMetrics
from streamer.worker.worker import Worker
from tests.scenarios.test_worker import lists_of, read_all, send
from tests.streamer.monitoring.test_drift import changed_minds
from tests.waiting import scaled, until
from tests.worlds import checkerboard

ROOT = Path(__file__).parents[3]


def told(metrics: RunMetrics) -> dict[str, float]:
    """Sample with its labels → value."""
    text = generate_latest(metrics.registry).decode()
    return {
        sample.name + "".join(f"[{value}]" for value in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def run(log: OwnedLog, settings: Settings) -> RunMetrics:
    metrics = RunMetrics(settings)
    worker = Worker.open(log, settings, metrics=metrics)
    worker.run(exit_at_end=True)
    worker.close()
    return metrics


def row(user: str, item: str, t: int, **more: object) -> NewRecord:
    value = {"user_id": user, "item_id": item, "event_type": "view", "timestamp": t} | more
    return NewRecord("interactions", user.encode(), json.dumps(value).encode())


def test_counts_are_those_of_the_log(log: OwnedLog, settings: Settings) -> None:
    send(log, checkerboard(events=300))
    log.append([row("ann", "tea", 10**9, event_id="e"), row("ann", "tea", 10**9, event_id="e")])
    log.append([row("bob", "tea", 10**9, event_id="x"), row("bob", "tea", 10**9, event_id="x", retract=True)])
    log.append(
        [
            NewRecord("interactions", b"k", b"{oops"),
            NewRecord("users", b"u1", None),
            NewRecord("items", b"i", b'{"item_id": []}'),
        ]
    )
    found = told(run(log, settings))
    assert found["freshet_void_total"] > 0  # what u1 had done: the erasure is taken first
    assert found["freshet_interactions_total"] + found["freshet_void_total"] == 302
    assert found["freshet_duplicates_total"] == 1
    assert found["freshet_dead_letters_total[not-json]"] == 1
    assert found["freshet_dead_letters_total[bad-id]"] == 1
    assert found["freshet_erased_users_total"] == 1
    assert found["freshet_taken_back_total"] >= 1
    assert found["freshet_lists_total"] == len(read_all(log, "recommendations"))
    assert found["freshet_epochs_total"] == len(read_all(log, "freshet.epochs"))
    assert 0 < found["freshet_event_to_list_seconds_count"] <= found["freshet_lists_total"]
    assert found["freshet_commit_seconds_count"] == found["freshet_epochs_total"] + 1  # and the last checkpoint
    assert found["freshet_checkpoints_total"] >= 1
    assert found["freshet_checkpoint_written_bytes_total"] > 10_000
    assert found["freshet_disk_bytes"] > 10_000
    assert found["freshet_lag[0]"] == 0
    assert found["freshet_stage[ready]"] == 1


def test_lag_is_what_waits(log: OwnedLog, settings: Settings) -> None:
    metrics = run(log, settings)
    send(log, checkerboard(events=7))
    assert told(metrics)["freshet_lag[0]"] == 7


def test_what_others_do_not_know_yet_of_what_was_learned(log: OwnedLog, settings: Settings) -> None:
    send(log, checkerboard(events=60))
    metrics = RunMetrics(settings)
    worker = Worker.open(log, settings, metrics=metrics)
    worker.run(exit_at_end=True)
    assert not any(name.startswith("freshet_learning_lag") for name in told(metrics))
    worker.state.learning.total = 60
    worker.state.learning.seats = {"f-2": Others(epoch=9, part=0, total=40, of_mine=25, at=60)}
    assert told(metrics)["freshet_learning_lag[f-2]"] == 35
    worker.close()


def test_drift_alarms_count(log: OwnedLog, settings: Settings) -> None:
    pytest.importorskip("river")
    send(log, changed_minds())
    found = told(run(log, settings))
    alarms = [record for record in read_all(log, "quality") if record.key == b"drift"]
    assert found["freshet_drift_alarms_total"] == len(alarms) > 0


def test_no_user_data_in_a_scrape(log: OwnedLog, settings: Settings) -> None:
    log.append([row("ann@example.org", "secret-item", 10**9, event_id="ev-1", session_id="s-1")])
    text = generate_latest(run(log, settings).registry).decode()
    assert lists_of(log).keys() == {"ann@example.org"}
    assert not re.search("ann|example|secret|ev-1|s-1", text)


def documented(which: str) -> set[str]:
    text = (ROOT / "deploy" / "README.md").read_text()
    table = text.partition(f"<!-- metrics of {which} -->")[2].partition(f"<!-- /metrics of {which} -->")[0]
    return set(re.findall(r"`(freshet_\w+)`", table))


def names(text: str) -> set[str]:
    families = [f for f in text_string_to_metric_families(text) if not f.name.endswith("_created")]  # the library's own
    return {family.name + "_total" * (family.type == "counter") for family in families}


def test_every_metric_is_documented(log: OwnedLog, settings: Settings) -> None:
    send(log, checkerboard(events=50))
    assert names(generate_latest(run(log, settings).registry).decode()) == documented("run")


def test_every_metric_of_serve_is_documented(log: OwnedLog, settings: Settings) -> None:
    view = View(log, settings)
    view.feed.latencies.note(1)
    view.feed.latencies.note(2)
    view.quality.feedback = CountedFeedback(taken=1, waiting=1, repeated=0, dead=0, timestamp=0)
    gateway = Gateway(log, settings, view)
    assert names(generate_latest(gateway.registry).decode()) == documented("serve")


def test_a_histogram_counts_what_lies_on_a_bound_below_it() -> None:
    many, one = Histogram((1.0, 2.0)), Histogram((1.0, 2.0))
    values = [0.5, 1.0, 1.5, 2.0, 3.0]
    many.add(values)
    for value in values:
        one.add_one(value)
    samples = {s.labels.get("le"): s.value for s in many.family("x", "y").samples if s.name == "x_bucket"}
    assert samples == {"1.0": 2, "2.0": 4, "+Inf": 5}
    assert one.family("x", "y").samples == many.family("x", "y").samples


def test_warming_up_changes_nothing(log: OwnedLog, settings: Settings) -> None:
    send(log, checkerboard(events=200))
    worker = Worker.open(log, settings)
    while worker.step():
        pass
    before = digest(worker.state)
    worker.state.warm_up()
    assert digest(worker.state) == before
    worker.close()


def test_ready_is_said_only_once_it_is(log: OwnedLog, settings: Settings) -> None:
    metrics = RunMetrics(settings)
    assert (metrics.is_ready(), metrics.stage_line()) == (False, "starting")
    taken: list[int] = []
    advance = metrics.recovering(1_000, taken.append)
    assert metrics.stage_line() == "recovering"
    advance(250)
    assert taken == [250]
    assert re.fullmatch(r"recovering: 250 of 1,000 interactions, \d+ s left", metrics.stage_line())
    assert not metrics.is_ready()
    worker = Worker.open(log, settings, metrics=metrics)
    assert not metrics.is_ready()
    worker.run(exit_at_end=True)
    assert metrics.is_ready()
    metrics.waiting()
    assert (metrics.is_ready(), metrics.stage_line()) == (False, "waiting for the log")
    worker.close()


def test_a_worker_answers_over_http(log: OwnedLog, settings: Settings) -> None:
    """A real process, asked as an orchestrator asks it."""
    send(log, checkerboard(events=100))
    line = [sys.executable, "-m", "streamer", "run", "--log", str(settings.log), "--state", str(settings.state)]
    process = subprocess.Popen(
        [*line, "--metrics-port", "0"], env=os.environ | {"PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr
        said = next(text for text in process.stderr if "/readyz" in text)
        address = said.split()[-1]
        assert address.startswith("http://127.0.0.1:")
        assert answer(address, "livez") == (200, "live\n")
        while (got := answer(address, "readyz")) != (200, "ready\n"):
            assert got[0] == 503
        until(lambda: "freshet_interactions_total 100.0" in answer(address, "metrics")[1])
        assert answer(address, "interactions")[0] == 404
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=scaled(30))
    assert process.returncode == 0


def answer(address: str, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"{address}/{path}", timeout=scaled(20)) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
