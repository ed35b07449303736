"""A command that meets what the system refuses says it in one line; a reader that has seen enough ends it quietly."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from consumers.open_log import OwnedLog
from consumers.records import NewRecord, TopicSpec
from streamer.cli.main import main
from streamer.settings import Settings
from tests.waiting import scaled
from tests.worlds import checkerboard

ROOT = Path(__file__).parents[3]
NOBODY = 65534


@contextmanager
def without_rights() -> Iterator[None]:
    """Gives up root's rights meanwhile, where the tests have them: root may write anywhere."""
    mine = os.geteuid()
    if mine == 0:
        os.seteuid(NOBODY)
    yield
    os.seteuid(mine)


def freshet(command: str, **environment: str) -> "subprocess.CompletedProcess[bytes]":
    """A shell command with `freshet` in it, as a user types it."""
    mine = f'freshet() {{ "{sys.executable}" -m streamer "$@"; }}; set -o pipefail; {command}'
    own = {k: v for k, v in os.environ.items() if not k.startswith("FRESHET_")} | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        ["bash", "-c", mine], env=own | environment, capture_output=True, timeout=scaled(120), check=False
    )


def test_version() -> None:
    done = freshet("freshet --version")
    assert done.returncode == 0
    assert done.stdout.startswith(b"freshet ")


