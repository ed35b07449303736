"""Files as people have them: one bad row costs itself, never the file; what cannot be read is refused in one line."""

import decimal
import gzip
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from consumers.errors import DataRefused
from consumers.files.interactions import (
    Reading,
    items_of_file,
    read_file,
    read_interactions,
    read_items,
    read_users,
    users_of_file,
)

HEAD = "user_id,item_id,event_type,timestamp"
NAMES = ("user_id", "item_id", "event_type", "timestamp")


def write(folder: Path, name: str, content: str | bytes) -> Path:
    file = folder / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


def parquet(folder: Path, columns: dict[str, Any]) -> Path:
    pq.write_table(pa.table(columns), folder / "a.parquet")
    return folder / "a.parquet"


def taken(file: Path, **reading: Any) -> tuple[int, dict[str, int]]:
    """How many rows are good, and why the others are not."""
    found = read_file(file, Reading(**reading))
    assert found.table["reason"].null_count + len(found.refusals.rows) == len(found.table)
    return found.table["reason"].null_count, found.refusals.counts()


LINES = "x\n" * 300_000
MANY = [f"u{n % 40},i{n % 60},view,{n}" for n in range(60_000)]


def with_line(n: int, line: str) -> str:
    return "\n".join([HEAD, *MANY[:n], line, *MANY[n:]]) + "\n"


@pytest.mark.parametrize(
    ("name", "content", "good", "refused"),
    [
        ("a ragged line.csv", with_line(7, "u,i,view"), 60_000, {"not-a-row": 1}),
        ("too many cells.csv", with_line(30_000, "u,i,view,5,6"), 60_000, {"not-a-row": 1}),
        ("an empty type.csv", with_line(9, "u,i,,5"), 60_000, {"missing-field": 1}),
        ("no UTF-8.csv", with_line(9, "u,Café,view,5").encode("latin-1"), 60_000, {"not-a-row": 1}),
        ("a stray quote.csv", with_line(9, 'u,"The "Heroes",view,5'), 60_000, {"not-a-row": 1}),
        ("a quote inside.csv", with_line(9, 'u,5" disk,view,5'), 60_001, {}),
        ("a quote in tabs.tsv", with_line(9, 'u,"Heroes,view,5').replace(",", "\t"), 60_001, {}),
        ("blank lines.csv", with_line(9, "\n\n  \n"), 60_000, {}),
        ("a line break in quotes.csv", with_line(9, 'u,"a\nb\r\nc",view,5'), 60_001, {}),
        ("a megabyte in quotes.csv", with_line(9, f'u,i,"{LINES * 5}",5'), 60_000, {"oversized": 1}),
        ("many line breaks in quotes.csv", with_line(9, f'u,i,"{LINES}",5'), 60_001, {}),
        ("nothing after the last comma.csv", with_line(9, "u,i,view,"), 60_000, {"bad-timestamp": 1}),
    ],
)
def test_one_bad_line_costs_itself(
    tmp_path: Path, name: str, content: str | bytes, good: int, refused: dict[str, int]
) -> None:
    assert taken(write(tmp_path, name, content)) == (good, refused)


def test_the_line_of_a_refused_row_is_named(tmp_path: Path) -> None:
    for content in (with_line(50_000, "u,i,view,soon"), with_line(50_000, 'u,"i",view,soon'), with_line(50_000, "u,i")):
        (row,) = read_file(write(tmp_path, "a.csv", content), Reading()).refusals.rows
        assert row.line == 50_002
    (row,) = read_file(write(tmp_path, "b.csv", f"{HEAD}\n\n\nu,i,view,soon\nu,i,view,1\n"), Reading()).refusals.rows
    assert row.line == 4


@pytest.mark.parametrize("rows_after", [0, 5, 40_000])
def test_a_csv_that_ends_inside_a_quote_is_refused_with_its_line(tmp_path: Path, rows_after: int) -> None:
    content = "\n".join([HEAD, "u,i,view,1", 'u,"Heroes,view,2', *MANY[:rows_after]])
    with pytest.raises(DataRefused, match=r"ends inside a quote .* line 3;"):
        read_interactions(write(tmp_path, "a.csv", content))
    with pytest.raises(DataRefused, match=r"ends inside a quote .* line 2;"):
        list(read_items(write(tmp_path, "items.csv", 'item_id,title\n1,"Heroes\n2,Villains\n')))


