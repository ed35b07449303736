"""Arrays that get more rows: what they held, what new rows begin with, and where they lie."""

import numpy as np
import pytest

from tgn.compiling import growing
from tgn.compiling.growing import LEAST, enough, lengthened, reserve_of
from tgn.config import ModelConfig
from tgn.model import Model
from tgn.serialization import all_pages

DTYPES = [np.uint8, np.int16, np.int32, np.int64, np.float32]


@pytest.fixture(params=[True, False], ids=["reserved", "copied"])
def reserves(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the system gives address space."""
    if not request.param:
        monkeypatch.setattr(growing, "_FLAGS", 0)
    elif not growing._FLAGS:
        pytest.skip("this system reserves no address space")
    return bool(request.param)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(3,), (3, 5), (3, 2, 7)])
@pytest.mark.parametrize("blank", [0, -1, "row"])
def test_rows_stay_and_new_ones_are_blank(reserves: bool, dtype: type, shape: tuple[int, ...], blank: object) -> None:
    row: object = np.arange(np.prod(shape[1:], dtype=int)).reshape(shape[1:]) if blank == "row" else blank
    if blank == -1 and dtype is np.uint8:
        row = 1
    first: np.ndarray = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    grown = first
    for rows in (3, 4, 400, 70_000):
        grown = lengthened(grown, rows, row)
        assert grown.shape == (rows, *shape[1:])
        assert grown.dtype == dtype
        assert all(grown.flags[flag] for flag in ("C", "W", "A"))
        assert (grown[:3] == first).all()
        assert (grown[3:] == np.asarray(row, dtype)).all()
        assert type(grown) is np.ndarray
        assert (reserve_of(grown) is not None) == reserves


def test_they_grow_where_they_lie_until_the_reserve_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growing, "RESERVED_ROWS", 1_000)
    array = lengthened(np.arange(10), 20)
    if reserve_of(array) is None:
        pytest.skip("this system reserves no address space")
    places = [(rows, lengthened(array, rows).ctypes.data) for rows in (21, 500, 1_000)]
    assert {place for _, place in places} == {array.ctypes.data}
    moved = lengthened(lengthened(array, 1_000), 1_001)
    assert moved.ctypes.data != array.ctypes.data
    assert moved[:10].tolist() == list(range(10))
    assert not moved[10:].any()


def test_a_system_that_gives_no_address_space_has_rows_copied() -> None:
    grown = lengthened(np.arange(3), 1 << 20)
    assert growing._reserved(1 << 62) is None
    assert grown[:3].tolist() == [0, 1, 2]


def test_all_the_growing_costs_no_more_than_the_rows(reserves: bool) -> None:
    array, written, rows = np.zeros(1_024, np.uint8), 0, 0
    while rows < 1_000_000:
        rows = enough(array, len(array) + 1)
        written += rows if reserve_of(array) is None else rows - len(array)
        array = lengthened(array, rows)
    assert written < 3 * rows
    assert enough(array, 3 * rows) == 3 * rows
    assert enough(np.zeros(7), 8) == 14
    if reserves:
        assert enough(lengthened(np.zeros(7), 9), 10) == 9 + LEAST


def test_a_model_that_grew_is_one_that_had_room(reserves: bool) -> None:
    pages = []
    for cuts in ([6_000], [5, 1_500, 1_501, 4_000, 6_000]):
        model, first = Model(ModelConfig(seed=3)), 0
        for last in cuts:
            row = np.arange(first, last)
            user = np.array(model.users.encode([f"u{n * 7 % 2_500}" for n in row.tolist()]), np.int32)
            item = np.array(model.items.encode([f"i{n * 11 % 3_700}" for n in row.tolist()]), np.int32)
            on = np.ones(len(row), np.uint8)
            model.take(
                user, item, row * 60_000 + 1, on.astype(np.float32), k=5, score=on, learn=on, publish=on * 0
            )  # fmt: skip
            first = last
        pages.append(all_pages(model))
    assert pages[0] == pages[1]
