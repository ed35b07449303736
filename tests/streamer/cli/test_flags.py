"""The same flag means the same on every command, and every setting can be given on every command."""

import argparse
import json
import logging
import re
import sys
from collections import defaultdict
from pathlib import Path
from uuid import uuid4

import pytest

from consumers.open_log import OwnedLog
from streamer.cli import numbers
from streamer.cli.given_settings import load_settings
from streamer.cli.log_lines import JsonLines, TextLines
from streamer.cli.main import COMMANDS, main, parser_for
from streamer.errors import UsageError
from streamer.settings import Settings
from tests.faults import victim
from tests.faults.forked import Forked
from tests.waiting import ended

OLDER = {
    "train": {"--window"},
    "plan": {"--users", "--items"},
}  # means something else than on other commands, and says so
NEEDS = {
    "replay": ["x"], "evaluate": ["x", "y"], "compare": ["a", "b", "x"], "content": ["x"], "train": ["gcn", "x"],
    "embeddings": ["ls", "x"], "sink": ["x"], "explain": ["x"], "produce": ["x"], "tail": ["x"], "erase": ["x"],
    "topics": ["ls"], "rules": ["ls"], "checkpoint": ["ls"], "experiment": ["status"], "mcp": ["x"], "export": ["x"],
    "plan": ["--users", "1", "--items", "1", "--events-per-second", "1"],
}  # fmt: skip


def parser_of(command: str) -> argparse.ArgumentParser:
    (subparsers,) = (a for a in parser_for([command])._actions if isinstance(a, argparse._SubParsersAction))
    found: argparse.ArgumentParser = subparsers.choices[command]
    return found


def flags_of(command: str) -> dict[str, argparse.Action]:
    return {name: action for action in parser_of(command)._actions for name in action.option_strings}


def parsed(command: str, *flags: str) -> argparse.Namespace:
    return parser_for([command]).parse_args([command, *NEEDS.get(command, []), *flags])


def test_a_flag_means_the_same_everywhere() -> None:
    meant: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for command in COMMANDS:
        for name, action in flags_of(command).items():
            if name in OLDER.get(command, ()):
                continue
            says = [type(action).__name__, action.dest, action.type, action.choices, action.metavar, action.nargs]
            if action.dest in Settings.model_fields:
                says.append(action.help)
            meant[name][repr(says)].append(command)
    assert {name: dict(ways) for name, ways in meant.items() if len(ways) > 1} == {}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_number_that_cannot_be_is_refused_by_the_parser(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    flags = flags_of(command)
    assert {name for name, action in flags.items() if action.type in (int, float)} <= {"--until"}  # a time
    for name in (name for name, action in flags.items() if getattr(action.type, "__module__", "") == numbers.__name__):
        for text in ("", "-1", "nan", "1e999", "few"):
            with pytest.raises(SystemExit) as ended:
                parsed(command, f"{name}={text}")
            assert ended.value.code == 2
            assert f"{text!r} is no " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flag", "taken", "refused"),
    [
        ("--stale", ["1", "10"], ["0", "1.5", "²"]),
        ("--after", ["0", "0.99"], ["1", "1.5"]),
        ("--learn-until", ["0", "1"], ["1.01", "7"]),
        ("--confidence", ["0.01", "0.99"], ["0", "1"]),
    ],
)
def test_where_the_range_of_a_number_ends(flag: str, taken: list[str], refused: list[str]) -> None:
    for text in taken:
        parsed("compare", flag, text)
    for text in refused:
        with pytest.raises(SystemExit):
            parsed("compare", flag, text)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_flag_named_after_a_setting_gives_that_setting(command: str) -> None:
    for name, action in flags_of(command).items():
        setting = name.removeprefix("--").replace("-", "_")
        if setting in Settings.model_fields and name not in OLDER.get(command, ()):
            assert action.dest == setting
            assert (action.help or "").startswith(Settings.model_fields[setting].description or "?")


def test_what_is_promised_is_there() -> None:
    for command in COMMANDS:
        assert flags_of(command).keys() >= {"--set", "--log-level", "--log-format", "--help"}
        assert "--json" in flags_of(command) or command in ("run", "mcp")  # which print nothing, and speak a protocol
    for command in ("replay", "evaluate", "compare"):
        assert flags_of(command).keys() >= {"--after", "--measure-after", "--exclude-seen"}
    assert "--no-repeat" in flags_of("evaluate")
    assert flags_of("train").keys() >= {"--reach", "--window"}
    for command in ("topics", "checkpoint", "embeddings"):
        (action,) = (action for action in parser_of(command)._actions if action.dest == "action")
        assert "ls" in (action.choices or ())
        assert not re.search(r"\blist\b", " ".join(set(action.choices or ()) - {"list"}))


