"""Who was erased cannot be guessed from what is public, and no rebuild counts what they did before."""

from pathlib import Path

import msgspec

from consumers.open_log import OwnedLog
from consumers.records import NewRecord
from consumers.schemas import EpochManifest
from consumers.storage.checkpoint_store import SECRET_FILE, folder_secret
from consumers.storage.folder_state import FolderState
from streamer.cli.main import main
from streamer.ops.audit import audit, digest
from streamer.settings import Settings
from streamer.state.stream_state import StreamState, digest_by_name
from tests.scenarios.test_worker import interaction, lists_of, read_all, run
from tests.worlds import checkerboard


def erased(log: OwnedLog, settings: Settings) -> StreamState:
    """A log with an erased user; the state at its end."""
    log.append([interaction(u, i, t) for u, i, t in checkerboard(events=200, users=8, items=12)])
    run(log, settings)
    log.append([NewRecord("users", b"u3", None), interaction("u1", "i1", 10**9)])
    return run(log, settings).state


def manifests(log: OwnedLog) -> list[EpochManifest]:
    return [msgspec.json.decode(r.value or b"", type=EpochManifest) for r in read_all(log, "freshet.epochs")]


def test_digests_are_keyed_by_a_secret_of_the_state(log: OwnedLog, settings: Settings) -> None:
    state = erased(log, settings)
    digests = {found for manifest in manifests(log) for found in manifest.erased}
    assert digests == {state.digest_user("u3").hex()}
    assert digest_by_name("u3", settings.application).hex() not in digests
    assert state.erasure_key == log.committer("freshet").secret()
    assert len(state.erasure_key) == 32
    public = b"".join((r.key or b"") + (r.value or b"") for topic in log.topics() for r in read_all(log, topic))
    assert state.erasure_key not in public
    assert state.erasure_key.hex().encode() not in public


def test_a_rebuild_without_tombstone_and_checkpoint_counts_nothing_of_them(log: OwnedLog, settings: Settings) -> None:
    expected = digest(erased(log, settings))
    log.stored_state("freshet").clear()
    del log._tables.db[b"r/users/" + bytes(4) + bytes(8)]  # as compaction does when the tombstone's time is over
    state = run(log, settings).state
    assert state.engine.model.users.get("u3") is None
    assert state.erasure_of("u3") is not None
    assert "u3" not in lists_of(log)
    assert digest(state) == expected
    assert audit(log, settings).digests == {"": expected}
    log.append([interaction("u3", "i1", 10**9 + 1)])
    assert run(log, settings).state.engine.model.users.get("u3") is not None  # somebody new


def test_erasures_of_before_the_secret_still_count(log: OwnedLog, settings: Settings) -> None:
    """Manifests and checkpoints of format 9: digests keyed by the name of the application."""
    erased(log, settings)
    key = b"r/freshet.epochs/" + bytes(4) + (1).to_bytes(8, "big")
    k, value, headers, t = msgspec.msgpack.decode(log._tables.db[key])
    manifest = msgspec.json.decode(value, type=EpochManifest)
    (before,) = manifest.erased.values()
    old = msgspec.structs.replace(
        manifest, erased={digest_by_name("u3", "freshet").hex(): before}, erased_at={}, settings=None
    )
    log._tables.db[key] = msgspec.msgpack.encode((k, msgspec.json.encode(old), headers, t))
    del log._tables.db[b"r/users/" + bytes(4) + bytes(8)]
    log.stored_state("freshet").clear()
    state = run(log, settings).state
    assert state.engine.model.users.get("u3") is None
    assert state.erasure_of("u3") is not None


def test_the_secret_of_a_folder_is_its_owners_alone(tmp_path: Path) -> None:
    secret = folder_secret(tmp_path)
    assert len(secret) == 32
    assert (tmp_path / SECRET_FILE).stat().st_mode & 0o777 == 0o600
    state = FolderState(tmp_path, dict)
    state.clear()
    assert folder_secret(tmp_path) == state.secret() == secret
    state.take_secret(bytes(32))
    assert state.secret() == bytes(32)
    assert (tmp_path / SECRET_FILE).stat().st_mode & 0o777 == 0o600
    assert FolderState(tmp_path / "nowhere", dict).secret() == b""
    assert not (tmp_path / "nowhere").exists()


def test_it_goes_along_with_an_export(log: OwnedLog, settings: Settings) -> None:
    state = erased(log, settings)
    words = ["--log", str(settings.log), "--state", str(settings.state)]
    assert main(["checkpoint", "export", "state.parquet", *words]) == 0
    stored = log.stored_state("freshet")
    stored.clear()
    stored.take_secret(b"another")
    assert main(["checkpoint", "import", "state.parquet", *words]) == 0
    assert stored.secret() == state.erasure_key
