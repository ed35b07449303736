"""A change of settings is an event in the stream of epochs: recovery, rebuild and audit use what was in force."""

import json
import logging
from typing import Any

import msgspec
import pytest

from consumers.open_log import OwnedLog
from consumers.records import NewRecord, TopicPartition
from consumers.schemas import EpochManifest
from streamer.errors import StateUnreadable
from streamer.ops.audit import audit, digest
from streamer.ops.checkpoint_inspection import verify
from streamer.settings import Settings
from streamer.state import in_force
from streamer.worker.rebuild import rebuild
from streamer.worker.worker import Worker
from tests.scenarios.test_worker import interaction, lists_of, read_all, run
from tests.worlds import checkerboard

CHANGED: dict[str, Any] = {
    "field_map": {"user_id": "uid"},
    "clock_skew_ms": 10**15,
    "max_record_bytes": 130,
    "event_weights": {"view": 7.0},
    "max_weight": 5.0,
    "dedup_window": 3,
    "allowed_lateness_ms": 10**9,
    "too_late": "dead-letter",
    "request_context": True,
    "k": 3,
    "exclude_seen": True,
    "surface": "home",
    "publish_distance": 0.5,
    "recommendations_topic": "recommendations.home",
    "quality_topic": "recommendations.home",
    "dead_topic": "recommendations.home",
}
RARE = {"checkpoint_interval_ms": 10**9, "max_epoch_events": 40}


def test_every_setting_is_in_one_group() -> None:
    """A new setting: does the state or a list depend on it? Then it is recorded, or refused where it cannot change."""
    groups = (in_force.MODEL, in_force.STREAM, in_force.CHANGEABLE, in_force.ELSEWHERE)
    assert frozenset().union(*groups) == frozenset(Settings.model_fields)
    assert sum(map(len, groups)) == len(Settings.model_fields)
    assert CHANGED.keys() == in_force.CHANGEABLE


@pytest.mark.parametrize("name", sorted(in_force.CHANGEABLE))
def test_what_may_change_is_recorded_as_it_is(name: str, settings: Settings) -> None:
    other = settings.model_copy(update={name: CHANGED[name]})
    values = msgspec.json.decode(msgspec.json.encode(in_force.recorded(other)))
    back = in_force.with_recorded(settings, values)
    assert getattr(back, name) == CHANGED[name]
    assert in_force.recorded(back) == in_force.recorded(other)
    assert in_force.changes(in_force.recorded(settings), values).startswith(name)


def records(first: int, count: int = 150) -> list[NewRecord]:
    """Interactions with all that settings decide about: repeated ids, late and long ones, bad ones."""
    events = checkerboard(events=first + count, users=9, items=14)[first:]
    made = []
    for n, (user, item, t) in enumerate(events, first):
        more: dict[str, Any] = {"event_id": f"e{n - n % 7}", "context": {"device": f"d{n % 3}"}, "uid": f"{user}-other"}
        if n % 11 == 0:
            more["timestamp"] = max(t - 10**7, 0)
        if n % 13 == 0:
            more["session_id"] = "s" * 150
        made.append(interaction(user, item, more.pop("timestamp", t), **more))
    return [*made, NewRecord("interactions", b"x", b"{oops")]


def crash(log: OwnedLog, settings: Settings) -> None:
    """Takes all there is, and leaves no checkpoint of it."""
    worker = Worker.open(log, settings)
    while worker.step():
        pass
    worker.close()


