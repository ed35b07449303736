"""`replay --rules`: the lists of a worker with the same rules, whatever is taken at once; what is measured obeys them."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from consumers.open_log import OwnedLog
from consumers.schemas import Item, User
from streamer.cli.main import main
from streamer.evaluation.replay import ReplayOptions, ReplayResult, replay
from streamer.lists.rule_records import read_rules
from streamer.settings import Settings
from tests.scenarios.test_rules import ITEMS, RULES, USERS, apply, item, user
from tests.scenarios.test_worker import lists_of, run, send
from tests.worlds import Events, checkerboard, table_of

EVENTS = checkerboard(events=600, users=USERS, items=ITEMS)
KNOWN = [
    Item(f"i{n}", categories=(f"c{n % 3}",), attributes={"price": n, "kind": f"k{n % 4}", "seen_at": 0})
    for n in range(ITEMS)
]
PEOPLE = [User(f"u{n}", attributes={"plan": "gold" if n % 2 else "free"}) for n in range(USERS)]


def replayed(
    folder: Path, settings: Settings, rules: dict[str, Any], events: Events = EVENTS, **options: Any
) -> ReplayResult:
    settings = settings.model_copy(update={"k": rules.get("k", settings.k)})
    asked = ReplayOptions(lists_out=folder / "test", last_lists_out=folder / "last", **options)
    return replay(table_of(events), settings, asked, items=KNOWN, users=PEOPLE, rules=read_rules(rules))


@pytest.mark.parametrize("name", RULES)
def test_a_replay_lists_what_a_worker_does(name: str, log: OwnedLog, settings: Settings, tmp_path: Path) -> None:
    mine = settings.model_copy(update={"k": 8, "max_epoch_events": 130})
    log.append([item(n) for n in range(ITEMS)] + [user(n) for n in range(USERS)])
    run(log, mine)  # the items first, as in the replay
    apply(log, mine, RULES[name])
    send(log, EVENTS)
    run(log, mine, tmp_path / "live")
    result = replayed(tmp_path, mine, RULES[name])
    expected = {row["user_id"]: row["items"] for row in pq.read_table(tmp_path / "last").to_pylist()}
    assert lists_of(log) == expected
    test = pq.read_table(tmp_path / "test")
    assert pq.read_table(tmp_path / "live").sort_by("event").equals(test)
    ranks = [row["items"].index(what) + 1 if what in row["items"] else 0
             for row, (_, what, _) in zip(test.to_pylist(), EVENTS, strict=True)]  # fmt: skip
    if "seen" not in RULES[name]:
        hits = sum(0 < rank <= 10 for rank in ranks[480:]) / 120
        assert result.quality.figures(RULES[name].get("k", 8))[f"hr@{RULES[name].get('k', 8)}"][0] == pytest.approx(
            hits
        )
    assert lists_obey(RULES[name], test.to_pylist())
    assert lists_obey(RULES[name], pq.read_table(tmp_path / "last").to_pylist())


def lists_obey(rules: dict[str, Any], rows: list[dict[str, Any]]) -> bool:
    lists = [[int(one[1:]) for one in row["items"]] for row in rows]
    if rules.get("filter") == "item.price < 20":
        assert all(n < 20 for one in lists for n in one)
    for quota in rules.get("quotas", ()) if "pins" not in rules else ():
        divisor = 4 if quota["per"] == "item.kind" else 3
        assert all(sum(n % divisor == kind for n in one) <= quota["max"] for one in lists for kind in range(divisor))
    return all(len(one) <= rules.get("k", 8) for one in lists)


@pytest.mark.parametrize("name", ["a filter", "a filter by user", "seen lately", "all", "exploration", "a fallback"])
def test_what_is_taken_at_once_changes_nothing(name: str, settings: Settings, tmp_path: Path) -> None:
    found = []
    events = EVENTS[:240]  # three ends of chunks: that lists are named by their row in a chunk is found
    for chunk in (None, 1, 77):
        folder = tmp_path / str(chunk)
        folder.mkdir()
        replayed(folder, settings, RULES[name], events, chunk=chunk)
        test, last = (pq.read_table(folder / part) for part in ("test", "last"))
        found.append([test.to_pylist(), last.sort_by("user_id").to_pylist()])
    assert found[1] == found[0]
    assert found[2] == found[0]


def test_seen_lately_is_exact_past_the_ring(settings: Settings, tmp_path: Path) -> None:
    """Somebody takes more within the time than a ring holds."""
    events = [("u", f"i{n % 200}", n * 1_000) for n in range(500)]
    rules = read_rules({"seen": "after 150h"})
    asked = ReplayOptions(lists_out=tmp_path / "test", last_lists_out=tmp_path / "last")
    replay(table_of(events), settings, asked, rules=rules)
    for row in pq.read_table(tmp_path / "test").to_pylist():
        since = row["timestamp"] - 150 * 3_600_000
        assert not {what for _, what, t in events if since < t < row["timestamp"]} & set(row["items"])
    short = read_rules({"seen": "after 1h"})
    sparse = [(who, what, t * 100) for who, what, t in events]  # 36 events an hour
    replay(table_of(sparse), settings, asked, rules=short)
    listed = 0
    for row in pq.read_table(tmp_path / "test").to_pylist():
        since = row["timestamp"] - 3_600_000
        late = {what for _, what, t in sparse if since < t < row["timestamp"]}
        assert not late & set(row["items"])
        listed += len(row["items"])
    assert listed > 5_000


@pytest.mark.parametrize(("wanted", "said"), [("nowhere", True), ("i1", False)])
def test_a_replay_whose_lists_are_all_empty_says_so(
    wanted: str, said: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stream, file = tmp_path / "events.csv", tmp_path / "rules.json"
    lines = [f"{who},{what},view,{t + 10**12}" for who, what, t in EVENTS]
    stream.write_text("\n".join(["user_id,item_id,event_type,timestamp", *lines]))
    file.write_text(json.dumps({"filter": f"item.item_id == '{wanted}'"}))
    assert main(["replay", str(stream), "--rules", str(file)]) == 0
    warned = f"every list is empty, and the figures are 0 therefore: the rules of {file} leave nothing"
    assert (warned in capsys.readouterr().err) == said


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stream = tmp_path / "events.csv"
    lines = [f"{who},{what},view,{t + 10**12}" for who, what, t in EVENTS]
    stream.write_text("\n".join(["user_id,item_id,event_type,timestamp", *lines]))
    file = tmp_path / "rules.yaml"
    file.write_text("filter: item.item_id != 'i1'\nk: 5\n")
    assert main(["replay", str(stream), "--rules", str(file), "--lists-out", str(tmp_path / "out"), "--json"]) == 0
    assert "hr@5" in json.loads(capsys.readouterr().out)["quality"]
    rows = pq.read_table(tmp_path / "out").to_pylist()
    assert {len(row["items"]) for row in rows[200:]} == {5}
    assert not any("i1" in row["items"] for row in rows)
    file.write_text("filter: item.item_id != \n")
    assert main(["replay", str(stream), "--rules", str(file)]) == 3
    assert "rules.yaml: filter: the filter ends too early" in capsys.readouterr().err
    file.write_text("filter: item.colour == 'red'\npins: [{item_id: i1, place: 1}, {item_id: nowhere, place: 2}]\n")
    assert main(["replay", str(stream), "--rules", str(file), "--json"]) == 0
    said = capsys.readouterr()
    assert [one["field"] for one in json.loads(said.out)["warnings"]] == ["pins.1.item_id", "filter"]
    assert "warning: default: filter: no item has the field 'colour'" in said.err
    file.write_text("surface: home\nk: 3\n")
    assert main(["replay", str(stream), "--rules", str(file), "--dry-run"]) == 0
    assert "warning: home: all lists of the replay follow its rules" in capsys.readouterr().err
    file.write_text("[{surface: home, k: 3}, {k: 4}]")
    assert main(["replay", str(stream), "--rules", str(file), "--dry-run"]) == 0
    assert "rules of home are left out: lists are those of default" in capsys.readouterr().err
    file.write_text("[{surface: home, k: 3}, {surface: page, k: 4}]")
    assert main(["replay", str(stream), "--rules", str(file), "--dry-run"]) == 2
    assert "has rules of home, page, and none of 'default'" in capsys.readouterr().err
    file.write_text("filter: user.x == 1\n")
    assert main(["replay", str(stream), "--rules", str(file), "--stale", "5"]) == 2