BOM = b"\xef\xbb\xbf"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", f"{HEAD}\n007,x,view,1\n7,x,view,2\n".encode()),
        ("bom.csv", BOM + f"{HEAD}\n007,x,view,1\n7,x,view,2\n".encode()),
        ("spaces.csv", f" {HEAD.replace(',', ' , ')}\n007,x,view,1\n7,x,view,2\n".encode()),
        ("bom.inter", BOM + b"user_id:token\titem_id:token\ttimestamp:float\n007\tx\t1\n7\tx\t2\n"),
        (
            "bom.jsonl",
            BOM + b'{"user_id":"007","item_id":"x","timestamp":1}\n{"user_id":7,"item_id":"x","timestamp":2}',
        ),
        ("ratings.dat", b"007::x::5::1\n7::x::5::2\n"),
        ("a.csv.gz", gzip.compress(BOM + f"{HEAD}\n007,x,view,1\n7,x,view,2\n".encode(), mtime=0)),
    ],
)
def test_ids_that_differ_stay_two(tmp_path: Path, name: str, content: bytes) -> None:
    assert read_interactions(write(tmp_path, name, content))["user_id"].to_pylist() == ["007", "7"]


def test_items_and_users_behind_a_bom_keep_their_ids(tmp_path: Path) -> None:
    assert [item.item_id for item in read_items(write(tmp_path, "i.csv", BOM + b"item_id,title\n007,Bond\n"))] == [
        "007"
    ]
    assert [user.user_id for user in read_users(write(tmp_path, "u.csv", BOM + b"user_id,age\n01,9\n"))] == ["01"]


ONE = {"user_id": ["u"], "item_id": ["i"], "event_type": ["view"], "timestamp": [1]}
FLOATS = pa.array([1.0, None, float("nan"), 1.5, 2.0**53, 2.0**53 + 2], pa.float64())


@pytest.mark.parametrize(
    ("column", "cells", "reasons"),
    [
        ("user_id", FLOATS, [None, "missing-field", "missing-field", "bad-id", None, "bad-id"]),
        ("user_id", pa.array([[1], None, []], pa.list_(pa.int64())), ["bad-id", "missing-field", "bad-id"]),
        ("item_id", pa.array([{"a": 1}]), ["bad-id"]),
        ("item_id", pa.array([True, None]), ["bad-id", "missing-field"]),
        ("item_id", pa.array([b"\xff", b"ok"], pa.binary()), ["not-json", None]),
        ("item_id", pa.array([decimal.Decimal(10**25)]), [None]),
        ("item_id", pa.array([2**64 - 1], pa.uint64()), [None]),
        ("item_id", pa.nulls(2), ["missing-field"] * 2),
        ("timestamp", pa.array([True, False]), ["bad-timestamp"] * 2),
        ("timestamp", pa.array([1.0, 1.5, float("nan")]), [None, "bad-timestamp", "missing-field"]),
        ("timestamp", pa.array([-1, None, 1 << 62]), ["bad-timestamp", "missing-field", "bad-timestamp"]),
        ("timestamp", pa.array([1], pa.duration("ms")), ["bad-timestamp"]),
        ("timestamp", pa.array([1], pa.date32()), [None]),
        ("event_type", pa.array(["view", None, "", "x"]).dictionary_encode(), [None, "missing-field", "missing-field", None]),
        ("event_type", pa.array([3]), ["bad-type"]),
        ("value", pa.array([1.0, float("nan"), float("inf"), None]), [None, None, "bad-value", None]),
        ("value", pa.array(["4.5", "4,5", "abc", "", None]), [None, "bad-value", "bad-value", None, None]),
        ("value", pa.array([True]), ["bad-value"]),
        ("event_id", pa.array([1.5, 1.0]), ["bad-type", None]),
        ("context", pa.array(['{"device": "ios"}', "phone", "[1]"]), [None, "bad-type", "bad-type"]),
        ("context", pa.array([[("device", "ios")]], pa.map_(pa.string(), pa.string())), [None]),
    ],
)  # fmt: skip
def test_types_of_parquet(tmp_path: Path, column: str, cells: pa.Array, reasons: list[str | None]) -> None:
    columns: dict[str, Any] = {name: value * len(cells) for name, value in ONE.items()} | {column: cells}
    table = read_file(parquet(tmp_path, columns), Reading()).table
    rows = sorted(reason or "" for reason in table["reason"].to_pylist())
    assert rows == sorted(reason or "" for reason in reasons)


