"""One process a state folder: the second is refused, whatever home the log has."""

import fcntl
from pathlib import Path
from types import TracebackType

from streamer.errors import StateBusy


class StateLock:
    """Holds a state folder as long as the process lives; the system lets go of it when the process dies.

    Raises StateBusy when another process holds it.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = (folder / "lock").open("w")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._file.close()
            raise StateBusy(
                f"another worker uses the state folder {folder}; end it, or give this one its own --state"
            ) from error

    def __enter__(self) -> "StateLock":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
