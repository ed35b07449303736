"""A real Redis follows the log: what it holds is what the topics say last, whatever goes away in the middle."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import redis

from consumers.errors import LogUnavailable, RedisUnavailable
from consumers.open_log import OwnedLog
from consumers.records import NewRecord, TopicPartition, TopicSpec
from consumers.redis import KeyBatch, KeyStore
from streamer.cli.main import main
from streamer.runtime.signals import StopRequest
from streamer.runtime.topics import read_records, topic_of_surface, whole
from streamer.settings import Settings
from streamer.sinks import following
from streamer.sinks.keys import KeySink
from streamer.worker.worker import Worker
from tests import redis_server
from tests.conftest import missing
from tests.waiting import until
from tests.worlds import checkerboard

PREFIX = "shop:"
PASSWORD = "not-to-be-told"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[redis_server.Server]:
    """A server that is empty."""
    if lacks := redis_server.missing():
        missing(lacks)
    (tmp_path / "redis").mkdir()
    one = redis_server.Server(tmp_path / "redis", PASSWORD)
    yield one
    one.stop()


OpenStore = Callable[[], KeyStore]


@pytest.fixture
def open_store(server: redis_server.Server) -> OpenStore:
    return lambda: KeyStore(server.url, PREFIX, password=PASSWORD)


def held(server: redis_server.Server) -> dict[str, str]:
    """Lists, items and users, by key."""
    with redis.Redis.from_url(server.url, password=PASSWORD) as client:
        keys = [key for key in client.scan_iter() if client.type(key) == b"string"]
        return {cast(bytes, key).decode(): cast(bytes, client.get(key)).decode() for key in keys}


def interaction(user: str, item: str, t: int) -> NewRecord:
    row = {"user_id": user, "item_id": item, "event_type": "view", "timestamp": t}
    return NewRecord("interactions", user.encode(), json.dumps(row).encode())


def item(id_: str, **more: Any) -> NewRecord:
    return NewRecord("items", id_.encode(), json.dumps({"item_id": id_} | more).encode())


def make_lists(log: OwnedLog, settings: Settings) -> None:
    with closing(Worker.open(log, settings)) as worker:
        worker.run(exit_at_end=True)


def to_the_end(log: OwnedLog, store: KeyStore, settings: Settings) -> None:
    with KeySink(log, store, settings) as sink:
        while sink.step(0.1) or not sink.at_end():
            pass


def newest_lists(log: OwnedLog, settings: Settings) -> dict[str, str]:
    """What the topic of lists says last, by key in Redis."""
    newest = dict[str, str]()
    for record in read_records(log, whole(log, settings.recommendations_topic)):
        key = f"{PREFIX}list:{settings.surface}:{(record.key or b'').decode()}"
        newest.pop(key, None)
        if record.value is not None:
            newest[key] = record.value.decode()
    return newest


def test_it_holds_what_the_topics_say_last_wherever_the_sink_stops(
    log: OwnedLog, settings: Settings, server: redis_server.Server, open_store: OpenStore, monkeypatch: Any
) -> None:
    """A transaction at a time, the server stopped and started in between, one transaction broken off."""
    monkeypatch.setattr(following, "RECORDS_A_TRANSACTION", 40)
    log.append([item(f"i{n}", title=f"Item {n}") for n in range(20)])
    log.append([NewRecord("users", b"u1", b'{"user_id": "u1", "attributes": {"age": 24}}')])
    log.append([interaction(u, i, t) for u, i, t in checkerboard(users=20, items=20, events=200)])
    make_lists(log, settings)
    with open_store() as store, KeySink(log, store, settings) as sink:
        assert sink.step()
        server.stop()
        with pytest.raises(RedisUnavailable):
            sink.step()
    server.start()
    with open_store() as store:
        before = held(server), store.positions()
        with monkeypatch.context() as broken:
            broken.setattr(redis.client.Pipeline, "execute", lambda _: broken_off())
            with pytest.raises(RedisUnavailable):
                to_the_end(log, store, settings)
        assert (held(server), store.positions()) == before
        to_the_end(log, store, settings)
        assert {key: value for key, value in held(server).items() if ":list:" in key} == newest_lists(log, settings)
        assert json.loads(held(server)["shop:item:i3"]) == {"item_id": "i3", "title": "Item 3"}
        assert json.loads(held(server)["shop:user:u1"])["attributes"] == {"age": 24}
        assert store.counts() == {"list": 20, "item": 20, "user": 1}

        log.append([NewRecord("items", b"i3", None), NewRecord("users", b"u1", None), item("i4", title="Other")])
        log.append([NewRecord("items", b"i5", b"no JSON"), NewRecord(settings.recommendations_topic, b"u2", b"none")])
        make_lists(log, settings)
        to_the_end(log, store, settings)
    assert not {"shop:item:i3", "shop:user:u1", f"shop:list:{settings.surface}:u1"} & held(server).keys()
    assert json.loads(held(server)["shop:item:i4"])["title"] == "Other"
    assert "Item 5" in held(server)["shop:item:i5"]
    assert json.loads(held(server)[f"shop:list:{settings.surface}:u2"])["user_id"] == "u2"


def broken_off() -> None:
    raise redis.ConnectionError("broken off")


def test_one_that_was_emptied_is_filled_again(
    log: OwnedLog, settings: Settings, server: redis_server.Server, open_store: OpenStore
) -> None:
    """In the middle of a run: the next transaction notices that the positions are gone."""
    log.append([item("i1"), item("i2")])
    with open_store() as store, KeySink(log, store, settings) as sink:
        while not sink.at_end() or sink.step(0.1):
            sink.step(0.1)
        with redis.Redis.from_url(server.url, password=PASSWORD) as client:
            client.flushall()
        log.append([item("i3")])
        with pytest.raises(RedisUnavailable, match="the positions were changed meanwhile"):
            until(lambda: sink.step(0.1) < 0)
    with open_store() as store:
        to_the_end(log, store, settings)
    assert held(server).keys() == {"shop:item:i1", "shop:item:i2", "shop:item:i3"}


def test_of_two_sinks_the_one_that_is_behind_writes_nothing(server: redis_server.Server, open_store: OpenStore) -> None:
    place = TopicPartition("items", 0)
    with open_store() as one, open_store() as other:
        one.write(KeyBatch({"item:a": b"1"}, {place: 1}))
        other.write(KeyBatch({"item:a": b"2"}, {place: 2}))
        with pytest.raises(RedisUnavailable):
            one.write(KeyBatch({"item:a": b"old"}, {place: 2}))
    assert held(server) == {"shop:item:a": "2"}


def test_a_surface_that_is_published_later_comes_too(
    log: OwnedLog, settings: Settings, server: redis_server.Server, open_store: OpenStore
) -> None:
    log.append([interaction("u1", "i1", 1), interaction("u1", "i2", 2)])
    make_lists(log, settings)
    *_, record = read_records(log, whole(log, settings.recommendations_topic))
    basket = topic_of_surface(settings, "basket")
    with open_store() as store:
        with KeySink(log, store, settings) as sink:
            while not sink.at_end() or sink.step(0.1):
                sink.step(0.1)
            log.create([TopicSpec(basket, 1, "compact", -1)])
            log.append([NewRecord(basket, record.key, record.value)])
            with pytest.raises(LogUnavailable, match=f"there are lists on {basket}"):
                until(lambda: sink.step(0.1) < 0)
        to_the_end(log, store, settings)
    assert held(server).keys() == {f"shop:list:{settings.surface}:u1", "shop:list:basket:u1"}


def test_the_command_fills_it_and_says_how_much(
    log: OwnedLog,
    settings: Settings,
    server: redis_server.Server,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    log.append([item("i1"), interaction("u1", "i1", 1), interaction("u1", "i2", 2)])
    make_lists(log, settings)
    log.close()
    command = ["sink", server.url, "--log", str(settings.log), "--redis-prefix", PREFIX, "--exit-at-end"]
    assert main(command) == 1
    refused = capsys.readouterr().err
    assert "refuses the user: set FRESHET_REDIS_USER and FRESHET_REDIS_PASSWORD" in refused
    monkeypatch.setenv("FRESHET_REDIS_PASSWORD", "wrong")
    assert main(command) == 1
    assert "refuses the user" in capsys.readouterr().err
    monkeypatch.setenv("FRESHET_REDIS_PASSWORD", PASSWORD)
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out) == {"list": 1, "item": 1, "user": 0}
    command[1] = f"redis://:{PASSWORD}@127.0.0.1:1"
    assert main(command) == 1
    assert PASSWORD not in capsys.readouterr().err


def test_it_says_whenever_it_has_everything(
    log: OwnedLog, settings: Settings, open_store: OpenStore, caplog: pytest.LogCaptureFixture
) -> None:
    @contextmanager
    def opened() -> Iterator[KeySink]:
        with open_store() as store, KeySink(log, store, settings) as sink:
            yield sink

    stop, taken = StopRequest(on_signals=False), list[int]()
    caplog.set_level("INFO", following.__name__)
    thread = threading.Thread(target=following.follow, args=(opened, stop, False, taken.append))
    thread.start()
    try:
        for n, taken_by_then in ((1, "1 record"), (2, "2 records")):
            log.append([item(f"i{n}")])
            said = f"everything in the log is in the store, {taken_by_then} so far; following it"
            until(lambda: said in caplog.text)  # noqa: B023
    finally:
        stop.set()
        thread.join()
    assert sum(taken) == 2


@pytest.mark.parametrize("uri", ["localhost:6379", "postgres://localhost", ""])
def test_an_address_of_nothing_that_is_known_is_refused(uri: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sink", uri]) == 2
    assert "an address begins with one of bolt://" in capsys.readouterr().err
