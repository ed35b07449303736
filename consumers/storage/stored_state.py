"""The checkpoint of an application as it lies there, read and replaced without its seat: see `StoredState`."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from consumers.embedded.keys import redo_prefix, state_prefix
from consumers.errors import CheckpointDamaged
from consumers.log import StateDelta
from consumers.positions import unpack
from consumers.records import TopicPartition
from consumers.storage.checkpoint_pages import CheckpointPages, clear_redo, pages_of
from consumers.storage.checkpoint_store import INSTANCE_FILE, PAGES, REDO, SECRET_FILE, StateStore, folder_secret
from consumers.storage.private_files import write_private
from consumers.storage.rocks import Damaged, database_beside, scan, write_batch


class EmbeddedState:
    """In the database of an embedded log, where the application's positions are too."""

    def __init__(self, db: Any, application: str) -> None:
        self._db, self._application = db, application
        self._prefix, self._redo = state_prefix(application), redo_prefix(application)
        self._positions_key = b"p/" + application.encode()
        self._secret_key = b"k/" + application.encode()

    def positions(self) -> dict[TopicPartition, int]:
        """See `StoredState.positions`."""
        return unpack(self._db.get(self._positions_key))

    def pages(self, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """See `StoredState.pages`."""
        return pages_of(self._db, self._prefix, self._redo, prefix)

    def write(self, delta: StateDelta) -> None:
        """See `StoredState.write`."""
        CheckpointPages(self._db, self._prefix, self._redo).replace(delta, self._db.write)

    def seat(self) -> str:
        """See `StoredState.seat`."""
        return ""

    def take_seat(self, seat: str) -> None:
        """See `StoredState.take_seat`: there is one only."""

    def secret(self) -> bytes:
        """See `StoredState.secret`."""
        return self._db.get(self._secret_key) or b""

    def take_secret(self, secret: bytes) -> None:
        """See `StoredState.take_secret`."""
        self._db[self._secret_key] = secret

    def clear(self) -> None:
        """See `StoredState.clear`."""
        clear_redo(self._db, self._redo)
        self._db.delete_range(self._prefix, self._prefix[:-1] + b"0")  # "0" follows "/"
        written = [key for key, writer in scan(self._db, b"w/") if writer == self._application.encode()]
        write_batch(self._db, dict.fromkeys(written))  # the topics are anybody's again


class FolderState:
    """In the state folder of a worker on Kafka; the positions are the broker's."""

    def __init__(self, folder: Path, positions: Callable[[], dict[TopicPartition, int]]) -> None:
        self._folder, self._positions = folder, positions

    def positions(self) -> dict[TopicPartition, int]:
        """See `StoredState.positions`."""
        return self._positions()

    def pages(self, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """See `StoredState.pages`: beside a worker that has the folder open, if there is one."""
        try:
            with database_beside(self._folder / "checkpoint") as db:
                if db is not None:
                    yield from pages_of(db, PAGES, REDO, prefix)
        except Damaged as error:
            raise CheckpointDamaged(f"the checkpoint cannot be opened: {error}") from error

    def write(self, delta: StateDelta) -> None:
        """See `StoredState.write`."""
        store = StateStore(self._folder)
        try:
            store.write(delta, {})
        finally:
            store.close()

    def seat(self) -> str:
        """See `StoredState.seat`."""
        file = self._folder / INSTANCE_FILE
        return file.read_text().strip() if file.is_file() else ""

    def take_seat(self, seat: str) -> None:
        """See `StoredState.take_seat`."""
        write_private(self._folder / INSTANCE_FILE, seat)

    def secret(self) -> bytes:
        """See `StoredState.secret`."""
        return folder_secret(self._folder) if (self._folder / SECRET_FILE).is_file() else b""

    def take_secret(self, secret: bytes) -> None:
        """See `StoredState.take_secret`."""
        folder_secret(self._folder, secret)

    def clear(self) -> None:
        """See `StoredState.clear`."""
        StateStore.remove(self._folder)
