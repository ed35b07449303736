"""Whatever bytes a file has, a reader gives its rows or refuses it: no other exception leaves it."""

import csv
import gzip
import io
import json
import random
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from consumers.errors import DataRefused
from consumers.files.interactions import Reading, items_of_file, read_file, users_of_file
from tests.mutations import mutated

NAMES = ("user_id", "item_id", "event_type", "timestamp", "value", "context", "title", "categories", "deleted")
ROWS: list[list[Any]] = [
    ["u1", "i1", "view", 1000, 3.5, {"a": 1}, "T", "a|b", ""],
    ["7", "8", "buy", "2019-11-11", "", "", "X\nY", "", "true"],
    ["ü", "b", "like", 1573463494000, 1e5, "", "", "", ""],
] * 2
OBJECTS = [{name: cell for name, cell in zip(NAMES, row, strict=True) if cell != ""} for row in ROWS]


def in_csv(quoting: Any, delimiter: str) -> bytes:
    out = io.StringIO()
    csv.writer(out, quoting=quoting, delimiter=delimiter).writerows([NAMES, *ROWS])
    return out.getvalue().encode()


def in_parquet() -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table({"user_id": ["a"], "item_id": [1], "timestamp": [2], "context": [{"a": 1}]}), out)
    return out.getvalue()


def lines(*values: Any) -> bytes:
    return b"\n".join(map(msgspec.json.encode, values))


FILES: dict[str, bytes] = {
    "a.csv": in_csv(csv.QUOTE_MINIMAL, ","),
    "quoted.csv": in_csv(csv.QUOTE_ALL, ";"),
    "wide.csv": in_csv(csv.QUOTE_MINIMAL, ",").decode().encode("utf-16"),
    "a.csv.gz": gzip.compress(in_csv(csv.QUOTE_MINIMAL, ",")),
    "a.csv.zst": pa.Codec("zstd").compress(in_csv(csv.QUOTE_MINIMAL, ","), asbytes=True),
    "a.tsv": b"user_id\titem_id\tevent_type\ttimestamp\nu\ti\tview\t1000\n",
    "a.jsonl": lines(*OBJECTS),
    "a.json": json.dumps(OBJECTS, indent=1).encode(),
    "events.jsonl": lines(*({"specversion": "1.0", "id": "1", "type": "view", "data": one} for one in OBJECTS)),
    "changes.jsonl": lines(*({"op": "c", "after": one, "source": {"table": "t", "ts_ms": 5}} for one in OBJECTS)),
    "tail.jsonl": lines(*({"topic": "t", "partition": 0, "offset": 1, "key": "k", "value": one} for one in OBJECTS)),
    "a.parquet": in_parquet(),
    "a.inter": b"user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\t2\t3.5\t1000\n",
    "ratings.dat": b"1::2::3::1000\n" * 3,
    "movies.dat": "1::Le café (1995)::Comedy|Drama\n".encode("latin-1"),
    "u.item": b"1|Toy|01-Jan-1995||http://e|" + b"|".join([b"1"] * 19) + b"\n",
    "tags.csv": b'userId,movieId,tag,timestamp\n1,2,"slow, good",5\n',
    "wikipedia.csv": b"user_id,item_id,timestamp,state_label,comma_separated_list_of_features\n1,2,3.5,0,0.1\n",
    "behaviors.tsv": b"1\tU1\t11/11/2019 9:05:58 AM\tN5 N4\tN6-1 N7-0\n",
    "item_properties_part1.csv": b"timestamp,itemid,property,value\n1435460400000,4,categoryid,1338\n",
}
WORDS = [b'"', b'""', b"{", b"}", b"[", b"]", b",", b":", b"\n", b"\r", b"\t", b"|", b"::", b"null", b"1e999", b"\\ud800",
         b"9" * 400, b"9" * 5000, b"\xff\xfe", b"NaN", b"\0", b"\x1c", b"\x1e1", b"\x1f", b"[" * 2000, b'{"a":' * 2000,
         b"\xef\xbb\xbf", b"-1", b'\n"', b'","', b"user_id", b"2019-02-30", b"9999-12-31T23:59:59-23:59", b"\xc3",
         b"\xed\xa0\x80", b"reason", b"++inf", b"1e400"]  # fmt: skip
READINGS = [Reading(), Reading(order="file"), Reading(encoding="latin-1"), Reading(encoding="utf-16"),
            Reading(time_format="%d/%m/%Y"), *(Reading(time_unit=unit) for unit in ("s", "us", "ns")),
            Reading(field_map={"item_id": "title|item_id", "shelf": "context.a"}), Reading(event_type="x", delimiter=",")]  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_no_exception_but_one_leaves_a_reader(tmp_path: Path, name: str) -> None:
    chance, file, taken = random.Random(name), tmp_path / name, 0
    for n in range(60):
        file.write_bytes(mutated(FILES[name], chance, WORDS, list(FILES.values())) if n else FILES[name])
        reading = chance.choice(READINGS) if n % 2 else Reading()
        try:
            found = read_file(file, reading)
            found.look(file)
            assert found.table["reason"].null_count + len(found.refusals.rows) == len(found.table)
            for row in found.table.select(["user_id", "item_id", "event_type", "timestamp", "reason"]).to_pylist():
                assert row["reason"] or (
                    row["user_id"] and row["item_id"] and row["event_type"] and row["timestamp"] >= 0
                )
            taken += found.table["reason"].null_count
        except DataRefused:
            pass
        for nodes_of in (items_of_file, users_of_file):
            try:
                msgspec.json.encode(nodes_of(file, reading).entries)
                taken += 1
            except DataRefused:
                pass
    assert taken
