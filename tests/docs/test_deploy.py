"""What deploy/ says is what the code takes. (No container engine is needed: the files are read, not run.)"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from streamer.cli.main import main

DEPLOY = Path(__file__).parents[2] / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
OURS = {name: service for name, service in COMPOSE["services"].items() if "build" in service}


@pytest.mark.parametrize("name", OURS)
def test_every_service_is_a_command_whose_flags_exist(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([*OURS[name]["command"], "--help"])
    assert exit_.value.code == 0
    assert OURS[name]["read_only"]
    with pytest.raises(SystemExit):
        main([OURS[name]["command"][0], "--no-such-flag"])


def test_images_are_pinned_and_nothing_runs_as_root() -> None:
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    images = [service["image"] for service in COMPOSE["services"].values()] + re.findall(
        r"^FROM (\S+)", dockerfile, re.M
    )
    assert all(re.search(r":\d+\.\d+\.\d+", image) for image in images)
    assert re.findall(r"^USER (\S+)", dockerfile, re.M) == ["freshet"]
    assert "--require-hashes" in dockerfile


def test_kernels_are_compiled_in_the_image_by_its_user_for_more_than_the_machine_that_builds_it() -> None:
    """The key of a compiled kernel names a target without any feature of this processor."""
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    assert (
        dockerfile.index("\nUSER freshet")
        < dockerfile.index("ensure_compiled(everything=True)")
        < dockerfile.index("\nENTRYPOINT")
    )
    [cpu] = re.findall(r"^ARG CPU=(\S+)", dockerfile, re.M)
    assert "NUMBA_CACHE_DIR=/opt/freshet/kernels NUMBA_CPU_NAME=$CPU NUMBA_CPU_FEATURES=\n" in dockerfile
    script = (
        "from numba.core.registry import cpu_target as t; import tgn.kernel as k;"
        "print(t.target_context.codegen().magic_tuple()[1:], k.processor(), k.decay(0, 1.0))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "NUMBA_CPU_NAME": cpu, "NUMBA_CPU_FEATURES": ""},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == f"({cpu!r}, '') {cpu}  1.0\n"


def test_ports_are_published_on_loopback_only() -> None:
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_what_the_image_copies_is_not_ignored() -> None:
    allowed = {
        line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")
    }
    lines = re.findall(r"^COPY (?!--from)(.+) \S+$", (DEPLOY / "Dockerfile").read_text(), re.M)
    assert {source for line in lines for source in line.split()} == allowed


def test_the_example_environment_names_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    from streamer.settings import Settings

    names = re.findall(r"^#? ?(FRESHET_\w+)=", (DEPLOY / "example.env").read_text(), re.M)
    assert names
    assert all(name.removeprefix("FRESHET_").lower() in Settings.model_fields for name in names)
