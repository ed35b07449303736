"""The checkpoint of a worker on Kafka: one RocksDB in the state folder, written in one batch, with checksums."""

import shutil
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
from rocksdict import WriteBatch

from consumers.errors import CheckpointDamaged, LogBusy, LogUnavailable
from consumers.log import Positions, StateDelta
from consumers.private import private_folder, write_private
from consumers.records import TopicPartition
from consumers.rocks import Damaged, Locked, open_database, scan, shut

_POSITIONS = b"p"
INSTANCE_FILE = "instance"


def instance_id(folder: Path) -> str:
    """The id that keeps this state folder's seat in the group; made on first use."""
    private_folder(folder)
    file = folder / INSTANCE_FILE
    if not file.exists():
        write_private(file, uuid4().hex[:12])
    return file.read_text().strip()


def checked(value: bytes) -> bytes:
    """A page with its checksum before it."""
    return zlib.crc32(value).to_bytes(4, "big") + value


def unchecked(key: bytes, value: bytes) -> bytes:
    """The page behind its checksum. Raises CheckpointDamaged where that does not hold."""
    if zlib.crc32(value[4:]).to_bytes(4, "big") != value[:4]:
        raise CheckpointDamaged(f"page {key!r} of the checkpoint is damaged")
    return value[4:]


class StateStore:
    """Keys and values with the positions that they stand for. One process at a time.

    Raises LogBusy when another process has the folder, LogUnavailable when it cannot be opened.
    """

    def __init__(self, folder: Path) -> None:
        private_folder(folder)
        self._folder = folder / "checkpoint"
        self._db: Any = self._open()

    def _open(self) -> Any:
        folder = self._folder.parent
        try:
            return open_database(self._folder)
        except Locked as error:
            raise LogBusy(f"another process uses the state in {folder}; give this one its own --state") from error
        except Damaged as error:
            raise LogUnavailable(
                f"the state in {folder} cannot be opened: {error}; remove it there to have it rebuilt from the log"
            ) from error

    def write(self, delta: StateDelta, positions: Positions) -> None:
        """Applies the delta and the positions in one batch."""
        batch = WriteBatch(raw_mode=True)
        for key, value in delta.items():
            if value is None:
                batch.delete(b"s" + key)
            else:
                batch.put(b"s" + key, checked(value))
        batch.put(_POSITIONS, msgspec.msgpack.encode([(*tp, offset) for tp, offset in positions.items()]))
        try:
            self._db.write(batch)
        except Exception as error:  # rocksdict raises bare Exception
            raise LogUnavailable(
                f"the checkpoint cannot be written: {error}; free space on its disk. The last good one holds"
            ) from error

    def positions(self) -> dict[TopicPartition, int]:
        """The positions of the last write."""
        stored = self._db.get(_POSITIONS)
        return {TopicPartition(t, p): offset for t, p, offset in msgspec.msgpack.decode(stored)} if stored else {}

    def load(self, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Keys that begin with `prefix` and their values, in key order.

        Raises CheckpointDamaged where a checksum does not hold, a page's or a file's.
        """
        try:
            for key, value in scan(self._db, b"s" + prefix):
                yield key[1:], unchecked(key[1:], value)
        except Damaged as error:
            raise CheckpointDamaged(f"the checkpoint cannot be read: {error}") from error

    def discard(self) -> None:
        """Sets the damaged files aside, under a name with the time, and begins an empty checkpoint."""
        shut(self._db)
        aside = self._folder.with_name(f"checkpoint.damaged-{int(time.time())}")
        self._folder.rename(aside)
        self._db = self._open()

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
