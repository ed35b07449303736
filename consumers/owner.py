"""One embedded log, several processes: the process that has it open serves the others over loopback.

RocksDB has one writer. The owner of a log folder writes its address and a random token into `owner.json` (readable by
the user alone); another process calls the same methods through it. Frames are a 4-byte length and msgpack.
"""

import hmac
import json
import os
import secrets
import socket
import socketserver
import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from consumers import errors
from consumers.embedded import EmbeddedCommitter, EmbeddedLog, EmbeddedReader
from consumers.log import Committer, Positions, StateDelta
from consumers.membership import SoleMember
from consumers.records import NewRecord, Record, TopicPartition, TopicSpec

MAX_FRAME_BYTES = 256 * 1024 * 1024
PAGES_A_FRAME = 10_000
OWNER_FILE = "owner.json"

_Positions = list[tuple[str, int, int]]


def _flat(positions: Positions) -> _Positions:
    return [(*tp, offset) for tp, offset in positions.items()]


def _mapping(positions: _Positions) -> dict[TopicPartition, int]:
    return {TopicPartition(topic, partition): offset for topic, partition, offset in positions}


class _Session:
    """What one connection may call, and the reader or committer that it holds."""

    def __init__(self, log: EmbeddedLog) -> None:
        self._log = log
        self._reader: EmbeddedReader | None = None
        self._committer: EmbeddedCommitter | None = None
        self._pages: Iterator[tuple[bytes, bytes]] = iter(())

    def create(self, specs: list[TopicSpec]) -> list[str]:
        return self._log.create(specs)

    def topics(self) -> list[TopicSpec]:
        return list(self._log.topics().values())

    def starts(self, topic: str) -> dict[int, int]:
        return self._log.starts(topic)

    def ends(self, topic: str) -> dict[int, int]:
        return self._log.ends(topic)

    def append(self, records: list[NewRecord]) -> None:
        self._log.append(records)

    def open_reader(self, positions: _Positions) -> None:
        self._reader = self._log.reader(_mapping(positions))

    def read(self, max_records: int, timeout_s: float) -> tuple[list[Record], list[tuple[str, int]]]:
        assert self._reader, "open_reader comes first"
        records = self._reader.read(max_records, min(timeout_s, 5.0))
        return records, [tuple(tp) for tp in self._reader.at_end()]  # type: ignore[misc]

    def pause(self, partitions: list[tuple[str, int]]) -> None:
        assert self._reader, "open_reader comes first"
        self._reader.pause([TopicPartition(*tp) for tp in partitions])

    def open_committer(self, application: str) -> None:
        self._committer = self._log.committer(application)

    def positions(self) -> _Positions:
        assert self._committer, "open_committer comes first"
        return _flat(self._committer.positions())

    def commit(self, outputs: list[NewRecord], positions: _Positions, state: list[tuple[bytes, bytes | None]]) -> None:
        assert self._committer, "open_committer comes first"
        self._committer.commit(outputs, _mapping(positions), dict(state))

    def load_state(self, prefix: bytes) -> None:
        assert self._committer, "open_committer comes first"
        self._pages = self._committer.load_state(prefix)

    def stored_positions(self, application: str) -> _Positions:
        return _flat(self._log.stored_state(application).positions())

    def seek_pages(self, application: str, prefix: bytes) -> None:
        self._pages = self._log.stored_state(application).pages(prefix)

    def next_pages(self) -> list[tuple[bytes, bytes]]:
        return list(islice(self._pages, PAGES_A_FRAME))

    def write_state(self, application: str, delta: list[tuple[bytes, bytes | None]]) -> None:
        self._log.stored_state(application).write(dict(delta))

    def secret(self, held: bytes) -> bytes:
        assert self._committer, "open_committer comes first"
        return self._committer.secret(held)

    def stored_secret(self, application: str) -> bytes:
        return self._log.stored_state(application).secret()

    def take_secret(self, application: str, secret: bytes) -> None:
        self._log.stored_state(application).take_secret(secret)

    def clear_state(self, application: str) -> None:
        self._log.stored_state(application).clear()

    def discard_state(self) -> None:
        assert self._committer, "open_committer comes first"
        self._committer.discard_state()

    def purge_state(self) -> None:
        assert self._committer, "open_committer comes first"
        self._committer.purge_state()


