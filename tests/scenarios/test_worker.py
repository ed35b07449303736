"""The worker on an embedded log: what it publishes, what it survives, what it keeps out."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import msgspec
import pyarrow.parquet as pq
import pytest

import streamer.lists.list_files
from consumers import crash_points
from consumers.errors import LogUnavailable, TopicConflict
from consumers.open_log import OwnedLog
from consumers.records import NewRecord, Record, TopicPartition
from consumers.schemas import EpochManifest, RecommendationList
from streamer.cli.producing import interaction_chunks
from streamer.errors import StateUnreadable
from streamer.evaluation.replay import ReplayOptions, replay
from streamer.runtime.topics import read_records, topic_specs, whole
from streamer.settings import Settings
from streamer.worker.worker import Worker
from tests.waiting import ended, ends, scaled, until
from tests.worlds import Events, checkerboard, table_of
from tgn.serialization import all_pages


def send(log: OwnedLog, events: Events) -> None:
    for records, _ in interaction_chunks(table_of(events), "interactions"):
        log.append(records)


def read_all(log: OwnedLog, topic: str) -> list[Record]:
    return list(read_records(log, whole(log, topic)))


def lists_of(log: OwnedLog) -> dict[str, list[str]]:
    """The newest list of each user."""
    newest = {}
    for record in read_all(log, "recommendations"):
        user = (record.key or b"").decode()
        if record.value is None:
            newest.pop(user, None)
            continue
        value = msgspec.json.decode(record.value, type=RecommendationList)
        assert value.user_id == user
        newest[user] = [item.item_id for item in value.items]
    return newest


def run(log: OwnedLog, settings: Settings, lists_out: Path | None = None) -> Worker:
    with streamer.lists.list_files.TestLists(lists_out) as test_lists:
        worker = Worker.open(log, settings, test_lists)
        worker.run(exit_at_end=True)
        worker.close()
    return worker


def test_live_lists_equal_those_of_replay(log: OwnedLog, settings: Settings, tmp_path: Path) -> None:
    events = checkerboard(events=2_000, items=100)
    replay(table_of(events), settings, ReplayOptions(lists_out=tmp_path / "test", last_lists_out=tmp_path / "last"))
    send(log, events)
    run(log, settings, tmp_path / "live")
    expected = {row["user_id"]: row["items"] for row in pq.read_table(tmp_path / "last").to_pylist()}
    assert lists_of(log) == expected
    live = pq.read_table(tmp_path / "live").sort_by("event")
    assert live.equals(pq.read_table(tmp_path / "test"))


def test_a_list_says_what_it_knew(log: OwnedLog, settings: Settings) -> None:
    send(log, checkerboard(events=300))
    run(log, settings)
    last = max(read_all(log, "recommendations"), key=lambda r: r.offset)
    value = msgspec.json.decode(last.value or b"", type=RecommendationList)
    assert value.list_id == "0-299"
    assert value.as_of.positions == {"0": 300}
    assert last.key == value.user_id.encode()
    assert {item.source for item in value.items} <= {"repeat", "transition", "co-interaction", "popular", "new"}
    assert all(item.propensity == 1.0 for item in value.items)
    assert [item.score for item in value.items] == sorted((item.score for item in value.items), reverse=True)


def test_an_empty_first_list_is_published_too(log: OwnedLog, settings: Settings) -> None:
    strict = settings.model_copy(update={"exclude_seen": True})
    send(log, [("only", "i", 0)])
    run(log, strict)
    assert lists_of(log) == {"only": []}


def test_a_restart_in_the_middle_changes_nothing(settings: Settings, tmp_path: Path) -> None:
    """One log read in one go, one with five restarts, some from a checkpoint and some from older manifests.

    Lists do not age: when they do depends on the clock.
    """
    events = checkerboard(events=2_000, items=100)
    states = []
    for restarts in (0, 5):
        mine = settings.model_copy(
            update={"max_epoch_events": 97, "checkpoint_interval_ms": 10**9, "ageing_share": 0.0}
        )
        log = OwnedLog(tmp_path / f"log-{restarts}")
        log.create(topic_specs(mine, partitions=1))
        send(log, events)
        for n in range(restarts):
            worker = Worker.open(log, mine)
            for _ in range(3):
                worker.step()
            if n % 2:
                worker.checkpoint()
            worker.close()  # without a checkpoint, as a crash between two commits
        worker = run(log, mine)
        states.append(all_pages(worker.state.engine.model))
        records = [(r.key, r.value) for topic in ("recommendations", "quality") for r in read_all(log, topic)]
        states.append({b"records": repr(records).encode()})
        epochs = [
            msgspec.json.decode(r.value or b"", type=EpochManifest).epoch for r in read_all(log, "freshet.epochs")
        ]
        assert epochs == list(range(1, len(epochs) + 1))
        log.close()
    assert states[0] == states[2]
    assert states[1] == states[3]


def test_a_commit_without_an_answer_leaves_out_no_test_list(log: OwnedLog, settings: Settings, tmp_path: Path) -> None:
    """The epoch was committed, nobody heard of it; a second worker of the same process takes it again."""
    mine = settings.model_copy(update={"max_epoch_events": 50, "checkpoint_interval_ms": 10**9})
    send(log, checkerboard(events=300))
    written = 0

    def listener(effect: str) -> None:
        nonlocal written
        written += effect == "written"
        if effect == "written" and written == 3:
            raise LogUnavailable("no answer")

    crash_points.listen(listener)
    with streamer.lists.list_files.TestLists(tmp_path / "lists") as test_lists:
        for _ in range(2):
            worker = Worker.open(log, mine, test_lists)
            with suppress(LogUnavailable):
                worker.run(exit_at_end=True)
            worker.close()
    crash_points.listen(None)
    assert written > 3
    assert pq.read_table(tmp_path / "lists")["event"].to_pylist() == list(range(300))


def test_ten_kinds_of_bad_records_among_good_ones(log: OwnedLog, settings: Settings) -> None:
    good = {"user_id": "u", "item_id": "i", "event_type": "view", "timestamp": 1_500_000_000_000}
    bad: dict[str, bytes | None] = {
        "tombstone": None,
        "oversized": json.dumps(good | {"context": {"x": "y" * 1_100_000}}).encode(),
        "not-json": b"{oops",
        "not-an-object": b"[1, 2]",
        "unknown-schema": b"\0\0\0\0\x07rest",
        "missing-field": json.dumps({"user_id": "u"}).encode(),
        "bad-id": json.dumps(good | {"user_id": ""}).encode(),
        "bad-type": json.dumps(good | {"event_type": 1}).encode(),
        "bad-timestamp": json.dumps(good | {"timestamp": "soon"}).encode(),
        "future-timestamp": json.dumps(good | {"timestamp": 99_999_999_999_999}).encode(),
        "bad-value": json.dumps(good | {"value": "lots"}).encode(),
    }
    for n, value in enumerate(bad.values()):
        log.append([NewRecord("interactions", b"u", json.dumps(good | {"user_id": f"u{n}"}).encode())])
        log.append([NewRecord("interactions", b"key", value, (("h", b"1"),))])
    worker = run(log, settings)
    dead = read_all(log, "interactions.dead")
    assert [dict(r.headers)["freshet.reason"].decode() for r in dead] == list(bad)
    assert [r.value for r in dead] == list(bad.values())
    assert all(r.key == b"key" and dict(r.headers)["h"] == b"1" for r in dead)
    assert len(lists_of(log)) == len(bad)
    assert worker.state.positions[TopicPartition("interactions", 0)] == 2 * len(bad)


def test_a_record_refused_as_future_stays_refused_when_its_time_has_come(log: OwnedLog, settings: Settings) -> None:
    """Recovery decides by the manifest, not by the clock of the restart."""
    strict = settings.model_copy(update={"clock_skew_ms": 1_000, "checkpoint_interval_ms": 10**9})
    worker = Worker.open(log, strict)
    soon_ms = int(time.time() * 1000) + 1_000 + int(scaled(1_500))
    row = {"user_id": "u", "item_id": "i", "event_type": "view", "timestamp": soon_ms}
    log.append([NewRecord("interactions", b"u", json.dumps(row).encode())])
    while worker.step() is None:
        pass
    worker.close()
    until(lambda: time.time() * 1000 >= soon_ms)
    again = run(log, strict)
    assert again.state.engine.model.events == 0
    assert again.state.epoch == 1
    assert len(read_all(log, "interactions.dead")) == 1


def test_duplicates_count_once_even_after_a_restart(log: OwnedLog, settings: Settings) -> None:
    row = {"user_id": "u", "item_id": "i", "event_type": "view", "timestamp": 5, "event_id": "e"}
    for _ in range(3):
        log.append([NewRecord("interactions", b"u", json.dumps(row).encode())] * 2)
        worker = run(log, settings)
    assert worker.state.engine.model.graph.users.events[0] == 1


def test_late_and_unordered_records_are_taken(log: OwnedLog, settings: Settings) -> None:
    send(log, [("u", "a", 10_000_000), ("v", "b", 5), ("u", "c", 9_000_000), ("u", "d", 11_000_000)])
    worker = run(log, settings)
    assert worker.state.engine.model.events == 4
    assert worker.state.clock_ms == 11_000_000


def test_a_deleted_item_is_never_listed_again(log: OwnedLog, settings: Settings) -> None:
    send(log, checkerboard(events=500))
    run(log, settings)
    log.append([NewRecord("items", b"i2", None)])
    run(log, settings)
    send_more = [("u0", "i2", 10**9), ("u2", "i4", 10**9 + 1), ("u4", "i2", 10**9 + 2)]
    log.append(
        [
            NewRecord(
                "interactions",
                u.encode(),
                json.dumps({"user_id": u, "item_id": i, "event_type": "view", "timestamp": t}).encode(),
            )
            for u, i, t in send_more
        ]
    )
    run(log, settings)
    newest = lists_of(log)
    for user in ("u0", "u2", "u4"):
        assert newest[user]
        assert "i2" not in newest[user]


def test_a_new_item_is_listed_before_anyone_has_touched_it(log: OwnedLog, settings: Settings) -> None:
    send(log, [("u", "a", 1_000)])
    log.append([NewRecord("items", b"fresh", b'{"item_id": "fresh", "title": "New"}')])
    run(log, settings)
    log.append([NewRecord("interactions", b"v", b'{"user_id":"v","item_id":"a","event_type":"view","timestamp":2000}')])
    run(log, settings)
    assert "fresh" in lists_of(log)["v"]


def test_a_state_of_another_model_is_refused(log: OwnedLog, settings: Settings) -> None:
    send(log, [("u", "a", 1)])
    run(log, settings)
    with pytest.raises(StateUnreadable, match="window = 20"):
        Worker.open(log, settings.model_copy(update={"window": 5}))


def test_partitions_are_merged_by_event_time(settings: Settings, tmp_path: Path) -> None:
    """The lists of four partitions, read at full speed, are those of one time-ordered stream."""
    events = checkerboard(events=1_500, items=60)
    replay(table_of(events), settings, ReplayOptions(last_lists_out=tmp_path / "last"))
    log = OwnedLog(tmp_path / "wide")
    log.create(topic_specs(settings, partitions=4))
    send(log, events)
    run(log, settings)
    expected = {row["user_id"]: row["items"] for row in pq.read_table(tmp_path / "last").to_pylist()}
    assert lists_of(log) == expected
    log.close()


def test_sigterm_ends_with_a_checkpoint_and_zero(log: OwnedLog, settings: Settings) -> None:
    """A real process beside this one: it works through the log's owner."""
    send(log, checkerboard(events=300))
    command = [sys.executable, "-m", "streamer", "run", "--log", str(settings.log), "--state", str(settings.state)]
    with ends(subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])})) as process:
        until(lambda: process.poll() is not None or len(read_all(log, "recommendations")) >= 40)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert ended(process) == 0
    committer = log.committer("freshet")
    assert committer.positions()[TopicPartition("interactions", 0)] == 300
    assert any(key == b"stream" for key, _ in committer.load_state())