def test_ids_of_parquet_are_exact(tmp_path: Path) -> None:
    big = [2**63 + 1, 2**64 - 1]
    columns = {name: value * 2 for name, value in ONE.items()} | {"user_id": pa.array(big, pa.uint64())}
    assert read_interactions(parquet(tmp_path, columns))["user_id"].to_pylist() == [str(id_) for id_ in big]


def test_columns_of_odd_names(tmp_path: Path) -> None:
    table = read_interactions(write(tmp_path, "a.csv", f"{HEAD},reason,title,title\nu,i,view,1,because,a,b\n"))
    assert table["reason"].to_pylist() == [None]
    assert [table[name][0].as_py() for name in ("reason of the file", "title", "title (2)")] == ["because", "a", "b"]
    with pytest.raises(DataRefused, match="has the column user_id 2 times"):
        read_interactions(write(tmp_path, "b.csv", f"{HEAD},user_id\nu,i,view,1,v\n"))
    (tmp_path / "user_id=7").mkdir()
    assert read_interactions(parquet(tmp_path / "user_id=7", ONE))["user_id"].to_pylist() == ["u"]


def test_json_of_every_kind(tmp_path: Path) -> None:
    lines = [
        '{"user_id":"a","item_id":"2024-01-01","event_type":"view","timestamp":1}',
        '{"user_id":7,"item_id":18446744073709551616,"event_type":"view","timestamp":2}',
        '{"user_id":"a","item_id":',
        "[1, 2]",
        '{"user_id":"a","item_id":"x","event_type":"","timestamp":3}',
        '{"user_id":"a","item_id":"x","event_type":"view","timestamp":"1500000000000"}',
    ]
    file = write(tmp_path, "a.jsonl", "\n".join(lines))
    assert taken(file) == (2, {"not-json": 1, "not-an-object": 1, "missing-field": 1, "bad-timestamp": 1})
    assert read_interactions(file)["item_id"].to_pylist()[:2] == ["2024-01-01", "18446744073709551616"]
    with pytest.raises(DataRefused, match="no whole JSON array"):
        read_interactions(write(tmp_path, "b.json", '[{"user_id": 1},\n{"user_id"'))
    with pytest.raises(DataRefused, match=r"lacks the column\(s\) item_id; it has"):
        read_interactions(write(tmp_path, "c.jsonl", '{"user_id": 1, "timestamp": 2, "thing": 3}'))


def test_our_own_wire_form_keeps_everything(tmp_path: Path) -> None:
    row = {"user_id": "a", "item_id": "i", "event_type": "buy", "timestamp": 1, "event_id": "e", "value": 2.5,
           "session_id": "s", "context": {"device": "ios", "geo": [1, 2]}, "retract": True, "campaign": "x"}  # fmt: skip
    (read,) = read_interactions(write(tmp_path, "a.jsonl", json.dumps(row))).to_pylist()
    assert json.loads(read.pop("context")) == row["context"]
    assert read == {name: value for name, value in row.items() if name != "context"} | {"reason": None}
    event = {"specversion": "1.0", "id": "e", "source": "/s", "type": "view", "time": "2019-11-11T00:00:00Z",
             "data": {"user_id": "a", "item_id": "i"}}  # fmt: skip
    (read,) = read_interactions(write(tmp_path, "b.jsonl", json.dumps(event))).to_pylist()
    assert (read["event_id"], read["event_type"], read["timestamp"]) == ("e", "view", 1573430400000)


