"""Which column is which field: what somebody says, its own name, a usual name; and never a silent guess."""

import json
import re
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st

from consumers.errors import DataRefused
from consumers.files.interactions import Reading, items_of_file, read_file
from consumers.files.names import SYNONYMS, plain
from streamer.errors import UsageError
from streamer.settings import Settings

FIELDS = ("user_id", "item_id", "event_type", "timestamp")
CELLS = ("ann", "tea", "view", "1000")


def spelled(words: str, how: int) -> str:
    """A name as people spell it."""
    parts = words.split("_")
    return ["".join(p.title() for p in parts), "-".join(parts), " ".join(parts).upper(), "_".join(parts).upper(), "".join(parts)][how]  # fmt: skip


def read(names: list[str], cells: list[str], **reading: Any) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        rows = []
        columns = {name: pa.array([cell]) for name, cell in zip(names, cells, strict=True)}
        pq.write_table(pa.table(columns), Path(folder) / "a.parquet")
        (Path(folder) / "a.csv").write_text(f"{','.join(names)}\n{','.join(cells)}\n")
        (Path(folder) / "a.jsonl").write_text(
            json.dumps({n: int(c) if c.isdecimal() else c for n, c in zip(names, cells, strict=True)})
        )
        given_columns = names == ["user_id", "item_id", "event_type", "timestamp"]
        for file in ("a.csv", "a.jsonl", *(("a.parquet",) if given_columns else ())):
            (row,) = read_file(Path(folder) / file, Reading(now_ms=2000, **reading)).table.to_pylist()
            rows.append({name: row[name] for name in FIELDS})
        assert all(row == rows[0] for row in rows)
        return rows[0]


EXPECTED = {"user_id": "ann", "item_id": "tea", "event_type": "view", "timestamp": 1000}


@profile(max_examples=60, deadline=None)
@given(hows=st.tuples(*[st.integers(0, 4)] * 4), order=st.permutations(range(4)))
def test_the_spelling_of_a_name_does_not_matter(hows: tuple[int, ...], order: list[int]) -> None:
    names = [spelled(FIELDS[n], hows[n]) for n in order]
    assert read(names, [CELLS[n] for n in order]) == EXPECTED


@profile(max_examples=60, deadline=None)
@given(chosen=st.tuples(*(st.sampled_from(SYNONYMS["interactions"][name]) for name in FIELDS)))
def test_a_usual_name_is_taken_where_it_is_the_only_one(chosen: tuple[str, ...]) -> None:
    assert read(list(chosen), list(CELLS)) == EXPECTED


@profile(max_examples=40, deadline=None)
@given(data=st.data(), field=st.sampled_from(FIELDS))
def test_two_candidates_are_a_question_with_its_answer(data: st.DataObject, field: str) -> None:
    two = data.draw(st.lists(st.sampled_from(SYNONYMS["interactions"][field]), min_size=2, max_size=2, unique=True))
    names = [*two, *(name for name in FIELDS if name != field)]
    cells = [dict(zip(FIELDS, CELLS, strict=True))[field]] * 2 + [
        cell for name, cell in zip(FIELDS, CELLS, strict=True) if name != field
    ]
    better = min(two, key=SYNONYMS["interactions"][field].index)
    with pytest.raises(DataRefused, match=rf"{field} may be {two[0]} or {two[1]}; did you mean --map {field}={better}"):
        read(names, cells)
    for name in two:
        assert read(names, cells, field_map={field: name}) == EXPECTED
    exact = [field, *names[1:]]
    assert read(exact, cells) == EXPECTED  # its own name wins


def test_a_usual_name_means_one_field() -> None:
    for kinds in SYNONYMS.values():
        usual = [name for names in kinds.values() for name in names]
        assert len(usual) == len(set(usual))
        assert all(name == plain(name) for name in usual)
        assert not set(usual) & {plain(field) for field in kinds}


