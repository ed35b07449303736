"""The view of `serve`: what it passes over, keeps, forgets and makes anew, over a real embedded log."""

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import httpx
import pytest
from confluent_kafka.admin import AdminClient
from hypothesis import given
from hypothesis import strategies as st

from consumers.errors import LogUnavailable
from consumers.log import Log
from consumers.open_log import OwnedLog
from consumers.records import NewRecord, Record
from streamer.errors import ThreadEnded
from streamer.runtime.clock import SYSTEM_CLOCK, Clock
from streamer.runtime.signals import StopRequest
from streamer.runtime.supervisor import Threads, supervise
from streamer.runtime.topics import open_log_of, read_records, topic_specs, whole
from streamer.settings import Settings
from streamer.web.api import Gateway
from streamer.web.list_store import ListStore
from streamer.web.materialized_view import View
from streamer.web.server import WebServer
from streamer.web.shown_lists import titled
from streamer.web.view.feed import FEED
from streamer.web.view.foreign_records import BadRecord
from streamer.web.view.latency import RATE_WINDOW_S
from tests.clocks import ManualClock
from tests.faults.test_serve import FOREIGN
from tests.waiting import scaled, until

ROOT = Path(__file__).parents[3]
LIST = b'{"list_id":"0-%d","user_id":"%s","items":[]}'


def listed(user: str, n: int = 0, topic: str = "recommendations") -> NewRecord:
    return NewRecord(topic, user.encode(), LIST % (n, user.encode()))


def seen(user: str, item: str = "a") -> NewRecord:
    event = {"user_id": user, "item_id": item, "event_type": "view", "timestamp": 1_500_000_000_000}
    return NewRecord("interactions", user.encode(), json.dumps(event).encode())


def item(item_id: str, title: str | None) -> NewRecord:
    return NewRecord("items", item_id.encode(), json.dumps({"item_id": item_id, "title": title}).encode())


@contextmanager
def viewing(log: Log, settings: Settings, clock: Clock = SYSTEM_CLOCK) -> Iterator[View]:
    """A view that has caught up."""
    view = View(log, settings, clock=clock)
    view.start()
    until(lambda: view.status().ready)
    yield view
    view.stop()
    view._threads.check()


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("topic", ["quality", "recommendations", "items"])
def test_a_foreign_record_is_passed_over_counted_and_said_once(
    log: OwnedLog, settings: Settings, caplog: pytest.LogCaptureFixture, topic: str, name: str
) -> None:
    foreign = NewRecord(topic, b"w", FOREIGN[name])
    figure = {"metric": "mrr", "value": 0.5, "popularity": 0.25, "events": 1, "timestamp": 1}
    with viewing(log, settings) as view:
        log.append([listed("w", 1), item("a", "Alpha"), foreign, foreign])
        log.append([NewRecord("quality", b"mrr", json.dumps(figure).encode()), listed("x", 2)])
        until(lambda: view.list_of("x") and "mrr" in view.quality.newest and view.skipped[topic] == 2)
        assert (view.list_of("w"), view.title_of("a")) == (LIST % (1, b"w"), "Alpha")
        assert view.status().ready
    assert sum(f"{topic}[0] at" in record.message for record in caplog.records) == 1
    with viewing(log, settings) as again:
        assert again.list_of("x") == LIST % (2, b"x")


@given(st.one_of(st.none(), st.binary(), st.text().map(str.encode)), st.one_of(st.none(), st.binary()))
def test_whatever_a_record_holds_it_is_taken_or_passed_over(key: bytes | None, value: bytes | None) -> None:
    view = View(None, Settings())  # type: ignore[arg-type]
    for topic, handler in view._handlers.items():
        with suppress(BadRecord):
            handler(Record(topic, 0, 0, key, value, (), 0))


_FIELDS = (
    "list_id",
    "user_id",
    "items",
    "item_id",
    "score",
    "source",
    "reason",
    "metric",
    "value",
    "popularity",
    "events",
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_FIELDS), inner, max_size=4),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(_FIELDS), json_values))
def test_every_list_that_is_taken_can_be_shown(value: dict[str, object]) -> None:
    view = View(None, Settings())  # type: ignore[arg-type]
    encoded = json.dumps(value).encode()
    try:
        view._on_list(Record("recommendations", 0, 0, b"w", encoded, (), 0))
    except BadRecord:
        return
    json.dumps(titled(view, encoded), allow_nan=False)


