"""The file of test lists: what it has beside the events and their items."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from consumers.schemas import User
from streamer.cli.main import main
from streamer.engine.engine import Engine
from streamer.evaluation.replay import ReplayOptions, replay
from streamer.lists import list_files
from streamer.lists.rule_records import read_rules
from streamer.settings import Settings
from tests.worlds import checkerboard, table_of
from tgn.reasons import SOURCES

EVENTS = checkerboard(users=20, items=20, events=300)


def lines(*bad: int) -> str:
    rows = [f"{u},{i},view,{'soon' if n in bad else 1000 * n}" for n, (u, i, _) in enumerate(EVENTS)]
    return "user_id,item_id,event_type,timestamp\n" + "\n".join(rows)


def test_each_list_says_whose_it_is_and_when_and_how_its_items_scored(
    tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.csv").write_text(lines(7, 250))
    out = tmp_path / "lists.parquet"
    assert main(["replay", str(tmp_path / "a.csv"), "--lists-out", str(out), "--json"]) == 0
    table = pq.read_table(out)
    assert table.column_names[:2] == ["event", "items"]
    rows = {row["event"]: row for row in table.to_pylist()}
    assert sorted(rows) == list(range(300))
    good = [n for n in range(300) if n not in (7, 250)]  # the bad ones go last
    for number, n in enumerate(good):
        row = rows[number]
        assert (row["user_id"], row["timestamp"]) == (EVENTS[n][0], 1000 * n)
        assert len(row["scores"]) == len(row["items"])
        assert row["scores"] == sorted(row["scores"], reverse=True)
        assert len(row["sources"]) == len(row["items"])
        assert set(row["sources"]) <= {*SOURCES}
    nothing = {"scores": [], "sources": []}
    for number in (298, 299):
        assert rows[number] == {"event": number, "items": [], "user_id": None, "timestamp": None} | nothing
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "a.csv"), str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["events"] == 60


@pytest.mark.parametrize(
    "rules", [None, {"pins": [{"item_id": "i3", "place": 2}], "explore": 0.5}, {"fallback": ["new"]}]
)
def test_the_sources_are_those_of_the_list_that_is_asked_for_at_the_time(
    rules: dict[str, Any] | None, tmp_path: Path, settings: Settings
) -> None:
    """Those of events that were held out, which are asked for, and those of test lists of the same moments."""
    checked = None if rules is None else read_rules(rules)
    stream = [(user, item, 1000 * n) for n, (user, item, _) in enumerate(EVENTS)]
    users = [User(f"u{n}", attributes={}) for n in range(20)]  # known, so that the order of nodes is the same
    replay(table_of(stream), settings, ReplayOptions(lists_out=tmp_path / "test"), users=users, rules=checked)
    rows = pq.read_table(tmp_path / "test").to_pylist()
    for n in (1, 7, 120, 299):
        options = ReplayOptions(lists_out=tmp_path / "asked", ask=table_of([stream[n]]))
        before = table_of(stream[:n])
        replay(before, settings, options, users=users, rules=checked)
        [asked] = pq.read_table(tmp_path / "asked").to_pylist()
        same = ["user_id", "timestamp"] + (["items", "sources"] if not rules or "explore" not in rules else [])
        assert {name: asked[name] for name in same} == {name: rows[n][name] for name in same}
    told = {source for row in rows for source in row["sources"]}
    assert ("pinned" in told) == (rules is not None and "pins" in rules)
    first = next(row for row in rows if row["items"])
    assert first["sources"][0] in (("new", "pinned") if rules else ("popular", "new"))


def test_nothing_is_made_where_no_file_is_asked_for(settings: Settings) -> None:
    """And the lists are the same bytes."""
    model, table = Engine(settings), table_of(EVENTS)
    columns = model.encode_table(table, np.ones(len(EVENTS), np.float32))
    asked, unasked = Engine(settings), Engine(settings)
    found = [one.take(columns, sources=sources) for one, sources in ((asked, True), (unasked, False))
             if one.encode_table(table, np.ones(len(EVENTS), np.float32))]  # fmt: skip
    assert [one.source.shape for one in found] == [(len(EVENTS), settings.k), (0, settings.k)]
    for ours, theirs in zip((*found[0].test, *found[0].published), (*found[1].test, *found[1].published), strict=True):
        assert ours.tobytes() == theirs.tobytes()


def test_a_worker_writes_the_same_file(tmp_path: Path, settings: Settings) -> None:
    (tmp_path / "a.csv").write_text(lines())
    log = ["--log", str(settings.log)]
    assert main(["topics", "create", *log, "--partitions", "1"]) == 0
    assert main(["produce", str(tmp_path / "a.csv"), *log]) == 0
    assert main(["run", *log, "--exit-at-end", "--lists-out", str(tmp_path / "run")]) == 0
    assert main(["replay", str(tmp_path / "a.csv"), "--lists-out", str(tmp_path / "replay")]) == 0
    assert pq.read_table(tmp_path / "run").equals(pq.read_table(tmp_path / "replay"))


def test_without_a_file_nothing_is_written() -> None:
    with list_files.TestLists(None) as lists:
        lists.write_empty(np.arange(3))
        assert not lists.wants(0)
