"""One process a state folder: the second is refused, whatever home the log has."""

import fcntl
from pathlib import Path
from types import TracebackType

from streamer.errors import StateBusy, UsageError


class StateLock:
    """Holds a state folder as long as the process lives; the system lets go of it when the process dies.

    Raises StateBusy when another process holds it, UsageError where the folder cannot be made or written.
    """

    def __init__(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = (folder / "lock").open("w")
        except OSError as error:
            reason = (error.strerror or "").lower()
            raise UsageError(f"{folder} cannot hold the state: {reason}; name a folder with --state") from error
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