def test_a_restart_goes_on_where_it_was(log: OwnedLog, settings: Settings) -> None:
    log.append([listed("u", 1), listed("v", 2), item("a", "Alpha")])
    with viewing(log, settings) as view:
        assert view.stats()["lists"] == 2
    log.append([listed("u", 3), NewRecord("recommendations", b"v", None)])
    with viewing(log, settings) as again:
        assert (again.list_of("u"), again.list_of("v"), again.title_of("a")) == (LIST % (3, b"u"), None, "Alpha")
        assert again.stats()["lists"] == 1


def test_titles_of_deleted_items_go_and_renamed_ones_follow(log: OwnedLog, settings: Settings) -> None:
    with viewing(log, settings) as view:
        log.append([item("a", "Alpha"), item("b", "Beta"), item("c", "Gamma")])
        until(lambda: view.title_of("c") == "Gamma")
        log.append([NewRecord("items", b"a", None), item("b", None), item("c", "Delta")])
        until(lambda: view.title_of("c") == "Delta")
        assert (view.title_of("a"), view.title_of("b")) == (None, None)


def test_an_erased_user_leaves_the_feed_and_does_not_come_back_with_a_restart(
    log: OwnedLog, settings: Settings
) -> None:
    log.append([seen("u"), seen("v")])
    with viewing(log, settings) as view:
        assert list(view.feed.users) == ["u", "v"]
        log.append([NewRecord("users", b"u", None)])
        until(lambda: "u" not in view.feed.users)
        assert [change.value.user_id for change in view.feed.entries] == ["v"]
    with viewing(log, settings) as again:
        assert list(again.feed.users) == ["v"]
        erased_ms = next(r.timestamp_ms for r in read_records(log, whole(log, "users")))
        until(lambda: SYSTEM_CLOCK.now_ms() > erased_ms, every_s=0.001)
        log.append([seen("u", "b")])  # somebody new, under the same name
        until(lambda: "u" in again.feed.users)
        assert [change.value.item_id for change in again.feed.entries if change.value.user_id == "u"] == ["b"]


def test_what_is_kept_in_memory_is_bounded(log: OwnedLog, settings: Settings) -> None:
    figure = {"value": 0.5, "popularity": 0.25, "events": 1, "timestamp": 1}
    with viewing(log, settings) as view:
        for n in range(3):
            log.append([seen(f"u{n}-{m}") for m in range(FEED)])
            log.append(
                [NewRecord("quality", b"k", json.dumps({"metric": f"{n}-{m}"} | figure).encode()) for m in range(900)]
            )
        until(lambda: view.events == 3 * FEED and "2-899" in view.quality.newest)
        assert len(view.feed.entries) == len(view.feed.users) == FEED
        assert len(view.quality.newest) == 1_000


@pytest.mark.parametrize("how", ["beside", "while it runs", "not a database"])
def test_a_damaged_folder_is_set_aside_and_made_anew(log: OwnedLog, settings: Settings, how: str) -> None:
    assert settings.state
    folder = settings.state / "view"
    log.append([listed(f"u{n}", n) for n in range(2_000)])
    if how == "not a database":
        folder.mkdir(parents=True)
        (folder / "CURRENT").write_text("hello\n")
    with viewing(log, settings) as view:
        assert view._store
        view._store._db.flush()
        if how == "while it runs":
            damage(folder)
            view._store._shut()
            view._store._db = view._store._opened()  # without what it had in its cache
            with pytest.raises(LogUnavailable):
                [view.list_of(f"u{n}") for n in range(2_000)]
            until(lambda: view.status().ready and view.list_of("u1999"))
    if how == "beside":
        damage(folder)
    log.append([listed("new", 1)])
    with viewing(log, settings) as again:
        until(lambda: readable(again, [f"u{n}" for n in range(2_000)] + ["new"]))
    assert list(settings.state.glob("view.damaged-*"))


def damage(folder: Path) -> None:
    """Changes bytes in the middle of every table."""
    tables = list(folder.glob("*.sst"))
    assert tables
    for table in tables:
        data = bytearray(table.read_bytes())
        middle = len(data) // 3
        data[middle : middle + 64] = bytes(byte ^ 0xFF for byte in data[middle : middle + 64])
        table.write_bytes(data)


def readable(view: View, users: list[str]) -> bool:
    try:
        return all(view.list_of(user) for user in users)
    except LogUnavailable:
        return False


