"""`freshet checkpoint`: what it says of whole, torn, damaged and misplaced checkpoints, and the way out and in again."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from consumers.errors import CheckpointDamaged
from consumers.log import Log
from consumers.open_log import OwnedLog
from consumers.records import NewRecord
from consumers.storage.checkpoint_store import StateStore
from consumers.storage.folder_state import FolderState
from consumers.storage.rocks import scan
from streamer.cli.main import main
from streamer.cli.producing import interaction_chunks
from streamer.ops.audit import digest
from streamer.ops.checkpoint_inspection import verify
from streamer.runtime.state_lock import StateLock
from streamer.runtime.topics import open_log_of, topic_specs
from streamer.settings import Settings
from streamer.state.stream_state import StreamState
from streamer.worker.worker import Worker
from tests.scenarios.test_worker import run
from tests.worlds import checkerboard, table_of

Freshet = Callable[..., int]


def taken(settings: Settings, events: int = 400, partitions: int = 1) -> str:
    """A log with a checkpoint; gives the digest of the state."""
    assert settings.log
    log = OwnedLog(settings.log)
    log.create(topic_specs(settings, partitions))
    for records, _ in interaction_chunks(table_of(checkerboard(events=events)), "interactions"):
        log.append(records)
    worker = Worker.open(log, settings)
    worker.run(exit_at_end=True)
    found = digest(worker.state)
    worker.close()
    log.close()
    return found


def stored_digest(settings: Settings, log: Log | None = None) -> str:
    opened = log or open_log_of(settings)
    state = StreamState(settings, opened.stored_state(settings.application).pages)
    assert state.load()
    found = digest(state)
    if log is None:
        opened.close()
    return found


@pytest.fixture
def freshet(settings: Settings) -> Freshet:
    """`freshet checkpoint …` on the log of the settings; gives the exit code."""
    return lambda *words: main(["checkpoint", *words, "--log", str(settings.log), "--state", str(settings.state)])


def test_ls_says_what_is_in_it(settings: Settings, freshet: Freshet, capsys: pytest.CaptureFixture[str]) -> None:
    open_log_of(settings).close()
    assert freshet("ls") == 0
    assert capsys.readouterr().out == "there is no checkpoint\n"
    taken(settings)
    assert freshet("ls", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["records"], found["positions"]["interactions"]) == (400, {"0": 400})
    assert found["groups"]["model/users"]["pages"] == 40
    assert found["age_s"] >= 0
    assert freshet("ls") == 0
    assert "goes on at interactions[0] 400" in capsys.readouterr().out


def test_a_whole_one_is_whole(settings: Settings, freshet: Freshet, capsys: pytest.CaptureFixture[str]) -> None:
    open_log_of(settings).close()
    assert freshet("verify") == 0
    taken(settings, partitions=2)
    assert freshet("verify") == 0
    assert "whole: epoch 1" in capsys.readouterr().out
    assert freshet("verify", "--replay", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["fine"], found["interactions"], found["lost"], found["doubled"]) == (True, 400, 0, 0)


def test_settings_of_another_model_are_found(
    settings: Settings, freshet: Freshet, capsys: pytest.CaptureFixture[str]
) -> None:
    taken(settings)
    assert freshet("verify", "--window", "5") == 1
    assert "window = 20" in capsys.readouterr().out


def test_a_damaged_checkpoint_is_made_again_by_the_next_run(settings: Settings) -> None:
    before = taken(settings)
    assert settings.log
    log = OwnedLog(settings.log)
    key = b"s/freshet/model/items/" + (5).to_bytes(8, "big")
    log._tables.db[key] = log._tables.db[key][:-1] + b"?"
    worker = Worker.open(log, settings)
    worker.run(exit_at_end=True)
    assert digest(worker.state) == before
    worker.close()
    log.close()


@pytest.mark.parametrize(
    ("key", "says"),
    [
        (b"model/users/" + (3).to_bytes(8, "big"), "model/users has 39 pages"),
        (b"model/model", "`model/model` is missing"),
        (b"model/user-ids/" + bytes(8), "model/users has 40 pages, some of them beyond the 0 ids"),
        (b"stream", "the checkpoint is torn"),
        (b"model/pairs/" + bytes(8), "pairs of"),
    ],
)
def test_what_is_missing_is_said(
    settings: Settings, freshet: Freshet, capsys: pytest.CaptureFixture[str], key: bytes, says: str
) -> None:
    taken(settings, events=2_000)
    assert settings.log
    log = OwnedLog(settings.log)
    log.stored_state("freshet").write({key: None})
    log.close()
    assert freshet("verify") == 1
    lines = capsys.readouterr().out.splitlines()
    assert any(says in line and "`freshet checkpoint rm`" in line for line in lines)


def test_a_damaged_page_is_named(settings: Settings, freshet: Freshet, capsys: pytest.CaptureFixture[str]) -> None:
    taken(settings)
    assert settings.log
    log = OwnedLog(settings.log)
    key = b"s/freshet/model/items/" + (5).to_bytes(8, "big")
    value = bytearray(log._tables.db[key])
    value[20] ^= 1
    log._tables.db[key] = bytes(value)
    log.close()
    assert freshet("verify", "--json") == 1
    (wrong,) = json.loads(capsys.readouterr().out)["findings"]
    assert "model/items/" in wrong
    assert "damaged" in wrong
    assert "`freshet checkpoint rm`" in wrong
    assert freshet("export", "x.parquet") == 1
    assert not Path("x.parquet").exists()
    assert freshet("rm") == 0
    assert freshet("verify") == 0


def test_positions_that_the_log_does_not_have(settings: Settings, tmp_path: Path) -> None:
    """A checkpoint of another log: further than this one."""
    taken(settings, events=400)
    assert settings.log
    log = OwnedLog(settings.log)
    pages = dict(log.stored_state("freshet").pages())
    log.close()
    other = OwnedLog(tmp_path / "other")
    other.create(topic_specs(settings, 1))
    other.stored_state("freshet").write(pages)
    _, wrong = verify(other, settings)
    other.close()
    assert "goes on at interactions[0] 400, the log holds 0 to 0" in wrong[0]


def test_out_and_in_again(settings: Settings, freshet: Freshet, capsys: pytest.CaptureFixture[str]) -> None:
    before = taken(settings)
    assert freshet("export", "state.parquet") == 0
    assert freshet("import", "state.parquet") == 1
    assert "--replace" in capsys.readouterr().err
    assert settings.state
    with StateLock(settings.state):
        assert freshet("import", "state.parquet", "--replace") == 1
    assert "another worker uses" in capsys.readouterr().err
    taken(settings, events=500)
    assert freshet("import", "state.parquet", "--replace") == 0
    assert stored_digest(settings) == before
    assert freshet("rm") == 0
    assert freshet("import", "state.parquet") == 0
    assert freshet("verify") == 0
    assert stored_digest(settings) == before


def test_a_file_that_is_none_or_damaged_is_refused(
    settings: Settings, freshet: Freshet, capsys: pytest.CaptureFixture[str]
) -> None:
    before = taken(settings)
    assert freshet("export", "state.parquet") == 0
    good = Path("state.parquet").read_bytes()
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 0xFF
    capsys.readouterr()
    for data in (b"", b"hello", good[: len(good) // 2], bytes(flipped)):
        Path("bad.parquet").write_bytes(data)
        assert freshet("import", "bad.parquet", "--replace") == 3
        said = capsys.readouterr().err
        assert "torn or damaged" in said
        assert len(said.splitlines()) == 1
    assert stored_digest(settings) == before


def test_a_rebuild_through_the_command(settings: Settings, freshet: Freshet) -> None:
    taken(settings)
    assert freshet("rebuild", "--json") == 0
    assert freshet("verify") == 0


def test_usage(freshet: Freshet, capsys: pytest.CaptureFixture[str]) -> None:
    assert freshet("export") == 2
    assert freshet("ls", "file") == 2


def test_a_torn_write_leaves_the_last_good_checkpoint(tmp_path: Path) -> None:
    """The folder of a worker on Kafka, whose last write did not reach the disk whole: RocksDB has the one before."""
    store = StateStore(tmp_path)
    for n in range(1, 4):
        store.write({b"stream": bytes([n]), **{f"page {k}".encode(): bytes([n]) * 500 for k in range(50)}})
    store._db.flush_wal(True)
    (log,) = (tmp_path / "checkpoint").glob("*.log")
    whole = log.read_bytes()
    store.close()
    torn = tmp_path / "torn" / "checkpoint"
    (tmp_path / "checkpoint").rename(tmp_path / "closed")
    StateStore(tmp_path / "torn").close()
    (newest,) = torn.glob("*.log")
    newest.write_bytes(whole[:-700])
    pages = dict(FolderState(tmp_path / "torn", dict).pages())
    assert {value[:1] for value in pages.values()} == {bytes([2])}
    assert len(pages) == 51


def test_the_folder_is_read_beside_its_worker(tmp_path: Path) -> None:
    store = StateStore(tmp_path)
    store.write({b"a/1": b"x", b"b/1": b"y"})
    state = FolderState(tmp_path, dict)
    assert dict(state.pages()) == {b"a/1": b"x", b"b/1": b"y"}
    assert dict(state.pages(b"b/")) == {b"b/1": b"y"}
    store.write({b"a/1": None})
    assert dict(state.pages()) == {b"b/1": b"y"}
    key, value = next(scan(store._db, b"sb/1"))
    store._db[key] = value[:-1] + b"?"
    with pytest.raises(CheckpointDamaged, match="b/1"):
        list(state.pages())
    store.close()
    assert list(FolderState(tmp_path / "nowhere", dict).pages()) == []


@pytest.mark.kafka
def test_a_state_moves_to_another_folder_with_its_seat(
    on_kafka: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exported early, it takes the epochs that its worker committed later, and goes on to count them."""
    log = open_log_of(on_kafka)
    log.create(topic_specs(on_kafka, 1))
    digests = []
    for n in range(3):
        rows = [(f"u{k % 7}", f"i{(k * n) % 11}", 1_000 * n + k) for k in range(50)]
        for user, item, t in rows:
            value = {"user_id": user, "item_id": item, "event_type": "view", "timestamp": t}
            log.append([NewRecord(on_kafka.interactions_topic, user.encode(), json.dumps(value).encode())])
        run(log, on_kafka)
        digests.append(stored_digest(on_kafka, log))
        if n == 0:
            assert main(["checkpoint", "export", "early.parquet", "--state", str(on_kafka.state)]) == 0
    log.close()
    elsewhere = on_kafka.model_copy(update={"state": tmp_path / "elsewhere"})
    assert main(["checkpoint", "import", "early.parquet", "--state", str(elsewhere.state)]) == 0
    assert main(["checkpoint", "verify", "--replay", "--state", str(elsewhere.state)]) == 0
    log = open_log_of(elsewhere)
    run(log, elsewhere)
    assert stored_digest(elsewhere, log) == digests[-1]
    log.close()
    assert main(["checkpoint", "rm", "--state", str(elsewhere.state)]) == 0
    log = open_log_of(elsewhere)
    run(log, elsewhere)
    assert stored_digest(elsewhere, log) == digests[-1]
    log.close()