ROWS = ["10,26,view,1573463494", "35,7,view,1573464339"]


def test_a_file_without_a_line_of_names_loses_no_row(tmp_path: Path) -> None:
    file = write(tmp_path, "a.csv", "\n".join(ROWS))
    with pytest.raises(
        DataRefused, match=r"looks like a row: 10, 26, view, 1573463494; did you mean --columns user_id,item_id,"
    ):
        read_interactions(file)
    for reading in (
        Reading(names=NAMES, time_unit="s"),
        Reading(field_map=dict(zip(NAMES, ROWS[0].split(","), strict=True)), time_unit="s"),
    ):
        table = read_file(file, reading).table
        assert table["user_id"].to_pylist() == ["10", "35"]
        assert table["timestamp"].to_pylist() == [1573463494000, 1573464339000]


@pytest.mark.parametrize(
    ("time", "reading"),
    [
        ("1573463494", {"time_unit": "s"}),
        ("1573463494.0", {"time_unit": "s"}),
        ("1573463494000", {}),
        ("1573463494000", {"time_unit": "ms"}),
        ("1573463494000999", {"time_unit": "us"}),
        ("1573463494000999999", {"time_unit": "ns"}),
        ("11/11/2019 09:11:34 AM", {"time_format": "%m/%d/%Y %I:%M:%S %p"}),
        ("11.11.2019 10:11:34 +0100", {"time_format": "%d.%m.%Y %H:%M:%S %z"}),
        ("2019-11-11 09:11:34 UTC", {}),
        ("2019-11-11 09:11:34 +0000 UTC", {}),
        ("2019-11-11T10:11:34+01:00", {}),
    ],
)
def test_units_and_formats_of_time(tmp_path: Path, time: str, reading: dict[str, Any]) -> None:
    assert taken(write(tmp_path, "a.csv", f"{HEAD}\nu,i,view,{time}\n"), **reading) == (1, {})
    files = [write(tmp_path, "a.csv", f"{HEAD}\nu,i,view,{time}\n")]
    cell: Any = int(time) if time.isdigit() else time
    row = dict(zip(NAMES, ("u", "i", "view", cell), strict=True))
    files.append(write(tmp_path, "a.jsonl", json.dumps(row)))
    files.append(parquet(tmp_path, {name: [value] for name, value in row.items()}))
    if not ("." in time and time[-1] == "0" and ":" not in time):
        for file in files:
            assert read_file(file, Reading(**reading)).table["timestamp"].to_pylist() == [1573463494000]


