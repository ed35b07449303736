"""SIGTERM and SIGINT as a question that a loop asks between two pieces of work."""

import signal
import threading


class StopRequest:
    """True once the process was asked to end; a second signal ends it at once.

    Args: on_signals: False is for a part of the process that is asked by the rest of it alone.
    """

    def __init__(self, on_signals: bool = True) -> None:
        self._event = threading.Event()
        if on_signals and threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: object) -> None:
        if self._event.is_set():
            raise KeyboardInterrupt
        self._event.set()

    def set(self) -> None:
        """Asks to end from within the process."""
        self._event.set()

    def __bool__(self) -> bool:
        return self._event.is_set()

    def wait(self, timeout_s: float) -> bool:
        """Waits for the request; True once it is there."""
        return self._event.wait(timeout_s)
