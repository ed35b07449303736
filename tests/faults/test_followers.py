"""Who follows an embedded log that another process has open: its owners end, nothing is lost, nothing is counted twice."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Protocol

import pytest

from consumers.open_log import OwnedLog
from consumers.records import NewRecord
from consumers.redis import KeyStore
from streamer.runtime.topics import end_positions, open_log_of, topic_specs
from streamer.settings import Settings
from tests import redis_server
from tests.conftest import missing
from tests.consumers.feedback.feedback_world import counted, make_log
from tests.faults.scene import ROOT
from tests.faults.test_feedback import HOUR_MS, Counting, check, renamed, said, whole_log
from tests.faults.test_loopback import end, start_owner
from tests.waiting import ended, ends, freeze, until

ITEMS = 900
HOW = pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])


class Following(Protocol):
    """A process that follows a log."""

    process: "subprocess.Popen[Any]"

    def said(self) -> str: ...


@pytest.fixture
def shop(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A log with topics that nobody has open; commands find it in the environment."""
    assert settings.log
    monkeypatch.setenv("FRESHET_LOG", str(settings.log))
    with closing(OwnedLog(settings.log)) as log:
        log.create(topic_specs(settings, partitions=2))
    return settings


def through_two_owners(
    settings: Settings,
    owner: "subprocess.Popen[str]",
    follower: Following,
    how: signal.Signals,
    records: Sequence[NewRecord],
    has: Callable[[int], object],
) -> None:
    """Sends records in thirds: to the first owner, to the next, which is found, and to the follower itself.

    Args:
        owner: the first.
        how: owners end.
        has: whether the follower has taken so many of the records.
    """
    assert settings.log
    third = len(records) // 3

    def send(n: int) -> None:
        with closing(open_log_of(settings)) as log:
            log.append(records[n * third : (n + 1) * third if n < 2 else len(records)])

    send(0)
    until(lambda: has(1), 120, follower.said)  # in the middle of it
    freeze(follower.process.pid)
    end(owner, how)
    owner = start_owner(settings.log)
    send(1)
    follower.process.send_signal(signal.SIGCONT)
    until(lambda: has(2 * third), 120, follower.said)
    assert "another has it open now" in follower.said()
    end(owner, how)
    until(lambda: "this process has it open now" in follower.said(), 60, follower.said)
    send(2)
    until(lambda: has(len(records)), 120, follower.said)


class Sinking:
    """A `freshet sink` of its own."""

    def __init__(self, folder: Path, url: str) -> None:
        self._said = folder / "sink.log"
        line = [sys.executable, "-m", "streamer", "sink", url]
        with self._said.open("a") as said:
            self.process = subprocess.Popen(
                line,
                cwd=folder,
                env=os.environ | {"PYTHONPATH": str(ROOT)},
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
            )

    def said(self) -> str:
        return self._said.read_text()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[redis_server.Server]:
    if lacks := redis_server.missing():
        missing(lacks)
    (tmp_path / "redis").mkdir()
    one = redis_server.Server(tmp_path / "redis")
    yield one
    one.stop()


@HOW
def test_a_sink_outlives_two_owners(
    shop: Settings, tmp_path: Path, redis: redis_server.Server, how: signal.Signals
) -> None:
    items = [NewRecord("items", b"i%d" % n, b'{"item_id": "i%d", "title": "Item %d"}' % (n, n)) for n in range(ITEMS)]
    assert shop.log
    owner, sink = start_owner(shop.log), Sinking(tmp_path, redis.url)
    with KeyStore(redis.url, shop.redis_prefix) as store, ends(sink.process):
        through_two_owners(shop, owner, sink, how, items, lambda n: store.counts()["item"] >= n)
        told = f"everything in the log is in the store, {ITEMS} records so far"  # none of them read twice
        until(lambda: told in sink.said(), 60, sink.said)
        with closing(open_log_of(shop)) as log:
            assert store.positions().items() >= end_positions(log, "items").items()
        sink.process.send_signal(signal.SIGTERM)
        assert ended(sink.process, 60, sink.said) == 0, sink.said()
        assert sink.process.stdout
        assert json.loads(sink.process.stdout.read()) == {"list": 0, "item": ITEMS, "user": 0}
        assert "Traceback" not in sink.said()


def is_counted(settings: Settings) -> bool:
    """Whether what is said is what a plain computation finds in the log; of an arm everything is said at once."""
    with closing(open_log_of(settings)) as log:
        told, expected = said(log, settings), counted(whole_log(log, settings), "last-touch", 12 * HOUR_MS, HOUR_MS)
        shown = sum(one.numerator for key, one in told.items() if key[2] == "impressions")
        if shown != sum(n for cell, n in expected.items() if cell[2:] == ("impressions", "", "")):
            return False
        check(told, expected)
    return True


@HOW
def test_who_counts_feedback_outlives_two_owners(shop: Settings, tmp_path: Path, how: signal.Signals) -> None:
    records = renamed(make_log(13, lists=120, events=700, late_ms=5 * HOUR_MS, step_ms=20_000), shop)
    assert shop.log
    with ExitStack() as stack:
        owner, follower = start_owner(shop.log), Counting(tmp_path, stack)
        through_two_owners(
            shop, owner, follower, how, records, lambda n: follower.taken() if n == 1 else is_counted(shop)
        )
        follower.process.send_signal(signal.SIGTERM)
        assert ended(follower.process, 60, follower.said) == 0, follower.said()
        assert "Traceback" not in follower.said()


def test_who_only_follows_is_not_ready_while_nobody_has_the_log_open(shop: Settings, tmp_path: Path) -> None:
    """As the process of `freshet up` does, in which another has the log open."""
    assert shop.log
    owner = start_owner(shop.log)
    with ExitStack() as stack:
        counting = Counting(tmp_path, stack, "--follow")
        until(counting.ready, 120, counting.said)
        end(owner, signal.SIGKILL)
        until(lambda: not counting.ready(), 10, counting.said)
        with closing(OwnedLog(shop.log)) as log:
            log.append(renamed(make_log(14, lists=40, events=200, late_ms=HOUR_MS, step_ms=20_000), shop))
            until(lambda: counting.ready() and is_counted(shop), 60, counting.said)