_METHODS: dict[str, tuple[Any, ...]] = {  # name → types of its arguments
    "create": (list[TopicSpec],),
    "topics": (),
    "starts": (str,),
    "ends": (str,),
    "append": (list[NewRecord],),
    "open_reader": (_Positions,),
    "read": (int, float),
    "pause": (list[tuple[str, int]],),
    "open_committer": (str,),
    "positions": (),
    "commit": (list[NewRecord], _Positions, list[tuple[bytes, bytes | None]]),
    "load_state": (bytes,),
    "stored_positions": (str,),
    "seek_pages": (str, bytes),
    "next_pages": (),
    "write_state": (str, list[tuple[bytes, bytes | None]]),
    "clear_state": (str,),
    "discard_state": (),
    "purge_state": (),
    "secret": (bytes,),
    "stored_secret": (str,),
    "take_secret": (str, bytes),
}


class Owner:
    """Serves an open embedded log to other processes of this machine until `close`."""

    def __init__(self, log: EmbeddedLog, folder: Path) -> None:
        self._file = folder / OWNER_FILE
        token = secrets.token_hex(16)
        self._server = _Server(("127.0.0.1", 0), _handler(log, token))
        address = {"port": self._server.server_address[1], "token": token, "pid": os.getpid()}
        descriptor = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(address, file)
        threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True, name="log-owner").start()

    def close(self) -> None:
        """Stops serving; connections end."""
        self._file.unlink(missing_ok=True)
        self._server.shutdown()
        self._server.server_close()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False


def _handler(log: EmbeddedLog, token: str) -> type[socketserver.BaseRequestHandler]:
    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                offered = _receive(self.request)
                if not isinstance(offered, str) or not hmac.compare_digest(offered, token):
                    return
                session = _Session(log)
                while True:
                    _send(self.request, _answer(session, _receive(self.request)))
            except (OSError, EOFError, msgspec.MsgspecError):
                return  # the other side is gone, or no client of ours

    return Handler


def _answer(session: _Session, call: Any) -> tuple[str, Any]:
    """("", result) or (error's name, message)."""
    name, *arguments = call
    types = _METHODS[name]
    try:
        typed = [msgspec.convert(argument, type_) for argument, type_ in zip(arguments, types, strict=True)]
        return "", getattr(session, name)(*typed)
    except errors.WireError as error:
        return type(error).__name__, str(error)


def _send(connection: socket.socket, message: Any) -> None:
    data = msgspec.msgpack.encode(message)
    connection.sendall(len(data).to_bytes(4, "big") + data)


def _receive(connection: socket.socket) -> Any:
    size = int.from_bytes(_receive_exactly(connection, 4), "big")
    if size > MAX_FRAME_BYTES:
        raise EOFError
    return msgspec.msgpack.decode(_receive_exactly(connection, size))


