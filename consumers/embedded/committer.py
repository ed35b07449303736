"""Commits epochs to an embedded log in the process that has it open."""

import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path

from rocksdict import WriteBatch

from consumers.crash_points import happened
from consumers.embedded.keys import state_prefix
from consumers.embedded.tables import LogTables
from consumers.errors import Fenced
from consumers.log import Closable, Positions, StateDelta
from consumers.positions import pack, unpack
from consumers.records import NewRecord, TopicPartition
from consumers.storage.checkpoint_store import SECRET_BYTES, checked
from consumers.storage.stored_state import EmbeddedState

_held: dict[tuple[Path, str], int] = {}


def held_generation(folder: Path, application: str) -> int:
    """The newest generation of a seat that this process had; 0: it has just started."""
    return _held.get((folder.resolve(), application), 0)


def hold_generation(folder: Path, application: str, generation: int) -> None:
    """Notes the generation that this process has."""
    _held[folder.resolve(), application] = generation


class EmbeddedCommitter(Closable):
    """See `consumers.log.Committer`.

    Args:
        held: the generation that the process had before. A process that starts gets the seat; one that opens the log
            again must still have it.

    Raises Fenced where a later process has taken the seat since.
    """

    seat = ""

    def __init__(self, tables: LogTables, application: str, held: int = 0) -> None:
        self._tables, self._application, self.waits = tables, application, tables.syncs
        name = application.encode()
        self._generation_key, self._positions_key = b"g/" + name, b"p/" + name
        self._state_prefix = state_prefix(application)
        with tables.changed:
            newest = int.from_bytes(tables.get(self._generation_key) or b"", "big")
            if 0 < held < newest:
                raise _fenced()
            self.generation = max(newest, held) + 1
            tables.put(self._generation_key, self.generation.to_bytes(8, "big"))

    def positions(self) -> dict[TopicPartition, int]:
        """See `Committer.positions`."""
        return unpack(self._tables.get(self._positions_key))

    def commit(self, outputs: Sequence[NewRecord], positions: Positions, state: StateDelta | None = None) -> None:
        """See `Committer.commit`. One effect: (1) a WriteBatch of outputs, positions and state is written."""
        tables = self._tables
        with tables.changed:
            tables.check_open()
            if tables.get(self._generation_key) != self.generation.to_bytes(8, "big"):
                raise _fenced()
            batch = WriteBatch(raw_mode=True)
            appended = tables.put_records(batch, outputs)
            batch.put(self._positions_key, pack(self.positions() | dict(positions)))
            for key, value in (state or {}).items():
                if value is None:
                    batch.delete(self._state_prefix + key)
                else:
                    batch.put(self._state_prefix + key, checked(key, value))
            happened("batched")
            tables.write(batch, appended)  # (1)
        happened("written")

    def load_state(self, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """See `Committer.load_state`."""
        return EmbeddedState(self._tables.db, self._application).pages(prefix)

    def discard_state(self) -> None:
        """See `Committer.discard_state`."""
        end = self._state_prefix[:-1] + b"0"  # "0" follows "/"
        self._tables.db.delete_range(self._state_prefix, end)

    def purge_state(self) -> None:
        """See `Committer.purge_state`."""
        self._tables.db.flush()
        self._tables.db.compact_range(self._state_prefix, self._state_prefix[:-1] + b"0")  # "0" follows "/"

    def secret(self, held: bytes = b"") -> bytes:
        """See `Committer.secret`: beside the checkpoint in the database."""
        stored = EmbeddedState(self._tables.db, self._application)
        kept = stored.secret()
        secret = held or kept or secrets.token_bytes(SECRET_BYTES)
        if secret != kept:
            stored.take_secret(secret)
        return secret

    def close(self) -> None:
        """Nothing to free: the seat is kept."""


def _fenced() -> Fenced:
    return Fenced("another process took over this application; this one stops")
