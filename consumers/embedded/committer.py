"""Commits epochs to an embedded log in the process that has it open."""

import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rocksdict import WriteBatch

from consumers.crash_points import happened
from consumers.embedded.keys import redo_prefix, state_prefix
from consumers.embedded.stored_state import EmbeddedState
from consumers.embedded.tables import LogTables
from consumers.errors import Fenced
from consumers.log import Closable, Positions, StateDelta
from consumers.positions import pack, unpack
from consumers.records import NewRecord, TopicPartition
from consumers.storage.checkpoint_pages import CheckpointPages
from consumers.storage.checkpoint_store import SECRET_BYTES

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
        self._state_prefix, self._redo_prefix = state_prefix(application), redo_prefix(application)
        with tables.changed:
            newest = int.from_bytes(tables.get(self._generation_key) or b"", "big")
            if 0 < held < newest:
                raise _fenced()
            self.generation = max(newest, held) + 1
            tables.put(self._generation_key, self.generation.to_bytes(8, "big"))
        self._stored = EmbeddedState(tables, application)
        self._pages = CheckpointPages(tables.db, self._state_prefix, self._redo_prefix, self.generation)

    def positions(self) -> dict[TopicPartition, int]:
        """See `Committer.positions`."""
        return unpack(self._tables.get(self._positions_key))

    def commit(self, outputs: Sequence[NewRecord], positions: Positions, state: StateDelta | None = None) -> None:
        """See `Committer.commit`. The effects, in this order:

        (1) the pages of a checkpoint go to its redo log; (2) a WriteBatch of outputs, positions and the end of the redo
        log is written; (3) the pages go to their places. A crash before (2) leaves nothing, after it everything.
        """
        tables = self._tables
        for batch in () if state is None else self._pages.staging(state):  # (1)
            self._write(batch)
        with tables.changed:
            self._check_seat()
            batch = WriteBatch(raw_mode=True)
            appended = tables.put_records(batch, outputs)
            batch.put(self._positions_key, pack(self.positions() | dict(positions)))
            if state is not None:
                self._pages.put_end(batch)
            happened("batched")
            tables.write(batch, appended)  # (2)
        happened("written")
        for batch in () if state is None else self._pages.settling():  # (3)
            self._write(batch)

    def saving(self, state: StateDelta) -> Iterator[None]:
        """See `Committer.saving`."""
        return self._pages.replacing(state, self._write)

    def _write(self, batch: Any) -> None:
        """Writes a piece. The lock is not held for longer: who reads the log goes on."""
        with self._tables.changed:
            self._check_seat()
            self._tables.write_batch(batch)

    def _check_seat(self) -> None:
        """Raises Fenced, and LogUnavailable after `close`."""
        self._tables.check_open()
        if self._tables.get(self._generation_key) != self.generation.to_bytes(8, "big"):
            raise _fenced()

    def load_state(self, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """See `Committer.load_state`."""
        return self._stored.pages(prefix)

    def discard_state(self) -> None:
        """See `Committer.discard_state`."""
        self._stored.discard()

    def purge_state(self) -> None:
        """See `Committer.purge_state`."""
        for prefix in (self._state_prefix, self._redo_prefix + b"/"):
            self._tables.purge(prefix)

    def secret(self, held: bytes = b"") -> bytes:
        """See `Committer.secret`: beside the checkpoint in the database."""
        kept = self._stored.secret()
        secret = held or kept or secrets.token_bytes(SECRET_BYTES)
        if secret != kept:
            self._stored.take_secret(secret)
        return secret

    def close(self) -> None:
        """Nothing to free: the seat is kept."""


def _fenced() -> Fenced:
    return Fenced("another process took over this application; this one stops")
