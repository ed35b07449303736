"""A progress bar with rate and time left on standard error; where that is no terminal, lines in a log, or nothing."""

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

LINE_EVERY_S = 5.0
Thing = TypeVar("Thing")


@contextmanager
def progress(
    what: str, total: int | None, unit: str = "events", logger: logging.Logger | None = None
) -> Iterator[Callable[[int], None]]:
    """Gives `advance(n)`; `total` None where the end is not known; `logger`: for lines where there is no terminal."""
    if not sys.stderr.isatty():
        yield _Lines(what, total or 0, unit, logger) if logger else lambda n: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total, rate="")

        def advance(n: int) -> None:
            bar.advance(task, n)
            speed = bar.tasks[0].speed
            bar.update(task, rate=f"{speed:,.0f} {unit}/s" if speed else "")

        yield advance


def advancing(things: Iterable[Thing], advance: Callable[[int], None]) -> Iterator[Thing]:
    """The same things, each of which is told to `advance`."""
    for thing in things:
        advance(1)
        yield thing


class _Lines:
    """A line every few seconds: how far, how fast, how long yet."""

    def __init__(self, what: str, total: int, unit: str, logger: logging.Logger) -> None:
        self._what, self._total, self._unit, self._logger = what, total, unit, logger
        self._done, self._started = 0, time.monotonic()
        self._next = self._started + LINE_EVERY_S

    def __call__(self, n: int) -> None:
        self._done += n
        now = time.monotonic()
        if now >= self._next:
            self._next = now + LINE_EVERY_S
            rate = self._done / (now - self._started)
            left_s = (self._total - self._done) / max(rate, 1e-9)
            self._logger.info(
                "%s: %d of %d %s, %.0f a second, %.0f s left",
                self._what, self._done, self._total, self._unit, rate, left_s,
            )  # fmt: skip
