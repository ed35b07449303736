"""Feedback joined to lists: however records come, and wherever it dies, the numbers are those of the whole log."""

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.dead_letter import DeadLetter, Reason
from consumers.decode_feedback import FeedbackDecoder
from consumers.feedback.attribution import Attribution
from consumers.feedback.join import FeedbackJoin, JoinTopics
from consumers.feedback.join_state import JoinState
from consumers.feedback.kept_rows import MICRO
from consumers.feedback.rules import JoinRules
from consumers.feedback.totals import EVER, METRICS
from consumers.records import TopicPartition
from tests.consumers.feedback.feedback_world import (
    FEEDBACK,
    KINDS,
    LISTS,
    USERS,
    Cells,
    Log,
    counted,
    in_partitions,
    make_log,
    merged,
)

WINDOW_MS, LATE_MS, WIDTH_MS = 3_000, 1_000, 500
FAR = 4_000_000_000_000
CHECKED = {("xx", "revenue_per_user"), *((what, "ctr") for what in ("xx", "xy", "z", "zw", "ww", "xw"))}


def rules_of(how: Any = "last-touch") -> JoinRules:
    return JoinRules(KINDS, Attribution(how, WINDOW_MS), LATE_MS, WIDTH_MS)  # type: ignore[arg-type]


def opened(folder: Path, rules: JoinRules) -> FeedbackJoin:
    state = JoinState(folder, rules.name(), rules.window_ms)
    return FeedbackJoin(state, rules, JoinTopics(LISTS, FEEDBACK, USERS), FeedbackDecoder())


def ends_of(log: Log) -> dict[TopicPartition, int]:
    return {at: len(records) for at, records in log.items()}


def cells_of(join: FeedbackJoin) -> Cells:
    """As `counted` has them."""
    found: Cells = {}
    for (surface, arm), cells in join.state.totals.cells.items():
        for cell, total in cells.items():
            by, label = ("window", str(cell.window)) if cell.window > EVER else (cell.by, cell.label)
            square = by == "metric" and len(cell.what) > 1
            wanted = (cell.what, label) in CHECKED
            if total and (wanted or by != "metric"):
                found[surface, arm, cell.what, by, label] = total / (MICRO**2 if square else MICRO)
    return found


def compare(join: FeedbackJoin, log: Log, how: str) -> None:
    """Windows that are over are forgotten; everything else is there."""
    kept_from = join.state.watermark_ms() - WINDOW_MS - LATE_MS - WIDTH_MS
    expected = {
        cell: total for cell, total in counted(log, how, WINDOW_MS, WIDTH_MS).items()
        if cell[3] != "window" or int(cell[4]) >= kept_from
    }  # fmt: skip
    assert cells_of(join) == pytest.approx(expected, abs=1e-3, rel=1e-5)  # shares are cut to millionths


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    how=st.sampled_from(("quoted", "last-touch", "position")),
    draws=st.lists(st.integers(0, 11), min_size=1, max_size=40),
    steps=st.lists(
        st.tuples(st.integers(1, 60), st.sampled_from(("commit", "commit", "kill", "expire"))), min_size=1, max_size=12
    ),
)
def test_however_records_come_and_wherever_it_is_killed_the_numbers_are_those_of_the_log(
    seed: int, how: str, draws: list[int], steps: list[tuple[int, str]]
) -> None:
    log, rules = make_log(seed, lists=30, events=120), rules_of(how)
    order, ends = merged(log, draws), ends_of(log)
    with tempfile.TemporaryDirectory() as folder:
        join, at, n = opened(Path(folder) / "state", rules), 0, 0
        while at < len(order):
            size, then = steps[n % len(steps)] if n < 3 * len(steps) else (50, "commit")
            join.take(order[at : at + size])
            at, n = at + size, n + 1
            if then == "kill":  # what was not committed is read again, and a good deal of what was
                join.state.close()
                join, at = opened(Path(folder) / "state", rules), max(0, at - 3 * size)
                at = min(at, _first_not_taken(join, order))
                continue
            if then == "expire":
                join.expire(join.state.positions, ends)
            join.state.commit()
        join.expire(join.state.positions, ends)
        join.state.commit()
        compare(join, log, how)
        join.state.close()
        again = opened(Path(folder) / "state", rules)
        compare(again, log, how)
        again.state.close()


def _first_not_taken(join: FeedbackJoin, order: list[Any]) -> int:
    taken = join.state.positions
    return next(
        (n for n, record in enumerate(order) if record.offset >= taken.get(record.topic_partition, 0)), len(order)
    )


def _one(told: dict[str, Any], lists: list[dict[str, Any]] | None = None) -> tuple[FeedbackJoin, list[DeadLetter]]:
    """One piece of feedback of ann, whose list 0-1 has tea and pot, and what became of it once it is overdue."""
    listed = [
        {
            "list_id": "0-1", "surface": "home", "as_of": {"timestamp": 10_000},
            "items": [{"item_id": "tea", "source": "repeat"}, {"item_id": "pot", "source": "popular"}],
        }
    ]  # fmt: skip
    later = {"list_id": "0-1", "event": "impression", "timestamp": 10_000 + 2 * LATE_MS}
    entries = [(LISTS, "ann", one) for one in (listed if lists is None else lists)]
    log = in_partitions([*entries, (FEEDBACK, "ann", told), (FEEDBACK, "ann", later)], 1)
    join = opened(Path(tempfile.mkdtemp()) / "state", rules_of())
    records = [record for at in sorted(log) for record in log[at]]
    dead = join.take(records)
    join.state.commit()
    dead += join.expire(join.state.positions, ends_of(log))
    join.state.commit()
    dead += join.expire(join.state.positions, ends_of(log))
    return join, dead


