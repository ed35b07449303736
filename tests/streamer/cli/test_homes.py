"""A setting that changes nothing in the home of a command is said, whichever it is and however it was given."""

import argparse
from pathlib import Path

import pytest

from consumers.open_log import OwnedLog
from streamer.cli.homes import TAKES_STATE, WITHOUT_EFFECT, Home, without_effect
from streamer.cli.main import main
from streamer.settings import Settings

ASIDE = {"file": {"source": "events.csv"}, "kafka": {"bootstrap": "127.0.0.1:9"}, "embedded": {"log": "log"}}
VALUES = {"delivery": "at-least-once", "group_protocol": "consumer", "on_log_damaged": "accept"}
TABLE = [(home, name) for home, names in WITHOUT_EFFECT.items() for name in names]


def arguments_of(home: Home, **flags: object) -> argparse.Namespace:
    """Those of a command that may have any home."""
    own = dict.fromkeys(("bootstrap", "log", "state", "application")) | {"command": "explain", "file": None}
    return argparse.Namespace(**(own | ASIDE[home] | flags))


@pytest.mark.parametrize(("home", "name"), TABLE)
def test_each_setting_of_the_table_is_said_in_its_home_and_in_no_other(
    home: Home, name: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = VALUES.get(name, "x")
    chosen = settings.model_copy(update={"bootstrap": ASIDE[home].get("bootstrap")})
    if home != "file" or name not in ("bootstrap", "log"):  # with these it reads a topic
        flag = f"--{name.replace('_', '-')} has no effect: {WITHOUT_EFFECT[home][name]}"
        assert list(without_effect(arguments_of(home, **{name: value}), chosen)) == [flag]
    monkeypatch.setenv(f"FRESHET_{name.upper()}", value)
    said = list(without_effect(arguments_of(home), chosen))
    assert said == ([] if home == "file" else [f"FRESHET_{name.upper()} has no effect: {WITHOUT_EFFECT[home][name]}"])


@pytest.mark.parametrize("home", ["embedded", "kafka"])
def test_every_other_setting_is_taken_without_a_word(
    home: Home, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in Settings.model_fields.keys() - WITHOUT_EFFECT[home].keys():
        monkeypatch.setenv(f"FRESHET_{name.upper()}", "x")
    chosen = settings.model_copy(update={"bootstrap": ASIDE[home].get("bootstrap")})
    assert not list(without_effect(arguments_of(home), chosen))


def test_what_a_command_says(
    csv: Path, settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    log, state = ["--log", str(settings.log)], ["--state", "elsewhere"]
    assert main(["topics", "create", *log]) == main(["produce", str(csv), *log]) == 0
    assert main(["run", *log, *state, "--exit-at-end"]) == 0  # its lock lies there
    assert "no effect" not in capsys.readouterr().err
    assert Path("elsewhere/lock").is_file()
    monkeypatch.setenv("FRESHET_KAFKA__linger.ms", "5")
    commands: dict[str, list[str]] = {
        "explain u0": ["explain", "u0", *log, *state],
        "checkpoint ls": ["checkpoint", "ls", *log, *state],
        "explain u0 --file": ["explain", "u0", "--file", str(csv), *log],
        "run": ["run", *log, "--delivery", "at-least-once", "--exit-at-end"],
    }
    said = {}
    for name, command in commands.items():
        assert main(command) == 0
        said[name] = [line for line in capsys.readouterr().err.splitlines() if "no effect" in line]
    kafka = f"freshet: warning: FRESHET_KAFKA__linger.ms has no effect: {WITHOUT_EFFECT['embedded']['kafka']}"
    no_state = f"freshet: warning: --state has no effect: {WITHOUT_EFFECT['embedded']['state']}"
    assert said == {
        "explain u0": [kafka, no_state],
        "checkpoint ls": [kafka, no_state],
        "explain u0 --file": ["freshet: warning: --log has no effect: what is read is no topic"],
        "run": [kafka, f"freshet: warning: --delivery has no effect: {WITHOUT_EFFECT['embedded']['delivery']}"],
    }


@pytest.mark.parametrize("command", TAKES_STATE)
def test_commands_for_which_the_state_counts_read_it(command: str, settings: Settings) -> None:
    name, _, action = command.partition(" ")
    arguments = arguments_of("embedded", command=name, action=action, state="elsewhere")
    assert not list(without_effect(arguments, settings))


def test_what_set_gives_is_said_likewise(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--set", "kafka.linger.ms=5", "--set", "delivery=at-least-once", "--set", "k=5"]
    OwnedLog(settings.log or Path()).close()
    assert main(["topics", "ls", "--log", str(settings.log), *given]) == 0
    why = WITHOUT_EFFECT["embedded"]
    assert capsys.readouterr().err.splitlines() == [
        f"freshet: warning: --set {name} has no effect: {why[name]}" for name in ("kafka", "delivery")
    ]
