"""Merges through the log: a worker that is lost after one, a rebuild, the audit, and those that cannot be taken."""

import json
from contextlib import closing
from typing import Any

import pytest

from consumers.open_log import OwnedLog
from consumers.records import NewRecord
from streamer.ops.audit import audit, digest
from streamer.runtime.topics import read_records, topic_specs, whole
from streamer.settings import Settings
from streamer.worker.rebuild import rebuild
from streamer.worker.worker import Worker
from tests.canonical import canonical
from tests.scenarios.test_worker import lists_of


def interaction(user: str, item: int, t: int) -> NewRecord:
    value = {"user_id": user, "item_id": f"i{item}", "event_type": "view", "timestamp": t, "event_id": str(t)}
    return NewRecord("interactions", user.encode(), json.dumps(value).encode())


def merge(user: str, session: Any = "s", upto: Any = None) -> NewRecord:
    value = {"merge": session, "upto": {"0": 0} if upto is None else upto}
    return NewRecord("interactions", user.encode(), json.dumps(value).encode())


def visit(log: OwnedLog, session: str) -> None:
    """Others, a visitor among them, and then the visitor's own."""
    log.append([interaction(f"u{n % 7}", n * n % 11, 1_000 * n) for n in range(60)])
    log.append([interaction(session, n, 100_000 + 1_000 * n) for n in range(5)])


def go_on(log: OwnedLog, session: str) -> None:
    log.append([interaction(session, 7, 150_000)])
    log.append([interaction(f"u{n % 7}", n * n % 13, 200_000 + 1_000 * n) for n in range(60)])


def run(log: OwnedLog, settings: Settings) -> Worker:
    with closing(Worker.open(log, settings)) as worker:
        worker.run(exit_at_end=True)
        return worker


def at_another(settings: Settings, name: str) -> tuple[OwnedLog, Settings]:
    assert settings.log
    assert settings.state
    other = settings.model_copy(update={"log": settings.log / name, "state": settings.state / name})
    assert other.log
    log = OwnedLog(other.log)
    log.create(topic_specs(other, partitions=1))
    return log, other


def test_the_graph_is_that_of_a_stream_that_knew_from_the_start(log: OwnedLog, settings: Settings) -> None:
    visit(log, "s")
    log.append([merge("u3")])
    go_on(log, "s")
    merged = run(log, settings)
    other, clean = at_another(settings, "clean")
    with closing(other):
        visit(other, "u3")
        go_on(other, "u3")
        expected = run(other, clean)
        assert canonical(merged.state.engine.model) == canonical(expected.state.engine.model)
        assert lists_of(log).keys() == lists_of(other).keys()
    before = digest(merged.state)
    again = Worker.open(log, settings)
    assert digest(again.state) == before
    again.close()


def test_a_worker_that_is_lost_after_a_merge_is_made_up_for_exactly(log: OwnedLog, settings: Settings) -> None:
    visit(log, "s")
    run(log, settings)
    log.append([merge("u3"), merge("u5", "other", {"0": 72})])
    go_on(log, "s")
    first = Worker.open(log, settings)
    while first.step() is not None or len(first.state.repairs):
        pass
    lost = digest(first.state)
    assert first.state.merges.owners()
    first.close()  # without a checkpoint
    second = Worker.open(log, settings)
    assert digest(second.state) == lost
    second.run(exit_at_end=True)
    done = digest(second.state)
    second.close()
    found = audit(log, settings)
    assert (found.lost, found.doubled, found.differing) == (0, 0, 0)
    assert found.digests == {"": done}


def test_a_rebuild_comes_to_the_same_graph_and_brings_nobody_back(log: OwnedLog, settings: Settings) -> None:
    visit(log, "s")
    visit(log, "gone")
    log.append([merge("u3"), merge("erased", "gone")])
    go_on(log, "s")
    run(log, settings)
    log.append([NewRecord("users", b"erased", None)])
    before = canonical(run(log, settings).state.engine.model)
    rebuild(log, settings)
    after = canonical(run(log, settings).state.engine.model)
    assert after["users"] == before["users"]
    assert after["co"].keys() == before["co"].keys()
    assert after["pairs"] == before["pairs"]
    assert {"s", "gone", "erased"}.isdisjoint(lists_of(log))
    found = audit(log, settings)
    assert (found.lost, found.doubled, found.differing) == (0, 0, 0)


BAD = [
    (merge("u1", ["s"]), "bad-id"),
    (merge("u1", ""), "bad-id"),
    (merge("u1", "u1"), "bad-id"),
    (merge("u1", upto=[1]), "bad-type"),
    (merge("u1", upto={"x": 1}), "bad-type"),
    (merge("u1", upto={"-1": 1}), "bad-type"),
    (merge("u1", upto={"01": 1}), "bad-type"),
    (merge("u1", upto={"9" * 5_000: 1}), "bad-type"),
    (merge("u1", upto={"0": "1"}), "bad-type"),
    (merge("u1", upto={"0": -1}), "bad-type"),
    (merge("u1", upto={"0": True}), "bad-type"),
    (NewRecord("interactions", b"u1", b'{"merge": "s"}'), "missing-field"),
    (NewRecord("interactions", b"u1", b'{"merge": null, "upto": {}}'), "missing-field"),
    (NewRecord("interactions", None, b'{"merge": "s", "upto": {}}'), "bad-id"),
    (merge("u1", upto={"9": 1}), "other-worker"),  # of a partition that this worker does not have
]


def test_a_merge_that_cannot_be_taken_is_a_dead_letter(log: OwnedLog, settings: Settings) -> None:
    visit(log, "s")
    log.append([record for record, _ in BAD])
    first = Worker.open(log, settings)
    while first.step() is not None:
        pass
    assert not first.state.merges.owners()
    assert "s" in canonical(first.state.engine.model)["users"]
    lost = digest(first.state)
    first.close()
    letters = [dict(r.headers)["freshet.reason"].decode() for r in read_records(log, whole(log, "interactions.dead"))]
    assert letters == [reason for _, reason in BAD]
    second = Worker.open(log, settings)  # what was refused of the moment is refused again
    assert digest(second.state) == lost
    second.close()


@pytest.mark.parametrize("lateness_ms", [0, 10**9])
def test_a_long_session_among_many_users(log: OwnedLog, settings: Settings, lateness_ms: int) -> None:
    """More interactions than a ring holds, before and between those of the user."""
    settings = settings.model_copy(update={"allowed_lateness_ms": lateness_ms})

    def play(into: OwnedLog, session: str) -> None:
        into.append([
            interaction(session if n % 3 else "u", n * 7 % 40, 1_000 * n) if n % 2 else
            interaction(f"x{n % 11}", n * 5 % 40, 1_000 * n) for n in range(900)
        ])  # fmt: skip

    play(log, "s")
    log.append([merge("u")])
    merged = run(log, settings)
    other, clean = at_another(settings, "clean")
    with closing(other):
        play(other, "u")
        expected = run(other, clean)
        assert canonical(merged.state.engine.model) == canonical(expected.state.engine.model)
