"""The protocols of published tables: which events are asked for, and that the judge measures those alone."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests import conftest
from tests.benchmarks import check_ins, leave_one_out
from tests.benchmarks.judge import JUDGE, judge_rows
from tests.benchmarks.protocol import Events

DAY_MS = leave_one_out.DAY_MS


def drawn(seed: int, events: int = 400) -> Events:
    """Events of a few users on a few days, with the resolution of a day."""
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(0, 30, events)) * DAY_MS
    return Events(rng.integers(0, 25, events), rng.integers(0, 60, events), t, [], [])


@pytest.mark.parametrize("seed", [None, 1, 2])
def test_each_user_holds_out_the_last_event(seed: int | None) -> None:
    events = drawn(0)
    of = leave_one_out.split(events, seed)
    assert (np.diff(of.t) > 0).all()
    triples = np.stack([events.user, events.item, events.t])
    mine = np.stack([of.user, of.item, of.t // DAY_MS * DAY_MS])
    assert sorted(mine.T.tolist()) == sorted(
        triples.T.tolist()
    )  # days are those of the file, whatever the order within
    if seed is None:
        assert (of.user == events.user).all()
    for user in np.unique(of.user):
        rows = np.flatnonzero(of.user == user)
        assert np.flatnonzero(of.held & (of.user == user)).tolist() == [rows[-1]]
        assert of.before[rows].tolist() == [-1, *rows[:-1]]


def test_shuffles_differ_within_days_alone() -> None:
    events = drawn(0)
    one, two = (leave_one_out.split(events, seed) for seed in (1, 2))
    assert (one.user != two.user).any()
    assert (one.t == two.t).all()


def test_what_is_tested_of_check_ins_has_been_seen_and_goes_on() -> None:
    hour = DAY_MS // 24
    rng = np.random.default_rng(0)
    events = Events(rng.integers(0, 8, 2_000), rng.integers(0, 120, 2_000), np.arange(2_000) * 7 * hour, [], [])
    rows = check_ins.measured_rows(events)
    assert set(rows["last of each trajectory"]) < set(rows["each but the first"])
    training = events.user[:1_600], events.item[:1_600]
    for n in rows["each but the first"]:
        mine = np.flatnonzero(events.user == events.user[n])
        at = mine.tolist().index(n)
        assert n >= 1_800
        assert events.user[n] in training[0]
        assert events.item[n] in training[1]
        assert events.t[n] - events.t[mine[at - 1]] <= DAY_MS
        last = at + 1 == len(mine) or events.t[mine[at + 1]] - events.t[n] > DAY_MS
        assert (n in rows["last of each trajectory"]) == last


def test_the_judge_measures_the_chosen_events_alone(tmp_path: Path) -> None:
    if not JUDGE.is_file():
        conftest.missing("the judge, ../shared/tools/score_lists.py, is not on this machine")
    ids = [str(n) for n in range(40)]
    events = pa.table({"user_id": ids, "item_id": ids})
    made = pa.table({"event": range(40), "items": [["x", name] if n % 4 else [name] for n, name in enumerate(ids)]})
    chosen = np.array([3, 8, 16, 39])
    verdict = judge_rows(events, made, chosen, tmp_path, (1, 2), "--no-repeat")
    assert (verdict["events"], verdict["hr@1"], verdict["hr@2"], verdict["mrr"]) == (4, 0.5, 1, 0.75)
    none = judge_rows(events, made.slice(0, 30), chosen, tmp_path, (1, 2))
    assert (none["without_list"], none["hr@2"]) == (1, 0.75)
