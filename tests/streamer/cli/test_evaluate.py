"""`freshet evaluate`: lists that anybody made, by every measure."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from consumers.files.interactions import read_interactions
from streamer.cli.main import main
from streamer.evaluation.list_scores import MEASURES
from streamer.evaluation.replay import ReplayOptions, replay
from streamer.settings import Settings
from tests.conftest import DATA

ROWS = [("u", "a", 1), ("v", "b", 2), ("u", "b", 3), ("v", "a", 4), ("u", "c", 5), ("v", "b", 6), ("u", "d", 7)]
LISTS = [(3, ["c", "a"]), (4, ["c", "b"]), (5, ["b", "x"]), (6, [])]


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    events, lists = tmp_path / "events.csv", tmp_path / "lists.parquet"
    events.write_text("user_id,item_id,timestamp\n" + "\n".join(f"{u},{i},{t}" for u, i, t in ROWS) + "\n")
    items = pa.array([items for _, items in LISTS], pa.list_(pa.string()))
    pq.write_table(pa.table({"event": [event for event, _ in LISTS], "items": items}), lists)
    return str(events), str(lists)


def asked(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, object]:
    assert main(["evaluate", *arguments, "--json"]) == 0
    answer: dict[str, object] = json.loads(capsys.readouterr().out)
    return answer


def test_a_small_file_worked_out_by_hand(
    files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "items.csv").write_text("item_id,categories\na,x\nb,x|y\nc,y\nd,z\n")
    answer = asked(capsys, *files, "--after", "0.3", "--at", "2", "--items", str(tmp_path / "items.csv"))
    measures = answer["measures"]
    assert isinstance(measures, dict)
    # events 2 … 6: no list; place 2; place 1; place 1; an empty list
    assert (answer["events"], answer["without_list"], answer["with_empty_list"]) == (5, 1, 1)
    assert measures["hr"] == measures["recall"] == pytest.approx(3 / 5)
    assert measures["mrr"] == measures["map"] == pytest.approx((0.5 + 1 + 1) / 5)
    assert measures["ndcg"] == pytest.approx((1 / np.log2(3) + 2) / 5)
    assert measures["precision"] == pytest.approx(3 / 10)
    assert measures["coverage"] == pytest.approx(3 / 4)  # c, a, b of a catalogue of four; x is none of it
    # the pairs (c, a) and (b, x), x without a category: cosine 0; (c, b): 1/√2
    assert measures["diversity"] == pytest.approx((1 + (1 - 1 / np.sqrt(2)) + 1) / 5)
    assert list(measures) == list(MEASURES)
    assert [part["events"] for part in answer["by_user_age"]] == [2, 3]  # type: ignore[attr-defined]


def test_what_is_new_to_the_user_alone(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    answer = asked(capsys, *files, "--after", "0.3", "--at", "2", "--no-repeat")
    assert answer["events"] == 4  # v had b before event 5
    assert main(["evaluate", *files, "--after", "0.3"]) == 0
    assert "5 events measured at 2 places, 1 without a list, 1 with an empty one" in capsys.readouterr().out


def test_places_that_no_list_has_are_not_measured_without_a_word(
    files: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    said = {}
    for flags in ((), ("--at", "10"), ("--at", "2"), ("--at", "1")):
        assert main(["evaluate", *files, "--json", *flags]) == 0
        told = capsys.readouterr()
        said[flags] = (json.loads(told.out)["at"], told.err)
    assert said == {
        (): (2, "freshet: no list has more than 2 places: measured at 2, not at 10\n"),
        ("--at", "10"): (10, "freshet: no list has more than 2 places: --at 10 counts places that none has\n"),
        ("--at", "2"): (2, ""),
        ("--at", "1"): (1, ""),
    }


@pytest.mark.parametrize(
    ("lists", "problem"),
    [
        ({"event": [1, 1], "items": [["a"], ["b"]]}, "two lists are of one event"),
        ({"event": [9], "items": [["a"]]}, "lists are of the events 9 to 9; there are 7"),
        ({"row": [1]}, "lacks event, items; it has row"),
        ({"event": [1], "items": ["ab"]}, "items are lists of ids, best first; here they are of the type string"),
        ({"event": [1], "items": [5]}, "here they are of the type int64"),
        ({"event": [1], "items": [{"a": 1}]}, "here they are of the type struct"),
        ({"event": [1, None], "items": [["a"], ["b"]]}, "1 list without the number of an event"),
        ({"event": [1, 1], "items": [["a"], None]}, "two lists are of one event"),
    ],
)
def test_lists_of_something_else_are_refused(
    files: tuple[str, str], lists: dict[str, list[object]], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pq.write_table(pa.table(lists), files[1])
    assert main(["evaluate", *files]) == 3
    assert problem in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "holds no list"),
        ("\n", "holds no list"),
        ('{"event": 6, "items": "ab"}', "items is the text 'ab', not a list"),
        ("bad", "neither Parquet nor JSON lines"),
    ],
)
def test_lines_that_hold_no_lists_are_refused(
    files: tuple[str, str], text: str, problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "lists.jsonl").write_text(text)
    assert main(["evaluate", files[0], str(tmp_path / "lists.jsonl")]) == 3
    assert problem in capsys.readouterr().err


def test_places_and_shares_are_what_they_can_be(
    files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    strange = [{"event": n, "items": [f"x{n}", f"y{n}"]} for n in range(7)]
    (tmp_path / "lists.jsonl").write_text("\n".join(map(json.dumps, strange)))
    answer: dict[str, Any] = asked(capsys, files[0], str(tmp_path / "lists.jsonl"))
    assert answer["measures"]["coverage"] == 0  # none of them is in the catalogue


# refused rows, in front and in the measured part: a number of events → the row that takes its place
REFUSED_ROWS = {
    40: ",i1,view,{t}", 90: "u1,,view,{t}", 170: ",i2,view,{t}", 175: "u2,,view,{t}",
    180: f"u1,{'x' * 1100},view,{{t}}", 185: "u3,i5,,{t}", 190: "u3,only here,,{t}",
}  # fmt: skip


def test_refused_rows_are_told_alike_by_replay_evaluate_and_the_judge(
    tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [f"u{n % 17},i{n * n % 19 % 12},view,{{t}}" for n in range(200)]
    for n, row in REFUSED_ROWS.items():
        rows[n] = row
    events, lists = str(tmp_path / "a.csv"), str(tmp_path / "lists.parquet")
    lines = [row.format(t=1_573_463_494_000 + 1_000 * n) for n, row in enumerate(rows)]
    Path(events).write_text("user_id,item_id,event_type,timestamp\n" + "\n".join(lines))
    assert main(["replay", events, "--k", "10", "--lists-out", lists, "--json"]) == 0
    replayed = json.loads(capsys.readouterr().out)
    answer: dict[str, Any] = asked(capsys, events, lists)
    refused = sum(n >= 160 for n in REFUSED_ROWS)
    assert replayed["refused_measured"] == answer["refused_measured"] == refused == 5
    assert answer["events"] == replayed["measured"] + refused == 40
    hits = replayed["quality"]["hr@10"] * replayed["measured"]
    assert answer["measures"]["hr"] * answer["events"] == pytest.approx(hits, abs=0.01)
    for name in ("by_user_age", "by_popularity"):
        assert answer[name][-1] == {"name": "refused rows", "events": 5, "hr": 0, "ndcg": 0, "long_tail_share": 0}
        assert sum(part["events"] for part in answer[name]) == 40
        assert "0" not in {part["name"] for part in answer[name]}  # nobody and nothing is new in the measured part
    taken = {line.split(",")[1] for n, line in enumerate(lines) if n not in REFUSED_ROWS}
    listed = {item for list_ in pq.read_table(lists)["items"].to_pylist()[160:] for item in list_}
    assert answer["measures"]["coverage"] == pytest.approx(len(listed) / len(taken))
    assert main(["replay", events, "--k", "10"]) == 0
    assert "5 refused rows of the measured part are left out; `evaluate` counts them" in capsys.readouterr().out
    assert main(["evaluate", events, lists]) == 0
    assert "5 refused rows are among them, a miss each" in capsys.readouterr().out
    if JUDGE.is_file():
        judge = [sys.executable, str(JUDGE), events, lists]
        theirs = json.loads(subprocess.run(judge, capture_output=True, text=True, check=True).stdout)
        assert theirs["events"] == answer["events"]
        assert theirs["hr@10"] == pytest.approx(answer["measures"]["hr"], abs=1e-5)
        assert theirs["ndcg@10"] == pytest.approx(answer["measures"]["ndcg"], abs=1e-5)


@pytest.mark.data
@pytest.mark.parametrize("repeats", [True, False])
def test_it_agrees_with_a_judge_that_shares_no_code(
    stream: Callable[[str], Path], settings: Settings, tmp_path: Path, repeats: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    table = read_interactions(stream("deskdrop")).slice(0, 6_000)
    events, lists = tmp_path / "events.parquet", tmp_path / "lists.parquet"
    pq.write_table(table.drop_columns("reason"), events)
    mine = settings.model_copy(update={"exclude_seen": not repeats})
    replay(table, mine, ReplayOptions(lists_out=lists))
    flags = () if repeats else ("--no-repeat",)
    judge = [sys.executable, str(DATA.parent / "tools" / "score_lists.py"), str(events), str(lists), *flags]
    theirs = json.loads(subprocess.run(judge, capture_output=True, text=True, check=True).stdout)
    answer = asked(capsys, str(events), str(lists), *flags, "--at", "10")
    ours = answer["measures"]
    assert isinstance(ours, dict)
    assert answer["events"] == theirs["events"] > 100
    assert ours["hr"] == pytest.approx(theirs["hr@10"], abs=1e-5)
    assert ours["ndcg"] == pytest.approx(theirs["ndcg@10"], abs=1e-5)


JUDGE = DATA.parent / "tools" / "score_lists.py"
FEW = [("u", "a", 1), ("v", "b", 2), ("u", "b", 3), ("v", "a", 4), ("u", "c", 5), ("v", "b", 6), ("u", "d", 7)]
CASES: dict[str, tuple[list[tuple[object, object]], bool]] = {  # lists → whether they are taken
    "as they should be": ([(2, ["b", "a"]), (3, []), (6, ["x", "y", "d"])], True),
    "an item twice": ([(6, ["d", "d"])], False),
    "an item ten times": ([(6, ["d"] * 10)], False),
    "an item twice before what is measured": ([(0, ["d", "d"]), (6, ["d"])], True),
    "two lists of one event": ([(6, ["d"]), (6, ["a"])], False),
    "an event that there is not": ([(6, ["d"]), (70, ["a"]), (-1, ["a"])], True),
    "no list": ([(6, None), (5, ["b"])], True),
    "no list at all": ([(6, None), (5, None)], True),
    "no list and a list of one event": ([(6, None), (6, ["b"])], False),
    "whole floats": ([(6.0, ["d"]), (5.0, ["b"])], True),
    "integers": ([(6, [1, 2]), (5, [3])], True),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("kind", "repeats"), [("parquet", True), ("jsonl", False)])
def test_it_takes_and_refuses_what_the_judge_does(
    tmp_path: Path, case: str, kind: str, repeats: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    given, fine = CASES[case]
    events, lists = tmp_path / "events.csv", tmp_path / f"lists.{kind}"
    ids = {"a": "1", "b": "3"} if case == "integers" else {}
    rows = "".join(f"{u},{ids.get(i, i)},{t}\n" for u, i, t in [*FEW, ("", "a", 8), ("w", "", 9)])
    events.write_text("user_id,item_id,timestamp\n" + rows)
    if kind == "parquet":
        columns = {"event": pa.array([event for event, _ in given]), "items": pa.array([items for _, items in given])}
        pq.write_table(pa.table(columns), lists)
    else:
        lists.write_text("\n".join(json.dumps({"event": event, "items": items}) for event, items in given))
    flags = ["--after", "0.3", *([] if repeats else ["--no-repeat"])]
    assert main(["evaluate", str(events), str(lists), *flags, "--at", "2", "--json"]) == (0 if fine else 3)
    out = capsys.readouterr().out
    if not JUDGE.is_file() or (case.startswith("no list") and kind == "jsonl"):  # the judge reads that null as a number
        return
    judged = subprocess.run(
        [sys.executable, str(JUDGE), str(events), str(lists), *flags, "--at", "2"], capture_output=True, text=True
    )
    assert (judged.returncode == 0) == fine
    if fine:
        ours, theirs = json.loads(out), json.loads(judged.stdout)
        names = {"hr": "hr@2", "ndcg": "ndcg@2", "mrr": "mrr"}
        assert {theirs[name] for name in names.values()} == {round(ours["measures"][name], 5) for name in names}
        for name in ("events", "without_list", "lists_with_seen_item"):
            assert ours[name] == theirs[name]
