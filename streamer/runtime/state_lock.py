"""One process a state folder: the second is refused, whatever home the log has."""

import fcntl
import os
from pathlib import Path
from types import TracebackType

from consumers.storage.private_files import FILE, private_folder
from streamer.errors import StateBusy, UsageError
from streamer.runtime.topics import DEFAULT_LOG, state_folder
from streamer.settings import Settings

END_IT = "end it, or give this one its own --state"


def lock_of(settings: Settings, mend: str = END_IT) -> "StateLock":
    """The lock of the state that settings name. Raises what `StateLock` does."""
    beside_log = settings.state is None and settings.bootstrap is None
    return StateLock(state_folder(settings), mend, settings.log or DEFAULT_LOG if beside_log else None)


class StateLock:
    """Holds a state folder as long as the process lives; the system lets go of it when the process dies.

    Args:
        mend: what may be done where another process has it.
        log: the folder of the log that it lies in, if it does: where it cannot be made, that one cannot be either.

    Raises StateBusy when another process holds it, UsageError where the folder cannot be made or written.
    """

    def __init__(self, folder: Path, mend: str = END_IT, log: Path | None = None) -> None:
        try:
            private_folder(folder)
            self._file = os.fdopen(os.open(folder / "lock", os.O_WRONLY | os.O_CREAT, FILE), "w")
        except OSError as error:
            reason = (error.strerror or "").lower()
            held, flag = (
                (f"{folder} cannot hold the state", "--state")
                if log is None
                else (f"{log} cannot hold the log", "--log")
            )
            raise UsageError(f"{held}: {reason}; name another with {flag}") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._file.close()
            raise StateBusy(f"another worker uses the state folder {folder}; {mend}") from error

    def close(self) -> None:
        """Lets go of it."""
        self._file.close()

    def __enter__(self) -> "StateLock":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
