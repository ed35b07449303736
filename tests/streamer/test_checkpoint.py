"""Checkpoints as an operator handles them, on the embedded log."""

import json
from pathlib import Path

import pytest

from consumers.open import OwnedLog
from streamer.audit import digest
from streamer.cli import main
from streamer.settings import Settings
from streamer.state import StreamState
from tests.scenarios.test_worker import run, send
from tests.worlds import checkerboard

GOLDEN = Path(__file__).parent / "golden" / "checkpoint-format-5"


@pytest.fixture
def worked(log: OwnedLog, settings: Settings, capsys: pytest.CaptureFixture[str]) -> OwnedLog:
    send(log, checkerboard(events=300))
    run(log, settings)
    return log


def answer(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> dict[str, object]:
    capsys.readouterr()
    assert main(["checkpoint", *words, "--log", "log", "--state", "state", "--json"]) == code
    said: dict[str, object] = json.loads(capsys.readouterr().out)
    return said


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    assert main(["checkpoint", *words, "--log", "log", "--state", "state"]) in (1, 2, 3)
    return capsys.readouterr().err


def test_ls_says_what_it_holds(worked: OwnedLog, capsys: pytest.CaptureFixture[str]) -> None:
    held = answer(capsys, "ls")
    assert held["records"] == 300
    assert held["positions"]["interactions"] == {"0": 300}  # type: ignore[index]
    assert {"model/users", "model/items", "ledger", "listed", "stream"} <= held["pages"].keys()  # type: ignore[attr-defined]


def test_verify_finds_a_flipped_bit(worked: OwnedLog, capsys: pytest.CaptureFixture[str]) -> None:
    assert answer(capsys, "verify", "--replay")["fine"] is True
    key, value = next(iter(worked._scan(b"s/freshet/model/users/")))
    worked._db[key] = value[:-1] + bytes([value[-1] ^ 1])
    assert "model/users" in refused(capsys, "verify")


def test_a_damaged_checkpoint_is_rebuilt(worked: OwnedLog, settings: Settings) -> None:
    expected = digest(run(worked, settings).state)
    key, value = next(iter(worked._scan(b"s/freshet/model/items/")))
    worked._db[key] = value[:-1] + bytes([value[-1] ^ 1])
    assert digest(run(worked, settings).state) == expected


def test_what_is_exported_can_be_imported(
    worked: OwnedLog, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    before = digest(run(worked, settings).state)
    pages = answer(capsys, "export", "backup")["pages"]
    assert "--replace" in refused(capsys, "import", "backup")
    send(worked, checkerboard(events=100, seed=1))
    run(worked, settings)
    assert answer(capsys, "import", "backup", "--replace")["pages"] == pages
    assert answer(capsys, "ls")["records"] == 300
    assert digest(run(worked, settings).state) != before  # the epochs after it were taken again
    data = bytearray(Path("backup").read_bytes())
    data[len(data) // 2] ^= 1
    Path("backup").write_bytes(data)
    assert "damaged" in refused(capsys, "import", "backup", "--replace")
    Path("backup").write_bytes(data[:-20])
    assert "cut off" in refused(capsys, "import", "backup", "--replace")


def test_rebuild_is_a_command(worked: OwnedLog, capsys: pytest.CaptureFixture[str]) -> None:
    assert answer(capsys, "rebuild")["interactions"] == 300


def test_a_checkpoint_of_this_format_is_read_for_ever(log: OwnedLog, settings: Settings) -> None:
    """A change of the format needs a new FORMAT, a new golden file, and a clear refusal of this one."""
    assert main(["checkpoint", "import", str(GOLDEN), "--log", "log", "--state", "state"]) == 0
    state = StreamState(settings, lambda prefix: log.stored_state("freshet", prefix))
    assert state.load()
    assert state.records == 40
    assert sorted(state.engine.model.users.ids) == [f"u{n}" for n in range(5)]


def test_doctor_names_the_mend(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert settings.log
    OwnedLog(settings.log).close()
    assert main(["doctor", "--log", "log", "--state", "state"]) == 1
    said = capsys.readouterr().out
    assert "MEND topic interactions: is missing. Run `freshet topics create`" in said
    assert main(["topics", "create", "--log", "log"]) == 0
    capsys.readouterr()
    assert main(["doctor", "--log", "log", "--state", "state", "--json"]) == 0
    findings = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert all(finding["fine"] for finding in findings)
