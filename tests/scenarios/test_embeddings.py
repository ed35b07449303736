"""Trained versions in a running worker and in a replay: measured first, switched to between two epochs, and back."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import streamer.worker.commit
from consumers.open_log import OwnedLog
from consumers.records import NewRecord
from streamer.cli.main import main
from streamer.embeddings.registry import CURRENT, NodeVectors, current, use, write_version
from streamer.errors import StateUnreadable
from streamer.evaluation.replay import ReplayOptions, TakenChunk, replay
from streamer.ops.audit import audit, digest
from streamer.runtime.topics import read_records, whole
from streamer.settings import Settings
from streamer.worker.shadow import LOOK_EVERY_S
from streamer.worker.worker import Worker
from tests.clocks import ManualClock
from tests.worlds import Events, table_of

NODES, CLUBS = 400, 20  # of each side; a user takes the items of their club, three times in ten


def clubs(events: int = 5_000, seed: int = 0) -> Events:
    """Who goes with what is hard to see from so few interactions."""
    rng = np.random.default_rng(seed)
    user = rng.integers(0, NODES, events)
    item = rng.integers(0, NODES // CLUBS, events) * CLUBS + user % CLUBS
    item = np.where(rng.random(events) < 0.7, rng.integers(0, NODES, events), item)
    return [(f"u{u}", f"i{i}", n * 60_000) for n, (u, i) in enumerate(zip(user, item, strict=True))]


def version(folder: Path, name: str, informed: bool, until_ms: int = 0) -> None:
    """Writes a version for the clubs: one that knows who is in which, or one of random vectors."""
    rng = np.random.default_rng(len(name))
    club, sides = rng.normal(size=(CLUBS, 64)) * informed, []
    for prefix in ("u", "i"):
        vector = (rng.normal(size=(NODES, 64)) + 2 * club[np.arange(NODES) % CLUBS]).astype(np.float32)
        sides.append(NodeVectors([f"{prefix}{n}" for n in range(NODES)], vector))
    write_version(folder, {"version": name, "until_ms": until_ms, "interactions": 1}, *sides)


@pytest.fixture
def settings_with(settings: Settings, tmp_path: Path) -> Settings:
    """A folder of versions, none in use, and few interactions of shadow; epochs are small."""
    folder = tmp_path / "embeddings"
    version(folder, "good", True)
    version(folder, "bad", False)
    return settings.model_copy(update={"embeddings": folder, "shadow_events": 100, "max_epoch_events": 50})


def folder_of(settings: Settings) -> Path:
    assert settings.embeddings
    return settings.embeddings


class Live:
    """A worker that takes the world piece by piece."""

    def __init__(self, log: OwnedLog, settings: Settings) -> None:
        self.log, self.settings, self.sent = log, settings, 0
        self.events, self.clock = clubs(), ManualClock()
        self.worker = Worker.open(log, settings, clock=self.clock)

    def take(self, events: int) -> str:
        """Sends so many more, takes them; the version in use."""
        part = self.events[self.sent : self.sent + events]
        self.sent += events
        rows = [{"user_id": u, "item_id": i, "event_type": "view", "timestamp": t} for u, i, t in part]
        self.log.append([NewRecord("interactions", b"", json.dumps(row).encode()) for row in rows])
        self.worker.state.engine.warm_up()
        self.clock.advance(LOOK_EVERY_S)  # so that it looks into the folder
        self.worker.run(exit_at_end=True)
        return self.worker.state.engine.model.trained_version

    def restart(self) -> None:
        self.worker.close()
        self.worker = Worker.open(self.log, self.settings, clock=self.clock)


def switches(log: OwnedLog) -> list[str | None]:
    """What the manifests say of embeddings."""
    decoded = [json.loads(record.value or b"") for record in read_records(log, whole(log, "freshet.epochs"))]
    return [manifest["embeddings"] for manifest in decoded if manifest["embeddings"] is not None]


def test_a_new_version_is_measured_then_used_and_rolled_back(
    log: OwnedLog, settings_with: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    live, folder = Live(log, settings_with), folder_of(settings_with)
    assert live.take(400) == ""
    use(folder, "good", shadow=True)
    assert live.take(60) == ""  # in shadow: 100 interactions are not there yet
    assert live.take(400) == "good"
    use(folder, "bad", shadow=True)
    assert live.take(400) == "good"
    assert "embeddings bad" in caplog.text
    assert "refused" in caplog.text
    assert main(["embeddings", "use", str(folder), "bad"]) == 0
    assert live.take(60) == "bad"  # the operator's word needs no measurement
    assert main(["embeddings", "rollback", str(folder)]) == 0
    assert live.take(60) == current(folder).version == "good"
    assert main(["embeddings", "use", str(folder), "off"]) == 0
    assert live.take(60) == ""
    assert switches(log) == ["good", "bad", "good", ""]
    live.worker.close()


def test_lists_name_the_version_and_the_audit_comes_to_the_same(log: OwnedLog, settings_with: Settings) -> None:
    """A pass over the manifests switches where the worker did; a crash right after the commit too."""
    live = Live(log, settings_with)
    live.take(300)
    use(folder_of(settings_with), "good")
    live.take(100)
    live.restart()
    assert live.worker.state.engine.model.trained_version == "good"
    live.take(100)
    found = audit(log, settings_with)
    assert (found.interactions, found.lost, found.doubled) == (500, 0, 0)
    assert list(found.digests.values()) == [digest(live.worker.state)]
    named = [json.loads(r.value)["model_version"] for r in read_records(log, whole(log, "recommendations")) if r.value]
    assert {name.partition("+")[2] for name in named} == {"", "good"}
    live.worker.close()


def test_a_crash_between_commit_and_checkpoint_needs_the_folder_and_says_so(
    log: OwnedLog, settings_with: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = Live(log, settings_with)
    live.take(300)
    before = digest(live.worker.state)
    use(folder_of(settings_with), "good")
    with monkeypatch.context() as broken:
        broken.setattr(streamer.worker.commit, "checkpoint_pages", lambda *_: {})  # nothing is written of the state
        live.take(50)
    after = digest(live.worker.state)
    assert before != after
    live.worker.close()
    with pytest.raises(StateUnreadable, match="--embeddings"):
        Worker.open(log, settings_with.model_copy(update={"embeddings": None}))
    again = Worker.open(log, settings_with)
    assert digest(again.state) == after
    again.close()


def test_a_version_does_not_speak_for_who_comes_back_after_an_erasure(log: OwnedLog, settings_with: Settings) -> None:
    live = Live(log, settings_with)
    live.take(300)
    user = live.events[0][0]
    log.append([NewRecord("users", user.encode(), None)])
    live.take(100)
    live.events[live.sent] = (user, "i1", live.events[live.sent][2])
    live.take(50)
    use(folder_of(settings_with), "good")
    assert live.take(50) == "good"
    model = live.worker.state.engine.model
    node = model.users.get(user)
    assert node is not None
    assert not model.trained.user.vector[node].any()
    other = model.users.get(next(u for u, _, _ in live.events[:300] if u != user))
    assert other is not None
    assert model.trained.user.vector[other].any()
    live.worker.close()


@pytest.mark.parametrize("damage", ["current", "users.parquet"])
def test_what_is_damaged_is_said_and_what_is_in_use_stays(
    log: OwnedLog, settings_with: Settings, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    live, folder = Live(log, settings_with), folder_of(settings_with)
    use(folder, "good")
    assert live.take(100) == "good"
    use(folder, "bad")
    (folder / CURRENT if damage == "current" else folder / "bad" / damage).write_bytes(b"{")
    assert live.take(100) == "good"
    assert "stay" in caplog.text
    assert main(["embeddings", "use", str(folder), "good"]) == 0
    live.worker.close()


def test_a_replay_uses_a_version_from_the_time_on_that_it_was_trained_until(settings: Settings, tmp_path: Path) -> None:
    """Before it the lists are those without embeddings; after it, who takes what is known at once."""
    events = clubs()
    known = len(events) // 2
    version(tmp_path / "embeddings", "good", True, until_ms=events[known][2])

    def ranks(embeddings: Path | None, first: int = 0) -> np.ndarray:
        chosen = settings.model_copy(update={"embeddings": embeddings, "every_item_below": 1_000})
        parts: list[Any] = []

        def watch(taken: TakenChunk) -> None:
            parts.append(taken.outcome.rank)

        replay(table_of(events[first:]), chosen, ReplayOptions(), watch=watch)
        return np.concatenate(parts)

    bare, helped = ranks(None), ranks(tmp_path / "embeddings")
    assert (bare[:known] == helped[:known]).all()
    later = slice(known + 500, None)  # the ranker has learned what they are worth
    assert (helped[later] > 0).mean() > (bare[later] > 0).mean() + 0.01
    bare, helped = ranks(None, known), ranks(tmp_path / "embeddings", known)  # a stream that begins where they end
    assert (helped[500:] > 0).mean() > (bare[500:] > 0).mean() + 0.01


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("use", "x"), "has no version x; it has bad, good"),
        (("use",), "needs a version"),
        (("ls", "x"), "has no version"),
        (("rollback",), "no version before"),
    ],
)
def test_what_is_refused(
    settings_with: Settings, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    action, *more = words
    assert main(["embeddings", action, str(folder_of(settings_with)), *more]) == 2
    assert said in capsys.readouterr().err


def test_ls_says_which_one_is_in_use(settings_with: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    folder = folder_of(settings_with)
    use(folder, "good")
    assert main(["embeddings", "ls", str(folder)]) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("* good")
