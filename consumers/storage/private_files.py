"""Files of a log, a state and a checkpoint: only the user who runs the process may read them."""

import os
import threading
from pathlib import Path

FOLDER, FILE = 0o700, 0o600
_lock = threading.Lock()
_held: list[int] = []  # the process's mask before each `hold_mask`


def hold_mask() -> None:
    """From now until `release_mask` nobody else may read what this process creates.

    RocksDB makes files in threads of its own, at any time, with the rights that the process's mask leaves.
    """
    with _lock:
        before = os.umask(0o077)
        os.umask(before | 0o077)
        _held.append(before)


def release_mask() -> None:
    """The last one to release gives the process the mask that it had."""
    with _lock:
        before = _held.pop()  # that of the first, where it is the last
        if not _held:
            os.umask(before)


def private_folder(folder: Path) -> None:
    """Makes a folder, and those above it that are missing, that nobody else may look into."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    for path in reversed(missing):
        path.mkdir(mode=FOLDER, exist_ok=True)


def only_mine(folder: Path) -> None:
    """Takes the rights of everybody else off a folder."""
    if folder.stat().st_mode & 0o077:
        folder.chmod(FOLDER)


def write_private(file: Path, content: str | bytes) -> None:
    """Writes a file that nobody else may read."""
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, FILE), "wb") as opened:
        opened.write(content.encode() if isinstance(content, str) else content)