def test_a_log_that_was_made_anew_is_read_from_its_start(tmp_path: Path, settings: Settings) -> None:
    assert settings.log
    for records in ([listed("u", n) for n in range(5)], [listed("v", 1)]):
        shutil.rmtree(settings.log, ignore_errors=True)
        with closing(OwnedLog(settings.log)) as log:
            log.create(topic_specs(settings, partitions=1))
            log.append(records)
            with viewing(log, settings) as view:
                user = json.loads(records[-1].value or b"")["user_id"]
                assert view.list_of(user) == records[-1].value
    assert view.stats()["lists"] == 1


def test_a_log_that_was_made_anew_with_as_many_records_is_read_from_its_start(settings: Settings) -> None:
    """Its positions fit: that its topics are others is told by their ids."""
    assert settings.log
    for user in ("u", "v"):
        shutil.rmtree(settings.log, ignore_errors=True)
        with closing(OwnedLog(settings.log)) as log:
            log.create(topic_specs(settings, partitions=1))
            log.append([listed(user, 1)])
            with viewing(log, settings) as view:
                assert view.list_of(user) == LIST % (1, user.encode())
                assert view.stats()["lists"] == 1


@pytest.mark.kafka
def test_so_is_a_topic_of_a_broker(on_kafka: Settings) -> None:
    topic = on_kafka.recommendations_topic
    specs = {spec.name: spec for spec in topic_specs(on_kafka, partitions=1)}
    with closing(open_log_of(on_kafka)) as log, AdminClient({"bootstrap.servers": on_kafka.bootstrap}) as admin:
        log.create(specs.values())
        log.append([listed("u", 1, topic)])
        with viewing(log, on_kafka) as view:
            assert view.list_of("u")
        with viewing(log, on_kafka) as view:  # it goes on with the topic that it knows
            assert view.list_of("u")
        admin.delete_topics([topic], operation_timeout=30)[topic].result(60)
        until(lambda: topic not in log.topic_names())
        log.create([specs[topic]])
        log.append([listed("v", 1, topic)])
        with viewing(log, on_kafka) as view:
            assert view.list_of("u") is None
            assert view.list_of("v")


def test_another_log_or_topic_is_another_view(log: OwnedLog, settings: Settings) -> None:
    log.append([listed("u")])
    with viewing(log, settings):
        pass
    other = settings.model_copy(update={"recommendations_topic": "quality", "quality_topic": "recommendations"})
    with viewing(log, other) as view:
        assert view.list_of("u") is None


def test_what_may_have_missed_a_withdrawal_is_made_anew(log: OwnedLog, settings: Settings) -> None:
    clock = ManualClock()
    log.append([listed("u")])
    with viewing(log, settings, clock) as view:
        assert view._store
        positions, ids = view._store.positions(), view._store.topic_ids()
        view._store.write({"gone": b"{}"}, {}, {}, positions, clock.now_ms(), ids)
    with viewing(log, settings, clock) as again:
        assert again.list_of("gone") == b"{}"
    clock.advance(24 * 3_600)
    with viewing(log, settings, clock) as much_later:
        assert (much_later.list_of("u"), much_later.list_of("gone")) == (LIST % (0, b"u"), None)


def test_the_rate_is_that_of_the_last_seconds(log: OwnedLog, settings: Settings) -> None:
    clock = ManualClock()
    with viewing(log, settings, clock) as view:
        log.append([seen(f"u{n}") for n in range(50)])
        until(lambda: view.events == 50)
        assert view.stats()["events_per_second"] == 10
        clock.advance(RATE_WINDOW_S + 1)
        assert view.stats()["events_per_second"] == 0


def test_two_on_one_state_folder_both_serve(log: OwnedLog, settings: Settings) -> None:
    log.append([listed("u")])
    with viewing(log, settings), viewing(log, settings) as second:
        assert second.list_of("u")
        assert second._store
        temporary = second._store._folder
        assert temporary.is_dir()
    assert not temporary.exists()


def test_without_a_state_folder_nothing_is_left(log: OwnedLog, settings: Settings) -> None:
    with viewing(log, settings.model_copy(update={"state": None})) as view:
        assert view._store
        folder = view._store._folder
        assert folder.stat().st_mode & 0o077 == 0
    assert not folder.exists()


