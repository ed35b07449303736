"""The checkpoint of a worker on Kafka: one RocksDB in the state folder, written in one batch, with checksums."""

import logging
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

from consumers.errors import CheckpointDamaged, LogBusy, LogUnavailable
from consumers.log import StateDelta
from consumers.storage.checkpoint_pages import CheckpointPages, pages_of
from consumers.storage.private_files import private_folder, write_private
from consumers.storage.rocks import Damaged, Locked, is_damage, open_database, shut, told_apart

PAGES, REDO = b"s", b"d"  # what the keys of pages, and of what replaces them, begin with
INSTANCE_FILE, SECRET_FILE = "instance", "erasure-key"
SECRET_BYTES = 32
_logger = logging.getLogger(__name__)


def instance_id(folder: Path) -> str:
    """The id that keeps this state folder's seat in the group; made on first use."""
    private_folder(folder)
    file = folder / INSTANCE_FILE
    if not file.exists():
        write_private(file, uuid4().hex[:12])
    return file.read_text().strip()


def folder_secret(folder: Path, held: bytes = b"") -> bytes:
    """The secret of a state folder, see `Committer.secret`; only the user who runs the worker can read its file."""
    file = folder / SECRET_FILE
    kept = bytes.fromhex(file.read_text().strip()) if file.is_file() else b""
    secret = held or kept or secrets.token_bytes(SECRET_BYTES)
    if secret != kept:
        folder.mkdir(parents=True, exist_ok=True)
        part = file.with_name(f".{file.name}.part")
        part.unlink(missing_ok=True)
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as written:
            written.write(secret.hex())
            written.flush()
            os.fsync(written.fileno())
        part.replace(file)
    return secret


class StateStore:
    """Keys and values. One process at a time.

    Files that are damaged or missing are set aside when it is opened, and an empty checkpoint begins.
    Raises LogBusy when another process has the folder, LogUnavailable when it cannot be opened.
    """

    def __init__(self, folder: Path) -> None:
        private_folder(folder)
        self._folder = folder / "checkpoint"
        try:
            self._open()
        except CheckpointDamaged as error:
            _logger.warning("%s; it is set aside, and the state is rebuilt from the log", error)
            self._set_aside()
            self._open()

    def _open(self) -> None:
        folder = self._folder.parent
        try:
            self._db: Any = open_database(self._folder)
        except Locked as error:
            raise LogBusy(f"another process uses the state in {folder}; give this one its own --state") from error
        except Damaged as error:
            if is_damage(str(error)):
                raise CheckpointDamaged(f"the checkpoint cannot be opened: {error}") from error
            raise LogUnavailable(
                f"the state in {folder} cannot be opened: {error}; remove it there to have it rebuilt from the log"
            ) from error
        self._pages = CheckpointPages(self._db, PAGES, REDO)

    def write(self, delta: StateDelta) -> None:
        """Applies the delta in one step."""
        for _ in self.saving(delta):
            pass

    def saving(self, delta: StateDelta) -> Iterator[None]:
        """The same, in pieces. See `Committer.saving`."""
        return self._pages.replacing(delta, self._write)

    def _write(self, batch: Any) -> None:
        try:
            self._db.write(batch)
        except Exception as error:  # rocksdict raises bare Exception
            told = told_apart(error, "the checkpoint cannot be written")
            if isinstance(told, Damaged):
                raise CheckpointDamaged(f"the checkpoint cannot be written: {error}") from error
            raise LogUnavailable(f"{told}. The last good one holds") from error

    def load(self, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Keys that begin with `prefix` and their values, in key order.

        Raises CheckpointDamaged where a checksum does not hold, a page's or a file's.
        """
        return pages_of(self._db, PAGES, REDO, prefix)

    def discard(self) -> None:
        """Sets the damaged files aside, under a name with the time, and begins an empty checkpoint."""
        shut(self._db)
        self._set_aside()
        self._open()

    def _set_aside(self) -> None:
        self._folder.rename(self._folder.with_name(f"checkpoint.damaged-{time.time_ns()}"))

    @staticmethod
    def remove(folder: Path) -> None:
        """Removes the checkpoint of a state folder that nobody has open, readable or not. The seat's id stays."""
        shutil.rmtree(folder / "checkpoint", ignore_errors=True)

    def purge(self) -> None:
        """Rewrites the files without what was deleted or written over."""
        self._db.flush()
        self._db.compact_range(None, None)

    def close(self) -> None:
        """Frees the folder."""
        shut(self._db)
