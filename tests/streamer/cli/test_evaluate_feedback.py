"""`freshet evaluate --feedback`: from the topics of lists and feedback alone, by whatever names the other lists."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from consumers.open_log import OwnedLog
from consumers.records import NewRecord
from streamer.cli.main import main
from streamer.evaluation.off_policy import off_policy
from streamer.runtime.topics import topic_specs
from streamer.settings import Settings
from tests.worlds.dealt_lists import DealtWorld

LISTS, HOUR_MS = 1_500, 3_600_000


class Shop:
    """A log of the dealt world, and what `off_policy` says of it without any log."""

    def __init__(self, folder: Path, **change: Any) -> None:
        world, random = DealtWorld(0), np.random.default_rng(6)
        self.shown, kind = world.log(random, LISTS, 0.9)
        self.other = world.lists_of(world.policies()[9], kind, random)
        self.home = ["--log", str(folder / "log")]
        with OwnedLog(folder / "log") as log:
            log.create(topic_specs(Settings(), partitions=1))
            log.append([record for n in range(LISTS) for record in self._records(n, change)])

    def _records(self, n: int, change: dict[str, Any]) -> list[NewRecord]:
        user, at_ms = f"u{self.shown.user[n]}", n * HOUR_MS
        rows = zip(self.shown.item[n].tolist(), self.shown.propensity[n].tolist(), strict=True)
        places = [
            {"item_id": f"i{item}", "score": 1.0, "source": "taste", "reason": "", "propensity": p} for item, p in rows
        ]
        one = {"list_id": f"0-{n}", "user_id": user, "surface": "default", "items": places, "model_version": "m"}
        one |= {"as_of": {"timestamp": at_ms, "positions": {}}}
        beside = [
            {"item_id": f"i{item}", "score": 1.0, "source": "taste", "reason": ""} for item in self.other[n].tolist()
        ]
        told = [{"list_id": f"0-{n}", "user_id": user, "event": "impression", "timestamp": at_ms + 1}]
        clicked = [f"i{self.shown.item[n, place]}" for place in np.flatnonzero(self.shown.outcome[n])]
        told += [told[0] | {"event": "click", "item_id": item, "timestamp": at_ms + 2} for item in clicked]
        told += [
            told[0] | {"event": "purchase", "item_id": item, "value": 3.5, "timestamp": at_ms + 3} for item in clicked
        ]
        for place in change.get("without", ()):
            del places[place]["propensity"]
        lists = [one | {"surface": "next", "list_id": f"next-{n}", "items": beside}, one]
        return [
            *(NewRecord("freshet.lists", user.encode(), json.dumps(each).encode()) for each in lists),
            *(NewRecord("feedback", user.encode(), json.dumps(each).encode()) for each in [*told, *told[-1:]]),
        ]

    def others(self) -> list[dict[str, Any]]:
        return [
            {"list_id": f"0-{n}", "items": [f"i{item}" for item in row]} for n, row in enumerate(self.other.tolist())
        ]


def evaluate(shop: Shop, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(["evaluate", "--feedback", *words, *shop.home])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_topics_give_what_the_lists_themselves_give(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shop, jsonl, parquet = Shop(tmp_path), tmp_path / "other.jsonl", tmp_path / "other.parquet"
    jsonl.write_text("\n".join(json.dumps(one) for one in shop.others()))
    pq.write_table(pa.Table.from_pylist(shop.others()), parquet)
    code, said, _ = evaluate(shop, capsys, str(jsonl), str(parquet), "--beside", "next", "--json")
    told = json.loads(said)
    expected = off_policy(shop.shown, shop.other)
    assert (code, expected.refusal) == (0, None)
    assert told["policies"].keys() == {"other.jsonl", "other.parquet", "next"}
    for policy in told["policies"].values():
        assert (policy["lists"], policy["without_list"]) == (LISTS, 0)
        for name in ("ips", "snips"):
            assert policy["estimates"][name]["value"] == pytest.approx(expected.estimates[name].value)
            assert policy["estimates"][name]["low"] == pytest.approx(expected.estimates[name].low)
    one = next(iter(told["policies"].values()))
    code, said, _ = evaluate(shop, capsys, str(jsonl), "--outcome", "value", "--json")
    spent = json.loads(said)["policies"]["other.jsonl"]["estimates"]["ips"]["value"]
    assert spent == pytest.approx(3.5 * one["estimates"]["ips"]["value"])
    _, words, _ = evaluate(shop, capsys, str(jsonl))
    assert words.startswith("other.jsonl: 1,500 of 1,500 shown lists have another one beside them; 500 users\n")
    assert f"{expected.estimates['snips'].value:>9.4f}  95 % [" in words
    assert f"the lists count as {expected.effective:,.0f} by their weights at place {expected.effective_place}" in words


def test_lists_that_have_no_other_one_beside_them_are_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shop, file = Shop(tmp_path), tmp_path / "other.jsonl"
    file.write_text("\n".join(json.dumps(one) for one in [*shop.others()[:800], {"list_id": "9-9", "items": ["i1"]}]))
    _, said, _ = evaluate(shop, capsys, str(file), "--json")
    [policy] = json.loads(said)["policies"].values()
    assert (policy["lists"], policy["without_list"]) == (800, 700)


def test_lists_without_propensities_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shop = Shop(tmp_path, without=(1,))
    code, said, _ = evaluate(shop, capsys, "--beside", "next")
    assert code == 3
    assert "cannot be judged: 1,500 of 1,500 lists do not say the propensities of their items" in said


def test_what_is_missing_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shop = Shop(tmp_path)
    for words, code, message in (
        ((), 2, "evaluate --feedback takes files of other lists, or --beside SURFACE"),
        (("--beside", "next", "--no-repeat"), 2, "--no-repeat is for lists that are measured by interactions"),
        (("--beside", "next", "--surface", "basket"), 3, "no list of 'basket' was shown, as far as feedback says"),
        ((str(tmp_path / "gone"),), 3, "there is no file"),
    ):
        found, _, said = evaluate(shop, capsys, *words)
        assert found == code
        assert message in said
    for flag in (("--beside", "next"), ("--outcome", "click"), ("--least-propensity", "0.1")):
        assert main(["evaluate", "x", "y", *flag]) == 2
        assert f"{flag[0]} is for --feedback" in capsys.readouterr().err
    assert main(["evaluate", "x"]) == 2
    assert "or --feedback" in capsys.readouterr().err
