"""The first look at a file that each command prints, and how the command that reads a file is suggested."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from streamer.cli.main import main
from streamer.settings import Settings
from tests.worlds import checkerboard

EVENTS = checkerboard(users=20, items=20, events=300)
SHOP = "timestamp,visitorid,event,itemid,transactionid\n" + "".join(
    f"{1_573_463_494_000 + 1000 * n},{u},{'transaction' if n % 10 == 0 else 'View'},{i},\n"
    for n, (u, i, _) in enumerate(EVENTS)
)
ITEMS = "itemid,name,category\n" + "".join(f"i{n},T{n},c{n % 3}\n" for n in range(20))


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "shop.csv").write_text(SHOP)
    (tmp_path / "items.csv").write_text(ITEMS)
    for name in ("a.toml", "b.toml"):
        (tmp_path / name).write_text("")
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"event": [3], "items": [["i1"]]}), tmp_path / "lists.parquet")
    return tmp_path


COMMANDS = {
    "replay": ["replay", "{0}/shop.csv", "--items", "{0}/items.csv"],
    "produce": ["produce", "{0}/shop.csv", "--log", "{0}/log"],
    "train": ["train", "lightgcn", "{0}/shop.csv", "--items", "{0}/items.csv"],
    "evaluate": ["evaluate", "{0}/shop.csv", "{0}/lists.parquet", "--items", "{0}/items.csv"],
    "compare": ["compare", "{0}/a.toml", "{0}/b.toml", "{0}/shop.csv"],
    "explain": ["explain", "u0", "--file", "{0}/shop.csv"],
    "demo": ["demo", "--file", "{0}/shop.csv", "--items", "{0}/items.csv"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_that_reads_a_file_says_what_it_holds(
    name: str, shop: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [part.format(shop) for part in COMMANDS[name]]
    assert main([*command, "--dry-run"]) == 0
    told = capsys.readouterr()
    assert told.out == ""
    assert "shop.csv: csv of retailrocket" in told.err
    assert "300 good, 0 refused" in told.err
    assert "20 users, 20 items" in told.err
    assert "2019-11-11 09:11:34 to 2019-11-11 09:16:33 UTC" in told.err
    assert "View 270 (weight 1), transaction 30 (weight 5)" in told.err
    if "--items" in command:
        assert "20 with title, 20 with categories" in told.err
    assert not (shop / "log" / "CURRENT").exists()  # nothing was opened
    assert main([*command, "--dry-run", "--json"]) == 0
    told = capsys.readouterr()
    assert told.err == ""
    look = json.loads(told.out)
    assert (look["rows"], look["good"], look["users"], look["items"]) == (300, 300, 20, 20)
    assert look["event_types"]["transaction"] == {"count": 30, "weight": 5, "known": True}


def look_at(capsys: pytest.CaptureFixture[str], *command: str) -> dict[str, Any]:
    assert main(["replay", *command, "--dry-run", "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_weights_are_given_without_regard_to_case(
    shop: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--event-weight", "TRANSACTION=7", "--event-weight", "view=value"]
    types = look_at(capsys, str(shop / "shop.csv"), *flags)["event_types"]
    assert (types["transaction"]["weight"], types["View"]["weight"]) == (7, "value")
    for wrong in ("buy", "buy=", "=5", "buy=much"):
        assert main(["replay", str(shop / "shop.csv"), "--event-weight", wrong, "--dry-run"]) == 2


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ([], "--event-weight addtocart=3 --event-weight transaction=5"),
        (["--event-weight", "View=2"], "--event-weight View=2 --event-weight addtocart=3 --event-weight transaction=5"),
    ],
)
def test_produce_says_which_weights_the_worker_has_to_be_told(
    flags: list[str], told: str, shop: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """They do not go along with the records."""
    assert main(["topics", "create", "--log", str(shop / "log")]) == 0
    assert main(["produce", str(shop / "shop.csv"), "--log", str(shop / "log"), *flags]) == 0
    assert f"`freshet run` has to be told what these types count: {told}\n" in capsys.readouterr().err


def test_unknown_types_and_early_times_are_marked(
    tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a.csv"
    file.write_text("user_id,item_id,event_type,timestamp\na,i,sniff,5\nb,i,view,1573463494000\n")
    assert main(["replay", str(file), "--dry-run"]) == 0
    said = capsys.readouterr().err
    assert "sniff 1 (unknown, weight 1)" in said
    assert "warning: 1 of 2 lies before 1990" in said
    assert look_at(capsys, str(file))["before_1990"] == 1


def suggested(error: str) -> list[list[str]]:
    """The commands that a message suggests, as a shell would read them."""
    return [shlex.split(command)[1:] for command in re.findall(r"`(freshet [^`]*)`", error)]


QUESTIONS = {
    "two candidates": ("visitorid,customer_id,itemid,timestamp\na,b,i,1573463494000\n", 1),
    "no usual name": ("session,sku,timestamp\na,i,1573463494000\n", 1),
    "no header": ("7,8,pv,1573463494\n7,9,pv,1573463495\n", 1),
    "microseconds": ("user,item,time\na,i,1573463494000000\n", 1),
    "a day that may be a month": ("user,item,time\na,i,11/10/2019 9:11\n", 2),
    "a day that is none": ("user,item,time\na,i,11/30/2019 9:11\n", 1),
    "a name that is not there": ("user,item,time\na,i,5\n", 1),
    "a type that may be two": ("user,item,time,event,action\na,i,1573463494000,x,y\n", 1),
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_the_command_that_is_suggested_reads_the_file(
    name: str, tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    content, commands = QUESTIONS[name]
    file = tmp_path / "it's a file.csv"
    file.write_text(content)
    given = ["--map", "timestamp=Time "] if name == "a name that is not there" else []
    assert main(["replay", str(file), *given, "--dry-run"]) == 3
    found = suggested(capsys.readouterr().err)
    assert len(found) == commands
    for command in found:
        assert main(command) == 0, command
        assert "0 refused" in capsys.readouterr().err


def test_a_file_without_times_in_its_order(
    tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a.csv"
    file.write_text("user,item\n" + "".join(f"{u},{i}\n" for u, i, _ in EVENTS))
    assert main(["replay", str(file)]) == 3
    assert "--order file" in capsys.readouterr().err
    report = tmp_path / "report.html"
    assert main(["replay", str(file), "--order", "file", "--report", str(report)]) == 0
    told = capsys.readouterr()
    assert "made up: rows are a second apart" in told.err
    assert re.search(r"order +file", told.out)
    assert "times are made up" in report.read_text()


@pytest.mark.parametrize("command", [["replay"], ["produce"], ["train", "lightgcn"]])
@pytest.mark.parametrize(
    ("names", "said"),
    [
        ("user_id,thing,timestamp", "did you mean `freshet {} --map item_id=thing`"),  # the one that is left
        (
            "user_id,x,y,timestamp",
            "say `freshet {} --map item_id=COLUMN`; COLUMN stands for the name that the file has",
        ),
        ("user_id,thing", "did you mean `freshet {} --map item_id=thing --order file`"),
    ],
)
def test_a_whole_command_is_suggested_where_a_column_is_missing(
    names: str, said: str, command: list[str], tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.csv").write_text(f"{names}\n{','.join('a' for _ in names.split(','))}\n")
    given = [*command, "a.csv", "--log", str(tmp_path / "a log")] if command == ["produce"] else [*command, "a.csv"]
    assert main(["topics", "create", "--log", str(tmp_path / "a log")]) == 0
    assert main(given) == 3
    assert said.format(shlex.join(given)) in capsys.readouterr().err


@pytest.mark.parametrize(
    ("names", "unread"),
    [
        ("user_id,item_id,timestamp,price,device,shelf", ["price", "shelf"]),
        ("user_id,item_id,timestamp,device", []),
        ("timestamp,visitorid,event,itemid,transactionid,device", None),  # of a source that is known
    ],
)
def test_columns_that_nothing_reads_are_named(
    names: str, unread: list[str] | None, tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.csv").write_text(f"{names}\n{','.join('1000' for _ in names.split(','))}\n")
    map_ = ["--map", "context.device=device"]
    assert main(["replay", str(tmp_path / "a.csv"), *map_, "--dry-run"]) == 0
    said = capsys.readouterr().err
    expected = f"  unread  {', '.join(unread or [])}; the model reads none of them, and they go along in context: "
    assert (expected in said) if unread else ("unread" not in said)
    assert main(["replay", str(tmp_path / "a.csv"), *map_, "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["unread"] == (unread or [])
