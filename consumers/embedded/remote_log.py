"""An embedded log through the process that has it open, see `consumers.embedded.owner`."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from consumers import errors
from consumers.embedded.committer import held_generation, hold_generation
from consumers.embedded.frames import record_pieces, state_pieces
from consumers.embedded.owner_connection import OwnerConnection
from consumers.embedded.sole_member import SoleMember
from consumers.embedded.tables import MAX_RECORD_BYTES
from consumers.log import APPEND_TIMEOUT_S, Closable, Committer, Positions, StateDelta
from consumers.positions import from_rows, to_rows
from consumers.records import NewRecord, Record, TopicPartition, TopicSpec


class RemoteLog(Closable):
    """A `consumers.log.Log` through the process that has the folder open. Raises LogBusy when it does not answer."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._connection = OwnerConnection(folder)

    def create(self, specs: Iterable[TopicSpec]) -> list[str]:
        """See `Log.create`."""
        return list(self._connection.call("create", list(specs)))

    def topic_names(self) -> set[str]:
        """See `Log.topic_names`."""
        return set(self.topics())

    def topics(self, names: Collection[str] | None = None) -> dict[str, TopicSpec]:
        """See `Log.topics`."""
        specs = msgspec.convert(self._connection.call("topics"), list[TopicSpec])
        return {spec.name: spec for spec in specs if names is None or spec.name in names}

    def starts(self, topic: str) -> dict[int, int]:
        """See `Log.starts`."""
        return dict(self._connection.call("starts", topic))

    def ends(self, topic: str) -> dict[int, int]:
        """See `Log.ends`."""
        return dict(self._connection.call("ends", topic))

    def topic_ids(self, topics: Iterable[str]) -> dict[str, str]:
        """See `Log.topic_ids`."""
        return dict(self._connection.call("topic_ids", list(topics)))

    def claim(self, application: str, topics: Collection[str]) -> None:
        """See `Log.claim`."""
        self._connection.call("claim", application, list(topics))

    def append(
        self, records: Sequence[NewRecord], timeout_s: float = APPEND_TIMEOUT_S, once: tuple[str, int] | None = None
    ) -> None:
        """See `Log.append`; the owner waits for nothing. `once` as in `EmbeddedLog.append`."""
        *first, last = record_pieces(records)
        self._connection.call("append", list(last), once, staged=((piece, ()) for piece in first))

    def forget(self, client: str) -> None:
        """See `EmbeddedLog.forget`."""
        self._connection.call("forget", client)

    def record_limits(self, topics: Iterable[str]) -> dict[str, int]:
        """See `Log.record_limits`."""
        return dict.fromkeys(topics, MAX_RECORD_BYTES)

    def reader(self, positions: Positions) -> "RemoteReader":
        """See `Log.reader`; each reader has its own connection, so that a wait blocks nobody else."""
        return RemoteReader(OwnerConnection(self._folder), positions)

    def committer(self, application: str) -> "RemoteCommitter":
        """See `Log.committer`."""
        connection = OwnerConnection(self._folder)
        try:
            return RemoteCommitter(connection, application, self._folder)
        except errors.WireError:
            connection.close()
            raise

    def subscribe(self, committer: Committer, positions: Positions) -> SoleMember:
        """See `Log.subscribe`: this process has them all."""
        return SoleMember(self.reader(positions), positions)

    def stored_state(self, application: str) -> "RemoteState":
        """See `Log.stored_state`."""
        return RemoteState(self._connection, application)

    def close(self) -> None:
        """Ends the connection."""
        self._connection.close()


