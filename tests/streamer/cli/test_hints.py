"""A command in a message can be pasted: it parses, it names the log of who reads it, and it mends what it is said of."""

import ast
import logging
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from consumers.open_log import OwnedLog
from streamer.cli.log_lines import TextLines
from streamer.cli.main import main, parser_for
from streamer.settings import Settings

ROOT = Path(__file__).parents[3]
HINT = re.compile(r"`freshet ([^`]*)`")


def hints_in_sources() -> Iterator[tuple[str, str]]:
    """(where, command) of each command in a message; what is put into it is an X. Docstrings are no messages."""
    for file in sorted(file for room in ("streamer", "consumers", "tgn") for file in (ROOT / room).rglob("*.py")):
        source = file.read_text()
        if "`freshet " not in source:
            continue
        tree = ast.parse(source)
        inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        passed_over = inner | {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if id(node) in passed_over:
                continue
            text = ""
            if isinstance(node, ast.JoinedStr):
                text = "".join(str(part.value) if isinstance(part, ast.Constant) else "X" for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                text = node.value
            if file.name != "hints.py":  # its pattern of a hint
                yield from ((f"{file.name}:{node.lineno}", hint) for hint in HINT.findall(text.replace("%s", "X")))


@pytest.mark.parametrize(("where", "command"), sorted(set(hints_in_sources())))
def test_every_command_in_a_message_is_one(where: str, command: str) -> None:
    parts = shlex.split(command)
    parser_for(parts).parse_args(parts)


def hint_in(said: str, *more: str) -> list[str]:
    """The command line of the one hint in a text."""
    (hint,) = set(HINT.findall(said))
    return [*shlex.split(hint), *more]


@pytest.fixture
def log_flags(settings: Settings, tmp_path: Path) -> list[str]:
    return ["--log", str(tmp_path / "a log's folder")]


def test_what_creates_the_topics_creates_them_where_they_are_missing(
    csv: Path, log_flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    commands = (["produce", str(csv)], ["tail", "recommendations", "--exit-at-end"], ["run", "--exit-at-end"])
    for command in (*commands, ["erase", "u0"], ["replay", "interactions"]):
        for known in (False, True):
            folder = f"{log_flags[1]} of {command[0]}"
            if command[0] in ("tail", "erase"):
                OwnedLog(Path(folder)).close()
            code = main([*command, "--log", folder])
            said = capsys.readouterr().err
            if known:
                assert "there is no topic" not in said
            else:
                assert (code, "there is no topic" in said) == (1, True)
                assert main(hint_in(said)) == 0


def test_a_topic_that_is_none_of_the_settings_is_not_created(
    log_flags: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["topics", "create", *log_flags]) == 0
    assert main(["tail", "recommendation", *log_flags]) == 1
    capsys_said = capsys.readouterr().err
    assert main(hint_in(capsys_said)) == 0
    assert "recommendations is there" in capsys.readouterr().out
    monkeypatch.setenv("FRESHET_RECOMMENDATIONS_TOPIC", "recommendation")  # now it is one of them
    assert main(["tail", "recommendation", *log_flags]) == 1
    assert main(hint_in(capsys.readouterr().err)) == 0
    assert main(["tail", "recommendation", *log_flags, "--exit-at-end"]) == 0


@pytest.mark.parametrize(
    "command", [["explain", "u0"], ["checkpoint", "export", "x.parquet"], ["checkpoint", "rebuild"]]
)
def test_what_makes_a_checkpoint_makes_it_of_this_application(
    command: list[str], csv: Path, log_flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    where = [*log_flags, "--application", "shop", "--state", "its state"]
    assert main(["topics", "create", *log_flags]) == main(["produce", str(csv), *log_flags]) == 0
    assert main([*command, *where]) == 1
    assert main(hint_in(capsys.readouterr().err, "--exit-at-end")) == 0
    assert main([*command, *where]) == 0


def test_another_application_is_told_what_lets_it_run(
    csv: Path, log_flags: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Topics of its own do; that the other one's state is removed does not, for its epochs stay."""
    assert main(["topics", "create", *log_flags]) == main(["produce", str(csv), *log_flags]) == 0
    assert main(["run", *log_flags, "--exit-at-end"]) == 0
    other = ["run", *log_flags, "--application", "another", "--exit-at-end"]
    assert main(other) == 1
    said = capsys.readouterr().err
    assert "give this one topics of its own, or its own --log" in said
    assert not HINT.search(said)
    for name in ("epochs", "recommendations", "quality", "dead"):
        monkeypatch.setenv(f"FRESHET_{name.upper()}_TOPIC", f"another.{name}")
    assert main(["topics", "create", *log_flags]) == main(other) == 0


def test_what_doctor_and_the_log_say(log_flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", *log_flags]) == 1
    assert main(hint_in(capsys.readouterr().out)) == 0
    assert main(["doctor", *log_flags]) == 0
    arguments = parser_for(["run"]).parse_args(["run", *log_flags, "--application", "shop"])
    record = logging.LogRecord("x", logging.WARNING, "", 1, "see `freshet checkpoint %s`", ("rebuild",), None)
    said = TextLines(arguments).format(record)
    assert hint_in(said) == ["checkpoint", "rebuild", *log_flags, "--application", "shop"]


@pytest.mark.kafka
def test_the_same_on_a_broker(on_kafka: Settings, csv: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert on_kafka.bootstrap
    produce = ["produce", str(csv), "--bootstrap", on_kafka.bootstrap]
    assert main(produce) == 1
    hint = hint_in(capsys.readouterr().err)
    assert hint == ["topics", "create", "--bootstrap", on_kafka.bootstrap]
    assert main(hint) == main(produce) == 0
