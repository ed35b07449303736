"""The README is run, and its tables are those of the code."""

import os
import re
import signal
import socket
import subprocess
import sys
from ast import literal_eval
from contextlib import suppress
from pathlib import Path

import yaml

from streamer.cli.main import COMMANDS
from streamer.runtime.topics import topic_specs
from streamer.settings import Settings
from streamer.state.in_force import AT_ONCE
from tests.waiting import scaled

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_the_commands_of_the_readme_work_in_their_order(tmp_path: Path) -> None:
    commands = "\n".join(re.findall(r"```sh\n(.*?)```", README, re.S)).replace("8765", str(free_port()))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FRESHET_")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    shell = subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", commands], cwd=tmp_path, env=environment | {"PATH": path}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        out, errors = shell.communicate(timeout=scaled(240))
    finally:
        with suppress(ProcessLookupError):  # what a command that failed has left at work
            os.killpg(shell.pid, signal.SIGKILL)
    assert shell.returncode == 0, errors
    last_list = [line for line in out.splitlines() if line.startswith('{"topic": "recommendations"')][-1]
    assert '"user_id": "cat"' in last_list
    assert '"item_id": "pot"' in last_list
    assert (tmp_path / "lists.parquet").is_file()
    shop = dict(re.findall(r"([a-z' ]+): (\['.*?\])$", out, re.M))
    assert literal_eval(shop["home"])[0] == "kettle"
    assert set(literal_eval(shop["a product's page"])[:2]) == {"cup", "honey"}
    assert "kettle" not in literal_eval(shop["cheap ones"])
    assert literal_eval(shop["a visitor"])[0] in {"spoon", "cup"}
    assert {"cup", "spoon"} < set(literal_eval(shop["ida"])[:4])  # what was seen before somebody logged in


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_shop_takes_few_lines() -> None:
    [shop] = re.findall(r"<<'PY'\n(.*?)^PY$", README, re.S | re.M)
    assert len(shop.splitlines()) < 60


def test_every_setting_is_documented() -> None:
    table = README.partition("<!-- settings -->")[2].partition("<!-- /settings -->")[0]
    for name, field in Settings.model_fields.items():
        assert f"| `{name}` |" in table
        assert field.description
        assert field.description in table, f"the README's line of {name} is out of date"


def test_every_setting_that_needs_no_restart_is_named() -> None:
    [paragraph] = [text for text in README.split("\n\n") if text.startswith("On SIGHUP")]
    assert {name for name in Settings.model_fields if f"`{name}`" in paragraph} == AT_ONCE


def test_every_topic_is_documented() -> None:
    names = {spec.name for spec in topic_specs(Settings.load())}
    assert all(f"| `{name}` |" in README for name in names)


def test_every_command_is_named() -> None:
    assert all(f"freshet {name}" in README or f"make {name}" in README for name in COMMANDS)


def test_the_core_lock_is_a_part_of_the_lock() -> None:
    def pins(name: str) -> dict[str, str]:
        return dict(re.findall(r"^([a-z0-9._-]+)==(\S+)", (ROOT / name).read_text(), re.M))

    assert pins("requirements.core.lock").items() <= pins("requirements.lock").items()
    assert "://" not in (ROOT / "requirements.lock").read_text()


def test_nobody_is_sent_to_the_project_that_has_our_name_on_pypi() -> None:
    """`freshet` there belongs to somebody else: what pip is asked for is called by the name of the distribution."""
    texts = [ROOT / "pyproject.toml", ROOT / "Makefile", *ROOT.glob("*.md"), *(ROOT / "deploy").glob("*.md")]
    texts += [file for package in ("streamer", "tgn", "consumers") for file in (ROOT / package).rglob("*.py")]
    asked = re.compile(r"(?<![\w-])freshet\[|pip install[^\n`]*[ '\"]freshet(?![\w-])")
    assert {file.name: asked.findall(file.read_text()) for file in texts if asked.search(file.read_text())} == {}
    assert asked.search("pip install 'freshet[graph]'")
    assert asked.search("pip install --upgrade freshet")


def test_topics_yaml_is_the_only_source(tmp_path: Path) -> None:
    declared = yaml.safe_load((ROOT / "deploy/topics.yaml").read_text())
    assert {spec.name for spec in topic_specs(Settings.load())} == set(declared)