@pytest.mark.parametrize("name", sorted(in_force.CHANGEABLE))
def test_a_change_is_exact_in_recovery_rebuild_and_audit(
    name: str, log: OwnedLog, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """Changed, changed back after a crash: one pass over the log comes to the same state, and every output is right."""
    caplog.set_level(logging.INFO)
    log.create([log.topics()["recommendations"].__class__("recommendations.home", 1, "delete")])
    old = settings.model_copy(update=RARE)
    new = old.model_copy(update={name: CHANGED[name]})
    log.append(records(0))
    run(log, old)
    log.append(records(150))
    crash(log, new)
    assert f"settings have changed, from epoch 5 on: {name} " in caplog.text
    log.append(records(300))
    log.append([NewRecord("items", b"i3", None)])
    crash(log, old)  # takes the epochs of the new settings again first
    worker = run(log, new)  # and here those of both
    expected = digest(worker.state)
    found = audit(log, old)
    assert (found.lost, found.doubled, found.differing, found.foreign) == (0, 0, 0, 0)
    assert found.digests == {"": expected}
    assert verify(log, old)[1] == []

    manifests = [msgspec.json.decode(r.value or b"", type=EpochManifest) for r in read_all(log, "freshet.epochs")]
    switches = [m.settings for m in manifests if m.settings is not None]
    assert [s[name] for s in switches] == [in_force.recorded(s)[name] for s in (old, new, old)]
    assert manifests[0].settings is not None

    log.committer("freshet").discard_state()
    assert digest(run(log, new).state) == expected  # from nothing but the log
    rebuild(log, old)
    found = audit(log, new)
    assert (found.lost, found.doubled, found.differing, found.foreign) == (0, 0, 0, 0)
    rebuilt = digest(run(log, new).state)
    assert found.digests == {"": rebuilt}
    log.committer("freshet").discard_state()
    assert digest(run(log, old).state) == rebuilt


def test_lists_have_the_length_that_was_in_force(log: OwnedLog, settings: Settings) -> None:
    """And those of before stay known: an item deleted later is taken out of a long list too."""
    log.append([interaction(u, i, t) for u, i, t in checkerboard(events=200, users=6, items=40)])
    run(log, settings.model_copy(update={"k": 12}))
    long = lists_of(log)
    short = settings.model_copy(update={"k": 3})
    log.append([interaction("u0", "i0", 10**9)])
    run(log, short)
    assert {len(items) for user, items in lists_of(log).items() if user != "u0"} == {12}
    assert len(lists_of(log)["u0"]) == 3
    last = next(items[11] for user, items in long.items() if user != "u0")
    log.append([NewRecord("items", last.encode(), None)])
    worker = run(log, short)
    assert all(last not in items for items in lists_of(log).values())
    assert audit(log, short).digests == {"": digest(worker.state)}


def test_a_change_waits_for_an_epoch(log: OwnedLog, settings: Settings) -> None:
    log.append([interaction(u, i, t) for u, i, t in checkerboard(events=50)])
    run(log, settings)
    worker = run(log, settings.model_copy(update={"k": 7}))
    assert worker.state.engine.k == 20
    assert worker.state.epoch == 1


@pytest.mark.parametrize("name", sorted(in_force.MODEL | in_force.STREAM))
def test_what_makes_a_state_cannot_change(name: str, log: OwnedLog, settings: Settings) -> None:
    log.append([interaction("u", "i", 1)])
    run(log, settings)
    other: dict[str, Any] = {"window": 3, "every_item_below": 3, "without": ("memory",), "seed": 3}
    with pytest.raises(StateUnreadable, match=f"the state was made with {name} = .*; set that again, or remove"):
        Worker.open(log, settings.model_copy(update={name: other.get(name, "quality")}))


def test_a_state_made_anew_with_another_model_is_what_the_audit_makes(log: OwnedLog, settings: Settings) -> None:
    events = checkerboard(events=200, users=9, items=14)
    log.append([interaction(u, i, t) for u, i, t in events[:100]])
    run(log, settings)
    log.stored_state("freshet").clear()
    other = settings.model_copy(update={"window": 3, "seed": 5})
    log.append([interaction(u, i, t) for u, i, t in events[100:]])
    worker = run(log, other)
    for given in (settings, other):
        found = audit(log, given)
        assert (found.lost, found.doubled, found.differing) == (0, 0, 0)
        assert found.digests == {"": digest(worker.state)}


def test_epochs_of_a_version_that_recorded_nothing_are_taken_as_those_after_them(
    log: OwnedLog, settings: Settings
) -> None:
    old = settings.model_copy(update={"k": 4})
    log.append([interaction(u, i, t) for u, i, t in checkerboard(events=100)])
    run(log, old)
    key = b"r/freshet.epochs" + b"/" + bytes(4) + bytes(8)
    k, value, headers, t = msgspec.msgpack.decode(log._tables.db[key])
    plain = msgspec.structs.replace(msgspec.json.decode(value, type=EpochManifest), settings=None)
    log._tables.db[key] = msgspec.msgpack.encode((k, msgspec.json.encode(plain), headers, t))
    log.stored_state("freshet").clear()
    log.append([interaction("u1", "i1", 10**9)])
    run(log, old)
    log.stored_state("freshet").clear()
    worker = run(log, settings)
    assert worker.state.engine.k == 4
    assert worker.state.positions[TopicPartition("interactions", 0)] == 101
    assert {len(items) for items in worker.state.listed.lists().values()} == {4}
    assert json.loads(read_all(log, "freshet.epochs")[1].value or b"")["settings"]["k"] == 4


# without a restart


@pytest.mark.parametrize("name", sorted(in_force.AT_ONCE))
def test_a_running_worker_takes_on_what_changes(name: str, log: OwnedLog, settings: Settings) -> None:
    """In the manifest of an epoch of its own; a crash, the audit and a rebuild come to the same."""
    settings = settings.model_copy(update=RARE)
    changed = settings.model_copy(update={name: CHANGED[name]})
    read = [None, changed]
    log.append(records(0))
    first = Worker.open(log, settings, changed_settings=lambda: read.pop() if read else None)
    first.step()
    assert getattr(first.state.settings, name) == CHANGED[name]
    while first.step():
        pass
    log.append(records(150))
    while first.step():
        pass
    lost = digest(first.state)
    first.close()
    told = [
        manifest.settings[name]
        for record in read_all(log, "freshet.epochs")
        if (manifest := msgspec.json.decode(record.value or b"", type=EpochManifest)).settings is not None
    ]
    assert msgspec.json.decode(msgspec.json.encode(CHANGED[name])) == told[-1]
    second = Worker.open(log, changed)
    assert digest(second.state) == lost
    second.close()
    found = audit(log, settings)
    assert (found.lost, found.doubled, found.differing) == (0, 0, 0)


def test_an_idle_worker_takes_them_on_too_and_says_what_needs_a_restart(
    log: OwnedLog, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    read = [settings.model_copy(update={"k": 3, "seed": 7, "dead_topic": "elsewhere"})]
    log.append(records(0))
    run(log, settings)
    worker = Worker.open(log, settings, changed_settings=lambda: read.pop() if read else None)
    with caplog.at_level(logging.INFO):
        assert worker.step() is not None
    assert (worker.state.settings.k, worker.state.settings.dead_topic) == (3, settings.dead_topic)
    assert "k 20 → 3" in caplog.text
    assert "restart: dead_topic, seed" in caplog.text
    assert worker.step() is None
    log.append(records(150))
    worker.run(exit_at_end=True)
    assert all(len(items) <= 3 for items in worker.state.listed.lists().values())
    worker.close()
