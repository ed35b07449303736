"""Files as they are handed over: several, a folder of parts, a pipe, compressed, in another encoding or shape of text."""

import bz2
import gzip
import io
import json
import lzma
import tarfile
import zipfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st

from consumers.errors import DataRefused
from consumers.files.interactions import Reading, digest_files, digest_of_file, parts_of, read_file

HEAD = "user_id,item_id,event_type,timestamp\n"


def zstd(data: bytes) -> bytes:
    return bytes(pa.Codec("zstd").compress(data))


def zipped(files: dict[str, str]) -> bytes:
    """A zip archive as a file manager makes it: with a folder, and what it leaves beside files."""
    stored = io.BytesIO()
    with zipfile.ZipFile(stored, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.mkdir("data")
        archive.writestr("__MACOSX/data/._a.csv", "no data")
        for name, text in files.items():
            archive.writestr(name, text)
    return stored.getvalue()


def tar(text: str) -> bytes:
    stored = io.BytesIO()
    with tarfile.open(fileobj=stored, mode="w:gz") as archive:
        archive.addfile(about := tarfile.TarInfo("a.csv"), io.BytesIO(text.encode()[: about.size]))
    return stored.getvalue()


def content(rows: int, first: int = 0) -> str:
    return HEAD + "".join(f"u{n % 3},ü{n % 5},view,{(n * 7) % 11}\n" for n in range(first, first + rows))


STORED = {
    "a.csv": lambda text: text.encode(),
    "a.csv.gz": lambda text: gzip.compress(text.encode()),
    "a.csv.zst": lambda text: zstd(text.encode()),
    "b.csv.zst": lambda text: zstd(text.encode()[:20]) + zstd(text.encode()[20:]),  # of several frames
    "a.tsv.zst": lambda text: zstd(text.replace(",", "\t").encode()),
    "a.csv.bz2": lambda text: bz2.compress(text.encode()),
    "a.csv.xz": lambda text: lzma.compress(text.encode()),
    "archive.zip": lambda text: zipped({"data/a.csv": text}),
    "excel.csv": lambda text: b"sep=;\r\n" + text.replace(",", ";").replace("\n", "\r\n").encode(),
    "utf16.csv": lambda text: text.encode("utf-16"),
}


@pytest.mark.parametrize("name", STORED)
def test_compressed_or_not(name: str, tmp_path: Path) -> None:
    (tmp_path / "plain.csv").write_text(content(20))
    (tmp_path / name).write_bytes(STORED[name](content(20)))
    assert read_file(tmp_path / name, Reading()).table.equals(read_file(tmp_path / "plain.csv", Reading()).table)


@pytest.mark.parametrize("name", STORED)
def test_standard_input(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "plain.csv").write_text(content(20))
    data = STORED[name](content(20))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    parts = parts_of(Path("-"))
    assert read_file(parts, Reading()).table.equals(read_file(tmp_path / "plain.csv", Reading()).table)
    (tmp_path / name).write_bytes(data)
    assert digest_files(parts) == digest_of_file(tmp_path / name)
    with pytest.raises(DataRefused, match="given twice"):
        parts_of([Path("-"), Path("-")])


NOT_READ = {
    "two.zip": (zipped({"a.csv": content(2), "b.csv": content(2)}), "holds 2 files: a.csv, b.csv; unpack it"),
    "none.zip": (zipped({}), "holds 0 files; unpack it"),
    "book.xlsx": (
        zipped({"[Content_Types].xml": "<x/>", "xl/workbook.xml": "<x/>"}),
        "an Excel workbook; save its sheet",
    ),
    "a.tar.gz": (tar(content(2)), "a tar archive; unpack it"),
    "a.arrow": (b"ARROW1\0\0" + bytes(90), "an Arrow file; save what it holds as CSV"),
    "a.db": (b"SQLite format 3\0" + bytes(90), "a database of SQLite; save"),
    "torn.csv.bz2": (bz2.compress(content(20).encode())[:60], "cannot be read"),
    "torn.csv.xz": (lzma.compress(content(20).encode())[:60], "cannot be read"),
    "torn.zip": (zipped({"a.csv": content(20)})[:90], "cannot be read"),
}


@pytest.mark.parametrize("name", NOT_READ)
def test_what_is_no_text_and_no_parquet_is_named(name: str, tmp_path: Path) -> None:
    data, why = NOT_READ[name]
    (tmp_path / name).write_bytes(data)
    for format_ in (None, "csv"):
        with pytest.raises(DataRefused, match=why):
            read_file(tmp_path / name, Reading(format=format_))


@profile(max_examples=30, deadline=None)
@given(cuts=st.lists(st.integers(0, 30), max_size=4), bad=st.integers(0, 29))
def test_parts_are_the_whole(cuts: list[int], bad: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("parts")
    lines = content(30).splitlines(keepends=True)[1:]
    lines[bad] = "u,i,view,soon\n"
    (folder / "whole.csv").write_text(HEAD + "".join(lines))
    edges = [0, *sorted(cuts), 30]
    (folder / "all" / "day=2").mkdir(parents=True)
    files = []
    for n, (first, last) in enumerate(pairwise(edges)):
        files.append(folder / "all" / ("day=2" if n > 2 else ".") / f"part-{n}.csv")
        files[-1].write_text(HEAD + "".join(lines[first:last]))
    (folder / "all" / "_SUCCESS").write_text("")
    (folder / "all" / ".part-0.csv.crc").write_text("no data")
    whole = read_file(folder / "whole.csv", Reading())
    found = read_file(files, Reading())
    assert found.table.equals(whole.table)
    assert found.records == whole.records
    assert f"part-{sum(edge <= bad for edge in edges) - 1}.csv, line " in found.refusals.first() or len(files) == 1
    in_folder = read_file(folder / "all", Reading())
    assert sorted(map(str, in_folder.table.to_pylist())) == sorted(map(str, whole.table.to_pylist()))


def test_parts_with_other_columns(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_text("user_id,item_id,timestamp,price\na,i,1,2.5\n")
    (tmp_path / "2.jsonl").write_text('{"user_id": "b", "item_id": "i", "timestamp": 2, "price": 3, "value": 4}')
    table = read_file([tmp_path / "1.csv", tmp_path / "2.jsonl"], Reading()).table
    assert table["price"].to_pylist() == ["2.5", "3"]
    assert table["value"].to_pylist() == [None, 4.0]
    assert table["event_type"].to_pylist() == ["interaction", "rating"]
    assert table.column_names[-1] == "reason"


def test_an_empty_folder_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "no.csv"):
        with pytest.raises(DataRefused, match="there is no file"):
            read_file(path, Reading())


@pytest.mark.parametrize(
    ("text", "reading"),
    [
        ("user_id;item_id;timestamp\na;b,c;5\n", {}),
        ("user_id|item_id|timestamp\na|b,c|5\n", {}),
        ("user_id||item_id||timestamp\na||b,c||5\n", {"delimiter": "||"}),
        ("user_id^item_id^timestamp\na^b,c^5\n", {"delimiter": "^"}),
        ("a\tb,c\tx\t5\n", {"names": ("user_id", "item_id", "_", "timestamp")}),
        ('{"user_id": "a",\n "item_id": "b,c",\n "timestamp": 5}', {"format": "jsonl"}),
        ('[{"user_id": "a", "item_id": "b,c", "timestamp": 5}]', {}),
        ("user_id\titem_id\na\tb,c\n", {"order": "file"}),
        ("user_id\titem_id\ttimestamp\na\tb,c\tsoon\n", {"order": "file"}),
        ('{"user_id": "a", "item_id": "b,c"}', {"order": "file"}),
    ],
)
def test_shapes_of_text(text: str, reading: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(text)
    (row,) = read_file(tmp_path / "a.csv", Reading(**reading)).table.to_pylist()
    expected = {"user_id": "a", "item_id": "b,c", "timestamp": 0 if "order" in reading else 5}
    assert {name: row[name] for name in expected} == expected
    assert row["reason"] is None


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16-le", "shift-jis"])
def test_encodings(encoding: str, tmp_path: Path) -> None:
    word = "カフェ" if encoding == "shift-jis" else "Café"
    (tmp_path / "a.csv").write_bytes(f"user_id,item_id,timestamp\nu,{word},5\n".encode(encoding))
    (row,) = read_file(tmp_path / "a.csv", Reading(encoding=encoding)).table.to_pylist()
    assert row["item_id"] == word
    if encoding == "latin-1":
        assert "--encoding" in read_file(tmp_path / "a.csv", Reading()).refusals.first()


def test_rows_in_the_order_of_files_stay_in_it(tmp_path: Path) -> None:
    for n in range(2):
        (tmp_path / f"{n}.csv").write_text(
            "user_id,item_id,timestamp\n" + "".join(f"{n},{k},{9 - k}\n" for k in range(3))
        )
    table = read_file([tmp_path / "0.csv", tmp_path / "1.csv"], Reading(order="file")).table
    assert table["item_id"].to_pylist() == ["0", "1", "2"] * 2
    assert table["timestamp"].to_pylist() == [0, 1000, 2000, 3000, 4000, 5000]


def test_what_tail_prints_is_read(tmp_path: Path) -> None:
    value = {"user_id": "a", "item_id": "i", "event_type": "buy", "timestamp": 5, "event_id": "e"}
    event = {"user_id": "b", "item_id": "i"}
    record = {"topic": "interactions", "partition": 0, "offset": 3, "timestamp": 99, "key": "a", "headers": {}}
    ce = {"ce_specversion": "1.0", "ce_id": "x", "ce_type": "view", "ce_source": "/"}
    printed = [record | {"value": value}, record | {"value": event, "headers": ce}, record | {"value": "no JSON"}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, printed)))
    found = read_file(tmp_path / "a.jsonl", Reading())
    rows = [row for row in found.table.to_pylist() if not row["reason"]]
    assert [{name: row[name] for name in value} for row in rows] == [
        value, {"user_id": "b", "item_id": "i", "event_type": "view", "timestamp": 99, "event_id": "x"}
    ]  # fmt: skip
    assert found.refusals.counts() == {"not-json": 1}


MARKS = {
    "two": "\ufeff\ufeff".encode(),
    "three": "\ufeff\ufeff\ufeff".encode(),
    "two of UTF-16": "\ufeff".encode("utf-16"),
    "of UTF-32": b"",
}


@pytest.mark.parametrize("marks", MARKS)
@pytest.mark.parametrize("quoted", [False, True])
def test_however_many_byte_order_marks_are_no_text(marks: str, quoted: bool, tmp_path: Path) -> None:
    row = '"007","i","5"\n' if quoted else "007,i,5\n"
    encoding = {"two of UTF-16": "utf-16-le", "of UTF-32": "utf-32"}.get(marks, "utf-8")
    (tmp_path / "a.csv").write_bytes(MARKS[marks] + ("user_id,item_id,timestamp\n" + row).encode(encoding))
    value = {"user_id": "007", "item_id": "i", "timestamp": 5}
    (tmp_path / "b.jsonl").write_bytes(MARKS[marks] + json.dumps(value).encode(encoding))
    for name in ("a.csv", "b.jsonl"):
        [found] = read_file(tmp_path / name, Reading()).table.to_pylist()
        assert {field: found[field] for field in value} == value, name


def test_a_wide_encoding_that_is_torn_is_refused_and_changes_no_id(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("user_id,item_id,timestamp\nu,ü,5\n".encode("utf-16")[:-3])
    with pytest.raises(DataRefused, match=r"cannot be read as csv: .*--encoding"):
        read_file(tmp_path / "a.csv", Reading())


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
@pytest.mark.parametrize("quoted", [False, True])
def test_a_mark_inside_the_file_is_part_of_its_id(name: str, quoted: bool, tmp_path: Path) -> None:
    rows = '\ufeffa,"i",5\na,i,6\n' if quoted and name == "a.csv" else "\ufeffa,i,5\na,i,6\n"
    text = "\ufeffuser_id,item_id,timestamp\n" + rows
    (tmp_path / name).write_text(text.replace(",", "\t") if name == "a.tsv" else text)
    assert read_file(tmp_path / name, Reading()).table["user_id"].to_pylist() == ["\ufeffa", "a"]
