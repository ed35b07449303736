"""The checkpoint of a worker on Kafka: one RocksDB in the state folder, written in one batch, with checksums."""

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
from rocksdict import Options, Rdict, WriteBatch

from consumers.errors import LogBusy, LogUnavailable
from consumers.log import Positions, StateDelta
from consumers.records import TopicPartition

_POSITIONS = b"p"


def instance_id(folder: Path) -> str:
    """The id that keeps this state folder's seat in the group; made on first use."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "instance"
    if not file.exists():
        file.write_text(uuid4().hex[:12])
    return file.read_text().strip()


class StateStore:
    """Keys and values with the positions that they stand for. One process at a time.

    Raises LogBusy when another process has the folder, LogUnavailable when it cannot be opened.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        options = Options(raw_mode=True)
        options.create_if_missing(True)
        try:
            self._db: Any = Rdict(str(folder / "checkpoint"), options)
        except Exception as error:  # rocksdict raises bare Exception
            if "lock" in str(error).lower():
                raise LogBusy(f"another process uses the state in {folder}; give this one its own --state") from error
            raise LogUnavailable(f"the state in {folder} cannot be opened: {error}") from error

    def write(self, delta: StateDelta, positions: Positions) -> None:
        """Applies the delta and the positions in one batch."""
        batch = WriteBatch(raw_mode=True)
        for key, value in delta.items():
            if value is None:
                batch.delete(b"s" + key)
            else:
                batch.put(b"s" + key, zlib.crc32(value).to_bytes(4, "big") + value)
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

        Raises LogUnavailable where a checksum does not hold.
        """
        for key, value in self._db.items(from_key=b"s" + prefix):
            if not key.startswith(b"s" + prefix):
                return
            if zlib.crc32(value[4:]).to_bytes(4, "big") != value[:4]:
                raise LogUnavailable("the checkpoint is damaged; remove the state folder to rebuild it from the log")
            yield key[1:], value[4:]

    def purge(self) -> None:
        """Rewrites the files without what was deleted or written over."""
        self._db.flush()
        self._db.compact_range(None, None)

    def close(self) -> None:
        """Frees the folder."""
        self._db.close()
