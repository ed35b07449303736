"""A clock that a test moves: what waits for time to pass is tested without waiting."""


class ManualClock:
    """Stands still until `advance`."""

    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self._now_ms, self._passed_ms = now_ms, 0

    def monotonic(self) -> float:
        return self._passed_ms / 1000

    def now_ms(self) -> int:
        return self._now_ms + self._passed_ms

    def advance(self, seconds: float) -> None:
        """Lets time pass."""
        self._passed_ms += round(seconds * 1000)
