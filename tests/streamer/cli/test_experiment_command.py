"""`freshet experiment`: what it says of what it does, and what it warns of."""

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from consumers.open_log import OwnedLog
from consumers.records import NewRecord
from streamer.cli.main import main
from streamer.runtime.topics import topic_specs
from streamer.settings import Settings
from tests.worlds.outcomes import ctr_until, outcomes

ARMS = [{"name": "as-now", "share": 0.5}, {"name": "new", "share": 0.5, "diversity": 0.3}]


@pytest.fixture
def home(tmp_path: Path) -> list[str]:
    """The flags of a log with an item that has a price."""
    with OwnedLog(tmp_path / "log") as log:
        log.create(topic_specs(Settings(), partitions=1))
        log.append([NewRecord("items", b"tea", b'{"item_id": "tea", "price": 3}')])
    return ["--log", str(tmp_path / "log")]


def experiment(home: list[str], capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(["experiment", *words, *home])
    said = capsys.readouterr()
    return code, said.out, said.err


def file_of(folder: Path, **change: Any) -> str:
    file = folder / "experiment.json"
    file.write_text(json.dumps({"name": "price", "arms": ARMS} | change))
    return str(file)


def test_to_create_it_again_says_what_that_did(
    home: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = [experiment(home, capsys, "create", file_of(tmp_path))[1] for _ in range(2)]
    said.append(experiment(home, capsys, "create", file_of(tmp_path, holdback=0.0, goal="cvr"))[1])
    assert said == [
        "price  created  on default  as-now 0.5, new 0.5, holdback 0\n",
        "price  created (unchanged: it was there)  on default  as-now 0.5, new 0.5, holdback 0\n",
        "price  created (changed: it was there, and not started)  on default  as-now 0.5, new 0.5, holdback 0\n",
    ]


def test_to_start_or_stop_it_again_says_that_nothing_changed(
    home: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment(home, capsys, "create", file_of(tmp_path))
    said = [experiment(home, capsys, action, "price")[1] for action in ("start", "start", "stop", "stop")]
    assert [line.split("  ")[1] for line in said] == [
        "running", "running (unchanged: it was running before)", "stopped", "stopped (unchanged: it was stopped before)",
    ]  # fmt: skip
    assert "stopped; create another one" in experiment(home, capsys, "start", "price")[2]


@pytest.mark.parametrize(
    ("change", "field", "message"),
    [
        (
            {"pins": [{"item_id": "gone", "place": 1}]},
            "arms.1.pins.0.item_id",
            "the topic of items has no record of the item 'gone'",
        ),
        ({"boosts": [{"if": "item.cost < 3", "factor": 2}]}, "arms.1.boosts.0.if", "no item has the field 'cost'"),
        ({"quotas": [{"per": "item.kind", "max": 2}]}, "arms.1.quotas.0.per", "no item has the field 'kind'"),
    ],
    ids=["item", "field", "quota"],
)
def test_what_can_have_no_effect_is_warned_of(
    change: dict[str, Any], field: str, message: str,
    home: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    code, _, warned = experiment(home, capsys, "create", file_of(tmp_path, arms=[ARMS[0], ARMS[1] | change]))
    assert (code, warned) == (0, f"freshet: warning: {field}: {message}\n")
    known = {"pins": [{"item_id": "tea", "place": 1}], "boosts": [{"if": "item.price < 3", "factor": 2}]}
    assert experiment(home, capsys, "create", file_of(tmp_path, arms=[ARMS[0], ARMS[1] | known]))[2] == ""


def test_a_surface_that_nobody_knows_is_warned_of(
    home: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = experiment(home, capsys, "create", file_of(tmp_path, surface="hmoe"))[2]
    assert said.startswith("freshet: warning: surface: 'hmoe': no rules and no lists of it are known")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arms": [ARMS[0], ARMS[0]]}, "'as-now' is the name of several arms; give each a name of its own"),
        ({"holdback": 0.3}, "shares and holdback are 1.3 together; they may be 1 at most"),
        ({"goal": "clicks"}, "goal: input should be 'ctr', 'cvr', "),
        ({"guards": [{"metric": "ctr", "by": 2}]}, "guards.0.by: input should be less than 1"),
        (
            {"arms": [ARMS[0], {"name": "b", "share": 0.2, "boosts": [{"if": "item.price + 1", "factor": 2}]}]},
            "arms.1.boosts.0.if: true or false is needed here",
        ),
    ],
    ids=["names", "shares", "goal", "guard", "condition"],
)
def test_a_refusal_says_what_is_allowed(
    change: dict[str, Any], message: str, home: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, said = experiment(home, capsys, "create", file_of(tmp_path, **change))
    assert code != 0
    assert message in said


def test_a_name_that_is_not_there_is_said_without_its_field(
    home: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for action in ("start", "stop", "status", "report"):
        code, _, said = experiment(home, capsys, action, "colour")
        assert code == 2
        assert said.startswith("freshet: there is no experiment 'colour'; there are: none")


def test_the_report_is_a_page_too(home: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    random = np.random.default_rng(1)
    with OwnedLog(tmp_path / "log") as log:
        for arm, lift in (("as-now", 0.0), ("new", 0.6)):
            one = ctr_until(f"price:{arm}", outcomes(random, 2_000, 10, lift, 28), 9)
            log.append([NewRecord("quality", f"business/default/{one.arm}/ctr".encode(), msgspec.json.encode(one))])
    experiment(home, capsys, "create", file_of(tmp_path, name="price"))
    page = tmp_path / "report.html"
    code, said, _ = experiment(home, capsys, "report", "price", "--html", str(page))
    verdict = next(line for line in said.splitlines() if line.startswith("new has more than as-now: "))
    html = page.read_text()
    assert (code, html.count(verdict)) == (0, 1)
    assert html.startswith("<!doctype html>")
    assert "<h2>new against as-now</h2>" in html
    assert "<script" not in html
    code, _, said = experiment(home, capsys, "status", "--html", str(page))
    assert code != 0
    assert "--html is for experiment report" in said