def test_what_may_be_a_field_that_need_not_be_there_is_left_and_said(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("item_id,genre,category\n1,a,b\n")
    nodes = items_of_file(file)
    assert nodes.known()[0].attributes == {"genre": "a", "category": "b"}
    assert "categories: genre or category?" in nodes.opened[0].matched.open[0]


CALLED = "who,what,when,kind\nann,tea,1000,view\n"
ANSWERS = {"user_id": "who", "item_id": "what", "timestamp": "when", "event_type": "kind"}


@pytest.mark.parametrize(
    ("field_map", "row", "expected"),
    [
        ({"user_id": "user.id"}, {"user": {"id": 7}}, {"user_id": "7"}),
        ({"user_id": "userId|anonymousId"}, {"userId": None, "anonymousId": "a"}, {"user_id": "a"}),
        ({"user_id": "userId|anonymousId"}, {"userId": "b", "anonymousId": "a"}, {"user_id": "b"}),
        ({"user_id": "a.b.c|d"}, {"a": {"b": {}}, "d": 1}, {"user_id": "1"}),
        ({"user_id": "x", "session_id": "x"}, {"x": "one"}, {"user_id": "one", "session_id": "one"}),
        ({"user_id": "user.id"}, {"user.id": "flat"}, {"user_id": "flat"}),
        ({"device": "d.type", "user_id": "u"}, {"u": 1, "d": {"type": "ios"}}, {"user_id": "1", "device": "ios"}),
        ({"context.shelf": "s", "user_id": "u"}, {"u": 1, "s": "top"}, {"user_id": "1", "shelf": "top"}),
    ],
)
def test_where_a_field_may_stand(
    tmp_path: Path, field_map: dict[str, str], row: dict[str, Any], expected: dict[str, Any]
) -> None:
    whole = row | {"item_id": "i", "event_type": "view", "timestamp": 5}
    (tmp_path / "a.jsonl").write_text(json.dumps(whole))
    if "a" not in row:  # Parquet has no empty objects
        pq.write_table(pa.Table.from_pylist([whole]), tmp_path / "a.parquet")
    flat = {name: value for name, value in whole.items() if not isinstance(value, dict)}
    (tmp_path / "a.csv").write_text(
        ",".join(flat) + "\n" + ",".join("" if v is None else str(v) for v in flat.values())
    )
    files = ["a.jsonl"] + (["a.csv"] if flat == whole else []) + (["a.parquet"] if "a" not in row else [])
    for file in files:
        (read,) = read_file(tmp_path / file, Reading(field_map)).table.to_pylist()
        assert {name: read[name] for name in expected} == expected, file


def test_rows_of_json_may_have_our_names_beside_theirs(tmp_path: Path) -> None:
    rows = [{"uid": "a"}, {"user_id": "b"}, {"user_id": "c", "uid": "d"}]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(row | {"item_id": 1, "timestamp": 5}) for row in rows))
    assert read_file(tmp_path / "a.jsonl", Reading({"user_id": "uid"})).table["user_id"].to_pylist() == ["a", "b", "d"]
    (tmp_path / "b.jsonl").write_text('{"user_id": "b", "item_id": 1, "timestamp": 5}')
    assert read_file(tmp_path / "b.jsonl", Reading({"user_id": "uid"})).table["user_id"].to_pylist() == ["b"]


