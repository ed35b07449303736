"""`freshet explain`: from a file and from an application's checkpoint."""

import json
from pathlib import Path

import pytest

from consumers.open_log import OwnedLog
from consumers.records import NewRecord
from streamer.cli.main import main
from streamer.settings import Settings
from tests.scenarios.test_worker import run, send
from tests.worlds import Events

PAIRS: Events = [
    (f"u{n % 7}", f"{kind} {(n * 5) % 9}", 60_000 * (2 * n + place))
    for n in range(300)
    for place, kind in enumerate(("bread", "butter"))
]
LAST = (*PAIRS, ("u3", "bread 4", 60_000 * 700))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "events.csv"
    rows = "\n".join(f"{user},{item},{t}" for user, item, t in LAST)
    path.write_text(f"user_id,item_id,timestamp\n{rows}\n")
    return path


def asked(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["explain", *arguments]) == 0
    return capsys.readouterr().out


def test_a_reason_is_checked_and_has_titles(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "items.csv").write_text("item_id,title\nbread 4,Rye\nbutter 4,Salted\n")
    arguments = ("u3", "butter 4", "--file", str(file))
    text = asked(capsys, *arguments, "--items", str(tmp_path / "items.csv"))
    assert text.startswith("Salted: place 1 of 18 candidates")
    assert "because Rye was chosen 0 min ago, and" in text
    answer = json.loads(asked(capsys, *arguments, "--json"))
    assert answer["holds"]
    assert answer["check"]["after"]["place"] > answer["check"]["before"]["place"] == 1
    assert answer["check"]["removed"][0]["item"] == answer["paths"][0]["item"] == "bread 4"
    assert answer["carriers"][0]["fall"] > 0


def test_an_application_is_asked_beside_its_worker(
    log: OwnedLog, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    send(log, list(LAST))
    value = json.dumps({"item_id": "butter 4", "title": "Salted"}).encode()
    log.append([NewRecord("items", b"butter 4", value)])
    run(log, settings)
    text = asked(capsys, "u3", "butter 4", "--log", str(settings.log))
    assert text.startswith("Salted: place 1 of ")
    assert "Checked: without bread 4 (0 min ago)" in text
    assert json.loads(asked(capsys, "u3", "--log", str(settings.log), "--json"))["standing"]["place"] == 1


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("nobody",), "there is no user nobody"),
        (("u3", "nothing"), "there is no item nothing"),
        (("u3", "bread 4", "--exclude-seen"), "bread 4 is in no list of this user, who has had it"),
    ],
)
def test_who_or_what_is_not_known_is_said(
    file: Path, arguments: tuple[str, ...], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", *arguments, "--file", str(file)]) == 2
    assert problem in capsys.readouterr().err


def test_without_a_checkpoint_there_is_a_way_out(
    log: OwnedLog, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", "u", "--log", str(settings.log)]) == 1
    assert "freshet run" in capsys.readouterr().err
