"""Results: integer totals by surface, arm, window, position, source and reason, and the records that say them."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from consumers.feedback.kept_rows import MICRO, KeptPlace
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
USERS, EVER = "users", -1
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


class Totals:
    """The totals of every arm. `changed`: cells whose total is another than what is stored."""

    def __init__(self, window_ms: int) -> None:
        self._window_ms = window_ms
        self.cells: dict[Arm, dict[Cell, int]] = {}
        self.changed: set[tuple[Arm, Cell]] = set()

    def add(self, at_ms: int, place: KeptPlace, count: str, amount: int) -> None:
        """Counts what happened at a place at a time."""
        arm = (place.surface, place.arm)
        self.add_to(arm, Cell(count), amount)
        self.add_to(arm, Cell(count, at_ms - at_ms % self._window_ms), amount)
        if place.place:
            self.add_to(arm, Cell(count, EVER, "position", str(place.place)), amount)
            self.add_to(arm, Cell(count, EVER, "source", place.source), amount)
            self.add_to(arm, Cell(count, EVER, "reason", place.reason), amount)

    def add_to(self, arm: Arm, cell: Cell, amount: int) -> None:
        """Adds to one total."""
        cells = self.cells.setdefault(arm, {})
        cells[cell] = cells.get(cell, 0) + amount
        self.changed.add((arm, cell))

    def add_user(self, arm: Arm, before: Sequence[int], after: Sequence[int]) -> None:
        """What is summed over users, for intervals: their number, and products of what a metric divides.

        Args:
            before: sums of the user in this arm by `COUNTS`.
            after: the same now.
        """
        old, new = _with_self(before), _with_self(after)
        if old[USERS] != new[USERS]:
            self.add_to(arm, Cell(USERS), new[USERS] - old[USERS])
        for metric, (above, below) in METRICS.items():
            for product, (a, b) in {"xx": (above, above), "xy": (above, below), "yy": (below, below)}.items():
                moved = new[a] * new[b] - old[a] * old[b]
                if moved:
                    self.add_to(arm, Cell(product, EVER, "metric", metric), moved)

    def forget(self, before_ms: int) -> None:
        """Forgets windows that began earlier."""
        for arm, cells in self.cells.items():
            for cell in [cell for cell in cells if EVER < cell.window < before_ms]:
                del cells[cell]
                self.changed.add((arm, cell))

    def records(self, arm: Arm, watermark_ms: int, final_ms: int) -> Iterator[Business]:
        """A record for each metric of an arm. `final_ms`: windows that end before it change no more."""
        cells = self.cells[arm]
        for metric, (above, below) in METRICS.items():
            x, y = cells.get(Cell(above), 0), cells.get(Cell(below), 0)
            yield Business(
                metric=metric,
                surface=arm[0],
                arm=arm[1],
                value=x / y if y else None,
                numerator=x / MICRO,
                denominator=y / MICRO,
                users=cells.get(Cell(USERS), 0) // MICRO,
                squares=(_square(cells, "xx", metric), _square(cells, "xy", metric), _square(cells, "yy", metric)),
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


def _square(cells: dict[Cell, int], what: str, metric: str) -> float:
    return cells.get(Cell(what, EVER, "metric", metric), 0) / MICRO**2


def _with_self(sums: Sequence[int]) -> dict[str, int]:
    """With the user, who counts as one where anything is counted of them."""
    return {**dict(zip(COUNTS, sums, strict=True)), USERS: MICRO if any(sums) else 0}
