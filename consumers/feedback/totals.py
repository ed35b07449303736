"""Results: integer totals by surface, arm, window, position, source and reason, and the records that say them."""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from operator import itemgetter
from typing import Any, NamedTuple

from consumers.feedback.kept_rows import MICRO, ArmSums, KeptPlace
from consumers.schemas import Business

COUNTS = ("impressions", "clicks", "conversions", "revenue", "engagement", "returns")
METRICS = {  # what is divided by what; "users": those of whom anything is counted
    "impressions": ("impressions", "users"),
    "ctr": ("clicks", "impressions"),
    "cvr": ("conversions", "clicks"),
    "conversions_per_user": ("conversions", "users"),
    "revenue_per_user": ("revenue", "users"),
    "engagement_per_user": ("engagement", "users"),
    "return_rate": ("returns", "conversions"),
}
USERS, TOGETHER, EVER = "users", "together", -1
"""TOGETHER counts the users of a group after its first one."""
BEFORE_SUMS = {"z": 2, "w": 3}
PRODUCTS = {  # of x and y, which a metric divides, and of z and w, the same of the time before
    "xx": (0, 0), "xy": (0, 1), "yy": (1, 1), "zz": (2, 2), "zw": (2, 3), "ww": (3, 3), "xz": (0, 2), "xw": (0, 3),
    "yz": (1, 2), "yw": (1, 3),
}  # fmt: skip
MOST_LABELS = 50
"""Positions, sources and reasons that a record names, the most shown first."""

Arm = tuple[str, str]
"""Surface, and name and arm of the experiment."""


class Cell(NamedTuple):
    """`what` one total counts. `window`: its start, epoch ms, or EVER; `by` and `label`: such as position 3."""

    what: str
    window: int = EVER
    by: str = ""
    label: str = ""


def _summed(metric: str) -> list[tuple[Cell, int, int]]:
    """What is summed for a metric: cells, and the columns of `_with_self` whose product each is."""
    now = [_COLUMNS.index(what) for what in METRICS[metric]]
    x_y_z_w = now + [len(_COLUMNS) + n for n in now]
    products = [*PRODUCTS.items(), *((what, (n, None)) for what, n in BEFORE_SUMS.items())]
    return [
        (Cell(what, EVER, "metric", metric), x_y_z_w[i], _ONE if j is None else x_y_z_w[j]) for what, (i, j) in products
    ]


_COLUMNS = (*COUNTS, USERS)  # of now, the same of the time before, then two more
_ONE = 2 * len(_COLUMNS)
_SUMMED = [
    [(Cell(USERS), _COLUMNS.index(USERS), _ONE), (Cell(TOGETHER), _ONE + 1, _ONE)],
    *(_summed(metric) for metric in METRICS),
]
_COLUMNS_OF = [itemgetter(*{n for _, i, j in cells for n in (i, j)}) for cells in _SUMMED]


@lru_cache(1_000)
def _cells_at(place: KeptPlace, count: str) -> tuple[Cell, ...]:
    """The totals of all windows that something which happens at a place counts in."""
    if not place.place:
        return (Cell(count),)
    by = {"position": str(place.place), "source": place.source, "reason": place.reason}
    return (Cell(count), *(Cell(count, EVER, name, label) for name, label in by.items()))