def interaction(user: str, item: str, t: int, **more: object) -> NewRecord:
    row = {"user_id": user, "item_id": item, "event_type": "view", "timestamp": t} | more
    return NewRecord("interactions", user.encode(), json.dumps(row).encode())


def test_undo_through_the_log_survives_restarts(log: OwnedLog, settings: Settings) -> None:
    """Retracted, deleted and erased in the log; half of the epochs are taken again after a crash without a checkpoint."""
    rare = settings.model_copy(update={"checkpoint_interval_ms": 10**9, "max_epoch_events": 7})
    events = checkerboard(events=300, users=10, items=12)
    log.append([interaction(u, i, t, event_id=str(n)) for n, (u, i, t) in enumerate(events)])
    run(log, rare)
    taken_back = [n for n, (user, _, _) in enumerate(events) if user != "u3" and n % 17 == 0]
    log.append([interaction(*events[n], event_id=str(n), retract=True) for n in taken_back])
    log.append([NewRecord("users", b"u3", None), NewRecord("items", b"i4", None)])
    worker = Worker.open(log, rare)
    while worker.step():
        pass
    worker.close()  # a crash: no checkpoint
    again = run(log, rare)
    left = [e for n, e in enumerate(events) if n not in taken_back and e[0] != "u3" and e[1] != "i4"]
    model = again.state.engine.model
    assert model.graph.users.events.sum() == len(left)
    assert {user for user in model.users.ids if user} == {f"u{n}" for n in range(10)} - {"u3"}
    newest = {r.key: r.value for r in read_all(log, "recommendations")}
    assert newest[b"u3"] is None
    assert all(b'"i4"' not in value for value in newest.values() if value)
    assert all_pages(worker.state.engine.model) == all_pages(model)


