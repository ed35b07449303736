"""Lists are made anew when time alone has made them others, and an audit can do the same again."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import msgspec
import numpy as np
import pytest

from consumers.open_log import OwnedLog
from consumers.records import NewRecord
from consumers.schemas import EpochManifest, RecommendationList
from streamer.lists.distance import distance
from streamer.runtime.topics import read_records, whole
from streamer.settings import Settings
from streamer.worker.worker import Worker
from tests.clocks import ManualClock
from tests.scenarios.test_worker import lists_of, read_all, send
from tests.worlds import MINUTE_MS, Events

HOUR_S = 3_600
DAY_MS = 86_400_000


@pytest.fixture(autouse=True)
def no_idle_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hours pass on a clock that the test moves: each is a step in which nothing comes."""
    monkeypatch.setattr("streamer.worker.reading.IDLE_S", 0.001)


def habits(users: int = 20, events: int = 800) -> Events:
    """Half of the items were popular yesterday, half are today: as time passes, yesterday's weigh as much again."""
    rng = np.random.default_rng(1)
    world = []
    for n in range(events):
        late = n >= events // 2
        item = int(rng.integers(0, 40)) + 40 * late
        world.append((f"u{n % users}", f"i{item}", n * MINUTE_MS // 4 + late * DAY_MS))
    return world


@contextmanager
def working(log: OwnedLog, settings: Settings, clock: ManualClock) -> Iterator[Worker]:
    with Worker.open(log, settings, clock=clock) as worker:
        worker.state.warm_up()
        yield worker


def steps(worker: Worker, clock: ManualClock, seconds: float, each: float) -> int:
    """Lets time pass; how many epochs there were."""
    count, passed = 0, 0.0
    while passed < seconds:
        clock.advance(each)
        passed += each
        count += worker.step() is not None
    return count


def aged_lists(log: OwnedLog) -> list[RecommendationList]:
    values = [record.value for record in read_all(log, "recommendations") if record.value]
    lists = [msgspec.json.decode(value, type=RecommendationList) for value in values]
    return [one for one in lists if one.list_id.startswith("e-")]


def test_lists_follow_the_time_and_a_restart_knows_what_was_made_anew(log: OwnedLog, settings: Settings) -> None:
    settings = settings.model_copy(update={"age_distance": 0.02, "checkpoint_interval_ms": 10**9})
    clock = ManualClock()
    send(log, habits())
    with working(log, settings, clock) as worker:
        while worker.state.records < 800:
            worker.step()
        assert not aged_lists(log)
        steps(worker, clock, 4 * 24 * HOUR_S, HOUR_S)
        aged = aged_lists(log)
        assert len(aged) >= 10
        assert all(one.as_of.timestamp >= worker.state.clock_ms for one in aged)
        assert max(one.as_of.timestamp for one in aged) > worker.state.clock_ms + DAY_MS
        state = worker.state.parts(), worker.state.listed.lists()
    manifests = [
        msgspec.json.decode(record.value or b"", type=EpochManifest)
        for record in read_records(log, whole(log, settings.epochs_topic))
    ]
    assert sum(len(manifest.aged) for manifest in manifests) >= len(aged)
    with working(log, settings, ManualClock()) as again:  # no checkpoint was written: every epoch is taken again
        assert (again.state.parts(), again.state.listed.lists()) == state


def test_nothing_ages_where_it_is_off_and_a_list_that_has_not_changed_is_not_published_again(
    log: OwnedLog, settings: Settings
) -> None:
    clock = ManualClock()
    send(log, habits())
    off = settings.model_copy(update={"ageing_share": 0.0})
    with working(log, off, clock) as worker:
        while worker.state.records < 800:
            worker.step()
        assert steps(worker, clock, 4 * 24 * HOUR_S, HOUR_S) == 0
    with working(log, settings.model_copy(update={"age_distance": 0.99}), clock) as worker:
        steps(worker, clock, 2 * 24 * HOUR_S, HOUR_S)
        before = lists_of(log)
        for one in aged_lists(log):
            assert one.items
        assert lists_of(log) == before


def test_a_worker_that_is_behind_takes_what_waits_before_anything_ages(log: OwnedLog, settings: Settings) -> None:
    settings = settings.model_copy(update={"age_distance": 0.0, "ageing_share": 0.5, "max_epoch_events": 20})
    clock = ManualClock()
    send(log, habits()[:400])
    with working(log, settings, clock) as worker:
        while worker.state.records < 400:
            worker.step()
    send(log, habits()[400:])
    with working(log, settings, clock) as worker:  # its lists are those of a day ago
        while worker.state.records < 800:
            steps(worker, clock, HOUR_S, HOUR_S)
            assert not aged_lists(log)
        steps(worker, clock, 4 * 24 * HOUR_S, HOUR_S)
        assert aged_lists(log)


def test_an_item_that_expires_leaves_the_lists_though_nothing_happens(log: OwnedLog, settings: Settings) -> None:
    clock = ManualClock()
    events = habits()
    last_ms = events[-1][2]
    with working(log, settings, clock) as worker:
        value = msgspec.json.encode({"item_id": "i50", "expires_at": last_ms + 60_000})
        log.append([NewRecord("items", b"i50", value)])
        send(log, events)
        while worker.state.records < 800:
            worker.step()
        named = [user for user, items in lists_of(log).items() if "i50" in items]
        assert named
        steps(worker, clock, 200, 1.0)
        assert not [user for user, items in lists_of(log).items() if "i50" in items]


def test_a_list_that_differs_too_little_is_not_published_and_what_is_published_stays_known(
    log: OwnedLog, settings: Settings, tmp_path: object
) -> None:
    events = habits()
    send(log, events)
    picky = settings.model_copy(update={"publish_distance": 0.3})
    with working(log, picky, ManualClock()) as worker:
        while worker.state.records < 800:
            worker.step()
        ids = worker.state.engine.model.items.ids
        known = {
            worker.state.engine.model.users.ids[user]: [ids[item] for item in items]
            for user, items in worker.state.listed.lists().items()
        }
    assert known == lists_of(log)
    by_user: dict[str, list[list[str]]] = {}
    for record in read_all(log, "recommendations"):
        one = msgspec.json.decode(record.value or b"", type=RecommendationList)
        by_user.setdefault(one.user_id, []).append([item.item_id for item in one.items])
    index = {id_: n for n, id_ in enumerate(ids)}
    for lists in by_user.values():
        for before, after in pairwise(lists):
            rows = [np.array([[index[id_] for id_ in one]], np.int32) for one in (before, after)]
            assert distance(*rows)[0] > 0.3
