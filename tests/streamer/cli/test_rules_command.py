"""`freshet rules`: what it puts in force, lists, takes back, and refuses, with the place of what is wrong."""

import json
from pathlib import Path
from typing import Any

import pytest

from consumers.open_log import OwnedLog
from consumers.records import NewRecord
from streamer.cli.main import main
from streamer.runtime.topics import topic_specs
from streamer.settings import Settings


@pytest.fixture
def home(tmp_path: Path) -> list[str]:
    """The flags of a log whose topics are there."""
    with OwnedLog(tmp_path / "log") as log:
        log.create(topic_specs(Settings(), partitions=1))
    return ["--log", str(tmp_path / "log")]


def rules(home: list[str], capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert main(["rules", *words, *home, "--json"]) == 0
    return dict(json.loads(capsys.readouterr().out))


def test_rules_are_applied_listed_and_rolled_back(
    home: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "rules.json"
    versions = []
    for most in (10, 20, 30):
        file.write_text(json.dumps([{"filter": f"item.price < {most}"}, {"surface": "home", "k": 5}]))
        applied = rules(home, capsys, "apply", str(file))["applied"]
        assert [one["surface"] for one in applied] == ["default", "home"]
        assert [one["changed"] for one in applied] == [True, most == 10]
        versions.append(applied[0]["version"])
    assert [one["surface"] for one in rules(home, capsys, "ls")["rules"]] == ["default", "home"]
    history = rules(home, capsys, "history", "default")["rules"]
    assert [one["version"] for one in history] == versions[::-1]
    [applied] = rules(home, capsys, "rollback", "default")["applied"]
    assert applied == {"surface": "default", "version": versions[1], "changed": True}
    [applied] = rules(home, capsys, "rollback", "default", versions[0][:6])["applied"]
    assert applied["version"] == versions[0]
    assert rules(home, capsys, "ls")["rules"][0]["rules"]["filter"] == "item.price < 10"
    [applied] = rules(home, capsys, "rm", "home")["applied"]
    assert (applied["surface"], applied["changed"]) == ("home", True)
    assert rules(home, capsys, "ls")["rules"][1]["rules"] == {"surface": "home"}
    assert rules(home, capsys, "rm", "home")["applied"][0]["changed"] is False
    assert main(["rules", "rm", "home", *home]) == 0
    assert capsys.readouterr().out.endswith("  unchanged: it has no rules\n")
    rules(home, capsys, "rollback", "home")
    assert rules(home, capsys, "ls")["rules"][1]["rules"] == {"surface": "home", "k": 5}
    applied = rules(home, capsys, "rollback", "default", versions[0][:6])["applied"][0]
    yaml = tmp_path / "rules.yaml"
    yaml.write_text("# what is cheap\nfilter: item.price < 10\n")
    assert rules(home, capsys, "apply", str(yaml))["applied"][0] == applied | {"changed": False}
    assert main(["rules", "rollback", "default", versions[1][:3], *home]) == 2  # which version is meant is no guess
    assert "give at least 4 digits of a version" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"filter": "item.price <"}', "rules.json: filter: the filter ends too early (at character 13)"),
        ('[{"k": 3}, {"surface": "b", "pins": [{"item_id": "a", "place": 0}]}]', "object 2: pins.0.place: "),
        ('[{"k": 3}, {"k": 4}]', "object 2: surface: 'default' is there twice"),
        ('{"filter": "1 + 1"}', "rules.json: filter: true or false is needed here, this is calculated"),
        ('{"boost": []}', "rules.json: boost: there is no such field; did you mean 'boosts'?"),
        (
            '{"boosts": [{"if": "true", "facto": 2}]}',
            "boosts.0.facto: there is no such field; did you mean 'factor'?",
        ),
        ('{"quotas": [{"per": "item.a", "maxx": 2}]}', "quotas.0.maxx: there is no such field; did you mean 'max'?"),
        ('{"k": 3', "neither JSON nor YAML at line 1, column 8"),
        ("[]", "holds no rules"),
        ("{}", "they say nothing"),
        ('{"seen": "30 days"}', "seen: write exclude, allow, or for how long, such as after 30d"),
        ('{"quotas": [{"per": "category", "max": 1}]}', "quotas.0.per: write a field of items, such as item.category"),
        ('{"surface": "A b"}', "surface: write lower-case letters, digits, - and _"),
        ('{"fallback": "popular"}', "fallback: it is no array"),
        ("[3]", "is no object"),
        ("", "is no object"),
    ],
)
def test_what_are_no_rules_is_refused_and_nothing_is_put_in_force(
    home: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, words: str
) -> None:
    (tmp_path / "rules.json").write_text(text)
    assert main(["rules", "apply", str(tmp_path / "rules.json"), *home]) == 3
    assert words in capsys.readouterr().err
    assert rules(home, capsys, "ls") == {"rules": []}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["apply"], "rules apply takes a FILE"),
        (["ls", "x"], "rules ls takes no more"),
        (["rollback", "nowhere"], "there are no rules of 'nowhere'"),
        (["rollback"], "rules rollback takes a SURFACE, and the first four digits of a VERSION or more"),
        (["rm", "nowhere"], "there are no rules of 'nowhere'; no surface has rules"),
        (["rm"], "rules rm takes a SURFACE"),
        (["test", "x"], "rules test needs --user ID"),
        (["ls", "--user", "u"], "--user is for rules test"),
        (["ls", "--context", "device=tv"], "--context is for rules test"),
    ],
)
def test_a_command_that_says_too_little_or_too_much(
    home: list[str], capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert main(["rules", *words, *home]) == 2
    assert said in capsys.readouterr().err


def test_what_can_have_no_effect_is_said(home: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with OwnedLog(Path(home[1])) as log:
        items = [{"item_id": "a", "price": 3}, {"item_id": "b", "tags": ["x"]}, {"item_id": "gone", "colour": "red"}]
        log.append([NewRecord("items", one["item_id"].encode(), json.dumps(one).encode()) for one in items])  # type: ignore[attr-defined]
        log.append([NewRecord("items", b"gone", None), NewRecord("items", b"bad", b"{")])
    file = tmp_path / "rules.json"
    file.write_text(
        json.dumps({"filter": "item.price < 9 && item.colour == 'red'", "pins": [{"item_id": "gone", "place": 1}]})
    )
    told = rules(home, capsys, "apply", str(file))
    assert [one["field"] for one in told["warnings"]] == ["pins.0.item_id", "filter"]
    assert main(["rules", "apply", str(file), *home]) == 0
    said = capsys.readouterr()
    assert "warning: default: filter: no item has the field 'colour'" in said.err
    file.write_text(json.dumps({"quotas": [{"per": "item.tags", "max": 1}], "pins": [{"item_id": "b", "place": 1}]}))
    assert rules(home, capsys, "apply", str(file))["warnings"] == []


def test_what_no_item_has_as_true_or_false_is_no_condition(
    home: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with OwnedLog(Path(home[1])) as log:
        items = [{"item_id": "a", "price": 3, "sold": True}, {"item_id": "b", "price": 4}]
        log.append([NewRecord("items", one["item_id"].encode(), json.dumps(one).encode()) for one in items])  # type: ignore[attr-defined]
    file = tmp_path / "rules.json"
    file.write_text(json.dumps({"boosts": [{"if": "!item.price", "factor": 2}]}))
    assert main(["rules", "apply", str(file), *home]) == 3
    assert "boosts.0.if: item.price is a number, not true or false" in capsys.readouterr().err
    assert rules(home, capsys, "ls") == {"rules": []}
    file.write_text(json.dumps({"filter": "!item.sold"}))
    assert rules(home, capsys, "apply", str(file))["warnings"] == []