def test_a_damaged_file_is_one_line(tmp_path: Path) -> None:
    whole = gzip.compress(("\n".join([HEAD, *MANY])).encode())
    for name, content in {
        "a.csv.gz": whole[: len(whole) // 2],
        "b.csv.gz": b"\x1f\x8b" + bytes(50),
        "c.csv": b"",
        "d.jsonl": b"",
        "e.parquet": b"PAR1" + bytes(20),
    }.items():
        with pytest.raises(DataRefused) as refused:
            read_interactions(write(tmp_path, name, content))
        assert "\n" not in str(refused.value)


# items and users

GENRES = "0|0|1|0"


@pytest.mark.parametrize(
    ("name", "content", "first"),
    [
        ("movies.dat", "1::Le café (1995)::Children's|Sci-Fi\n".encode("latin-1"), ("1", "Le café (1995)", ("Children's", "Sci-Fi"))),
        ("movies.csv", 'movieId,title,genres\n1,"Café, The",Film-Noir|(no genres listed)\n', ("1", "Café, The", ("Film-Noir",))),
        ("u.item", f"1|Le café (1995)|01-Jan-1995||http://e.org|{GENRES}\n".encode("latin-1"), ("1", "Le café (1995)", ("Adventure",))),
        ("a.item", 'item_id:token\tmovie_title:token_seq\tclass:token_seq\n1\t"Heroes\tSci-Fi War\n', ("1", '"Heroes', ("Sci-Fi", "War"))),
        ("a.csv", "item_id,title,categories\n1,Dune,Science Fiction|Space Opera\n", ("1", "Dune", ("Science Fiction", "Space Opera"))),
        ("a.csv", 'item_id,title,categories\n1,Heat,"Crime, Drama"\n', ("1", "Heat", ("Crime, Drama",))),
        ("a.jsonl", '{"item_id":1,"title":1984,"categories":[1,"a"],"price":3.5}', ("1", "1984", ("1", "a"))),
        ("a.json", '[{"item_id":1,"title":"T","categories":"a|b c"}]', ("1", "T", ("a", "b c"))),
    ],
)  # fmt: skip
def test_items(tmp_path: Path, name: str, content: str | bytes, first: tuple[Any, ...]) -> None:
    (item,) = read_items(write(tmp_path, name, content))
    assert (item.item_id, item.title, item.categories) == first


def test_users_of_movielens(tmp_path: Path) -> None:
    (user,) = read_users(write(tmp_path, "users.dat", "1::F::25::10::48067\n"))
    assert (user.user_id, user.attributes) == ("1", {"gender": "F", "age": "25", "occupation": "10", "zip": "48067"})
    (user,) = read_users(write(tmp_path, "u.user", "1|24|M|technician|85711\n"))
    assert (user.user_id, user.attributes) == (
        "1",
        {"age": "24", "gender": "M", "occupation": "technician", "zip": "85711"},
    )


def test_tags_are_interactions(tmp_path: Path) -> None:
    (row,) = read_interactions(
        write(tmp_path, "tags.csv", 'userId,movieId,tag,timestamp\n1,2,"slow, good",5\n')
    ).to_pylist()
    assert (row["user_id"], row["item_id"], row["timestamp"], row["tag"]) == ("1", "2", 5000, "slow, good")


def test_a_bad_item_costs_itself_and_a_bad_field_itself(tmp_path: Path) -> None:
    lines = [
        '{"item_id":"a","title":"A","timestamp":1}',
        '{"item_id":""}',
        '{"title":"B"}',
        '{"item_id":"c","title":["x"],"categories":[["y"],"z"]}',
        '{"item_id":[1]}',
        "oops",
        "5",
        '{"item_id":"d","timestamp":9223372036854775808}',
    ]
    nodes = items_of_file(write(tmp_path, "a.jsonl", "\n".join(lines)))
    assert [(item.item_id, item.title, item.categories) for item in nodes.known()] == [
        ("a", "A", ()),
        ("c", None, ("z",)),
    ]
    assert nodes.refusals.counts() == {
        "bad-id": 2,
        "missing-field": 1,
        "not-json": 1,
        "not-an-object": 1,
        "bad-timestamp": 1,
    }
    assert nodes.warnings == [
        "line 4: title is left out: a JSON list is no text",
        "line 4: a category is left out: a JSON list is no text",
    ]
    nodes = items_of_file(write(tmp_path, "a.csv", "item_id,title\n1,A\n,B\n3,C,D\n"))
    assert ([id_ for id_, _ in nodes.entries], nodes.refusals.counts()) == (["1"], {"bad-id": 1, "not-a-row": 1})
    with pytest.raises(DataRefused, match=r"lacks the column\(s\) item_id; it has a"):
        items_of_file(write(tmp_path, "b.csv", "a\n1\n"))


def test_attributes_of_parquet_are_json(tmp_path: Path) -> None:
    out = io.BytesIO()
    columns = {"item_id": [1.0, 2.0], "price": [1.5, float("nan")], "at": pa.array([0, None], pa.timestamp("s")),
               "tags": [["a", None], None], "size": pa.array([decimal.Decimal("2.50"), None])}  # fmt: skip
    pq.write_table(pa.table(columns), out)
    first, second = read_items(write(tmp_path, "a.parquet", out.getvalue()))
    assert (first.item_id, first.attributes) == (
        "1",
        {"price": 1.5, "at": "1970-01-01T00:00:00", "tags": ["a", None], "size": 2.5},
    )
    assert (second.item_id, second.attributes) == ("2", None)


@pytest.mark.parametrize("unit", ["s", "ms"])
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "quoted.jsonl"])
def test_each_time_of_an_item_is_in_the_unit_of_the_file(tmp_path: Path, name: str, unit: str) -> None:
    names, times = ("timestamp", "available_from", "expires_at"), (1_000, 2_000, 3_000)
    cells = [t // 1_000 if unit == "s" else t for t in times]
    row: dict[str, Any] = {"item_id": "a"} | dict(
        zip(names, map(str, cells) if "quoted" in name else cells, strict=True)
    )
    csv = f"{','.join(row)}\n{','.join(map(str, row.values()))}\n"
    file = write(tmp_path, name, csv if name == "a.csv" else json.dumps(row))
    (item,) = items_of_file(file, Reading(time_unit=unit)).known()
    assert (item.timestamp, item.available_from, item.expires_at) == times


def test_deleted_rows(tmp_path: Path) -> None:
    rows = (
        '{"user_id":"a","age":3,"deleted":false}\n{"user_id":"b","deleted":true}\n{"user_id":"c","deleted":"perhaps"}'
    )
    nodes = users_of_file(write(tmp_path, "a.jsonl", rows))
    assert [(id_, node is None) for id_, node in nodes.entries] == [("a", False), ("b", True)]
    assert nodes.refusals.counts() == {"bad-type": 1}
    nodes = users_of_file(write(tmp_path, "a.csv", "user_id,deleted\na,false\nb,true\nc,\n"))
    assert [(id_, node is None) for id_, node in nodes.entries] == [("a", False), ("b", True), ("c", False)]
    assert nodes.known()[0].attributes is None


RAGGED = {
    "a.csv": "user_id,item_id,timestamp\nu,i\nu,i,5\n",
    "b.tsv": "user_id\titem_id\ttimestamp\nu\ti\nu\ti\t5\n",
    "c.inter": "user_id:token\titem_id:token\ttimestamp:float\nu\ti\nu\ti\t5\n",
    "ratings.dat": "u::i::5::5\nu::i::5\n",
    "jodie.csv": "user_id,item_id,timestamp,state_label,comma_separated_list_of_features\nu,i\nu,i,5,0,0.1\n",
    "d.csv": 'user_id;item_id;timestamp\n"u";"i"\n"u";"i";5\n',
}


@pytest.mark.parametrize("name", RAGGED)
def test_a_line_of_columns_is_no_row_and_never_bad_json(name: str, tmp_path: Path) -> None:
    found = read_file(write(tmp_path, name, RAGGED[name]), Reading())
    wrong = [row for row in found.refusals.rows if row.reason == "not-a-row"]
    assert len(found.refusals.rows) == len(wrong) == 1, found.refusals.rows
    assert found.refusals.first().endswith("; taken is a line with as many fields as the file has columns, in UTF-8")
    assert "JSON" not in found.refusals.first()


def test_a_line_of_json_is_told_of_json(tmp_path: Path) -> None:
    good = '{"user_id": "u", "item_id": "i", "timestamp": 5}'
    for bad, reason in (("{oops", "not-json"), ("[1, 2]", "not-an-object"), ('{"a": ' + "[" * 9_000, "not-json")):
        found = read_file(write(tmp_path, "a.jsonl", f"{bad}\n{good}\n"), Reading())
        assert found.refusals.counts() == {reason: 1}
        assert "columns" not in found.refusals.first()
        nodes = items_of_file(write(tmp_path, "items.jsonl", f"{bad}\n{good}\n"))
        assert nodes.refusals.counts() == {reason: 1}


def test_what_nests_too_deep_is_said_in_these_words(tmp_path: Path) -> None:
    deep = '[{"user_id": "u", "item_id": "i", "timestamp": 5, "context": ' + "[" * 9_000 + "]" * 9_000 + "}]"
    with pytest.raises(DataRefused, match="no whole JSON array: nested too deep; with one JSON object a line"):
        read_file(write(tmp_path, "a.json", deep), Reading())


@pytest.mark.parametrize(
    ("name", "text", "format_"),
    [
        ("a.csv", "user_id,item_id,timestamp\nu,i,5\n", "csv"),
        ("a.csv", "user_id;item_id;timestamp\nu;i;5\n", "csv"),
        ("a.tsv", "user_id\titem_id\ttimestamp\nu\ti\t5\n", "tsv"),
        ("a.csv", "user_id\titem_id\ttimestamp\nu\ti\t5\n", "tsv"),
        ("a.txt", "user_id|item_id|timestamp\nu|i|5\n", "csv"),
    ],
)
def test_a_format_is_called_by_its_name(name: str, text: str, format_: str, tmp_path: Path) -> None:
    assert read_file(write(tmp_path, name, text), Reading()).look(name).format == format_
    assert read_file(write(tmp_path, name, text), Reading(format=format_)).look(name).rows == 1


def test_views_of_text_in_parquet_are_text(tmp_path: Path) -> None:
    text, names = pa.string_view(), pa.list_(pa.string_view())
    table = pa.table(
        {
            "user_id": pa.array(["u", ""], text), "item_id": pa.array(["i", "j"], text),
            "event_type": pa.array(["view", "view"], pa.string_view()), "timestamp": [5, 6],
            "context": pa.array([{"device": "x"}, None], pa.struct([("device", text)])),
        }
    )  # fmt: skip
    pq.write_table(table, tmp_path / "a.parquet")
    assert taken(tmp_path / "a.parquet") == (1, {"bad-id": 1})
    items = pa.table(
        {"item_id": pa.array(["a"], text), "title": pa.array(["A"], text), "categories": pa.array([["x"]], names)}
    )
    pq.write_table(items, tmp_path / "items.parquet")
    [item] = items_of_file(tmp_path / "items.parquet").known()
    assert (item.item_id, item.title, item.categories) == ("a", "A", ("x",))


@pytest.mark.parametrize("digits", ["\u0661\u0662\u0663", "\uff11\uff12\uff13", "\u09e7\u09e8\u09e9"])
def test_digits_of_other_scripts_are_text_as_on_the_wire(digits: str, tmp_path: Path) -> None:
    rows = [f"{digits},i,5,", f"u,i,{digits},", f"u,i,5,{digits}"]
    file = write(tmp_path, "a.csv", "user_id,item_id,timestamp,value\n" + "\n".join(rows) + "\n")
    assert taken(file) == (1, {"bad-timestamp": 1, "bad-value": 1})
    assert read_file(file, Reading(time_unit="s")).refusals.counts() == {"bad-timestamp": 1, "bad-value": 1}


def test_what_a_message_shows_is_there(tmp_path: Path) -> None:
    [row] = read_file(write(tmp_path, "a.json", '[["u", "i", 5]]'), Reading()).refusals.rows
    assert row.shown == "['u', 'i', 5]"
    with pytest.raises(DataRefused, match=r"^\S+a.csv.gz cannot be read: Compressed file ended"):
        read_file(
            write(tmp_path, "a.csv.gz", gzip.compress(b"user_id,item_id,timestamp\nu,i,5\n" * 99)[:-9]), Reading()
        )
    pq.write_table(pa.table({}), tmp_path / "b.parquet")
    with pytest.raises(DataRefused, match="; it has none; say"):
        read_file(tmp_path / "b.parquet", Reading())


@pytest.mark.parametrize("blank", ["\t", " \t ", "\x0b", "\x0c"])
@pytest.mark.parametrize("quoted", ["i", '"i"'])
def test_a_blank_line_is_no_row_whatever_it_is_blank_with(blank: str, quoted: str, tmp_path: Path) -> None:
    file = write(tmp_path, "a.csv", f"user_id,item_id,timestamp\n{blank}\nu,{quoted},5\n{blank}\n")
    assert taken(file) == (1, {})
