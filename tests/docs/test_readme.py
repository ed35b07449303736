"""The README is run, and its tables are those of the code."""

import os
import re
import subprocess
import sys
from pathlib import Path

import yaml

from streamer.cli.main import COMMANDS
from streamer.runtime.topics import topic_specs
from streamer.settings import Settings
from tests.waiting import scaled

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_the_commands_of_the_readme_work_in_their_order(tmp_path: Path) -> None:
    commands = "\n".join(re.findall(r"```sh\n(.*?)```", README, re.S))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FRESHET_")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=tmp_path, env=environment | {"PATH": path}, capture_output=True, text=True, timeout=scaled(200),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    last_list = [line for line in done.stdout.splitlines() if line.startswith('{"topic": "recommendations"')][-1]
    assert '"user_id": "cat"' in last_list
    assert '"item_id": "pot"' in last_list
    assert (tmp_path / "lists.parquet").is_file()


def test_every_setting_is_documented() -> None:
    table = README.partition("<!-- settings -->")[2].partition("<!-- /settings -->")[0]
    for name, field in Settings.model_fields.items():
        assert f"| `{name}` |" in table
        assert field.description
        assert field.description in table, f"the README's line of {name} is out of date"


def test_every_topic_is_documented() -> None:
    names = {spec.name for spec in topic_specs(Settings.load())} - {"feedback"}  # nothing reads it yet
    assert all(f"| `{name}` |" in README for name in names)


def test_every_command_is_named() -> None:
    assert all(f"freshet {name}" in README or f"make {name}" in README for name in COMMANDS)


def test_the_core_lock_is_a_part_of_the_lock() -> None:
    def pins(name: str) -> dict[str, str]:
        return dict(re.findall(r"^([a-z0-9._-]+)==(\S+)", (ROOT / name).read_text(), re.M))

    assert pins("requirements.core.lock").items() <= pins("requirements.lock").items()
    assert "://" not in (ROOT / "requirements.lock").read_text()


def test_topics_yaml_is_the_only_source(tmp_path: Path) -> None:
    declared = yaml.safe_load((ROOT / "deploy/topics.yaml").read_text())
    assert {spec.name for spec in topic_specs(Settings.load())} == set(declared)
