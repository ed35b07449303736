"""Why records could not be taken: the last dead letters, by reason."""

from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple

LETTERS = 1_000
MAX_CHARACTERS = 300
REASONS = 100  # whose newest letters are known
HEADERS = ("freshet.reason", *(f"__streams.errors.{name}" for name in ("message", "topic", "partition", "offset")))


class _Letter(NamedTuple):
    reason: str
    message: str
    topic: str
    partition: str
    offset: str
    at_ms: int


class DeadLetters:
    """Reasons of the last dead letters. The records themselves are not kept: they may hold what belongs to a user."""

    def __init__(self) -> None:
        self._last: deque[_Letter] = deque(maxlen=LETTERS)
        self._newest: dict[str, tuple[int, int]] = {}  # by reason, where the newest lies: partition, offset

    def clear(self) -> None:
        """Forgets all of them."""
        self._last.clear()
        self._newest.clear()

    def note(self, headers: Mapping[str, bytes], at_ms: int, place: tuple[int, int] = (0, 0)) -> bool:
        """Takes the headers of a dead letter; False where it is none. place: its own partition and offset."""
        reason, *others = (headers.get(name, b"").decode("utf-8", "replace")[:MAX_CHARACTERS] for name in HEADERS)
        if reason:
            message, topic, partition, offset = others
            self._last.append(_Letter(reason, message, topic, partition, offset, at_ms))
            if reason in self._newest or len(self._newest) < REASONS:
                self._newest[reason] = place
        return bool(reason)

    def newest(self, reason: str) -> tuple[int, int] | None:
        """Where the newest dead letter with a reason lies: partition and offset."""
        return self._newest.get(reason)

    def by_reason(self) -> list[dict[str, Any]]:
        """Each reason with how many of the last dead letters have it, and the newest of those; the most first."""
        found: dict[str, dict[str, Any]] = {}
        for letter in list(self._last):
            count = found.get(letter.reason, {"count": 0})["count"] + 1
            found[letter.reason] = {"count": count, **letter._asdict()}
        return sorted(found.values(), key=lambda one: (-one["count"], one["reason"]))
