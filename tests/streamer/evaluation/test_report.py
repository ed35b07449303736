"""The report: right figures, the same bytes, nothing from outside unescaped, nothing fetched."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from streamer.cli.main import main
from streamer.evaluation import segments
from streamer.evaluation.plots import nice_top
from streamer.evaluation.replay import ReplayOptions, first_measured, replay
from streamer.evaluation.replay_trace import Trace
from streamer.evaluation.report import CLOCK, report
from streamer.evaluation.segments import (
    ListWatcher,
    by_item_age,
    by_item_popularity,
    by_pair,
    by_user_age,
    concentration,
    earlier,
)
from streamer.settings import Settings
from tests.worlds import Events, checkerboard, table_of

VOID = {"meta"}


def page(events: Events, settings: Settings, stream: str = "a stream") -> str:
    options = ReplayOptions(chunk=250)
    watcher = ListWatcher(first_measured(len(events), options))
    result = replay(table_of(events), settings, options, watch=watcher.watch)
    return report(stream, settings, options, result, watcher)


def without_clock(html: str) -> str:
    return re.sub(f"{CLOCK[0]}.*{CLOCK[1]}", "", html, flags=re.S)


class Balance(HTMLParser):
    """Fails where tags do not close in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        """It opens nothing."""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_a_report_holds_what_it_must_and_needs_nothing(settings: Settings) -> None:
    html = page(checkerboard(events=2_000), settings)
    parser = Balance()
    parser.feed(html)
    assert parser.open == []
    titles = re.findall("<h2>(.*?)</h2>", html)
    assert titles == [
        "HR@10 over time", "NDCG@10 over time", "MRR over time", "By user age", "By item popularity", "By item age",
        "Repeats and new pairs", "Ranks", "Coverage", "Who gets the places", "Settings and refused records", "Not taken",
        "Time", "Events a second",
    ]  # fmt: skip
    assert html.count('<svg class="plot"') == 11
    assert "prefers-color-scheme: dark" in html
    assert not re.search(r"https?:|<script|url\(|@import|\bnan\b|\binf\b", html)


def test_two_reports_differ_by_the_clock_only(settings: Settings) -> None:
    first, second = (page(checkerboard(events=1_000), settings) for _ in range(2))
    assert without_clock(first) == without_clock(second)
    assert "Wall time" not in without_clock(first)
    assert "Wall time" in first


def test_what_comes_from_outside_is_escaped(settings: Settings) -> None:
    nasty = "<script>alert(1)</script>\"'&"
    html = page(checkerboard(events=300), settings.model_copy(update={"field_map": {"user_id": nasty}}), nasty)
    assert "<script" not in html
    assert html.count("&lt;script&gt;") >= 2


@pytest.mark.parametrize("events", [[], [("u", "i", 5)]])
def test_a_stream_of_next_to_nothing_has_a_report(settings: Settings, events: Events) -> None:
    html = page(events, settings) if events else page_of_bad_rows(settings)
    Balance().feed(html)
    assert "nan" not in without_clock(html)


def page_of_bad_rows(settings: Settings) -> str:
    table = table_of([("u", "i", 5)])
    table = table.set_column(table.column_names.index("reason"), "reason", [["bad-id"]])
    options, watcher = ReplayOptions(), ListWatcher(0)
    return report("s", settings, options, replay(table, settings, options, watch=watcher.watch), watcher)


def test_the_command_writes_it_and_the_summary_is_the_same(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = "".join(f"{u},{i},view,{t}\n" for u, i, t in checkerboard(events=500))
    (tmp_path / "s.csv").write_text("user_id,item_id,event_type,timestamp\n,bad,view,1\n" + rows)
    assert main(["replay", str(tmp_path / "s.csv"), "--json", "--lists-out", str(tmp_path / "plain")]) == 0
    plain = json.loads(capsys.readouterr().out)
    options = ["--report", str(tmp_path / "r.html"), "--lists-out", str(tmp_path / "watched")]
    assert main(["replay", str(tmp_path / "s.csv"), "--json", *options]) == 0
    watched = json.loads(capsys.readouterr().out)
    for key in plain.keys() - {"seconds", "events_per_second"}:
        assert plain[key] == watched[key]
    assert pq.read_table(tmp_path / "plain").equals(pq.read_table(tmp_path / "watched"))
    html = (tmp_path / "r.html").read_text()
    shown = [float(number) for number in re.findall(r"<b>(0\.\d{4})</b>", html)]
    assert pytest.approx(plain["quality"]["hr@10"], abs=6e-5) in shown  # both are rounded, not to the same digit
    assert "<tr><td>bad-id</td><td>1</td></tr>" in html
    assert main(["replay", str(tmp_path / "s.csv"), "--report", str(tmp_path / "no" / "r.html")]) == 2
    assert main(["replay", str(tmp_path / "s.csv"), "--report", "r.html", "--observe-only"]) == 2


def small_trace() -> Trace:
    user, item = np.array([0, 1, 0, 0, 1, 0]), np.array([5, 5, 5, 6, 6, 5])
    t = np.array([0, 1, 2, 3, 4, 5]) * 3_600_000
    return Trace(np.arange(6), user, item, t, np.array([0, 1, 2, -1, 0, 1]), np.zeros(6, int))


def groups(found: list[segments.Segment]) -> list[tuple[str, int, float]]:
    return [(group.name, group.events, group.ours["hr"]) for group in found]


def test_breakdowns_of_a_stream_counted_by_hand() -> None:
    trace = small_trace()
    measured = trace.rank >= 0
    assert earlier(trace.user).tolist() == [0, 0, 1, 2, 1, 3]
    assert groups(by_user_age(trace, measured)) == [("0", 2, 0.5), ("1", 2, 0.5), ("2–4", 1, 1.0)]
    assert groups(by_item_popularity(trace, measured)) == [("0", 1, 0.0), ("1", 2, 0.5), ("2–4", 2, 1.0)]
    assert groups(by_item_age(trace, measured)) == [("hour to day", 4, 0.75)]
    assert groups(by_pair(trace, measured)) == [("new to the user", 3, pytest.approx(1 / 3)), ("taken before", 2, 1.0)]
    assert segments.rank_shares(trace, measured, 3).tolist() == [0.4, 0.2, 0, 0.4]
    assert segments.first_events(trace).tolist() == [0, 3]


def test_who_gets_the_places() -> None:
    assert concentration(np.array([90, 5, 5]), 100) == [(0.01, 0.9), (0.05, 1.0), (0.1, 1.0), (0.25, 1.0), (0.5, 1.0)]
    assert concentration(np.zeros(0, int), 0) == []


def test_listings_are_those_of_the_lists(settings: Settings, tmp_path: Path) -> None:
    events, out = checkerboard(events=600), tmp_path / "lists"
    options = ReplayOptions(lists_out=out, chunk=70)
    watcher = ListWatcher(first_measured(len(events), options))
    replay(table_of(events), settings, options, watch=watcher.watch)
    lists = pq.read_table(out)["items"].to_pylist()
    assert watcher.listings.sum() == sum(map(len, lists[480:]))
    first: dict[str, int] = {}
    for n, listed in enumerate(lists):
        for item in listed:
            first.setdefault(item, n)
    assert sorted(watcher.first_listed.tolist()) == sorted(first.values())


def test_an_axis_holds_its_values() -> None:
    assert [nice_top(value) for value in (0, 0.07, 0.9, 1, 101, 9_999)] == pytest.approx([1, 0.08, 1, 1, 200, 10_000])
