"""The units of deploy/systemd name commands, flags and files that exist, and systemd understands every line."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import missing
from tests.docs.deployed import DEPLOY, settings_with

UNITS = DEPLOY / "systemd"
COMMON = (UNITS / "freshet-.service.d" / "10-common.conf").read_text()
STARTED = {
    "freshet-topics.service", "freshet-worker@0.service", "freshet-worker@1.service", "freshet-serve.service",
    "freshet-feedback.service",
}  # fmt: skip
OF_SYSTEMD = ("sysinit", "basic", "shutdown", "network-online", "multi-user")
MOST_EXPOSURE = 2.0  # of 10; systemd calls that OK


def source_of(unit: str) -> str:
    return (UNITS / re.sub(r"@\d", "@", unit)).read_text()


def command_of(unit: str) -> list[str]:
    [line] = re.findall(r"^ExecStart=(.*)$", source_of(unit), re.M)
    digit = re.findall(r"@(\d)", unit)
    words = shlex.split(line.replace("%i", digit[0] if digit else "%i").replace("${STATE_DIRECTORY}", "/state"))
    assert words[0] == "/opt/freshet/bin/freshet"
    return words[1:]


@pytest.mark.parametrize("unit", sorted(STARTED))
def test_a_unit_starts_a_command_whose_flags_exist(unit: str) -> None:
    settings = settings_with(command_of(unit), {"FRESHET_BOOTSTRAP": "kafka:9092"})
    needs_state = unit != "freshet-topics.service"
    assert (str(settings.state) == "/state") == needs_state
    assert ("StateDirectory=" in source_of(unit)) == needs_state
    with pytest.raises(SystemExit):
        settings_with([*command_of(unit), "--no-such-flag"], {})


def test_units_on_one_machine_have_ports_and_folders_of_their_own() -> None:
    ports, folders = [], []
    for unit in STARTED - {"freshet-topics.service"}:
        settings = settings_with(command_of(unit), {"FRESHET_BOOTSTRAP": "kafka:9092"})
        ports += [settings.port] if unit == "freshet-serve.service" else [settings.metrics_port, settings.api_port]
        folders += re.findall(r"^StateDirectory=(.*)$", source_of(unit).replace("%i", unit[-9]), re.M)
    taken = [port for port in ports if port is not None]
    assert len(taken) == len(set(taken)) == 6
    assert len(folders) == len(set(folders)) == 4


def test_every_unit_is_there_and_begins_as_what_they_have_in_common_is_called() -> None:
    assert {file.name for file in UNITS.glob("*.service")} == {re.sub(r"@\d", "@", unit) for unit in STARTED}
    assert all(unit.startswith("freshet-") for unit in STARTED)
    for wanted in ("DynamicUser=yes", "ProtectSystem=strict", "CapabilityBoundingSet=\n", "NoNewPrivileges=yes"):
        assert wanted in COMMON


@pytest.fixture
def system(tmp_path: Path) -> Path:
    """A folder that has what a machine with these units has."""
    if shutil.which("systemd-analyze") is None:
        missing("systemd-analyze is not installed (Debian's package systemd)")
    shutil.copytree(UNITS, tmp_path / "etc" / "systemd" / "system")
    for target in OF_SYSTEMD:
        (tmp_path / "etc" / "systemd" / "system" / f"{target}.target").write_text(f"[Unit]\nDescription={target}\n")
    for program in ("opt/freshet/bin/freshet", "bin/kill"):
        (tmp_path / program).parent.mkdir(parents=True)
        (tmp_path / program).write_text("#!/bin/sh\n")
        (tmp_path / program).chmod(0o755)
    (tmp_path / "etc" / "freshet").mkdir()
    (tmp_path / "etc" / "freshet" / "freshet.env").touch()
    return tmp_path


def analyze(system: Path, *arguments: str) -> str:
    command = ["systemd-analyze", arguments[0], f"--root={system}", "--no-pager", *arguments[1:]]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_systemd_understands_every_line(system: Path) -> None:
    assert analyze(system, "verify", "freshet.target", *sorted(STARTED)) == ""
    unit = system / "etc" / "systemd" / "system" / "freshet-.service.d" / "10-common.conf"
    unit.write_text(COMMON.replace("ProtectClock", "ProtectClocks"))
    assert "ProtectClocks" in analyze(system, "verify", "freshet-serve.service")


@pytest.mark.parametrize("unit", sorted(STARTED))
def test_units_can_do_little(system: Path, unit: str) -> None:
    [found] = re.findall(r"exposure level for \S+ ([\d.]+)", analyze(system, "security", "--offline=yes", unit))
    assert float(found) < MOST_EXPOSURE
