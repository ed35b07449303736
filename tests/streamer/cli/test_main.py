"""The command line: help with an example, exit codes, one clear line an error."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from streamer.cli.main import COMMANDS, main
from streamer.errors import UsageError
from streamer.runtime.state_lock import StateLock
from streamer.settings import Settings
from tests.worlds import checkerboard

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([command, "--help"])
    assert exit_.value.code == 0
    assert f"freshet {command}" in capsys.readouterr().out.partition("example:")[2]


def test_help_loads_nothing_that_was_installed() -> None:
    """It is there at once: its modules are Python's own and a few of ours, no model, no settings."""
    code = (
        "import sys; before = set(sys.modules)\n"  # an editable install loads its finder at the start
        "from streamer.cli.main import main\n"
        "try: main(['--help'])\n"
        "finally: print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before}), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT)
    assert set(done.stderr.split()) - sys.stdlib_module_names == {"streamer", "consumers"}


def test_produce_run_tail_on_the_embedded_log(
    csv: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    log = ["--log", str(settings.log)]
    assert main(["topics", "create", *log, "--partitions", "2"]) == 0
    assert "interactions created: 2 partitions" in capsys.readouterr().out
    assert main(["topics", "create", *log, "--partitions", "2"]) == 0
    assert "every topic is there" in capsys.readouterr().out
    assert main(["produce", str(csv), *log, "--json"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["sent"] == 400
    assert "event_id" not in told.err
    assert main(["run", *log, "--k", "3", "--exit-at-end"]) == 0
    assert main(["tail", "recommendations", *log, "--exit-at-end"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {row["key"] for row in rows} == {user for user, _, _ in checkerboard(events=400)}
    assert all(len(row["value"]["items"]) <= 3 for row in rows)
    assert main(["topics", "list", *log, "--json"]) == 0
    assert {json.loads(line)["topic"] for line in capsys.readouterr().out.splitlines()} >= {"interactions", "quality"}


def test_a_second_file_repeats_nothing_and_the_same_file_everything(
    csv: Path, settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = ["--log", str(settings.log)]
    other = tmp_path / "other.csv"
    other.write_text(csv.read_text().replace(",view,", ",like,"))
    assert main(["topics", "create", *log]) == 0
    for file in (csv, other, csv):
        assert main(["produce", str(file), *log]) == 0
    assert main(["replay", "interactions", *log, "--json"]) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (summary["events"], summary["duplicates"]) == (1200, 400)


def test_a_topic_replays_as_its_file_does(csv: Path, settings: Settings, tmp_path: Path) -> None:
    log = ["--log", str(settings.log)]
    assert main(["topics", "create", *log, "--partitions", "3"]) == 0
    assert main(["produce", str(csv), *log]) == 0
    assert main(["replay", "interactions", *log, "--lists-out", str(tmp_path / "topic")]) == 0
    assert main(["replay", str(csv), "--lists-out", str(tmp_path / "file")]) == 0
    assert (tmp_path / "topic").read_bytes() == (tmp_path / "file").read_bytes()


def test_a_second_worker_on_a_state_folder_is_refused(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert settings.log
    with StateLock(settings.log / "state"):
        assert main(["run", "--log", str(settings.log)]) == 1
    assert "another worker uses the state folder" in capsys.readouterr().err


def test_replay_prints_one_json_object(csv: Path, settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", str(csv), "--json", "--k", "5"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["events"], summary["measured"]) == (400, 80)


@pytest.mark.parametrize(("k", "at"), [(3, 3), (10, 10), (12, 10)])
def test_quality_is_named_after_the_places_that_lists_have(
    k: int, at: int, csv: Path, settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Over a file, its page, the topic, and the topic again where `k` was changed."""
    names, page = {f"hr@{at}", f"ndcg@{at}", "mrr"}, tmp_path / "report.html"
    assert main(["replay", str(csv), "--json", "--k", str(k), "--report", str(page)]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["quality"].keys() == summary["popularity"].keys() == names
    assert set(re.findall(r"HR@\d+", page.read_text())) == {f"HR@{at}"}
    log = ["--log", str(settings.log)]
    assert main(["topics", "create", *log]) == 0
    monkeypatch.setattr("streamer.pipeline.pipeline.QUALITY_EVERY", 100)
    other = tmp_path / "other.csv"
    other.write_text(csv.read_text().replace(",view,", ",like,"))
    for file, now in ((csv, 2), (other, k)):
        assert main(["produce", str(file), *log]) == 0
        assert main(["run", *log, "--k", str(now), "--exit-at-end"]) == 0
    capsys.readouterr()
    assert main(["tail", "quality", *log, "--exit-at-end"]) == 0
    rows = [json.loads(line)["value"] for line in capsys.readouterr().out.splitlines()]
    assert {row["metric"] for row in rows} == {"hr@2", "ndcg@2", "mrr"} | names
    assert rows[-1]["events"] <= 400  # begun anew: hits among two places and among ten have no mean


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["replay", "nowhere.csv"], 3, "there is no file nowhere.csv"),
        (["replay", "{csv}", "--map", "user_id=who"], 3, "lacks the column(s) who"),
        (["replay", "{csv}", "--map", "user_id=who,item_id=what"], 3, "lacks the column(s) who, what"),
        (["replay", "{csv}", "--map", "user_id=who,thing=what"], 2, "use --map once for each field"),
        (["replay", "{csv}", "--map", "user_id"], 2, "use --map once for each field"),
        (["replay", "{csv}", "--k", "0"], 2, "setting 'k' got '0': input should be greater than or equal to 1"),
        (["produce", "{csv}", "--log", "{log}", "--speed", "quick"], 2, "--speed got 'quick'"),
        (["produce", "{csv}", "--log", "{log}"], 1, "create it with `freshet topics create --log {log}`"),
        (["tail", "quality", "--bootstrap", "127.0.0.1:1"], 1, "no broker answers at 127.0.0.1:1"),
        (["serve", "--log", "{log}", "--port", "70000"], 2, "setting 'port' got '70000'"),
    ],
)
def test_errors_are_one_line_and_a_code(
    arguments: list[str], code: int, says: str, csv: Path, settings: Settings, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("consumers.kafka.log.START_TIMEOUT_S", 1.0)
    assert main([argument.format(csv=csv, log=settings.log) for argument in arguments]) == code
    error = "".join(line for line in capsys.readouterr().err.splitlines(True) if line.startswith("freshet: "))
    assert error.count("\n") == 1
    assert says.replace("{log}", str(settings.log)) in error


@pytest.mark.parametrize(
    "given",
    [
        ["user_id=uid,item_id=item,timestamp=the time"],
        ["user_id=uid, item_id=item", "timestamp=the time"],
        ["user_id=uid", "item_id=item", "timestamp=the time"],
    ],
)
def test_pairs_of_map_may_stand_between_commas(
    given: list[str], tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a.csv"
    file.write_text("uid,item,the time\nu,i,1\nv,j,2\n")
    flags = [flag for text in given for flag in ("--map", text)]
    assert main(["replay", str(file), *flags, "--observe-only", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["users"], summary["items"], summary["refused"]) == (2, 2, {})


def test_a_column_of_theirs_may_have_a_comma(tmp_path: Path, settings: Settings) -> None:
    file = tmp_path / "a.csv"
    file.write_text('"id, of user",item_id,timestamp\nu,i,1\n')
    assert main(["replay", str(file), "--map", "user_id=id, of user", "--observe-only"]) == 0


@pytest.mark.parametrize("command", ["replay", "evaluate", "produce"])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", ""),
        ("a.csv", "user_id,item_id,timestamp\n"),
        ("a.json", "[]"),
        ("a.json", "[\n]\n"),
        ("a.jsonl", "\n"),
    ],
)
def test_a_file_without_a_row_is_refused(
    command: str, name: str, text: str, tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / name
    file.write_text(text)
    more = {"replay": [], "evaluate": [str(file)], "produce": ["--log", str(settings.log)]}[command]
    assert main(["topics", "create", "--log", str(settings.log)]) == 0
    assert main([command, str(file), *more]) == 3
    assert f"{file} is empty" in capsys.readouterr().err


def test_precedence_flag_environment_file_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("FRESHET_")]:
        monkeypatch.delenv(name)
    assert Settings.load().k == 20
    (tmp_path / "freshet.toml").write_text('k = 5\n[event_weights]\nview = 2\n[kafka]\n"sasl.username" = "me"\n')
    assert Settings.load().k == 5
    assert Settings.load().kafka == {"sasl.username": "me"}
    monkeypatch.setenv("FRESHET_K", "7")
    assert Settings.load().k == 7
    assert Settings.load(k="9").k == 9


def test_a_wrong_setting_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "freshet.toml").write_text("colour = 3\n")
    with pytest.raises(UsageError, match="there is no setting 'colour'"):
        Settings.load()
    (tmp_path / "freshet.toml").write_text("k = [\n")
    with pytest.raises(UsageError, match=r"freshet\.toml is not valid TOML"):
        Settings.load()


def test_the_api_key_is_never_shown() -> None:
    assert "hunter2" not in repr(Settings.load(api_key="hunter2"))


@pytest.mark.parametrize("unit", [1, 1000])
def test_seconds_in_place_of_milliseconds_are_said_once_a_file_and_topic(
    unit: int, settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Times are taken as they are: a command says what they look like, and `doctor` too."""
    times = [1_573_463_494 * unit + n for n in range(60)]
    rows = [{"user_id": f"u{n % 7}", "item_id": f"i{n % 5}", "event_type": "view", "timestamp": t}
            for n, t in enumerate(times)]  # fmt: skip
    events, items = tmp_path / "events.jsonl", tmp_path / "items.jsonl"
    events.write_text("".join(json.dumps(row) + "\n" for row in rows))
    items.write_text(
        "".join(json.dumps({"item_id": row["item_id"], "timestamp": row["timestamp"]}) + "\n" for row in rows)
    )
    log = ["--log", str(settings.log)]
    assert main(["topics", "create", *log]) == 0
    commands = [
        ["produce", str(events), *log],
        ["produce", str(items), "--kind", "items", *log],
        ["replay", str(events)],
        ["replay", "interactions", *log],
        ["doctor", *log, "--json"],
    ]
    for command in commands:
        capsys.readouterr()
        main(command)
        told = capsys.readouterr()
        assert (told.err + told.out).count("look like seconds") == (unit == 1), command


@pytest.mark.parametrize("words", [["rules", "rollback", "default", "--version", "3"], ["tail", "lists", "--nothing"]])
def test_a_flag_that_a_command_does_not_take_is_answered_with_its_usage(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(words)
    said = capsys.readouterr().err
    assert exit_.value.code == 2
    assert said.startswith(f"usage: freshet {words[0]} ")
    assert f"freshet {words[0]}: error: unrecognized arguments: --" in said


@pytest.mark.parametrize(
    "command", ["run", "up", "serve", "topics ls", "produce FILE", "tail quality", "doctor", "erase u"]
)
@pytest.mark.parametrize("log", ["a-file", "a-file/inside"])
def test_a_log_that_cannot_be_one_is_called_a_log(
    command: str, log: str, csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    (tmp_path / "a-file").write_text("hello")
    monkeypatch.chdir(tmp_path)
    assert main([*command.replace("FILE", str(csv)).split(), "--log", log]) in (1, 2)
    said = "".join(capsys.readouterr())
    assert "--log" in said
    assert "hold the state" not in said
    assert "state folder" not in said
    assert (tmp_path / "a-file").read_text() == "hello"


@pytest.mark.parametrize("kind", ["interactions", "items", "users"])
def test_a_topic_that_is_missing_is_said_before_the_file_is_read(
    kind: str, csv: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["produce", str(csv), "--kind", kind, "--log", str(settings.log)]) == 1
    said = capsys.readouterr()
    assert said.err == (
        f"freshet: there is no topic {kind}; create it with `freshet topics create --log {settings.log}`\n"
    )
    assert main(["produce", str(csv), "--kind", kind, "--log", str(settings.log), "--dry-run"]) == 0
