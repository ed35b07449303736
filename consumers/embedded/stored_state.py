"""The checkpoint of an application as it lies in an embedded log, read and replaced without its seat."""

from collections.abc import Iterator
from typing import Any

from consumers.embedded.keys import redo_prefix, state_prefix
from consumers.log import StateDelta
from consumers.positions import unpack
from consumers.records import TopicPartition
from consumers.storage.checkpoint_pages import CheckpointPages, clear_redo, pages_of
from consumers.storage.rocks import scan, write_batch


class EmbeddedState:
    """See `consumers.log.StoredState`: in the log's database, where the application's positions are too."""

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
        for _ in CheckpointPages(self._db, self._prefix, self._redo).replacing(delta, self._db.write):
            pass

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
