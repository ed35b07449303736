"""Named tuples that kernels are given the address of, and what a kernel has within."""

from typing import NamedTuple

import numpy as np
import pytest

from tgn.compiling.addresses import by_address
from tgn.compiling.kernels import BEFORE_FIRST_CALL, Kernel, kernels_within
from tgn.graph import F32, I64
from tgn.kernel import decay, kernel
from tgn.observe import delete_item, hide_item
from tgn.popularity_heads import drop


class Small(NamedTuple):
    weight: F32
    table: F32


@by_address
class Inner(NamedTuple):
    small: Small
    factor: float


@by_address
class Outer(NamedTuple):
    inner: Inner
    total: I64
    scale: int
    twice: bool


@kernel
def add_all(inner: Inner, total: I64, scale: int) -> float:
    for row in range(inner.small.table.shape[0]):
        for column in range(inner.small.table.shape[1]):
            inner.small.weight[row] += inner.small.table[row, column] * inner.factor
    total[0] += scale
    return inner.small.weight[len(inner.small.weight) - 1]


@kernel
def from_python(outer: Outer) -> float:
    last = add_all(outer.inner, outer.total, outer.scale)
    return add_all(outer.inner, outer.total, outer.scale) if outer.twice else last


def outer(rows: int, twice: bool) -> Outer:
    small = Small(np.zeros(rows, np.float32), np.ones((rows, 3), np.float32))
    return Outer(Inner(small, 2.0), np.zeros(1, np.int64), 7, twice)


@pytest.mark.parametrize(("rows", "twice"), [(1, False), (4, True), (9, True)])
def test_a_kernel_reads_and_writes_through_an_address(rows: int, twice: bool) -> None:
    given = outer(rows, twice)
    times = 2 if twice else 1
    assert from_python(given) == 6 * times
    assert given.inner.small.weight.tolist() == [6.0 * times] * rows
    assert given.total.tolist() == [7 * times]


def test_a_field_of_another_type_is_refused() -> None:
    given = outer(2, False)
    with pytest.raises(TypeError):
        from_python(given._replace(total=None))
    assert from_python(given) == 6  # and it works on


def test_a_kernel_that_is_called_by_another_is_called_by_python_too() -> None:
    given = outer(3, False)
    assert add_all(given.inner, given.total, 5) == 6
    assert given.total.tolist() == [5]


def test_the_kernels_within() -> None:
    assert kernels_within(decay) == {decay}
    assert kernels_within(hide_item) == kernels_within(delete_item) - {delete_item} | {hide_item}
    assert drop in kernels_within(hide_item)


def test_who_wants_to_know_is_told_before_the_first_call_alone() -> None:
    @kernel
    def fresh(x: float) -> float:
        return x + 1

    told: list[Kernel] = []
    BEFORE_FIRST_CALL.append(told.append)
    try:
        assert (fresh(1.0), fresh(2.0)) == (2.0, 3.0)
    finally:
        BEFORE_FIRST_CALL.remove(told.append)
    assert told == [fresh]
