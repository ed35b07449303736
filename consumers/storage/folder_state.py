"""The checkpoint of a worker on Kafka as it lies in its state folder, read and replaced without its seat."""

from collections.abc import Callable, Iterator
from pathlib import Path

from consumers.errors import CheckpointDamaged
from consumers.log import StateDelta
from consumers.records import TopicPartition
from consumers.storage.checkpoint_pages import pages_of
from consumers.storage.checkpoint_store import INSTANCE_FILE, PAGES, REDO, SECRET_FILE, StateStore, folder_secret
from consumers.storage.private_files import write_private
from consumers.storage.rocks import Damaged, database_beside


class FolderState:
    """See `consumers.log.StoredState`; the positions are the broker's."""

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
            store.write(delta)
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
