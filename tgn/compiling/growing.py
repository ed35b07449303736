"""Arrays that get more rows where they lie.

To copy a graph of a million items into larger arrays takes seconds, in which no interaction is taken and no question is
answered. So address space is reserved, far more than there are rows; memory is taken a page at a time, where rows are
written. Where a system reserves none, rows are copied.
"""

import math
import mmap
import sys
from typing import Any

import numpy as np

from tgn.compiling.aligned import zeros

RESERVED_ROWS = 1 << 24
"""For so many rows, or four times as many as there are, an array has a place."""
LEAST = 1_024  # rows that come at once
_NO_RESERVE = 0x4000  # of Linux, in no version of Python's module before 3.13: what is reserved is not set aside
_FLAGS = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NO_RESERVE if sys.platform == "linux" else 0


class Reserve(mmap.mmap):
    """Bytes of which the arrays of `lengthened` are the first ones; what they do not reach yet is 0."""


def lengthened(array: np.ndarray, rows: int, blank: Any = 0) -> Any:
    """The array with more rows, each of them as `blank`; it takes the place of the given one, which is not used again.

    Args:
        array: [N, …].
        rows: how many it is to have, at least N.
        blank: a number, or what one row holds.
    """
    row_bytes = array.dtype.itemsize * math.prod(array.shape[1:])
    home = reserve_of(array)
    if home is None or home.nbytes < rows * row_bytes:
        home = _reserved(max(RESERVED_ROWS, 4 * rows) * row_bytes)
    if home is None:
        longer: Any = zeros((rows, *array.shape[1:]), array.dtype)
    else:
        longer = np.ndarray((rows, *array.shape[1:]), array.dtype, home)
    if longer.ctypes.data != array.ctypes.data:
        longer[: len(array)] = array
    if np.any(blank):
        longer[len(array) :] = blank
    return longer


def enough(array: np.ndarray, rows: int) -> int:
    """How many rows to make room for where so many are wanted, so that all the growing costs no more than the rows."""
    more = len(array) if reserve_of(array) is None else max(len(array) // 8, LEAST)
    return max(rows, len(array) + more)


def reserve_of(array: np.ndarray) -> np.ndarray | None:
    """[bytes] what an array is the beginning of; None: its rows are copied when it grows."""
    home = array.base
    if not isinstance(home, np.ndarray) or not isinstance(home.base, memoryview):
        return None
    return home if isinstance(home.base.obj, Reserve) else None


def _reserved(size: int) -> np.ndarray | None:
    """None where the system has no address space to give, or sets memory aside for all of it."""
    try:
        return np.frombuffer(Reserve(-1, size, flags=_FLAGS), np.uint8) if _FLAGS else None
    except (OSError, ValueError, OverflowError):
        return None