def _receive_exactly(connection: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = connection.recv(min(size - len(parts), 1 << 20))
        if not part:
            raise EOFError
        parts += part
    return bytes(parts)


class _Connection:
    """A connection to the owner that calls its methods one at a time."""

    def __init__(self, folder: Path) -> None:
        try:
            address = json.loads((folder / OWNER_FILE).read_text())
            self._socket = socket.create_connection(("127.0.0.1", address["port"]), timeout=30)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _send(self._socket, address["token"])
        except (OSError, ValueError, KeyError) as error:
            raise errors.LogBusy(
                f"another process has the log in {folder} open and does not answer: {error}"
            ) from error
        self._lock = threading.Lock()

    def call(self, name: str, *arguments: Any) -> Any:
        try:
            with self._lock:
                _send(self._socket, (name, *arguments))
                kind, result = _receive(self._socket)
        except (OSError, EOFError) as error:
            raise errors.LogUnavailable("the process that had the log open has ended; start again") from error
        if kind:
            raise getattr(errors, kind)(result)
        return result

    def close(self) -> None:
        self._socket.close()


class RemoteLog:
    """A `consumers.log.Log` through the process that has the folder open. Raises LogBusy when it does not answer."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._connection = _Connection(folder)

    def create(self, specs: Iterable[TopicSpec]) -> list[str]:
        """See `Log.create`."""
        return list(self._connection.call("create", list(specs)))

    def topics(self) -> dict[str, TopicSpec]:
        """See `Log.topics`."""
        specs = msgspec.convert(self._connection.call("topics"), list[TopicSpec])
        return {spec.name: spec for spec in specs}

    def starts(self, topic: str) -> dict[int, int]:
        """See `Log.starts`."""
        return dict(self._connection.call("starts", topic))

    def ends(self, topic: str) -> dict[int, int]:
        """See `Log.ends`."""
        return dict(self._connection.call("ends", topic))

    def append(self, records: Sequence[NewRecord]) -> None:
        """See `Log.append`."""
        self._connection.call("append", list(records))

    def reader(self, positions: Positions) -> "RemoteReader":
        """See `Log.reader`; each reader has its own connection, so that a wait blocks nobody else."""
        return RemoteReader(_Connection(self._folder), positions)

    def committer(self, application: str) -> "RemoteCommitter":
        """See `Log.committer`."""
        return RemoteCommitter(_Connection(self._folder), application)

    def subscribe(self, committer: Committer, positions: Positions) -> SoleMember:
        """See `Log.subscribe`: this process has them all."""
        return SoleMember(self.reader(positions), positions)

    def stored_state(self, application: str) -> "RemoteState":
        """See `Log.stored_state`."""
        return RemoteState(self._connection, application)

    def close(self) -> None:
        """Ends the connection."""
        self._connection.close()


class RemoteReader:
    """See `consumers.log.Reader`."""

    def __init__(self, connection: _Connection, positions: Positions) -> None:
        self._connection = connection
        self._at_end: frozenset[TopicPartition] = frozenset()
        try:
            connection.call("open_reader", _flat(positions))
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

    def close(self) -> None:
        """Ends the connection."""
        self._connection.close()


class RemoteCommitter:
    """See `consumers.log.Committer`."""

    seat = ""

    def __init__(self, connection: _Connection, application: str) -> None:
        self._connection = connection
        connection.call("open_committer", application)

    def positions(self) -> dict[TopicPartition, int]:
        """See `Committer.positions`."""
        return _mapping(self._connection.call("positions"))

    def commit(self, outputs: Sequence[NewRecord], positions: Positions, state: StateDelta | None = None) -> None:
        """See `Committer.commit`."""
        self._connection.call("commit", list(outputs), _flat(positions), list((state or {}).items()))

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

    def __init__(self, connection: _Connection, application: str) -> None:
        self._connection, self._application = connection, application

    def positions(self) -> dict[TopicPartition, int]:
        """See `StoredState.positions`."""
        return _mapping(self._connection.call("stored_positions", self._application))

    def pages(self, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """See `StoredState.pages`; one read at a time."""
        return _pages(self._connection, "seek_pages", self._application, prefix)

    def write(self, delta: StateDelta) -> None:
        """See `StoredState.write`."""
        self._connection.call("write_state", self._application, list(delta.items()))

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


def _pages(connection: _Connection, call: str, *arguments: Any) -> Iterator[tuple[bytes, bytes]]:
    """What a call has made ready, a frame at a time: a state may be larger than a frame."""
    connection.call(call, *arguments)
    while pages := connection.call("next_pages"):
        yield from ((key, value) for key, value in pages)