def test_who_reads_the_log_anew_does_not_meet_the_erased(log: OwnedLog, settings: Settings) -> None:
    log.append([interaction(u, i, t) for u, i, t in checkerboard(events=100, users=5)])
    log.append([NewRecord("users", b"u1", None)])
    now_ms = int(time.time() * 1000)
    until(lambda: int(time.time() * 1000) > now_ms, every_s=0.001)
    log.append([interaction("u1", "i1", 10**9)])
    worker = Worker.open(log, settings.model_copy(update={"application": "another"}))
    output = worker.step()  # an epoch takes changes of users before interactions
    assert output is not None
    assert (output.erased, output.admitted.void) == (1, 20)
    worker.run(exit_at_end=True)
    worker.close()
    node = worker.state.engine.model.users.get("u1")
    assert worker.state.engine.model.graph.users.events[node] == 1


def test_a_second_application_on_one_log_needs_topics_of_its_own(log: OwnedLog, settings: Settings) -> None:
    send(log, checkerboard(events=60))
    run(log, settings)
    names = ("recommendations", "epochs", "quality", "dead")
    for shared in names:
        own = {f"{name}_topic": f"second.{name}" for name in names if name != shared}
        second = settings.model_copy(update={"application": "second", **own})
        log.create(topic_specs(second, 1))
        with pytest.raises(TopicConflict, match="the application freshet writes to"):
            Worker.open(log, second)
    second = settings.model_copy(
        update={"application": "second", **{f"{name}_topic": f"second.{name}" for name in names}}
    )
    log.create(topic_specs(second, 1))
    assert run(log, second).state.records == 60
    assert run(log, settings).state.records == 60
    mine, theirs = ([r.value for r in read_all(log, topic)] for topic in ("recommendations", "second.recommendations"))
    assert mine == theirs


def test_a_log_of_before_that_noted_no_application_refuses_a_second_one(log: OwnedLog, settings: Settings) -> None:
    send(log, checkerboard(events=60))
    run(log, settings)
    for name in ("recommendations", "freshet.epochs", "quality", "interactions.dead"):
        del log._tables.db[b"w/" + name.encode()]
    with pytest.raises(TopicConflict, match="the application freshet writes to"):
        Worker.open(log, settings.model_copy(update={"application": "second"}))
    run(log, settings)
