"""Feedback and lists that are nearly right: a dead letter with its reason, or the figures that follow from it."""

import json
from pathlib import Path
from typing import Any

import pytest

from consumers.dead_letter import Reason
from consumers.feedback.totals import Totals
from consumers.records import Record
from tests.consumers.feedback.feedback_world import FEEDBACK, LISTS
from tests.consumers.feedback.test_join import LATE_MS, WINDOW_MS, opened, rules_of

MADE_MS, FAR_MS = 10_000_000, 20_000_000
LISTED = {
    "list_id": "0-1", "surface": "home", "as_of": {"timestamp": MADE_MS}, "experiment": {"name": "x", "arm": "a"},
    "items": [{"item_id": "tea", "source": "repeat"}, {"item_id": "pot", "source": "popular"}],
}  # fmt: skip
ONE = {"list_id": "0-1", "item_id": "tea", "timestamp": MADE_MS + 500}


def lists(*values: Any) -> list[Record]:
    return [Record(LISTS, 0, n, b"ann", None if v is None else _bytes(v), (), FAR_MS) for n, v in enumerate(values)]


def feedback(*values: Any) -> list[Record]:
    return [Record(FEEDBACK, 0, n, b"ann", _bytes(value), (), FAR_MS) for n, value in enumerate(values)]


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value).encode()


def taken(folder: Path, records: list[Record]) -> tuple[Totals, list[Reason], dict[str, int]]:
    """Totals, reasons of dead letters and counters once all of it is taken, and the state is opened again."""
    join, dead = opened(folder / "state", rules_of()), []
    dead += join.take(records)
    join.state.commit()
    ends = {record.topic_partition: record.offset + 1 for record in records}
    for _ in range(2):
        dead += join.expire(ends, ends)
        join.state.commit()
    join.state.close()
    again = opened(folder / "state", rules_of())
    again.state.close()
    return again.state.totals, [letter.reason for letter in dead], again.state.counters


def figures(totals: Totals) -> dict[str, tuple[float, float, float | None]]:
    """Numerator, denominator and value of each metric of arm a."""
    told = totals.records(("home", "x:a"), 0, 0) if ("home", "x:a") in totals.cells else ()
    return {one.metric: (one.numerator, one.denominator, one.value) for one in told}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b'{"list_id": "0-1", "event": "purchase", "item_id": "tea", "timestamp": 10000500, "value": NaN}', Reason.NOT_JSON),
        (b'{"list_id": "0-1", "event": "purchase", "item_id": "tea", "timestamp": 10000500, "value": 1e400}', Reason.BAD_VALUE),
        (ONE | {"event": "purchase", "value": -30}, Reason.BAD_VALUE),
        (ONE | {"event": "return", "value": -30}, Reason.BAD_VALUE),
        (ONE | {"event": "dwell", "value": -0.001}, Reason.BAD_VALUE),
        (ONE | {"event": "dwell"}, Reason.MISSING_FIELD),
        (ONE | {"event": "click", "item_id": "cup"}, Reason.NOT_LISTED),
        (ONE | {"event": "click", "timestamp": FAR_MS + 300_001}, Reason.FUTURE_TIMESTAMP),
        (ONE | {"event": "click", "timestamp": -5}, Reason.BAD_TIMESTAMP),
        (ONE | {"event": "click", "list_id": "0-9"}, Reason.UNKNOWN_LIST),
    ],
    ids=str,
)  # fmt: skip
def test_what_cannot_be_counted_is_a_dead_letter_and_no_figure(tmp_path: Path, value: Any, reason: Reason) -> None:
    later = ONE | {"event": "impression", "timestamp": MADE_MS + 500 + 2 * LATE_MS}
    totals, dead, counters = taken(tmp_path, lists(LISTED) + feedback(value, later))
    assert dead == [reason]
    assert counters[f"dead/{reason}"] == 1
    assert counters.get("waiting", 0) == 0
    assert {name: of for name, of in figures(totals).items() if of[0]} == {"impressions": (1.0, 1.0, 1.0)}


def test_a_return_before_its_purchase_and_without_one(tmp_path: Path) -> None:
    back, bought = (ONE | {"event": event, "value": 30} for event in ("return", "purchase"))
    alone = figures(taken(tmp_path / "alone", lists(LISTED) + feedback(back))[0])
    assert alone["return_rate"] == (1.0, 0.0, None)  # of nothing that was bought
    assert alone["revenue_per_user"] == (-30.0, 1.0, -30.0)
    both = figures(taken(tmp_path / "both", lists(LISTED) + feedback(back, bought | {"timestamp": MADE_MS + 900}))[0])
    assert both["return_rate"] == (1.0, 1.0, 1.0)
    assert both["revenue_per_user"] == (0.0, 1.0, 0.0)


@pytest.mark.parametrize("skew_ms", [-600_000, -1, WINDOW_MS, WINDOW_MS + 1])
def test_a_clock_that_is_off(tmp_path: Path, skew_ms: int) -> None:
    """Feedback whose clock is behind the list's counts; what is further on than attribution reaches does not."""
    one = ONE | {"timestamp": MADE_MS + skew_ms}
    told = feedback(one | {"event": "click"}, one | {"event": "purchase", "value": 3})
    totals, dead, counters = taken(tmp_path, lists(LISTED) + told)
    assert dead == []
    assert (figures(totals) == {}) == (skew_ms > WINDOW_MS)
    if skew_ms <= WINDOW_MS:
        assert figures(totals)["ctr"] == (1.0, 1.0, 1.0)
        assert figures(totals)["revenue_per_user"][0] == 3.0
    assert counters.get("of old lists", 0) == (2 if skew_ms > WINDOW_MS else 0)


def test_a_list_that_was_withdrawn_had_been_shown(tmp_path: Path) -> None:
    nothing = LISTED | {"list_id": "0-2", "items": []}
    of_nothing = [{"list_id": "0-2", "event": event, "timestamp": MADE_MS + 9} for event in ("impression", "purchase")]
    told = feedback(ONE | {"event": "click"}, *of_nothing, {**of_nothing[0], "event": "click", "item_id": "tea"})
    totals, dead, counters = taken(tmp_path, lists(LISTED, nothing, None) + told)
    assert dead == [Reason.NOT_LISTED]
    assert counters["no list"] == 1
    assert figures(totals)["ctr"] == (1.0, 1.0, 1.0)
    assert figures(totals)["conversions_per_user"] == (1.0, 1.0, 1.0)  # of the list as a whole


@pytest.mark.parametrize("at", [-1, 2**53 + 1, 2**64 - 1, 10**30, 1e18, "now", None])
def test_a_list_of_another_time_is_none(tmp_path: Path, at: Any) -> None:
    told = [LISTED | {"as_of": {"timestamp": at}}, LISTED | {"list_id": "0-2"}]
    totals, _, counters = taken(tmp_path, lists(*told) + feedback(ONE | {"list_id": "0-2", "event": "impression"}))
    assert counters["no list"] == 1
    assert figures(totals)["impressions"] == (1.0, 1.0, 1.0)
