"""Comparing two settings: the interval holds what it promises, and the command says which is better."""

import json
from pathlib import Path

import numpy as np
import pytest

from streamer.cli.main import main
from streamer.evaluation import paired_intervals as compare
from streamer.evaluation.paired_intervals import compare_ranks, interval
from streamer.monitoring.prequential_quality import QualityMeter, scores
from streamer.settings import Settings
from tests.worlds import taste_shift


@pytest.mark.parametrize("effects", ["none", "users", "time", "both"])
def test_the_interval_covers_the_truth(effects: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams whose true difference is 0: 95 % of the intervals hold it, where independent events would say less."""
    monkeypatch.setattr(compare, "RESAMPLES", 500)
    rng = np.random.default_rng(0)
    n, users, hours, worlds = 1_500, 60, 50, 100
    covered = naive = 0
    for seed in range(worlds):
        user, hour = rng.integers(0, users, n), np.arange(n) * hours // n
        difference = rng.normal(0, 1, n)
        if effects in ("users", "both"):
            difference += rng.normal(0, 0.6, users)[user]
        if effects in ("time", "both"):
            difference += rng.normal(0, 0.6, hours)[hour]
        low, high = interval(difference[:, None], user, 0.95, seed)
        covered += low[0] <= 0 <= high[0]
        naive += abs(difference.mean()) < 1.96 * difference.std() / np.sqrt(n)
    assert covered >= 88
    assert (naive < 80) == (effects != "none")


def test_confidence_widens_the_interval() -> None:
    difference, user = np.random.default_rng(0).normal(0, 1, (2_000, 1)), np.arange(2_000) % 100
    widths = [float(np.subtract(*interval(difference, user, confidence)[::-1])[0]) for confidence in (0.5, 0.9, 0.99)]
    assert widths == sorted(widths)
    assert widths[0] < widths[2] / 2


def test_more_users_than_groups_stay_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dealt into groups, users give about the same interval as each by itself."""
    rng = np.random.default_rng(0)
    user = rng.integers(0, 1_500, 6_000)
    difference = (rng.normal(0, 1, 1_500)[user] + rng.normal(0, 1, 6_000))[:, None]
    alone = np.subtract(*interval(difference, user)[::-1])
    monkeypatch.setattr(compare, "USER_GROUPS", 300)
    dealt = np.subtract(*interval(difference, user)[::-1])
    assert dealt == pytest.approx(alone, rel=0.15)


def test_the_same_ranks_differ_by_nothing() -> None:
    rank, user = np.arange(500) % 30, np.arange(500) % 20
    for difference in compare_ranks(rank, rank, user, 20):
        assert (difference.difference, difference.low, difference.high) == (0, 0, 0)
        assert difference.verdict == "no difference shown"


def test_what_is_better_is_shown_and_worse_the_other_way_round() -> None:
    rng = np.random.default_rng(0)
    bad = np.where(rng.random(3_000) < 0.3, 3, 0)
    good = np.where(rng.random(3_000) < 0.4, 3, 0)
    user = rng.integers(0, 200, 3_000)
    there, back = compare_ranks(bad, good, user, 20)[0], compare_ranks(good, bad, user, 20)[0]
    assert (there.verdict, back.verdict) == ("better", "worse")
    assert there.low < 0.1 < there.high
    assert there.difference == -back.difference


def test_scores_are_those_of_the_meter_and_of_the_definition() -> None:
    rank = np.array([0, 1, 3, 10, 11, 20])
    by_hand = [[0, 0, 0], [1, 1, 1], [1, 0.5, 1 / 3], [1, 1 / np.log2(11), 0.1], [0, 0, 1 / 11], [0, 0, 0.05]]
    assert scores(rank) == pytest.approx(np.array(by_hand))
    meter = QualityMeter()
    meter.add(np.append(rank, -1), np.append(rank, 5))
    assert meter.events == 6
    assert [ours for ours, _ in meter.figures(20).values()] == pytest.approx(scores(rank).mean(axis=0).tolist())


@pytest.fixture
def files(tmp_path: Path, settings: Settings) -> tuple[str, str, str]:
    """A: lists of one item; B: the defaults, from an empty file; a stream."""
    (tmp_path / "a.toml").write_text("k = 1\nevery_item_below = 50\n")
    (tmp_path / "b.toml").write_text("")
    rows = "".join(f"{u},{i},view,{t}\n" for u, i, t in taste_shift(events=2_000))
    (tmp_path / "s.csv").write_text("user_id,item_id,event_type,timestamp\n" + rows)
    return str(tmp_path / "a.toml"), str(tmp_path / "b.toml"), str(tmp_path / "s.csv")


def test_the_command_compares(files: tuple[str, str, str], capsys: pytest.CaptureFixture[str]) -> None:
    a, b, stream = files
    outputs = []
    for _ in range(2):
        assert main(["compare", a, b, stream, "--measure-after", "0.5", "--json"]) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1]
    summary = json.loads(outputs[0])
    assert summary["measured"] == 1_000
    assert summary["settings"] == {"k": [1, 20], "every_item_below": [50, 500]}
    hit, reciprocal = summary["quality"]["hr@1"], summary["quality"]["mrr"]  # the place that both have
    assert hit["verdict"] == "no difference shown"
    assert (reciprocal["a"] < reciprocal["b"], reciprocal["verdict"]) == (
        True,
        "better",
    )  # five items, a list of twenty
    for side, k in (("a", "1"), ("b", "20")):
        assert main(["replay", stream, "--k", k, "--measure-after", "0.5", "--json"]) == 0
        assert reciprocal[side] == json.loads(capsys.readouterr().out)["quality"]["mrr"]
    assert main(["compare", a, b, stream, "--k", "3", "--confidence", "0.9"]) == 0
    table = capsys.readouterr().out
    assert "no difference shown" in table
    assert "90 % interval" in table
    assert "k:" not in table  # a flag is shared by both


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"a.toml": "colour = 1"}, "a.toml: there is no setting 'colour'"),
        ({"b.toml": "k = 0"}, "b.toml: setting 'k' got 0"),
        ({"b.toml": "k = ["}, "b.toml is not valid TOML"),
        ({"b.toml": None}, "there is no settings file"),
        ({"b.toml": '[field_map]\nuser_id = "who"'}, "setting 'field_map' differs"),
        (
            {"s.csv": "user_id,item_id,timestamp\nu,i,1\n"},
            "has 1 events of 1 users that are measured under both settings: at least 50 events of 10 users are needed",
        ),
        ({"s.csv": "user_id,item_id,timestamp\nu,i,1\n", "a.toml": "exclude_seen = true"}, "exclude_seen differs: "),
    ],
)
def test_what_is_wrong_is_said_of_the_right_file(
    files: tuple[str, str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, str | None], says: str
) -> None:  # fmt: skip
    for name, text in change.items():
        (tmp_path / name).unlink() if text is None else (tmp_path / name).write_text(text)
    assert main(["compare", *files]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert says in error


def test_freshet_toml_of_the_folder_is_not_read(
    files: tuple[str, str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "freshet.toml").write_text("k = 2\n")
    assert main(["compare", *files, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["settings"]["k"] == [1, 20]
