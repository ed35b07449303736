"""Files of interactions: every format, bad rows kept and marked, order stable."""

from collections.abc import Callable
from pathlib import Path

import pytest

from consumers.errors import DataRefused
from consumers.files.interactions import guess_format, read_interactions, read_items, read_users
from tests.lazily import lazily

pd = lazily("pandas")

FILES: dict[str, tuple[str, str]] = {  # format → file name, content: the same two interactions each time
    "csv": ("a.csv", "user_id,item_id,timestamp,event_type\n007,x,1000,view\n8,y,2000,view\n"),
    "jsonl": (
        "a.jsonl",
        '{"user_id":"007","item_id":"x","timestamp":1000,"event_type":"view"}\n'
        '{"user_id":"8","item_id":"y","timestamp":2000,"event_type":"view"}\n',
    ),
    "jodie": (
        "a.csv",
        "user_id,item_id,timestamp,state_label,comma_separated_list_of_features\n007,x,1.0,0,0.1,0.2\n8,y,2.0,0,0.3,0.4\n",
    ),
    "movielens": ("ratings.dat", "007::x::5::1\n8::y::3::2\n"),
    "recbole": (
        "a.inter",
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n007\tx\t5\t1\n8\ty\t3\t2\n",
    ),
}


@pytest.mark.parametrize("format_", FILES)
def test_every_format(tmp_path: Path, format_: str) -> None:
    name, content = FILES[format_]
    file = tmp_path / name
    file.write_text(content)
    assert guess_format(file) == format_
    table = read_interactions(file)
    assert table["user_id"].to_pylist() == ["007", "8"]
    assert table["item_id"].to_pylist() == ["x", "y"]
    assert table["timestamp"].to_pylist() == [1000, 2000]
    assert table["reason"].to_pylist() == [None, None]


def test_other_separators_and_movielens_csv(tmp_path: Path) -> None:
    for name, content in {
        "a.tsv": "user_id\titem_id\ttimestamp\n1\t2\t3\n",
        "b.csv": "user_id;item_id;timestamp\n1;2;3\n",
        "u.data": "1\t2\t5\t0\n",
        "ratings.csv": "userId,movieId,rating,timestamp\n1,2,5.0,0\n",
    }.items():
        (tmp_path / name).write_text(content)
        row = read_interactions(tmp_path / name).to_pylist()[0]
        assert (row["user_id"], row["item_id"]) == ("1", "2")


def test_bad_rows_stay_in_their_place(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text(
        "uid,item_id,timestamp,value\n"
        "1,a,2020-01-01T00:00:00Z,1\n2,,5,2\n3,b,,2\n4,c,-5,1\n,d,7,1\n5,e,soon,1\n6,f,1577836800001,x\n7,g,6,inf\n"
    )
    table = read_interactions(file, {"user_id": "uid"})
    rows = {row["user_id"]: row["reason"] for row in table.to_pylist()}
    assert rows["1"] is None
    assert rows["2"] == rows[None] == "bad-id"
    assert rows["3"] == rows["4"] == rows["5"] == "bad-timestamp"
    times = table["timestamp"].to_pylist()
    assert times == [*sorted(t for t in times if t is not None), None, None]


def test_missing_columns_are_named(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("session,item_id,timestamp\n1,2,3\n")
    with pytest.raises(DataRefused, match=r"user_id.*session.*did you mean --map user_id=session"):
        read_interactions(file)
    with pytest.raises(DataRefused, match="there is no file"):
        read_interactions(tmp_path / "b.csv")
    (tmp_path / "c.parquet").write_text("no parquet")
    with pytest.raises(DataRefused, match="cannot be read as parquet"):
        read_interactions(tmp_path / "c.parquet")


def test_integers_with_gaps_stay_integers(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    pd.DataFrame({"user_id": [1.0, None, 3.0], "item_id": [1, 2, 3], "timestamp": [1, 2, 3]}).to_parquet(file)
    assert read_interactions(file)["user_id"].to_pylist() == ["1", None, "3"]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_parquet_timestamps(tmp_path: Path, unit: str) -> None:
    times = pd.Series(pd.to_datetime([1_500_000_000_000], unit="ms")).astype(f"datetime64[{unit}]")
    pd.DataFrame({"user_id": ["u"], "item_id": ["i"], "timestamp": times}).to_parquet(tmp_path / "a.parquet")
    assert read_interactions(tmp_path / "a.parquet")["timestamp"].to_pylist() == [1_500_000_000_000]


def test_items_and_users(tmp_path: Path) -> None:
    (tmp_path / "a.item").write_text(
        "item_id:token\tmovie_title:token_seq\tclass:token_seq\n1\tToy Story\tAnimation Comedy\n"
    )
    item = next(read_items(tmp_path / "a.item"))
    assert (item.item_id, item.title, item.categories) == ("1", "Toy Story", ("Animation", "Comedy"))
    (tmp_path / "users.csv").write_text("user_id,age\n007,30\n")
    user = next(read_users(tmp_path / "users.csv"))
    assert (user.user_id, user.attributes) == ("007", {"age": "30"})


@pytest.mark.data
@pytest.mark.parametrize("name", ["movietweetings", "deskdrop", "wikipedia"])
def test_real_streams_are_in_pandas_stable_order(name: str, stream: Callable[[str], Path], tmp_path: Path) -> None:
    frame = pd.read_parquet(stream(name)).sample(frac=1, random_state=0).reset_index(drop=True)
    frame.to_parquet(tmp_path / "shuffled.parquet")
    expected = frame.sort_values("timestamp", kind="stable")
    table = read_interactions(tmp_path / "shuffled.parquet")
    assert table["user_id"].to_pylist() == expected.user_id.tolist()
    assert table["item_id"].to_pylist() == expected.item_id.tolist()
    assert table["reason"].null_count == len(frame)