class Totals:
    """The totals of every arm. `changed`: cells of each whose total is another than what is stored."""

    def __init__(self, window_ms: int) -> None:
        self._window_ms = window_ms
        self.cells: dict[Arm, dict[Cell, int]] = {}
        self.changed: dict[Arm, set[Cell]] = {}

    def add(self, at_ms: int, place: KeptPlace, count: str, amount: int) -> None:
        """Counts what happened at a place at a time."""
        window = Cell(count, at_ms - at_ms % self._window_ms)
        self._add((place.surface, place.arm), [(cell, amount) for cell in (window, *_cells_at(place, count))])

    def _add(self, arm: Arm, moves: Iterable[tuple[Cell, int]]) -> None:
        cells, changed = self.cells.setdefault(arm, {}), self.changed.setdefault(arm, set())
        for cell, amount in moves:
            cells[cell] = cells.get(cell, 0) + amount
            changed.add(cell)

    def add_user(self, arm: Arm, old: ArmSums, new: ArmSums) -> None:
        """What is summed over users, or groups, for intervals: their number, and products of what a metric divides.

        Args:
            old: what the user, or the group, added to this arm before.
            new: the same now.
        """
        was, now = _with_self(old), _with_self(new)
        for columns, cells in zip(_COLUMNS_OF, _SUMMED, strict=True):
            if columns(was) == columns(now):
                continue
            moves = [(cell, now[i] * now[j] - was[i] * was[j]) for cell, i, j in cells]
            self._add(arm, [(cell, amount) for cell, amount in moves if amount])

    def forget(self, before_ms: int) -> None:
        """Forgets windows that began earlier."""
        for arm, cells in self.cells.items():
            for cell in [cell for cell in cells if EVER < cell.window < before_ms]:
                del cells[cell]
                self.changed.setdefault(arm, set()).add(cell)

    def records(self, arm: Arm, watermark_ms: int, final_ms: int) -> Iterator[Business]:
        """A record for each metric of an arm. `final_ms`: windows that end before it change no more."""
        cells = self.cells[arm]
        users, together = (cells.get(Cell(what), 0) // MICRO for what in (USERS, TOGETHER))
        for metric, (above, below) in METRICS.items():
            x, y = cells.get(Cell(above), 0), cells.get(Cell(below), 0)
            yield Business(
                metric=metric,
                surface=arm[0],
                arm=arm[1],
                value=x / y if y else None,
                numerator=x / MICRO,
                denominator=y / MICRO,
                users=users,
                units=users - together if together else 0,
                squares=_squares(cells, metric, "xx", "xy", "yy"),
                before=(
                    *(cells.get(Cell(name, EVER, "metric", metric), 0) / MICRO for name in BEFORE_SUMS),
                    *_squares(cells, metric, "zz", "zw", "ww", "xz", "xw", "yz", "yw"),
                ),
                timestamp=watermark_ms,
                by={
                    by: self._labels(cells, by, above, below) for by in ("position", "source", "reason")
                    if below != USERS
                },
                windows=self._windows(cells, above, below, final_ms),
            )  # fmt: skip

    def _labels(self, cells: dict[Cell, int], by: str, above: str, below: str) -> dict[str, tuple[float, float]]:
        found = {cell.label: total for cell, total in cells.items() if cell.by == by and cell.what == below}
        shown = {cell.label: total for cell, total in cells.items() if cell.by == by and cell.what == above}
        labels = sorted({*found, *shown}, key=lambda label: (-found.get(label, 0), label))[:MOST_LABELS]
        return {label: (shown.get(label, 0) / MICRO, found.get(label, 0) / MICRO) for label in labels}

    def _windows(
        self, cells: dict[Cell, int], above: str, below: str, final_ms: int
    ) -> tuple[tuple[int, float, float, bool], ...]:
        starts = sorted({cell.window for cell in cells if cell.window > EVER})
        return tuple(
            (
                start,
                cells.get(Cell(above, start), 0) / MICRO,
                cells.get(Cell(below, start), 0) / MICRO,
                start + self._window_ms <= final_ms,
            )
            for start in starts
        )


def _squares(cells: dict[Cell, int], metric: str, *products: str) -> Any:
    return tuple(cells.get(Cell(product, EVER, "metric", metric), 0) / MICRO**2 for product in products)


def _with_self(of: ArmSums) -> list[int]:
    """Sums with the user, who counts as one where anything is counted of them, or with so many of the group; the same
    of the time before; 1; and how many of the group there are after the first one."""
    people = int(any(of.sums)) if of.people is None else of.people
    user = MICRO * people
    before = of.before if user else [0] * len(COUNTS)
    return [*of.sums, user, *before, user, 1, MICRO * max(people - 1, 0)]
