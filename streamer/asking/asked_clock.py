"""The stream's clock between two events: the latest event time, and how long ago by the wall that was."""

from streamer.runtime.clock import Clock
from streamer.state.stream_state import StreamState


class AskedClock:
    """Tells the time of questions: the state's clock, and the wall time since it last moved.

    It sees that the state's clock has moved when it is asked, or told by `keep`.
    """

    def __init__(self, state: StreamState, clock: Clock) -> None:
        self._state, self._clock = state, clock
        self._moved_to, self._moved_at = state.clock_ms, clock.monotonic()

    def keep(self) -> None:
        """Notes whether the state's clock has moved; to be called after every epoch."""
        if self._state.clock_ms != self._moved_to:
            self._moved_to, self._moved_at = self._state.clock_ms, self._clock.monotonic()

    def now_ms(self) -> int:
        """Epoch ms."""
        self.keep()
        return self._moved_to + int((self._clock.monotonic() - self._moved_at) * 1000)
