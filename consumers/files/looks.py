"""What a cell of text looks like. It decides nothing: it is for questions and warnings."""

import datetime as dt
import re
from collections.abc import Iterable, Sequence

from consumers.files.rows import read_time

_NUMBER = re.compile(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*")
_TIME = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d.*)?")
_WORD = re.compile(r"[A-Za-z][A-Za-z _-]{0,30}")
_UNITS = {"s": 1000.0, "ms": 1.0, "us": 1e-3, "ns": 1e-6}
EARLY_MS = int(dt.datetime(1990, 1, 1, tzinfo=dt.UTC).timestamp() * 1000)  # what lies before is more likely a mistake
_LATE_MS = int(dt.datetime(2100, 1, 1, tzinfo=dt.UTC).timestamp() * 1000)
TIME_FORMATS = (
    "%m/%d/%Y %I:%M:%S %p", "%d/%m/%Y %I:%M:%S %p", "%m/%d/%Y %H:%M:%S", "%d/%m/%Y %H:%M:%S", "%m/%d/%Y %H:%M",
    "%d/%m/%Y %H:%M", "%m/%d/%Y", "%d/%m/%Y", "%d.%m.%Y %H:%M:%S", "%d.%m.%Y %H:%M", "%d.%m.%Y", "%m-%d-%Y %H:%M",
    "%d-%m-%Y %H:%M:%S", "%d-%m-%Y", "%Y/%m/%d %H:%M:%S", "%Y/%m/%d", "%d-%b-%Y", "%d %b %Y", "%b %d, %Y",
    "%m %d, %Y", "%d/%b/%Y:%H:%M:%S %z", "%a %b %d %H:%M:%S %z %Y", "%a, %d %b %Y %H:%M:%S %Z",
    "%a, %d %b %Y %H:%M:%S %z", "%Y%m%d%H%M%S",
)  # fmt: skip
"""Formats in which people write times, the more common ones first."""


def looks_like_a_row(names: Sequence[str]) -> bool:
    """Whether what should be a line of names has cells that no column is called: a number, a time, nothing."""
    return any(not name or _NUMBER.fullmatch(name) or _TIME.fullmatch(name) for name in names)


def kind_of_cell(cell: str) -> str:
    """What a cell looks like: nothing, word, time, time and its unit, or other."""
    if not cell:
        return "nothing"
    if _NUMBER.fullmatch(cell):
        unit = unit_of([float(cell)]) if len(cell) > 8 else None
        return "other" if unit is None else "time" if unit == "ms" else f"time {unit}"
    if _TIME.fullmatch(cell):
        return "time"
    return "word" if _WORD.fullmatch(cell) else "other"


def unit_of(numbers: Iterable[float]) -> str | None:
    """The unit in which every number is a time from 1990 to 2100; None where there is none."""
    numbers = list(numbers)
    for unit, scale in _UNITS.items():
        if numbers and all(EARLY_MS / scale <= number < _LATE_MS / scale for number in numbers):
            return unit
    return None


def formats_of(texts: Sequence[str]) -> list[str]:
    """The formats in which every text is a time."""
    return [one for one in TIME_FORMATS if texts and all(read_time(text, one) is not None for text in texts)]
