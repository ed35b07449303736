"""Arrays that begin where a cache line does: a row of 64 bytes is one line and not two, a vector register one load."""

import math
from typing import Any

import numpy as np

LINE = 64  # bytes


def zeros(shape: int | tuple[int, ...], dtype: Any) -> Any:
    """`np.zeros`; pages that nobody touches take no memory there either."""
    shape = (shape,) if isinstance(shape, int) else shape
    size = math.prod(shape) * np.dtype(dtype).itemsize
    room = np.zeros(size + LINE, np.uint8)
    start = -room.ctypes.data % LINE
    return room[start : start + size].view(dtype).reshape(shape)


def full(shape: int | tuple[int, ...], value: Any, dtype: Any) -> Any:
    """`np.full`."""
    array = zeros(shape, dtype)
    array[...] = value
    return array


def aligned(array: np.ndarray) -> Any:
    """A copy."""
    copy = zeros(array.shape, array.dtype)
    copy[...] = array
    return copy