GOOD = {"list_id": "0-1", "event": "click", "timestamp": 10_500, "item_id": "pot"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, None),
        ({"event": "a word of the shop's own"}, None),
        ({"list_id": "0-2"}, Reason.UNKNOWN_LIST),
        ({"user_id": "bob"}, Reason.UNKNOWN_LIST),
        ({"item_id": "cup"}, Reason.NOT_LISTED),
        ({"item_id": None}, Reason.MISSING_FIELD),
        ({"event": "dwell"}, Reason.MISSING_FIELD),
        ({"event": "purchase", "value": -1}, Reason.BAD_VALUE),
        ({"event": "purchase", "value": 2e9}, Reason.BAD_VALUE),
        ({"event": "purchase", "value": "much"}, Reason.BAD_VALUE),
        ({"timestamp": "soon"}, Reason.BAD_TIMESTAMP),
        ({"timestamp": FAR * 2}, Reason.FUTURE_TIMESTAMP),
        ({"list_id": ""}, Reason.BAD_ID),
    ],
    ids=str,
)
def test_what_is_wrong_is_a_dead_letter_with_its_reason(change: dict[str, Any], reason: Reason | None) -> None:
    join, dead = _one(GOOD | change)
    assert [letter.reason for letter in dead] == ([reason] if reason else [])
    assert {what: n for what, n in join.state.counters.items() if what.startswith("dead/")} == (
        {f"dead/{reason}": 1} if reason else {}
    )
    assert bool(cells_of(join).get(("home", "none", "clicks", "", ""))) == (change == {})
    join.state.close()


def test_what_is_older_than_lateness_allows_is_a_dead_letter(tmp_path: Path) -> None:
    join = opened(tmp_path / "state", rules_of())
    fresh, old = GOOD | {"timestamp": 20_000}, GOOD | {"timestamp": 20_000 - LATE_MS - 1}
    log = in_partitions([(FEEDBACK, "ann", fresh), (FEEDBACK, "ann", old)], 1)
    first, second = log[TopicPartition(FEEDBACK, 0)]
    assert join.take([first]) == []
    join.expire({first.topic_partition: 1}, {first.topic_partition: 1})
    assert [letter.reason for letter in join.take([second])] == [Reason.TOO_LATE]
    join.state.close()


def test_what_is_kept_is_bounded_by_the_windows(tmp_path: Path) -> None:
    """Ten times the events leave as many rows, and memory holds totals alone."""
    rows, cells = [], []
    for times in (1, 10):
        log = make_log(7, lists=300 * times, events=900 * times, step_ms=20)
        join = opened(tmp_path / f"{times}", rules_of())
        order = sorted((r for records in log.values() for r in records), key=lambda r: (r.offset, r.topic))
        for at in range(0, len(order), 50):
            join.take(order[at : at + 50])
            join.state.commit()
            join.expire(join.state.positions, dict(join.state.positions))  # all that is there so far
        join.state.commit()
        rows.append(sum(len(join.state.keys(kind)) for kind in (b"l", b"k", b"h", b"i", b"w", b"x")))
        cells.append(sum(map(len, join.state.totals.cells.values())))
        assert not join.state.keys(b"w") or times == 1 or len(join.state.keys(b"w")) < 200
        join.state.close()
    assert rows[1] < 1.5 * rows[0]
    assert cells[1] < 1.5 * cells[0]


def test_an_erased_user_leaves_no_row_and_totals_stay(tmp_path: Path) -> None:
    log = make_log(3, lists=60, events=200, partitions=1)
    join = opened(tmp_path / "state", rules_of())
    join.take([record for at in sorted(log, reverse=True) for record in log[at]])
    before = cells_of(join)
    first = log[TopicPartition(FEEDBACK, 0)][0]
    for n, user in enumerate((b"ann", b"bob", b"cat", b"dan", b"")):
        join.take([type(first)(USERS, 0, n, user, None, (), 0)])
    assert cells_of(join) == before
    assert [key for key in join.state.keys(b"") if key[:1] in b"lkhuwi" and join.state.get(key) is not None] == []
    join.state.close()


def test_other_rules_begin_anew(tmp_path: Path) -> None:
    log = make_log(3, lists=40, events=100)
    order = merged(log, [0])
    for how in ("quoted", "position", "position"):
        join = opened(tmp_path / "state", rules_of(how))
        join.take(order)
        join.state.commit()
        compare(join, log, how)
        join.state.close()


def test_a_record_says_each_metric(tmp_path: Path) -> None:
    log = make_log(5, lists=120, events=600)
    join = opened(tmp_path / "state", rules_of())
    join.take(merged(log, [3, 1, 2]))
    expected = counted(log, "last-touch", WINDOW_MS, WIDTH_MS)
    for arm in join.state.totals.cells:
        records = {one.metric: one for one in join.state.totals.records(arm, 0, 0)}
        assert records.keys() == METRICS.keys()
        clicks, shown = (expected[*arm, what, "", ""] for what in ("clicks", "impressions"))
        assert records["ctr"].value == pytest.approx(clicks / shown)
        assert records["revenue_per_user"].denominator == records["ctr"].users == expected[*arm, "users", "", ""]
        assert sum(below for _, below in records["ctr"].by["position"].values()) == pytest.approx(shown)
        assert sum(row[2] for row in records["ctr"].windows) == pytest.approx(shown)
        assert json.loads(json.dumps(records["ctr"].by))["reason"].keys() <= {
            "chosen before", "popular now", "often chosen right after",
        }  # fmt: skip
    join.state.close()