def test_ls_and_its_older_name(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    log = ["--log", str(settings.log)]
    assert main(["topics", "create", *log]) == 0
    capsys.readouterr()
    answers = []
    for action in ("ls", "list"):
        assert main(["topics", action, *log]) == 0
        answers.append(capsys.readouterr().out)
    assert answers[0] == answers[1]
    assert "interactions is there" in answers[0]


@pytest.mark.parametrize("command", COMMANDS)
def test_any_setting_on_any_command(command: str, settings: Settings) -> None:
    given = load_settings(parsed(command, "--set", "alignment_ms=7", "--set", "kafka.linger.ms=3", "--set", "k=9"))
    assert (given.alignment_ms, given.kafka, given.k) == (7, {"linger.ms": "3"}, 9)
    with pytest.raises(UsageError, match="setting 'alignment_ms' got 'x': input should be a valid integer"):
        load_settings(parsed(command, "--set", "alignment_ms=x"))
    with pytest.raises(UsageError, match="there is no setting 'alignmentms'; did you mean 'alignment_ms'"):
        load_settings(parsed(command, "--set", "alignmentms=7"))
    with pytest.raises(SystemExit) as exit_:
        parsed(command, "--set", "alignment_ms")
    assert exit_.value.code == 2


def test_what_a_text_means_for_a_setting(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def given(*texts: str) -> Settings:
        return load_settings(parsed("replay", *(flag for text in texts for flag in ("--set", text))))

    assert given("exclude_seen=true").exclude_seen
    assert given("without=memory,ranker").without == ("memory", "ranker")
    assert given('allowed_hosts=["a","b"]').allowed_hosts == ["a", "b"]
    assert given("state=a=b").state == Path("a=b")
    monkeypatch.chdir(tmp_path)
    Path("freshet.toml").write_text("[event_weights]\nview = 3\nlike = 4\n")
    weights = given("event_weights.like=5", "event_weights.cart=value").event_weights
    assert (weights["view"], weights["like"], weights["cart"]) == (3, 5, "value")
    assert given('event_weights={"like": 6}').event_weights["like"] == 6
    for text in ("event_weights=like", "k.x=5", "without=nothing"):
        with pytest.raises(UsageError, match=f"setting '{re.match('[a-z_]+', text)[0]}"):  # type: ignore[index]
            given(text)


def test_of_a_flag_and_set_the_last_counts(settings: Settings) -> None:
    assert load_settings(parsed("replay", "--k", "5", "--set", "k=6")).k == 6
    assert load_settings(parsed("replay", "--set", "k=6", "--k", "5")).k == 5
    both = load_settings(parsed("replay", "--map", "user_id=uid", "--set", "field_map.item_id=iid"))
    assert both.field_map == {"user_id": "uid", "item_id": "iid"}


def test_set_names_the_log_as_its_flag_does(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    log = f"log={settings.log}"
    OwnedLog(settings.log or Path()).close()
    assert main(["topics", "ls", "--set", log]) == 0
    assert main(["tail", "quality", "--set", log]) == 1
    assert f"`freshet topics create --log {settings.log}`" in capsys.readouterr().err


def test_evaluate_measures_what_replay_measures(csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lists = tmp_path / "lists.parquet"
    measured = []
    for flags in ([], ["--exclude-seen"]):
        assert main(["replay", str(csv), "--after", "0.3", *flags, "--lists-out", str(lists), "--json"]) == 0
        measured.append(json.loads(capsys.readouterr().out)["measured"])
        assert main(["evaluate", str(csv), str(lists), "--measure-after", "0.3", *flags, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["events"] == measured[-1]
    assert measured[0] > measured[1]


def record(message: str, *arguments: object) -> logging.LogRecord:
    return logging.LogRecord("streamer.x", logging.WARNING, "", 1, message, arguments, None)


def test_a_line_for_machines(settings: Settings) -> None:
    arguments = parsed("run", "--log", "a log")
    warning = record("see `freshet checkpoint %s`", "rebuild")
    line = json.loads(JsonLines(arguments).format(warning))
    assert line.keys() == {"time", "level", "logger", "message"}
    assert (line["level"], line["logger"]) == ("warning", "streamer.x")
    assert line["message"] == "see `freshet checkpoint rebuild --log 'a log'`"
    assert line["message"] in TextLines(arguments).format(warning)
    try:
        raise ValueError("why")
    except ValueError:
        warning.exc_info = sys.exc_info()
    assert "ValueError: why" in json.loads(JsonLines(arguments).format(warning))["exception"]


def said(settings: Settings, *flags: str) -> list[str]:
    """What `run` says on stderr."""
    assert settings.log
    folder = settings.log.parent
    words = ("run", "--log", str(settings.log), "--metrics-port", "0", "--exit-at-end", *flags)
    process = Forked(victim.command, words, cwd=folder, log=folder / f"{uuid4().hex}.log")
    assert ended(process, said=process.said) == 0, process.said()
    return process.said().splitlines()


def test_how_much_is_said_and_how(csv: Path, settings: Settings) -> None:
    log = ["--log", str(settings.log)]
    assert main(["topics", "create", *log]) == main(["produce", str(csv), *log]) == 0
    assert any(" INFO " in line for line in said(settings))
    objects = [json.loads(line) for line in said(settings, "--log-format", "json")]
    assert objects
    assert {one["level"] for one in objects} == {"info"}
    assert said(settings, "--log-level", "warning") == said(settings, "--set", "log_level=error") == []


def test_the_demo_reads_columns_by_other_names(
    csv: Path, tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.csv"
    other.write_text(csv.read_text().replace("user_id", "uid", 1))
    assert main(["demo", "--file", str(other), "--map", "user_id=uid", "--exit", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["events"] == 400


def test_the_demo_for_machines(csv: Path, settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--file", str(csv), "--exit", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["events"] == 400
    assert summary["page"].startswith("http://127.0.0.1:")
    assert all(summary["lists"].values())
