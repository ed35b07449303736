"""The same rows in every format and on a topic: the same interactions, the same refusals. The wire decoder is the rule."""

import csv
import gzip
import io
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import hypothesis
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from consumers.dead_letter import DeadLetter
from consumers.decode_interactions import InteractionDecoder
from consumers.files.interactions import Reading, read_file
from consumers.open_log import OwnedLog
from consumers.records import NewRecord, Record
from streamer.features.topic_table import read_topic, tabulate
from streamer.settings import Settings

NOW_MS = 1_600_000_000_000
Row = dict[str, Any]
FIELDS = ("user_id", "item_id", "event_type", "timestamp", "value", "event_id", "session_id")
ODD_IDS = ["007", "7", "NA", "null", "NULL", "nan", "N/A", "None", "true", "2024-01-01", "1e5", "1.0", " a", "ü", "9" * 30,
           "18446744073709551616", "x" * 1024, "x" * 1025, "é" * 513, "", "-", "#", "a;b", "a,b", "'q'", "\\N",
           "\0", "\x1c", "a\x1fb", "\x1e7", "\x85", "\u2028", "\ufeffa", "7\u200b", "e\u0301", "\U0001f600"]  # fmt: skip
ids = st.sampled_from(ODD_IDS) | st.integers(0, 1 << 70) | st.text("abcäß 0", min_size=1, max_size=6)
times = (
    st.integers(0, NOW_MS)
    | st.sampled_from(["2019-11-11", "2019-11-11T09:11:34Z", "2019-11-11 09:11:34.123", "2019-11-11 09:11:34 UTC",
                       "2019-11-11 09:11:34 +0000 UTC", "2019-11-11T09:11:34+02:00", "soon", "11/11/2019 9:11", "",
                       "9" * 400, "\u0661\u0662x", "2019-11-11T24:00:00Z", "2019-W46-1", "20191111T091134",
                       "2019-02-29", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2019-11-11T09:11:60Z"])
    | st.sampled_from([-1, -5.0, 1.5, NOW_MS + 300_000, NOW_MS + 300_001, 10**17, 10**40, 1e300, 1573464000000.0])
)  # fmt: skip
values = (
    st.none()
    | st.sampled_from([0, 5, 4.5, -1e3, 1001, "abc", "4,5", 1e20, "++inf", "1e", "0x1p3", "1_0", "."])
    | st.floats(-10, 10)
)


def rows(**fields: Any) -> st.SearchStrategy[list[Row]]:
    """Rows of wire fields; an optional one that is None is not there."""
    row = st.fixed_dictionaries({"user_id": ids, "item_id": ids, "timestamp": times} | fields)
    return st.lists(row, min_size=1, max_size=12)


WIRE = rows(
    event_type=st.sampled_from(["view", "buy", "", "NA", "3"]),
    value=values,
    event_id=st.none() | st.sampled_from(["e1", "7", "NA", "0"]),
    session_id=st.none() | st.sampled_from(["s", "01"]),
)


def on_the_wire(rows: Sequence[Row]) -> list[Any]:
    """What the decoder makes of the rows as records: an interaction or a dead letter each."""
    decoder = InteractionDecoder()
    return [
        decoder.decode(Record("t", 0, n, None, json.dumps(row).encode(), (), 0), NOW_MS) for n, row in enumerate(rows)
    ]


def said(table: pa.Table) -> Counter[Any]:
    """The interactions and the reasons of a table, whatever their order."""
    told = []
    for row in table.to_pylist():
        told.append(row["reason"] or tuple(row.get(name) for name in FIELDS))
    return Counter(told)


def expected(rows: Sequence[Row]) -> Counter[Any]:
    told = on_the_wire([{name: cell for name, cell in row.items() if cell is not None} for row in rows])
    return Counter(
        str(one.reason) if isinstance(one, DeadLetter) else tuple(getattr(one, name) for name in FIELDS) for one in told
    )


def read(name: str, content: bytes, **reading: Any) -> pa.Table:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / name
        file.write_bytes(content)
        return read_file(file, Reading(now_ms=NOW_MS, **reading)).table


def text_of(cell: Any) -> str:
    return "" if cell is None else str(cell)


def delimited(rows: Sequence[Row], delimiter: str, quoting: Any = csv.QUOTE_MINIMAL, end: str = "\n") -> str:
    """The rows as a table with a line of names; without quoting, no cell has a delimiter."""
    names = list(rows[0])
    if quoting == csv.QUOTE_NONE:
        lines = [names, *([text_of(row[name]) for name in names] for row in rows)]
        return "".join(delimiter.join(line) + end for line in lines)
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, quoting=quoting, lineterminator=end)
    writer.writerows([names, *([text_of(row[name]) for name in names] for row in rows)])
    return out.getvalue()


CSV: dict[str, Callable[[list[Row]], tuple[str, bytes]]] = {
    "plain": lambda rows: ("a.csv", delimited(rows, ",").encode()),
    "semicolons": lambda rows: ("a.csv", delimited(rows, ";").encode()),
    "every cell quoted": lambda rows: ("a.csv", delimited(rows, ",", csv.QUOTE_ALL).encode()),
    "CRLF": lambda rows: ("a.csv", delimited(rows, ",", end="\r\n").encode()),
    "BOM": lambda rows: ("a.csv", b"\xef\xbb\xbf" + delimited(rows, ",").encode()),
    "BOM, quotes and CRLF": lambda rows: (
        "a.csv", b"\xef\xbb\xbf" + delimited(rows, ",", csv.QUOTE_ALL, "\r\n").encode()
    ),
    "gzip": lambda rows: ("a.csv.gz", gzip.compress(delimited(rows, ",").encode())),
    "UTF-16": lambda rows: ("a.csv", delimited(rows, ",").encode("utf-16")),
    "tabs": lambda rows: ("a.tsv", delimited(rows, "\t", csv.QUOTE_NONE).encode()),
    "tabs, BOM, CRLF, gzip": lambda rows: (
        "a.tsv.gz", gzip.compress(b"\xef\xbb\xbf" + delimited(rows, "\t", csv.QUOTE_NONE, "\r\n").encode())
    ),
}  # fmt: skip
many = hypothesis.settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize("how", CSV)
@many
@given(rows=WIRE)
def test_delimited_text(how: str, rows: list[Row]) -> None:
    assert said(read(*CSV[how](rows))) == expected(rows)


@many
@given(rows=WIRE)
def test_json(rows: list[Row]) -> None:
    there = [{name: cell for name, cell in row.items() if cell is not None} for row in rows]
    for name, content in {
        "a.jsonl": "\n".join(map(json.dumps, there)),
        "b.jsonl": "\r\n\r\n".join(map(json.dumps, there)) + "\n",
        "c.json": json.dumps(there),
        "d.json": json.dumps(there, indent=2),
    }.items():
        assert said(read(name, content.encode())) == expected(rows)


@many
@given(rows=WIRE)
def test_parquet(rows: list[Row]) -> None:
    columns: dict[str, pa.Array] = {}
    for name in rows[0]:
        cells = [row[name] for row in rows]
        kinds = {type(cell) for cell in cells if cell is not None}
        exact = kinds <= {int} and all(cell is None or abs(cell) < 1 << 63 for cell in cells)
        if name in ("timestamp", "value") and (exact or kinds <= {float}):
            columns[name] = pa.array(cells, pa.int64() if kinds == {int} else pa.float64())
        elif exact and kinds:
            columns[name] = pa.array(cells, pa.int64())
        else:
            columns[name] = pa.array([None if cell is None else str(cell) for cell in cells], pa.string())
    for column_type in (None, "dictionary"):
        table = pa.table(columns)
        if column_type and pa.types.is_string(table["user_id"].type):
            place = table.column_names.index("user_id")
            table = table.set_column(place, "user_id", table["user_id"].dictionary_encode())
        out = io.BytesIO()
        pq.write_table(table, out)
        assert said(read("a.parquet", out.getvalue())) == expected(rows)


plain_ids = st.text("abcä019 ", min_size=1, max_size=6).filter(str.strip) | st.sampled_from(
    ["NA", "", "007", "x" * 1025, "nan"]
)
seconds = st.integers(0, NOW_MS // 1000) | st.sampled_from(["soon", "", -1, NOW_MS, 1e30, 1.5, 1573464000.25])
RATED = st.lists(
    st.fixed_dictionaries({"user_id": plain_ids, "item_id": plain_ids, "value": values, "timestamp": seconds}),
    min_size=1, max_size=12,
)  # fmt: skip


def in_ms(rows: list[Row], **constant: Any) -> list[Row]:
    """The rows as records would have them: milliseconds, and what a format implies."""
    return [row | {"timestamp": _ms(row["timestamp"])} | constant for row in rows]


def _ms(cell: Any) -> Any:
    return cell if isinstance(cell, str) else cell * 1000 if isinstance(cell, int) else round(cell * 1000)


def joined(rows: list[Row], delimiter: str, names: Sequence[str] = ("user_id", "item_id", "value", "timestamp")) -> str:
    return "".join(delimiter.join(text_of(row[name]) for name in names) + "\n" for row in rows)


@many
@given(rows=RATED)
def test_movielens_and_recbole(rows: list[Row]) -> None:
    told = expected(in_ms(rows, event_type="rating", event_id=None, session_id=None))
    head = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    assert (
        said(
            read(
                "ratings.dat",
                joined(rows, "::").encode(),
            )
        )
        == told
    )
    assert said(read("u.data", joined(rows, "\t").encode())) == told
    assert said(read("a.inter", (head + joined(rows, "\t")).encode())) == told
    assert said(read("a.inter", b"\xef\xbb\xbf" + (head + joined(rows, "\t")).replace("\n", "\r\n").encode())) == told
    no_commas = [row | {"value": None if row["value"] == "4,5" else row["value"]} for row in rows]
    csv_told = expected(in_ms(no_commas, event_type="rating", event_id=None, session_id=None))
    content = "userId,movieId,rating,timestamp\n" + joined(no_commas, ",")
    assert said(read("ratings.csv", content.encode())) == csv_told


@many
@given(rows=RATED)
def test_jodie(rows: list[Row]) -> None:
    told = expected(
        in_ms([row | {"value": None} for row in rows], event_type="interaction", event_id=None, session_id=None)
    )
    content = "user_id,item_id,timestamp,state_label,comma_separated_list_of_features\n" + "".join(
        ",".join(text_of(row[name]) for name in ("user_id", "item_id", "timestamp")) + ",0,0.1,0.2\n" for row in rows
    )
    assert said(read("wikipedia.csv", content.encode())) == told


@many
@given(rows=WIRE)
def test_what_is_sent_of_a_refused_row_is_refused_with_the_same_reason(rows: list[Row]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name, content in {"a.csv": delimited(rows, ","), "a.jsonl": "\n".join(map(json.dumps, rows))}.items():
            file = Path(folder) / name
            file.write_text(content)
            found = read_file(file, Reading(now_ms=NOW_MS))
            reasons = found.table["reason"].to_pylist()
            assert {n for n, reason in enumerate(reasons) if reason} == set(found.records)
            for n, record in found.records.items():
                letter = InteractionDecoder().decode(Record("t", 0, 0, None, record, (), 0), NOW_MS)
                assert isinstance(letter, DeadLetter)
                assert letter.reason == reasons[n]


@many
@given(rows=WIRE)
def test_a_topic_as_a_table(rows: list[Row]) -> None:
    there = [{name: cell for name, cell in row.items() if cell is not None} for row in rows]
    table = tabulate(on_the_wire(there))
    wanted = expected(rows)
    assert said(table).keys() == wanted.keys()
    assert said(table) == wanted


def test_a_real_topic_gives_what_the_file_gives(settings: Settings, log: OwnedLog, tmp_path: Path) -> None:
    rows: list[Row] = [
        {"user_id": user, "item_id": "i", "event_type": kind, "timestamp": t, "context": {"device": "ios"}}
        for user, kind, t in [
            ("007", "view", 1),
            ("7", "", 2),
            ("", "view", 3),
            ("NA", "buy", -1),
            (8, "buy", "2019-11-11"),
        ]
    ]
    lines = [json.dumps(row).encode() for row in rows]
    log.append([NewRecord(settings.interactions_topic, b"k", line) for line in lines])
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    table = read_topic(log, settings.interactions_topic, settings).table
    assert said(table) == said(read_file(tmp_path / "a.jsonl", Reading()).table)
    assert table["reason"].null_count == 2