class RemoteReader(Closable):
    """See `consumers.log.Reader`."""

    def __init__(self, connection: OwnerConnection, positions: Positions) -> None:
        self._connection = connection
        self._at_end: frozenset[TopicPartition] = frozenset()
        try:
            connection.call("open_reader", to_rows(positions))
        except errors.WireError:
            connection.close()
            raise

    def read(self, max_records: int, timeout_s: float) -> list[Record]:
        """See `Reader.read`."""
        records, at_end = self._connection.call("read", max_records, float(timeout_s))
        self._at_end = frozenset(TopicPartition(*tp) for tp in at_end)
        return msgspec.convert(records, list[Record])

    def pause(self, partitions: Collection[TopicPartition]) -> None:
        """See `Reader.pause`."""
        self._connection.call("pause", [tuple(tp) for tp in partitions])

    def at_end(self) -> frozenset[TopicPartition]:
        """See `Reader.at_end`."""
        return self._at_end

    def positions(self) -> dict[TopicPartition, int]:
        """See `Reader.positions`."""
        return from_rows(self._connection.call("reader_positions"))

    def close(self) -> None:
        """Ends the connection."""
        self._connection.close()


class RemoteCommitter(Closable):
    """See `consumers.log.Committer`."""

    seat, waits = "", True

    def __init__(self, connection: OwnerConnection, application: str, folder: Path) -> None:
        self._connection = connection
        generation = connection.call("open_committer", application, held_generation(folder, application))
        hold_generation(folder, application, generation)

    def positions(self) -> dict[TopicPartition, int]:
        """See `Committer.positions`."""
        return from_rows(self._connection.call("positions"))

    def commit(self, outputs: Sequence[NewRecord], positions: Positions, state: StateDelta | None = None) -> None:
        """See `Committer.commit`."""
        *first, last = record_pieces(outputs)
        *first_pages, last_pages = state_pieces(state or {})
        staged = [*((piece, ()) for piece in first), *(((), piece) for piece in first_pages)]
        self._connection.call("commit", list(last), to_rows(positions), list(last_pages), staged=staged)

    def saving(self, state: StateDelta) -> Iterator[None]:
        """See `Committer.saving`: in one call, which the owner of the log answers when all is done."""
        self.commit([], {}, state)
        yield

    def load_state(self, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """See `Committer.load_state`; one read at a time."""
        return _pages(self._connection, "load_state", prefix)

    def discard_state(self) -> None:
        """See `Committer.discard_state`."""
        self._connection.call("discard_state")

    def purge_state(self) -> None:
        """See `Committer.purge_state`."""
        self._connection.call("purge_state")

    def secret(self, held: bytes = b"") -> bytes:
        """See `Committer.secret`."""
        return bytes(self._connection.call("secret", held))

    def close(self) -> None:
        """Ends the connection; the seat is kept."""
        self._connection.close()


class RemoteState:
    """See `consumers.log.StoredState`; on the log's own connection."""

    def __init__(self, connection: OwnerConnection, application: str) -> None:
        self._connection, self._application = connection, application

    def positions(self) -> dict[TopicPartition, int]:
        """See `StoredState.positions`."""
        return from_rows(self._connection.call("stored_positions", self._application))

    def pages(self, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """See `StoredState.pages`; one read at a time."""
        return _pages(self._connection, "seek_pages", self._application, prefix)

    def write(self, delta: StateDelta) -> None:
        """See `StoredState.write`."""
        *first, last = state_pieces(delta)
        self._connection.call("write_state", self._application, list(last), staged=(((), piece) for piece in first))

    def seat(self) -> str:
        """See `StoredState.seat`."""
        return ""

    def take_seat(self, seat: str) -> None:
        """See `StoredState.take_seat`: there is one only."""

    def secret(self) -> bytes:
        """See `StoredState.secret`."""
        return bytes(self._connection.call("stored_secret", self._application))

    def take_secret(self, secret: bytes) -> None:
        """See `StoredState.take_secret`."""
        self._connection.call("take_secret", self._application, secret)

    def clear(self) -> None:
        """See `StoredState.clear`."""
        self._connection.call("clear_state", self._application)


def _pages(connection: OwnerConnection, call: str, *arguments: Any) -> Iterator[tuple[bytes, bytes]]:
    """What a call has made ready, a frame at a time: a state may be larger than a frame."""
    connection.call(call, *arguments)
    while pages := connection.call("next_pages"):
        yield from ((key, value) for key, value in pages)