def test_the_bytes_of_a_withdrawn_list_leave_the_disk(log: OwnedLog, settings: Settings) -> None:
    assert settings.state
    folder, marker = settings.state / "view", b"8f14e45fceea167a"

    def on_disk() -> bool:
        return any(marker in file.read_bytes() for file in folder.iterdir() if file.suffix in (".sst", ".log"))

    with viewing(log, settings) as view:
        log.append([*(listed(f"u{n}", n) for n in range(2_000)), listed(marker.decode())])
        until(lambda: view.list_of(marker.decode()))
        assert view._store
        view._store._db.flush()
        assert on_disk()
        log.append([NewRecord("recommendations", marker, None)])
        until(lambda: not on_disk())
        assert view.list_of("u1999")


def test_a_batch_is_there_or_not(tmp_path: Path) -> None:
    """The process dies without closing: lists, count and positions are those of one moment."""
    code = f"""
import os, pathlib
from consumers.records import TopicPartition
from streamer.web.list_store import ListStore
store = ListStore(pathlib.Path({str(tmp_path / "view")!r}), "s")
for n in range(1, 200):
    store.write({{f"u{{n}}": b"x" * 100}}, {{}}, {{}}, {{TopicPartition("t", 0): n}}, 0, {{}})
os._exit(9)
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 9
    store = ListStore(tmp_path / "view", "s")
    assert list(store.positions().values()) == [store.count()] == [199]
    assert store.list_of("u199")
    store.close()


def test_a_subscriber_is_told_of_a_withdrawal(log: OwnedLog, settings: Settings) -> None:
    with viewing(log, settings) as view:
        server = WebServer(Gateway(log, settings, view).app(), "127.0.0.1", 0)
        server.start()
        try:
            log.append([listed("u", 1)])
            with (
                httpx.Client(base_url=server.address, timeout=scaled(60)) as client,
                client.stream("GET", "/recommendations/u/stream") as stream,
            ):
                lines = (line for line in stream.iter_lines() if line)
                assert next(lines) == "event: list"
                next(lines)
                assert next(lines) == "id: 0-1"
                log.append([NewRecord("recommendations", b"u", None)])
                assert next(lines) == "event: withdrawn"
                assert json.loads(next(lines).removeprefix("data: ")) == {"user_id": "u"}
                assert next(lines) == "id: "  # a client that connects anew names none
                log.append([listed("u", 2)])
                assert next(lines) == "event: list"
        finally:
            server.stop()


def test_a_thread_that_fails_ends_the_process_in_one_line(settings: Settings, log: OwnedLog) -> None:
    """An error that nothing expects, in the thread that follows and in the one that answers."""
    log.close()
    for patch in (
        "import streamer.web.materialized_view as v; v.View._take = lambda *_: {}['defect']",
        "import uvicorn; uvicorn.Server.main_loop = lambda self: {}['defect']",
    ):
        code = f"{patch}; import sys; from streamer.__main__ import main; sys.exit(main())"
        line = [sys.executable, "-c", code, "serve", "--log", str(settings.log), "--port", "0"]
        done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=scaled(100))
        assert done.returncode == 1, done.stderr
        assert "KeyError: 'defect'" in done.stderr.splitlines()[-1]
        assert "uvicorn" in patch or "Traceback" not in done.stderr  # uvicorn says its own


def test_threads_raise_what_ended_them() -> None:
    stop = StopRequest(on_signals=False)
    threads = Threads(stop.set)
    threads.check()

    def fails() -> None:
        raise LogUnavailable("gone")

    threads.start("a", fails).join()
    threads.start("b", lambda: sys.exit(3)).join()
    assert stop
    with pytest.raises(LogUnavailable, match="gone"):
        threads.check()
    other = Threads()
    other.start("c", lambda: sys.exit(3)).join()
    with pytest.raises(ThreadEnded, match="the thread 'c' ended: SystemExit: 3"):
        other.check()
    assert "c" not in [thread.name for thread in threading.enumerate()]


def test_an_outage_is_not_said_every_few_seconds(caplog: pytest.LogCaptureFixture) -> None:
    stop, tries = StopRequest(on_signals=False), []

    @contextmanager
    def opened() -> Iterator[None]:
        if tries:
            tries.append(1)
            if len(tries) > 20:
                stop.set()
            raise LogUnavailable("away")
        yield

    def run(_: None) -> None:
        tries.append(1)
        raise LogUnavailable("away")

    supervise(opened, run, stop, longest_wait_s=0.001)
    assert len(tries) > 20
    assert sum("away" in record.message for record in caplog.records) <= 2
