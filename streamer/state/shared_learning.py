"""What a worker has learned and not told the others yet, and which of their steps are in its weights."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from tgn.model import Model
from tgn.sharing.learned_steps import Unshared, begin, from_page, page_of

FORGOTTEN_AFTER = 100_000  # interactions without a step of a worker


class Others(NamedTuple):
    """How far the steps of another worker are in the weights."""

    epoch: int  # the last one's place: of its epochs,
    part: int  # and among those of one
    total: int  # interactions that it had learned from by then
    of_mine: int  # how many of this worker's it had in its weights
    at: int  # how many interactions this state had taken, of whomever, when that was added


class SharedLearning:
    """Of one state. Without `unshared` nothing is kept for others: it is the only worker."""

    def __init__(self) -> None:
        self.unshared: Unshared | None = None
        self.events = 0  # learned from since the last step
        self.total = 0  # learned from since it began to keep what it learns
        self.told = False  # whether a step was taken since
        self.position = 0  # next offset of the topic of steps
        self.seats: dict[str, Others] = {}
        self._saved = False  # whether the checkpoint has a page

    def __bool__(self) -> bool:
        return self.unshared is not None or bool(self.seats) or self.position > 0

    def keep(self, model: Model) -> Unshared:
        """From now on what the model learns is kept for a step; the first one is all that it has learned."""
        if self.unshared is None:
            self.unshared, self.told = begin(model), False
            self.events = self.total = int(model.ranker.steps[0])
        return self.unshared

    def drop(self) -> None:
        """Nothing is kept any more."""
        self.unshared, self.events = None, 0

    def lag(self) -> dict[str, int]:
        """By seat, how many interactions this one learned from that are not in the last step of the other."""
        return {seat: max(self.total - other.of_mine, 0) for seat, other in sorted(self.seats.items())}

    def forget(self, taken: int) -> None:
        """Forgets workers of which nothing has come for long. taken: how many interactions the state has."""
        self.seats = {seat: other for seat, other in self.seats.items() if taken - other.at <= FORGOTTEN_AFTER}

    # checkpoints

    def saved(self) -> int:
        """How many pages all the calls of `delta` have written."""
        return int(self._saved)

    def delta(self, model: Model) -> dict[bytes, bytes | None]:
        """The page; None where it is gone; nothing where nothing was ever shared."""
        was, self._saved = self._saved, bool(self)
        if not self:
            return {b"0": None} if was else {}
        return {b"0": self.page(model)}

    def page(self, model: Model) -> bytes:
        """All of it, the same bytes for the same state."""
        held = None if self.unshared is None else page_of(model, self.unshared)
        seats = sorted(self.seats.items())
        return msgspec.msgpack.encode((self.events, self.total, self.told, self.position, seats, held))

    def load(self, pages: Iterable[tuple[bytes, bytes]], model: Model) -> None:
        """Takes back what `delta` gave, after the model."""
        for _, page in pages:
            values: tuple[Any, ...] = msgspec.msgpack.decode(page)
            self.events, self.total, self.told, self.position, seats, held = values
            self.seats = {seat: Others(*other) for seat, other in seats}
            self.unshared = None if held is None else from_page(model, held)
            self._saved = True
