"""`freshet export` on both homes of the log: each list that left is a row, beside a worker that makes more."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from consumers.records import NewRecord
from streamer.cli.main import main
from streamer.ops import list_export
from streamer.runtime.topics import read_records, whole
from tests.shop import Shop, shop
from tests.waiting import until

__all__ = ["shop"]
OF_ITEMS = {
    "items": "item_id",
    "scores": "score",
    "sources": "source",
    "reasons": "reason",
    "propensities": "propensity",
}


@pytest.fixture(autouse=True)
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of several groups of rows."""
    monkeypatch.setattr(list_export, "ROWS_A_GROUP", 3)


def export(shop: Shop, file: Path, capsys: pytest.CaptureFixture[str], *flags: str) -> dict[str, Any]:
    """What the command says of the file."""
    home = [] if shop.settings.bootstrap else ["--log", str(shop.settings.log)]
    assert main(["export", str(file), *home, *flags, "--json"]) == 0
    return dict(json.loads(capsys.readouterr().out))


def records(shop: Shop, topic: str) -> dict[tuple[int, int], Any]:
    """Place on a topic → what is there."""
    found = read_records(shop.log, whole(shop.log, topic))
    return {(record.partition, record.offset): record for record in found}


def test_each_list_that_left_is_a_row_with_all_that_its_record_says(
    shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for asked in ({"user_id": "u1", "k": 3}, {"items": ["i3"], "k": 2}, {"user_id": "nobody", "explain": True}):
        shop.listed(**asked)
    topic, dealt = shop.settings.lists_topic, {"name": "carousel", "arm": "b", "group": "7"}
    until(lambda: sum(b'"q-' in (one.value or b"") for one in records(shop, topic).values()) == 3)
    known = next(json.loads(one.value) for one in records(shop, topic).values())
    shop.log.append([NewRecord(topic, b"u9", json.dumps(known | {"experiment": dealt, "cut": 4}).encode())])
    shop.log.append([NewRecord(topic, b"u9", value) for value in (b"none", b"[]", b'{"list_id": "7"}')])
    said = export(shop, tmp_path / "lists.parquet", capsys)
    there = records(shop, topic)
    rows = pq.read_table(tmp_path / "lists.parquet").to_pylist()
    assert said == {"file": str(tmp_path / "lists.parquet"), "lists": len(there) - 3, "passed_over": 3}
    assert len(rows) == len(there) - 3 > 2 * list_export.ROWS_A_GROUP
    for row in rows:
        told = json.loads(there[row.pop("partition"), row.pop("offset")].value)
        items = {name: [item[field] for item in told["items"]] for name, field in OF_ITEMS.items()}
        arm = dict(zip(("experiment", "arm", "group"), told.get("experiment", {}).values() or [None] * 3, strict=True))
        same = {
            name: told.get(name) for name in ("list_id", "user_id", "surface", "model_version", "fallback", "rules")
        }
        assert row == same | items | arm | {"timestamp": told["as_of"]["timestamp"], "cut": told.get("cut", 0)}
    assert {row["user_id"] for row in rows} >= {None, "nobody", "u1"}
    assert [row["arm"] for row in rows if row["experiment"] == "carousel"] == ["b"]


def test_the_newest_are_those_that_a_subscriber_holds(
    shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def held() -> dict[str, Any]:
        newest = dict[str, Any]()
        for one in records(shop, shop.settings.recommendations_topic).values():
            newest[one.key.decode()] = one.value and json.loads(one.value)["list_id"]
        return {user: list_id for user, list_id in newest.items() if list_id}

    assert shop.front.delete("/v1/users/u4").status_code == 202
    until(lambda: held().keys() == {"u0", "u1", "u2", "u3"}, said=held)
    export(shop, tmp_path / "newest.parquet", capsys, "--newest")
    rows = pq.read_table(tmp_path / "newest.parquet").to_pylist()
    assert {row["user_id"]: row["list_id"] for row in rows} == held()
    assert len(rows) == 4


def test_a_log_without_lists_is_an_empty_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home, file = ["--log", str(tmp_path / "log")], tmp_path / "lists.parquet"
    assert main(["export", str(file), *home]) == 1
    assert "there is no log in" in capsys.readouterr().err
    assert not file.exists()
    assert main(["topics", "create", *home]) == 0
    capsys.readouterr()
    assert main(["export", str(file), *home]) == 0
    assert capsys.readouterr().out == f"0 lists in {file}\n"
    assert pq.read_schema(file).names == list_export.SCHEMA.names
