"""The checkpoint of an application as it lies in an embedded log, read and replaced without its seat."""

from collections.abc import Iterator

from consumers.embedded.keys import redo_prefix, state_prefix
from consumers.embedded.tables import LogTables
from consumers.errors import CheckpointDamaged
from consumers.log import StateDelta
from consumers.positions import unpack
from consumers.records import TopicPartition
from consumers.storage.checkpoint_pages import CheckpointPages, pages_of
from consumers.storage.rocks import Damaged


class EmbeddedState:
    """See `consumers.log.StoredState`: in the log's database, where the application's positions are too."""

    def __init__(self, tables: LogTables, application: str) -> None:
        self._tables, self._application = tables, application.encode()
        self._prefix, self._redo = state_prefix(application), redo_prefix(application)
        self._positions_key, self._secret_key = b"p/" + self._application, b"k/" + self._application

    def positions(self) -> dict[TopicPartition, int]:
        """See `StoredState.positions`."""
        return unpack(self._tables.get(self._positions_key))

    def pages(self, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """See `StoredState.pages`. Damage of pages alone is no reason to stop: they are made anew from the log."""
        try:
            yield from pages_of(self._tables.db, self._prefix, self._redo, prefix)
        except CheckpointDamaged as error:
            if isinstance(error.__cause__, Damaged):
                self._tables.note_damage(error.__cause__)
            raise

    def write(self, delta: StateDelta) -> None:
        """See `StoredState.write`."""
        for _ in CheckpointPages(self._tables.db, self._prefix, self._redo).replacing(delta, self._tables.write_batch):
            pass

    def seat(self) -> str:
        """See `StoredState.seat`."""
        return ""

    def take_seat(self, seat: str) -> None:
        """See `StoredState.take_seat`: there is one only."""

    def secret(self) -> bytes:
        """See `StoredState.secret`."""
        return self._tables.get(self._secret_key) or b""

    def take_secret(self, secret: bytes) -> None:
        """See `StoredState.take_secret`."""
        self._tables.put(self._secret_key, secret)

    def discard(self) -> None:
        """Removes the pages."""
        self._tables.delete(self._redo)
        for prefix in (self._redo + b"/", self._prefix):
            self._tables.delete_all(prefix)

    def clear(self) -> None:
        """See `StoredState.clear`."""
        self.discard()
        written = [key for key, writer in self._tables.scan(b"w/") if writer == self._application]
        self._tables.change(dict.fromkeys(written))  # the topics are anybody's again