@pytest.mark.parametrize(
    "command",
    [
        ["run", "--log", "{file}"],
        ["run", "--log", "log", "--state", "{file}"],
        ["run", "--log", "log", "--state", "{file}/deeper"],
        ["tail", "quality", "--log", "{file}"],
        ["serve", "--log", "{file}/deeper"],
        ["topics", "create", "--log", "{file}"],
        ["produce", "{csv}", "--log", "{file}"],
        ["checkpoint", "ls", "--log", "{file}"],
        ["replay", "{csv}", "--lists-out", "{file}/lists.parquet"],
        ["replay", "{csv}", "--last-lists-out", "no/such/lists.parquet"],
        ["replay", "{folder}"],
        ["produce", "{folder}", "--log", "log"],
        ["evaluate", "{folder}", "{csv}"],
        ["content", "{folder}", "--out", "x.parquet"],
    ],
)
def test_a_file_where_a_folder_should_be_and_the_reverse(
    command: list[str],
    csv: Path,
    settings: Settings,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "file"
    file.write_text("")
    assert main([part.format(file=file, csv=csv, folder=tmp_path) for part in command]) in (1, 2, 3)
    said = capsys.readouterr().err.splitlines()
    assert len([line for line in said if line.startswith("freshet: ")]) == 1
    assert said[-1].startswith("freshet: ")


@pytest.mark.parametrize("command", [["topics", "list"], ["run"], ["produce", "{csv}"], ["tail", "quality"]])
def test_a_log_that_is_a_file(
    command: list[str], csv: Path, settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.write_text("")
    assert main([*(part.format(csv=csv) for part in command), "--log", str(file)]) in (1, 2)
    assert "damaged" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        ["topics", "create", "--log", "{shut}/log"],
        ["topics", "create", "--log", "{shut}"],
        ["tail", "quality", "--log", "{owned}"],
        ["run", "--log", "{shut}/log"],
        ["run", "--log", "log", "--state", "{shut}/state"],
        ["replay", "{shut}/events.csv"],
        ["replay", "{secret}"],
        ["produce", "{secret}", "--dry-run"],
    ],
)
def test_a_folder_or_file_without_rights(
    command: list[str], settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not taken for a log that another process has open either."""
    tmp_path.chmod(0o777)
    for parent in tmp_path.parents[:3]:  # pytest's own, which others may not enter
        parent.chmod(parent.stat().st_mode | 0o011)
    names = {name: tmp_path / name for name in ("shut", "owned", "open")}
    for folder in names.values():
        folder.mkdir()
    names["open"].chmod(0o777)
    assert main(["topics", "create", "--log", str(names["owned"])]) == 0
    names["secret"] = tmp_path / "secret.csv"
    names["secret"].write_text("user_id,item_id,event_type,timestamp\nu,i,view,5\n")
    assert main(["replay", str(names["secret"]), "--json"]) == 0  # loads what the commands need
    names["secret"].chmod(0)
    names["shut"].chmod(0o500 if os.geteuid() else 0o700)
    capsys.readouterr()
    with without_rights():
        code = main([part.format(**names) for part in command])
    names["shut"].chmod(0o700)
    assert code in (1, 2, 3)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert "ermission denied" in said[0]


def test_a_reader_that_has_seen_enough(settings: Settings, csv: Path) -> None:
    log = f"--log {settings.log}"
    assert freshet(f"freshet topics create {log} && freshet produce {csv} {log}").returncode == 0
    for command in (f"freshet tail interactions {log} --exit-at-end", "freshet --help", "freshet run --help"):
        done = freshet(f"{command} | head -1")
        assert (done.returncode, done.stderr) == (0, b"")
        assert len(done.stdout.splitlines()) == 1


def test_a_terminal_of_another_encoding(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "events.csv"
    rows = "".join(f"{u}→ü,{i},view,{t}\n" for u, i, t in checkerboard(events=9))
    file.write_text("user_id,item_id,event_type,timestamp\n" + rows)
    log = f"--log {settings.log}"
    shell = (
        f"freshet topics create {log} && freshet produce {file} {log} && freshet tail interactions {log} --exit-at-end"
    )
    for encoding in ("latin-1", "ascii"):
        done = freshet(shell, PYTHONIOENCODING=encoding, LC_ALL="C", PYTHONUTF8="0")
        assert done.returncode == 0, done.stderr
        assert done.stdout.count(b"u2192") >= 9
        assert freshet("freshet run --help", PYTHONIOENCODING=encoding).returncode == 0


@pytest.mark.parametrize(
    "command",
    [
        ["replay", "{0}"], ["produce", "{0}", "--log", "log"], ["produce", "{0}", "--kind", "items", "--log", "log"],
        ["evaluate", "{0}", "lists.parquet"], ["train", "lightgcn", "{0}"], ["content", "{0}"], ["demo", "--file", "{0}"],
        ["explain", "u", "--file", "{0}"], ["rules", "apply", "{0}"], ["rules", "test", "{0}", "--user", "u"],
        ["experiment", "create", "{0}"],
    ],
)  # fmt: skip
def test_a_file_that_is_not_there_is_said_and_ends_alike(
    command: list[str], settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([part.format("no-such-file") for part in command]) == 3
    assert capsys.readouterr().err == "freshet: there is no file no-such-file\n"


def test_who_lists_topics_makes_no_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["topics", "ls", "--log", str(tmp_path / "log")]) == 1
    assert "there is no log in" in capsys.readouterr().err
    assert not (tmp_path / "log").exists()


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_a_standard_stream_that_is_closed_is_no_fault(closed: str, settings: Settings, csv: Path) -> None:
    log = f"--log {settings.log}"
    assert freshet(f"freshet topics create {log} && freshet produce {csv} {log}").returncode == 0
    for command in (f"replay {csv} --observe-only", f"tail interactions {log} --exit-at-end", f"topics ls {log}"):
        done = freshet(f"freshet {command} {closed}")
        assert (done.returncode, b"Traceback" in done.stderr + done.stdout) == (0, False), (command, done.stderr)
    empty = freshet(f"freshet produce - {log} {closed} <&-")
    assert (empty.returncode, b"Traceback" in empty.stderr) == (3, False)


def test_what_tail_prints_is_json_whatever_the_value_is(settings: Settings) -> None:
    values = [b'{"a": 1e400}', b'{"a": -Infinity}', b'{"a": NaN}', b'{"a": "\\ud800"}', b"[" * 9_000, b"\xff", b"", None,
              b"1" * 5_000, b'{"a": 123456789012345678901234567890}']  # fmt: skip
    with OwnedLog(settings.log or Path()) as log:
        log.create([TopicSpec("quality", partitions=1)])
        log.append([NewRecord("quality", b"\xff", value) for value in values])
    done = freshet(f"freshet tail quality --log {settings.log} --exit-at-end")
    assert (done.returncode, done.stderr) == (0, b"")
    told = [json.loads(line, parse_constant=pytest.fail)["value"] for line in done.stdout.splitlines()]
    assert len(told) == len(values)
    assert told[0] == {"a": "1e400"}
    assert (told[6], told[7], told[9]) == ("", None, {"a": 123456789012345678901234567890})


@pytest.mark.parametrize(("text", "said"), [(b"[" * 20_000, "nested too deep"), (b'filter: "\xff"', "is no UTF-8")])
@pytest.mark.parametrize("command", ["rules apply", "experiment create"])
def test_a_file_of_rules_that_cannot_be_read_is_one_line(
    command: str, text: bytes, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rules.yaml").write_bytes(text)
    assert main([*command.split(), str(tmp_path / "rules.yaml"), "--log", str(tmp_path / "log")]) == 3
    [line] = capsys.readouterr().err.splitlines()
    assert said in line
