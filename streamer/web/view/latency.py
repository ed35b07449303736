"""How long lists take, and how many interactions come in a second."""

from collections import deque
from statistics import quantiles
from typing import Any

LATE_MS = 5_000
"""A list that comes later waited for a worker that was away or had much to catch up with: it says nothing of how fast
lists are made, and is counted by itself."""
RATE_WINDOW_S, LATENCIES = 5.0, 1_000


class Latencies:
    """Times from an interaction to its list, of the last lists. One thread notes them, any thread asks."""

    def __init__(self) -> None:
        self._last_ms: deque[int] = deque(maxlen=LATENCIES)

    def note(self, latency_ms: int) -> None:
        """Takes the time of one list."""
        self._last_ms.append(latency_ms)

    def figures(self) -> dict[str, Any]:
        """`latency_ms`: p50 and p99 of lists that were not late, None where there are none; `late`: share of lists."""
        last = list(self._last_ms)
        on_time = [ms for ms in last if ms <= LATE_MS]
        cuts = quantiles(on_time, n=100) if len(on_time) > 1 else []
        return {
            "latency_ms": {"p50": round(cuts[49]), "p99": round(cuts[98])} if cuts else None,
            "late": round(1 - len(on_time) / len(last), 4) if last else 0.0,
        }


class Rate:
    """Counts what arrived within the last seconds."""

    def __init__(self) -> None:
        self._arrived: deque[tuple[float, int]] = deque()

    def note(self, now_s: float) -> None:
        """Counts one. Args: now_s: by a clock that never goes back."""
        if self._arrived and now_s - self._arrived[-1][0] < 0.1:
            self._arrived[-1] = (self._arrived[-1][0], self._arrived[-1][1] + 1)
        else:
            self._arrived.append((now_s, 1))

    def per_second(self, now_s: float) -> int:
        """How many a second."""
        while self._arrived and self._arrived[0][0] < now_s - RATE_WINDOW_S:
            self._arrived.popleft()
        return round(sum(n for _, n in list(self._arrived)) / RATE_WINDOW_S)
