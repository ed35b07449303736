"""A stream of which a part is replayed, or which arrives late, twice, at its pace, or is observed with a lag."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st

from streamer.cli.main import main
from streamer.evaluation.reordering import all_rows, between, with_duplicates, with_lateness
from streamer.settings import Settings
from tests.worlds import checkerboard, table_of

EVENTS = checkerboard(users=20, items=20, events=300)
Replayed = Callable[..., tuple[dict[str, Any], dict[int, list[str]]]]


@pytest.fixture
def replayed(tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str]) -> Replayed:
    file = tmp_path / "events.csv"
    rows = "".join(f"{u},{i},view,{n * 1000}\n" for n, (u, i, _) in enumerate(EVENTS))
    file.write_text("user_id,item_id,event_type,timestamp\n" + rows)

    def run(*flags: str) -> tuple[dict[str, Any], dict[int, list[str]]]:
        out = tmp_path / "lists.parquet"
        assert main(["replay", str(file), "--lists-out", str(out), "--json", *flags]) == 0
        lists = pq.read_table(out)
        numbers = lists["event"].to_pylist()
        assert len(set(numbers)) == len(numbers)
        return json.loads(capsys.readouterr().out), dict(zip(numbers, lists["items"].to_pylist(), strict=True))

    return run


def test_a_copy_of_an_event_changes_no_list(replayed: Replayed) -> None:
    summary, lists = replayed()
    twice, same = replayed("--duplicates", "0.5")
    assert same == lists
    assert twice["duplicates"] == twice["events"] - 300 > 100
    assert summary["duplicates"] == 0


def test_a_part_of_a_stream_keeps_the_numbers_of_its_events(replayed: Replayed) -> None:
    for flags, numbers in {
        ("--from", "100000"): range(100, 300),
        ("--to", "1970-01-01T00:01:40Z"): range(100),
        ("--from", "1970-01-01T00:00:50Z", "--to", "100000"): range(50, 100),
    }.items():
        summary, lists = replayed(*flags)
        assert sorted(lists) == list(numbers)
        assert summary["events"] == len(numbers)


def test_late_events_are_taken_all_the_same_and_change_lists(replayed: Replayed) -> None:
    _, lists = replayed()
    summary, others = replayed("--late", "0.3", "--late-by", "1m")
    assert others.keys() == lists.keys()
    assert others != lists
    assert summary["users"] == 20
    assert replayed("--late", "0.3", "--late-by", "1m")[1] == others  # by the seed
    assert replayed("--late", "0.3", "--late-by", "1m", "--seed", "1")[1] != others


def test_a_lag_is_the_age_of_the_state(replayed: Replayed) -> None:
    _, lists = replayed()
    assert replayed("--lag", "1s")[1] == lists  # an event a span
    assert replayed("--lag", "7s")[1] == replayed("--stale", "7")[1] != lists
    assert not any(replayed("--lag", "1d")[1].values())  # nothing is known before the end


def test_a_pace_changes_nothing(replayed: Replayed) -> None:
    assert replayed("--speed", "100000x")[1] == replayed()[1]


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--lag", "soon"), "--lag got 'soon': a number and s, m, h or d"),
        (("--from", "soon"), "--from got 'soon': a time such as"),
        (("--from", "2030-01-01"), "no event lies between them"),
        (("--speed", "0"), "--speed got '0'"),
        (("--lag", "1h", "--stale", "2"), "choose one"),
    ],
)
def test_what_cannot_be_is_said(
    flags: tuple[str, ...], says: str, tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "events.csv"
    file.write_text("user_id,item_id,event_type,timestamp\nu,i,view,1\n")
    assert main(["replay", str(file), *flags]) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--late", "--duplicates"])
@pytest.mark.parametrize("share", ["2", "-0.1", "nan", "half"])
def test_a_share_is_one(flag: str, share: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["replay", "events.csv", f"{flag}={share}"])
    assert f"argument {flag}: {share!r} is no share from 0 to 1" in capsys.readouterr().err


@profile(max_examples=30, deadline=None)
@given(
    share=st.floats(0, 1),
    span=st.integers(1, 10**6),
    seed=st.integers(0, 99),
    ends=st.tuples(*[st.integers(0, 400)] * 2),
)
def test_every_event_arrives_once_and_copies_have_no_number(
    share: float, span: int, seed: int, ends: tuple[int, int]
) -> None:
    table = table_of(EVENTS)
    whole = with_duplicates(with_lateness(all_rows(table), share, span, seed), share, seed)
    numbers = [n for n in whole.number.tolist() if n >= 0]
    assert sorted(numbers) == list(range(len(table)))
    for n, row in zip(whole.number.tolist(), whole.table.to_pylist(), strict=True):
        assert n < 0 or row["user_id"] == table["user_id"][n].as_py()
    part = between(all_rows(table), *sorted(ends))
    t = table["timestamp"].to_pylist()
    assert part.number.tolist() == [n for n in range(len(t)) if min(ends) <= t[n] < max(ends)]
