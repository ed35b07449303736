"""Waits grow while nothing is achieved, and what can only be refused again is not tried for ever."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from consumers.errors import DamageMet, LogDamaged, LogUnavailable, RecordRefused
from streamer.runtime.signals import StopRequest
from streamer.runtime.supervisor import FIRST_WAIT_S, LONGEST_WAIT_S, supervise

GONE, REFUSED, DONE = LogUnavailable("gone"), RecordRefused("refused"), None


class Waits(StopRequest):
    """Does not wait, and says how long it would have."""

    def __init__(self) -> None:
        self.asked: list[float] = []

    def wait(self, seconds: float) -> bool:
        self.asked.append(seconds)
        return False


@contextmanager
def opened() -> Iterator[None]:
    yield


def played(turns: Sequence[tuple[int, Exception | None]]) -> list[float]:
    """What is waited where each turn achieves so much and ends like that."""
    left, achieved, waits = list(turns), 0, Waits()

    def run(_: None) -> None:
        nonlocal achieved
        done, end = left.pop(0)
        achieved += done
        if end is not None:
            raise end

    supervise(opened, run, waits, achieved=lambda: achieved)
    return waits.asked


def test_opening_alone_achieves_nothing() -> None:
    asked = played([(0, GONE)] * 10 + [(0, DONE)])
    assert asked[:3] == [FIRST_WAIT_S, 2 * FIRST_WAIT_S, 4 * FIRST_WAIT_S]
    assert asked == sorted(asked)
    assert asked[-1] == LONGEST_WAIT_S


def test_an_epoch_committed_begins_anew() -> None:
    asked = played([(0, GONE), (0, GONE), (1, GONE), (0, GONE), (0, DONE)])
    assert asked == [FIRST_WAIT_S, 2 * FIRST_WAIT_S, FIRST_WAIT_S, 2 * FIRST_WAIT_S]


def test_a_refusal_is_tried_again_once_where_nothing_is_achieved() -> None:
    for between in ([], [(0, GONE)]):
        with pytest.raises(RecordRefused):
            played([(0, REFUSED), *between, (0, REFUSED)])
    assert len(played([(1, REFUSED), (1, REFUSED), (1, REFUSED), (0, DONE)])) == 3


def test_what_cannot_be_opened_at_first_is_raised() -> None:
    @contextmanager
    def not_there() -> Iterator[None]:
        raise LogUnavailable("gone")
        yield

    with pytest.raises(LogUnavailable):
        supervise(not_there, lambda _: None, Waits())


def test_damage_that_the_first_opening_meets_is_mended_by_the_next() -> None:
    tries = [DamageMet("a file is damaged"), DONE]

    @contextmanager
    def meets_damage() -> Iterator[None]:
        if (error := tries.pop(0)) is not None:
            raise error
        yield

    waits = Waits()
    supervise(meets_damage, lambda _: None, waits)
    assert waits.asked == [FIRST_WAIT_S]


def test_a_log_that_has_lost_records_is_not_opened_again_and_again() -> None:
    with pytest.raises(LogDamaged):
        played([(1, DamageMet("a file is damaged")), (0, LogDamaged("lost: a record")), (0, DONE)])
