"""Comparing two settings: the interval holds what it promises, and the command says which is better."""

import json
from pathlib import Path

import numpy as np
import pytest

from streamer.cli.main import main
from streamer.evaluation import comparison, paired_intervals
from streamer.evaluation.paired_intervals import compare_ranks, discordance, interval
from streamer.evaluation.replay import ReplayOptions
from streamer.monitoring.prequential_quality import QualityMeter, scores
from streamer.settings import Settings
from tests.worlds import table_of, taste_shift


@pytest.mark.parametrize("effects", ["none", "users", "time", "both"])
def test_the_interval_covers_the_truth(effects: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams whose true difference is 0: 95 % of the intervals hold it, where independent events would say less."""
    monkeypatch.setattr(paired_intervals, "RESAMPLES", 500)
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
    monkeypatch.setattr(paired_intervals, "USER_GROUPS", 300)
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


@pytest.mark.parametrize(("only_a", "only_b", "p"), [(0, 0, 1), (5, 5, 1), (0, 6, 2 / 64), (8, 1, 20 / 512)])
def test_mcnemar_is_that_of_a_fair_coin(only_a: int, only_b: int, p: float) -> None:
    """Of the events that one of both hit; places past the tenth are no hits, and what both hit says nothing."""
    rank_a = np.array([1] * only_a + [11] * only_b + [2] * 50 + [0] * 50)
    rank_b = np.array([0] * only_a + [10] * only_b + [9] * 50 + [12] * 50)
    assert discordance(rank_a, rank_b, 20) == (only_a, only_b, pytest.approx(p))


def test_the_two_forms_of_mcnemar_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    rank_a = np.array([1] * 420 + [0] * 480)
    exact = discordance(rank_a, 1 - rank_a, 10).p
    monkeypatch.setattr(paired_intervals, "EXACT", 0)
    assert discordance(rank_a, 1 - rank_a, 10).p == pytest.approx(exact, rel=0.01)


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


def test_peers_and_popularity_stand_beside_settings_and_in_the_report(
    files: tuple[str, str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, b, stream = files
    words, reports = ["popularity", "last-item", "item-knn"], [tmp_path / name for name in ("one.html", "two.html")]
    command = ["compare", b, *words, stream, "--after", "0.5"]
    for file in reports:
        assert main([*command, "--report", str(file), "--json"]) == 0
        found = json.loads(capsys.readouterr().out)["comparisons"]
    assert [one["b"] for one in found] == words
    for one in found:
        assert one["measured"] == 1_000
        assert set(one["hits"]) == {"only_a", "only_b", "mcnemar_p"}
        difference = one["hits"]["only_b"] - one["hits"]["only_a"]
        assert one["quality"]["hr@10"]["difference"] == pytest.approx(difference / 1_000)
        assert one["quality"]["mrr"]["verdict"] == "worse"  # in a circle the last item is the last to come again
    html = reports[0].read_text()
    assert html == reports[1].read_text()
    for name in words:
        assert f"{name} against {b}" in html
    assert "<script" not in html
    for q in found[1]["quality"].values():
        assert f"{q['difference']:+.5f}" in html
    assert main([*command[:2], "item-knn", stream, "--report", str(tmp_path / "no" / "x.html")]) == 2
    assert "there is no folder" in capsys.readouterr().err
    assert main(["compare", "last-item", "item-knn", stream]) == 2
    assert "one is a file of settings" in capsys.readouterr().err


def test_a_peer_measures_the_events_that_settings_measure(settings: Settings) -> None:
    events = [(f"u{n % 40:02}", f"i{(n * 7 + n // 40) % 60:02}", 1000 * n) for n in range(2_000)]
    table = table_of(events)
    for change in ({}, {"exclude_seen": True}):
        mine = settings.model_copy(update=change)
        for options in (ReplayOptions(), ReplayOptions(learn_until=0.5, stale=100)):
            under = comparison.contender("a", mine, table, options)
            for name in comparison.PEER_CLASSES:
                found = comparison.peer(name, under, len(table), options)
                np.testing.assert_array_equal(found.trace.rank >= 0, under.trace.rank >= 0)
                np.testing.assert_array_equal(found.trace.event, np.arange(2_000))


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
            "has 1 event of 1 user measured under both: at least 50 events of 10 users are needed",
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
    error = "".join(line for line in capsys.readouterr().err.splitlines(True) if line.startswith("freshet: "))
    assert error.count("\n") == 1
    assert says in error


def test_several_settings_are_compared_with_the_first_and_with_popularity(
    files: tuple[str, str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b, stream = files
    (tmp_path / "items.csv").write_text("item_id,category,expires_at\ni0,a,\ni1,b,100000000\n")
    third = tmp_path / "c.toml"
    third.write_text("k = 3\n")
    flags = ["--measure-after", "0.5", "--items", str(tmp_path / "items.csv"), "--json"]
    assert main(["compare", b, a, str(third), "popularity", stream, *flags]) == 0
    found = json.loads(capsys.readouterr().out)["comparisons"]
    assert [(one["a"], one["b"]) for one in found] == [(b, a), (b, str(third)), (b, "popularity")]
    for one, other in zip(found[:2], (a, str(third)), strict=True):
        assert main(["compare", b, other, stream, *flags]) == 0
        assert json.loads(capsys.readouterr().out) == one
    assert main(["replay", stream, *flags]) == 0
    figures = json.loads(capsys.readouterr().out)
    for name, quality in found[2]["quality"].items():
        assert (quality["a"], quality["b"]) == (figures["quality"][name], figures["popularity"][name])
    assert main(["compare", a, stream]) == 2
    assert main(["compare", a, a, stream]) == 2


def test_freshet_toml_of_the_folder_is_not_read(
    files: tuple[str, str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "freshet.toml").write_text("k = 2\n")
    assert main(["compare", *files, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["settings"]["k"] == [1, 20]