def test_each_element_of_a_list_is_a_row(tmp_path: Path) -> None:
    rows = [
        {"user": "u", "events": [{"aid": n, "ts": n} for n in range(3)], "event_id": "e", "others": [{"y": 1}]},
        {"user": "v", "events": []},
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    field_map = {"item_id": "events[].aid", "timestamp": "events[].ts"}
    table = read_file(tmp_path / "a.jsonl", Reading(field_map, event_type="buy")).table
    assert table["item_id"].to_pylist() == ["0", "1", "2"]
    assert table["event_id"].to_pylist() == ["e", "e-1", "e-2"]
    assert set(table["event_type"].to_pylist()) == {"buy"}
    with pytest.raises(DataRefused, match="a row is an element of one list"):
        read_file(tmp_path / "a.jsonl", Reading(field_map | {"item_id": "others[].y"}))


def test_the_left_side_of_a_map_is_a_field_of_ours() -> None:
    for name in ("user_id", "device", "title", "context.shelf", "attributes.price"):
        assert Settings.load(field_map={name: "x"}).field_map == {name: "x"}
    for name, like in (("userid", "user_id"), ("item", "item_id"), ("price", "")):
        with pytest.raises(UsageError, match=f"'{name}' is no field of ours.*{like}.*on the left may stand"):
            Settings.load(field_map={name: "x"})


@pytest.mark.parametrize(
    ("line", "flags"),
    [
        ("10,26,8,pv,1573463494", "--columns user_id,item_id,_,event_type,timestamp --time-unit s"),
        ("u1,i1,1573463494000", "--columns user_id,item_id,timestamp"),
        ("2019-11-11T09:11:34Z,7,8", "--columns timestamp,user_id,item_id"),
        ("151603712,Fallout 4,purchase,1.0,0", "--columns user_id,item_id,event_type,_,_ --order file"),
        ("1,2,1573463494000000,", "--columns user_id,item_id,timestamp,_ --time-unit us"),
    ],
)
def test_a_file_without_a_header_is_said_to_have_none(tmp_path: Path, line: str, flags: str) -> None:
    (tmp_path / "a.csv").write_text(f"{line}\n{line}\n")
    with pytest.raises(DataRefused) as refused:
        read_file(tmp_path / "a.csv", Reading())
    assert "seems to have no header" in str(refused.value)
    assert str(refused.value).endswith(f"did you mean {flags}")
    order = "file" if flags.endswith(" --order file") else "time"
    columns, _, unit = flags.removeprefix("--columns ").removesuffix(" --order file").partition(" --time-unit ")
    reading = Reading(names=tuple(columns.split(",")), time_unit=unit or None, order=order)  # type: ignore[arg-type]
    table = read_file(tmp_path / "a.csv", reading).table
    assert table["reason"].null_count == len(table) == 2
    assert "_" not in table.column_names


INSIDE: dict[str, tuple[Any, dict[str, str] | None]] = {
    "a path": (
        {"event": "View", "properties": {"distinct_id": "u", "time": 5, "product_id": "p"}},
        {"user_id": "properties.distinct_id", "item_id": "properties.product_id", "timestamp": "properties.time"},
    ),
    "one of them": ({"user_id": "u", "time": 5, "event": {"sku": "p"}}, {"item_id": "event.sku"}),
    "the elements of a list": (
        {"rows": [{"user_id": "u", "item_id": "i", "timestamp": 5}]},
        {"user_id": "rows[].user_id", "item_id": "rows[].item_id", "timestamp": "rows[].timestamp"},
    ),
    "a list of texts": ({"user_id": "u", "timestamp": 5, "products": ["p", "q"]}, {"item_id": "products[]"}),
    "two lists": ({"user_id": "u", "products": ["p"], "times": [5]}, None),
    "a list of lists": ({"user_id": "u", "timestamp": 5, "x": [[1]]}, {"item_id": "x[]"}),
}


@pytest.mark.parametrize("name", INSIDE)
def test_a_field_that_is_inside_another_is_found_for_the_question(name: str, tmp_path: Path) -> None:
    record, flags = INSIDE[name]
    (tmp_path / "a.jsonl").write_bytes(msgspec.json.encode(record) + b"\n")
    pq.write_table(pa.Table.from_pylist([record]), tmp_path / "a.parquet")
    for file in ("a.jsonl", "a.parquet"):
        with pytest.raises(DataRefused, match="lacks the column") as refused:
            read_file(tmp_path / file, Reading())
        said = dict(re.findall(r"--map '?([a-z_]+)=([^ ';]+)", str(refused.value)))
        if flags is None:
            assert set(said.values()) == {"COLUMN"}
        else:
            assert said == flags
        if flags and name != "a list of lists":
            assert read_file(tmp_path / file, Reading(field_map=flags)).table.num_rows == (2 if "texts" in name else 1)


def test_one_column_may_be_several(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("7 9 5 1400000000\n")
    with pytest.raises(DataRefused, match="what stands between them with --delimiter"):
        read_file(tmp_path / "a.txt", Reading(format="csv"))


EXPORTS = {  # names of a file of people's → what the question says
    "event_type,session_id_hash,product_action,product_sku_hash,server_timestamp_epoch_ms": (
        "--map user_id=session_id_hash --map item_id=product_sku_hash --map timestamp=server_timestamp_epoch_ms"
    ),
    "Name,Email,Financial Status,Paid at,Lineitem quantity,Lineitem name,Lineitem sku": (
        "--map user_id=Email --map 'item_id=Lineitem sku' --map 'timestamp=Paid at'"
    ),
    "ts,username,ms_played,master_metadata_track_name,spotify_track_uri": (
        "--map user_id=username --map item_id=spotify_track_uri"
    ),
    "app_id,collector_tstamp,event_name,user_id,product_id": "--map item_id=product_id --map timestamp=collector_tstamp",
    "user_id,anime_id,rating": "--map item_id=anime_id --order file",
    "user_id,session_id,timestamp,action_type,reference,platform": "--map item_id=reference",
    "endTime,user,artistName,trackName,msPlayed": "--map item_id=trackName --map timestamp=endTime",
}


@pytest.mark.parametrize("names", EXPORTS)
def test_the_question_about_an_export_has_the_answer(names: str, tmp_path: Path) -> None:
    columns = names.split(",")
    cells = ["1600000000000" if name in ("ts", "timestamp") else f"c{n}" for n, name in enumerate(columns)]
    (tmp_path / "a.csv").write_text(f"{names}\n{','.join(cells)}\n")
    with pytest.raises(DataRefused) as refused:
        read_file(tmp_path / "a.csv", Reading())
    assert EXPORTS[names] in str(refused.value)
    assert "COLUMN" not in str(refused.value).partition("; --order")[0]


@pytest.mark.parametrize("other", ["anonymous_id", "device", "cookie"])
def test_rows_without_a_user_may_be_named_by_another_column(other: str, tmp_path: Path) -> None:
    rows = "".join(f"{'u' if n % 3 else ''},d{n},i{n},{1_600_000_000_000 + n}\n" for n in range(30))
    (tmp_path / "a.csv").write_text(f"user_id,{other},item_id,timestamp\n{rows}")
    look = read_file(tmp_path / "a.csv", Reading()).look("a.csv")
    assert (look.good, look.mend) == (20, (f"--map 'user_id=user_id|{other}'",))
    again = read_file(tmp_path / "a.csv", Reading(field_map={"user_id": f"user_id|{other}"})).look("a.csv")
    assert (again.good, again.mend) == (30, ())


def test_what_says_that_there_is_no_user_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(
        "user_id,item_id,timestamp\nNA,i,1600000000000\nNA,j,1600000000001\nu,j,1600000000002\n"
    )
    assert read_file(tmp_path / "a.csv", Reading()).look("a.csv").nobody == {"NA": 2}


def test_a_column_is_suggested_for_one_field_alone(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("user product time of it\nu i 5\n")
    with pytest.raises(DataRefused) as refused:
        read_file(tmp_path / "a.csv", Reading(delimiter=";"))
    assert str(refused.value).count("=user product") <= 1
    assert "--delimiter" in str(refused.value)
