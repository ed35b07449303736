"""Undo in pieces through the log: a worker that is lost between two of them, and what the log says of it."""

import json

import numpy as np
import pytest

import streamer.worker.epochs
import streamer.worker.repair_pace
from consumers.open_log import OwnedLog
from consumers.records import NewRecord
from streamer.ops.audit import audit, digest
from streamer.settings import Settings
from streamer.worker.worker import Worker


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a few hundred interactions take many pieces, and what they read comes a user at a time."""
    monkeypatch.setattr(streamer.worker.epochs, "PIECE", 300)
    monkeypatch.setattr(streamer.worker.epochs, "PREPARE_S", 0.0)
    monkeypatch.setattr(streamer.worker.repair_pace, "REST_S", 0.0)
    monkeypatch.setattr(streamer.worker.repair_pace, "REST_FACTOR", 0)


def interaction(user: int, item: int, t: int, **more: object) -> NewRecord:
    value = {"user_id": f"u{user}", "item_id": f"i{item}", "event_type": "view", "timestamp": t, "event_id": str(t)}
    return NewRecord("interactions", f"u{user}".encode(), json.dumps(value | more).encode())


def fill(log: OwnedLog) -> None:
    rng = np.random.default_rng(1)
    log.append([interaction(int(u), int(i), 1_000 * n) for n, (u, i) in enumerate(rng.integers(0, 25, (400, 2)))])


def undo(log: OwnedLog) -> None:
    log.append([NewRecord("items", b"i3", None), NewRecord("users", b"u4", None)])
    log.append([interaction(7, 1, 1_000 * n, retract=True) for n in range(0, 400, 3)])
    log.append([interaction(n % 25, 30 + n % 4, 10**6 + n) for n in range(100)])


@pytest.mark.parametrize("steps", [1, 4, 9, 15, 40])
def test_a_worker_that_is_lost_between_two_pieces_is_made_up_for_exactly(
    log: OwnedLog, settings: Settings, steps: int
) -> None:
    fill(log)
    first = Worker.open(log, settings)
    first.run(exit_at_end=True)
    undo(log)
    repairs = 0
    while repairs < steps:
        output = first.step()
        repairs += output is not None and output.repaired
        if repairs == steps // 2:
            first.checkpoint()
    assert len(first.state.repairs)
    lost = digest(first.state)
    first.close()  # without a checkpoint of the last pieces
    second = Worker.open(log, settings)
    assert digest(second.state) == lost
    second.run(exit_at_end=True)
    assert not len(second.state.repairs)
    done = digest(second.state)
    second.close()
    found = audit(log, settings)
    assert (found.lost, found.doubled) == (0, 0)
    assert found.digests == {"": done}


def test_a_stream_that_ends_does_not_end_before_what_was_taken_back_is_out(log: OwnedLog, settings: Settings) -> None:
    fill(log)
    undo(log)
    worker = Worker.open(log, settings)
    worker.run(exit_at_end=True)
    assert not len(worker.state.repairs)
    worker.close()
