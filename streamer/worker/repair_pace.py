"""How often a worker repairs the graph: it rests after a piece, so that live events come through."""

from streamer.runtime.clock import Clock

REST_FACTOR, REST_S = 20, 1.0


class RepairPace:
    """When a repair is due in a busy stream: repairs take at most a twentieth of the time."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rest_until = clock.monotonic()

    def due(self) -> bool:
        """True once the last repair is long enough ago."""
        return self._clock.monotonic() >= self._rest_until

    def took(self, seconds: float) -> None:
        """Says that a repair is done."""
        self._rest_until = self._clock.monotonic() + max(REST_S, REST_FACTOR * seconds)
