"""Files that commands write: whole, or what was there before."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from consumers.open_log import OwnedLog
from streamer.cli.main import main
from streamer.embeddings.registry import NodeVectors, write_vectors
from streamer.lists import list_files
from streamer.runtime.whole_files import whole_file
from streamer.settings import Settings
from tgn.prequential import Lists

LITTLE = 900  # bytes


@contextmanager
def full_disk(free_bytes: int = LITTLE) -> Iterator[None]:
    """No file may grow over so many bytes meanwhile."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (free_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def csv(settings: Settings, tmp_path: Path) -> Path:
    file = tmp_path / "events.csv"
    rows = [f"u{n % 9},i{n * n % 37},view,{n}\n" for n in range(400)]
    file.write_text("user_id,item_id,event_type,timestamp\n" + "".join(rows))
    return file


def left(folder: Path, out: Path) -> tuple[str | None, list[str]]:
    """What is in a file, None where it is not there, and files that were begun beside it."""
    return out.read_text() if out.exists() else None, [f.name for f in folder.iterdir() if f.name.endswith(".part")]


@pytest.mark.parametrize("before", [None, "former"])
@pytest.mark.parametrize("flag", ["--lists-out", "--last-lists-out", "--report"])
def test_a_replay_that_cannot_write_leaves_what_was_there(
    flag: str, before: str | None, csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    if before is not None:
        out.write_text(before)
    with full_disk():
        assert main(["replay", str(csv), flag, str(out), "--json"]) == 1
    assert "file too large" in capsys.readouterr().err.lower()
    assert left(tmp_path, out) == (before, [])
    assert main(["replay", str(csv), flag, str(out), "--json"]) == 0
    assert out.stat().st_size > LITTLE
    assert left(tmp_path, tmp_path / "none") == (None, [])


@pytest.mark.parametrize("before", [None, "former"])
@pytest.mark.parametrize("command", [["run", "--exit-at-end"], ["replay", "interactions"]])
def test_a_command_that_fails_leaves_what_was_there(
    command: list[str], before: str | None, settings: Settings, tmp_path: Path
) -> None:
    """Here for want of topics."""
    OwnedLog(settings.log or Path()).close()
    out = tmp_path / "out"
    if before is not None:
        out.write_text(before)
    assert main([*command, "--log", str(settings.log), "--lists-out", str(out)]) == 1
    assert left(tmp_path, out) == (before, [])


@pytest.mark.parametrize("before", [None, "former"])
def test_vectors_that_cannot_be_written_leave_what_was_there(before: str | None, tmp_path: Path) -> None:
    out = tmp_path / "out"
    if before is not None:
        out.write_text(before)
    vectors = NodeVectors([f"i{n}" for n in range(100)], np.ones((100, 8), np.float32))
    with full_disk(), pytest.raises(OSError, match=r"(?i)file too large"):
        write_vectors(out, "item_id", vectors)
    assert left(tmp_path, out) == (before, [])


def write_some(lists: list_files.TestLists) -> None:
    made = Lists(np.zeros((2, 1), np.int32), np.zeros((2, 1), np.float32), np.ones(2, np.int32))
    lists.write(np.arange(2), made, np.zeros((2, 1), np.uint8), np.arange(2), ["a"], ["u", "v"], [1, 2])


def test_lists_of_committed_epochs_outlive_an_error(tmp_path: Path) -> None:
    """What `run` has committed is published; a replay that was broken off is none."""

    def broken_off(name: str, live: bool) -> None:
        with list_files.TestLists(tmp_path / name) as lists:
            if live:
                lists.reached(0)
            write_some(lists)
            raise ValueError("broken off")

    for name, live in (("run", True), ("replay", False)):
        with pytest.raises(ValueError, match="broken off"):
            broken_off(name, live)
        assert (tmp_path / name).exists() is live
    assert not [f for f in tmp_path.iterdir() if f.name.endswith(".part")]


def test_the_rights_of_a_file_and_its_link_stay(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_text("former")
    real.chmod(0o600)
    link.symlink_to(real)
    with whole_file(link) as part:
        part.write_text("new")
        assert real.read_text() == "former"
    assert link.is_symlink()
    assert (real.read_text(), real.stat().st_mode & 0o777) == ("new", 0o600)
    with whole_file(Path("/dev/null")) as part:
        part.write_text("gone")
    assert not Path("/dev/null").is_file()


@pytest.mark.parametrize("name", ["/proc/x.html", "."])
def test_a_place_that_cannot_be_written_is_called_as_it_was_named(name: str) -> None:
    with pytest.raises((FileNotFoundError, IsADirectoryError)) as refused, whole_file(Path(name)) as part:
        part.write_text("x")
    assert refused.value.filename == name
