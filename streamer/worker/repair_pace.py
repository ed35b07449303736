"""How often a worker repairs the graph: it rests after a piece, so that live events come through."""

import time

REST_FACTOR, REST_S = 20, 1.0


class Pace:
    """When a repair is due in a busy stream: repairs take at most a twentieth of the time."""

    def __init__(self) -> None:
        self._rest_until = 0.0

    def due(self) -> bool:
        """True once the last repair is long enough ago."""
        return time.monotonic() >= self._rest_until

    def took(self, seconds: float) -> None:
        """Says that a repair is done."""
        self._rest_until = time.monotonic() + max(REST_S, REST_FACTOR * seconds)
