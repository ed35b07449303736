"""How often a worker does what can wait: it rests after a piece, so that live events come through."""

from streamer.runtime.clock import Clock

REST_FACTOR, REST_S = 20, 1.0


class RepairPace:
    """When a repair is due in a busy stream: by default repairs take at most a twentieth of the time.

    Args:
        factor: how many times as long as a piece took it rests after it.
        least_s: the least that it rests.
    """

    def __init__(self, clock: Clock, factor: float = REST_FACTOR, least_s: float = REST_S) -> None:
        self._clock, self._factor, self._least_s = clock, factor, least_s
        self._rest_until = clock.monotonic()

    def due(self) -> bool:
        """True once the last repair is long enough ago."""
        return self._clock.monotonic() >= self._rest_until

    def took(self, seconds: float) -> None:
        """Says that a repair is done."""
        self._rest_until = self._clock.monotonic() + max(self._least_s, self._factor * seconds)
