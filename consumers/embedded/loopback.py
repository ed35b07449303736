"""One embedded log, several processes: the process that has it open serves the others over loopback.

RocksDB has one writer. The owner of a log folder writes its address and a random token into `owner.json` (readable by
the user alone); another process calls the same methods through it. Frames are a 4-byte length and msgpack; what is
larger than a piece goes in several.

Who has not shown the token gets a few bytes and seconds, and the newest of them replaces the oldest. Who has shown it
is taken for gone after a while without a word: `_Keeper` says one for connections that are open and not in use.
"""

import hmac
import json
import logging
import os
import secrets
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakSet

import msgspec

from consumers import errors
from consumers.embedded.log import (
    MAX_RECORD_BYTES,
    EmbeddedCommitter,
    EmbeddedLog,
    EmbeddedReader,
    held_generation,
    hold_generation,
)
from consumers.embedded.sole_member import SoleMember
from consumers.log import APPEND_TIMEOUT_S, Closable, Committer, Positions, StateDelta
from consumers.positions import Rows, from_rows, to_rows
from consumers.records import NewRecord, Record, TopicPartition, TopicSpec
from consumers.storage.private_files import write_private

MAX_FRAME_BYTES, PIECE_BYTES = 64 << 20, 4 << 20
TOKEN_BYTES, TOKEN_S = 64, 5.0  # of a first frame, and how long it may take
STRANGERS, CLIENTS = 32, 256  # connections at once that have not shown the token, and that have
IDLE_S, KEEP_S = 120.0, 30.0
ANSWER_S = 60.0
OWNER_FILE = "owner.json"
_logger = logging.getLogger(__name__)

_State = list[tuple[bytes, bytes | None]]
_Once = tuple[str, int] | None
Part = TypeVar("Part")


class _Session:
    """What one connection may call, and the reader or committer that it holds."""

    def __init__(self, log: EmbeddedLog) -> None:
        self._log = log
        self._reader: EmbeddedReader | None = None
        self._committer: EmbeddedCommitter | None = None
        self._pages: Iterator[tuple[bytes, bytes]] = iter(())
        self._records: list[NewRecord] = []
        self._state: dict[bytes, bytes | None] = {}

    def ping(self) -> None:
        """Says that the client is there."""

    def stage(self, records: list[NewRecord], state: _State) -> None:
        """A piece of what the next call writes."""
        self._records += records
        self._state.update(state)

    def _staged(self, records: list[NewRecord], state: _State) -> tuple[list[NewRecord], dict[bytes, bytes | None]]:
        self.stage(records, state)
        taken = self._records, self._state
        self._records, self._state = [], {}
        return taken

    def create(self, specs: list[TopicSpec]) -> list[str]:
        return self._log.create(specs)

    def topics(self) -> list[TopicSpec]:
        return list(self._log.topics().values())

    def starts(self, topic: str) -> dict[int, int]:
        return self._log.starts(topic)

    def ends(self, topic: str) -> dict[int, int]:
        return self._log.ends(topic)

    def topic_ids(self, topics: list[str]) -> dict[str, str]:
        return self._log.topic_ids(topics)

    def claim(self, application: str, topics: list[str]) -> None:
        self._log.claim(application, topics)

    def append(self, records: list[NewRecord], once: _Once) -> None:
        self._log.append(self._staged(records, [])[0], once=once)

    def forget(self, client: str) -> None:
        self._log.forget(client)

    def open_reader(self, positions: Rows) -> None:
        self._reader = self._log.reader(from_rows(positions))

    def read(self, max_records: int, timeout_s: float) -> tuple[list[Record], list[tuple[str, int]]]:
        assert self._reader, "open_reader comes first"
        records = self._reader.read(max_records, min(timeout_s, 5.0))
        return records, [tuple(tp) for tp in self._reader.at_end()]  # type: ignore[misc]

    def reader_positions(self) -> Rows:
        assert self._reader, "open_reader comes first"
        return to_rows(self._reader.positions())

    def pause(self, partitions: list[tuple[str, int]]) -> None:
        assert self._reader, "open_reader comes first"
        self._reader.pause([TopicPartition(*tp) for tp in partitions])

    def open_committer(self, application: str, held: int) -> int:
        self._committer = EmbeddedCommitter(self._log, application, held)
        return self._committer.generation

    def positions(self) -> Rows:
        assert self._committer, "open_committer comes first"
        return to_rows(self._committer.positions())

    def commit(self, outputs: list[NewRecord], positions: Rows, state: _State) -> None:
        assert self._committer, "open_committer comes first"
        records, delta = self._staged(outputs, state)
        self._committer.commit(records, from_rows(positions), delta)

    def load_state(self, prefix: bytes) -> None:
        assert self._committer, "open_committer comes first"
        self._pages = self._committer.load_state(prefix)

    def stored_positions(self, application: str) -> Rows:
        return to_rows(self._log.stored_state(application).positions())

    def seek_pages(self, application: str, prefix: bytes) -> None:
        self._pages = self._log.stored_state(application).pages(prefix)

    def next_pages(self) -> list[tuple[bytes, bytes]]:
        pages, size = [], 0
        for key, value in self._pages:
            pages.append((key, value))
            size += len(key) + len(value)
            if size >= PIECE_BYTES:
                break
        return pages

    def write_state(self, application: str, delta: _State) -> None:
        self._log.stored_state(application).write(self._staged([], delta)[1])

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
    "ping": (),
    "stage": (list[NewRecord], _State),
    "create": (list[TopicSpec],),
    "topics": (),
    "starts": (str,),
    "ends": (str,),
    "topic_ids": (list[str],),
    "claim": (str, list[str]),
    "append": (list[NewRecord], _Once),
    "forget": (str,),
    "open_reader": (Rows,),
    "read": (int, float),
    "reader_positions": (),
    "pause": (list[tuple[str, int]],),
    "open_committer": (str, int),
    "positions": (),
    "commit": (list[NewRecord], Rows, _State),
    "load_state": (bytes,),
    "stored_positions": (str,),
    "seek_pages": (str, bytes),
    "next_pages": (),
    "write_state": (str, _State),
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
        self._server = _Server(log, token)
        address = {"port": self._server.server_address[1], "token": token, "pid": os.getpid()}
        self._file.unlink(missing_ok=True)  # an older one keeps the rights that it has
        write_private(self._file, json.dumps(address))
        threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True, name="log-owner").start()

    def close(self) -> None:
        """Stops serving; connections end, and who holds one looks for another owner."""
        self._file.unlink(missing_ok=True)
        self._server.shutdown()
        self._server.server_close()
        self._server.end_connections()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, log: EmbeddedLog, token: str) -> None:
        self.log, self.token = log, token
        self._connections = threading.Lock()
        self._strangers: dict[socket.socket, None] = {}  # oldest first
        self._clients: set[socket.socket] = set()
        super().__init__(("127.0.0.1", 0), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._connections:
            self._strangers[request] = None
            if len(self._strangers) > STRANGERS:
                oldest = next(iter(self._strangers))
                del self._strangers[oldest]
                _end(oldest)
        super().process_request(request, client_address)

    def admit(self, connection: socket.socket) -> bool:
        """Whether one more that has shown the token is taken."""
        with self._connections:
            self._strangers.pop(connection, None)
            if len(self._clients) >= CLIENTS:
                return False
            self._clients.add(connection)
            return True

    def shutdown_request(self, request: Any) -> None:
        with self._connections:
            self._strangers.pop(request, None)
            self._clients.discard(request)
        super().shutdown_request(request)

    def end_connections(self) -> None:
        """Wakes every thread that serves one."""
        with self._connections:
            for connection in (*self._strangers, *self._clients):
                _end(connection)

    def handle_error(self, request: Any, client_address: Any) -> None:
        _logger.debug("a connection ended", exc_info=True)


class _Handler(socketserver.BaseRequestHandler):
    server: _Server

    def handle(self) -> None:
        connection = self.request
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            offered = _receive(connection, TOKEN_BYTES, TOKEN_S)
            if not isinstance(offered, str) or not hmac.compare_digest(offered.encode(), self.server.token.encode()):
                return
            if not self.server.admit(connection):
                _send(connection, ("LogUnavailable", f"the owner of the log serves {CLIENTS} connections already"))
                return
            session = _Session(self.server.log)
            connection.settimeout(IDLE_S)
            while True:
                _reply(connection, _answer(session, _receive(connection), self.server.log))
        except (OSError, EOFError, msgspec.MsgspecError, LookupError, TypeError, ValueError):
            return  # the other side is gone, or no client of ours


def _end(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it has ended


def _answer(session: _Session, call: Any, log: EmbeddedLog) -> tuple[str, Any]:
    """("", result) or (error's name, message). Raises EOFError where the log was closed: then there is no owner."""
    name, *arguments = call
    types = _METHODS[name]
    try:
        typed = [msgspec.convert(argument, type_) for argument, type_ in zip(arguments, types, strict=True)]
        return "", getattr(session, name)(*typed)
    except errors.WireError as error:
        if log.closed:
            raise EOFError from error
        return type(error).__name__, str(error)


def _reply(connection: socket.socket, answer: tuple[str, Any]) -> None:
    try:
        _send(connection, answer)
    except errors.DataRefused as error:
        _send(connection, (type(error).__name__, str(error)))


def _send(connection: socket.socket, message: Any) -> None:
    data = msgspec.msgpack.encode(message)
    if len(data) > MAX_FRAME_BYTES:
        raise errors.DataRefused(
            f"a record or page of {len(data):,} bytes; the owner of a log takes {MAX_FRAME_BYTES:,}"
        )
    connection.sendall(len(data).to_bytes(4, "big") + data)


def _receive(connection: socket.socket, limit: int = MAX_FRAME_BYTES, within_s: float | None = None) -> Any:
    """A frame of at most `limit` bytes; `within_s`: all of it by then. Raises EOFError, OSError."""
    deadline = None if within_s is None else time.monotonic() + within_s
    size = int.from_bytes(_receive_exactly(connection, 4, deadline), "big")
    if size > limit:
        raise EOFError
    return msgspec.msgpack.decode(_receive_exactly(connection, size, deadline))


def _receive_exactly(connection: socket.socket, size: int, deadline: float | None) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        if deadline is not None:
            connection.settimeout(max(deadline - time.monotonic(), 0.001))
        part = connection.recv(min(size - len(parts), 1 << 20))
        if not part:
            raise EOFError
        parts += part
    return bytes(parts)


def _pieces(parts: Sequence[Part], size_of: Callable[[Part], int]) -> list[Sequence[Part]]:
    """The parts cut where a piece is full; the last piece may be empty."""
    pieces, first, size = [], 0, 0
    for n, part in enumerate(parts):
        size += size_of(part)
        if size >= PIECE_BYTES:
            pieces.append(parts[first : n + 1])
            first, size = n + 1, 0
    return [*pieces, parts[first:]]


def _record_pieces(records: Sequence[NewRecord]) -> list[Sequence[NewRecord]]:
    return _pieces(records, lambda r: 64 + len(r.key or b"") + len(r.value or b"") + sum(len(v) for _, v in r.headers))


def _state_pieces(state: StateDelta) -> list[Sequence[tuple[bytes, bytes | None]]]:
    return _pieces(list(state.items()), lambda page: len(page[0]) + len(page[1] or b""))


class _Connection:
    """A connection to the owner that calls its methods one at a time."""

    def __init__(self, folder: Path) -> None:
        try:
            address = json.loads((folder / OWNER_FILE).read_text())
            self._socket = socket.create_connection(("127.0.0.1", address["port"]), timeout=ANSWER_S)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _send(self._socket, address["token"])
        except (OSError, ValueError, KeyError) as error:
            raise errors.LogBusy(
                f"another process has the log in {folder} open and does not answer: {error}"
            ) from error
        self._lock = threading.Lock()
        self._used = time.monotonic()
        _keeper.keep(self)

    def call(self, name: str, *arguments: Any, staged: Iterable[tuple[Any, Any]] = ()) -> Any:
        """The method's answer. `staged`: what is sent before it, in pieces. Raises its error; OwnerGone."""
        with self._lock:
            for records, state in staged:
                self._call("stage", list(records), list(state))
            return self._call(name, *arguments)

    def _call(self, name: str, *arguments: Any) -> Any:
        try:
            _send(self._socket, (name, *arguments))
            kind, result = _receive(self._socket)
        except (OSError, EOFError) as error:
            self._socket.close()  # an answer that came later would be taken for that of another call
            raise errors.OwnerGone("the process that had the log open has ended; start again") from error
        self._used = time.monotonic()
        if kind:
            raise getattr(errors, kind)(result)
        return result

    def keep(self) -> None:
        """Says a word where nothing was said for a while."""
        if time.monotonic() - self._used < KEEP_S or not self._lock.acquire(blocking=False):
            return
        try:
            self._call("ping")
        except errors.WireError:
            return  # who calls next hears of it
        finally:
            self._lock.release()

    def close(self) -> None:
        self._socket.close()
        _keeper.let_go(self)


class _Keeper:
    """Keeps this process's connections from being taken for those of a client that is gone."""

    def __init__(self) -> None:
        self._connections: WeakSet[_Connection] = WeakSet()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def keep(self, connection: _Connection) -> None:
        with self._lock:
            self._connections.add(connection)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, daemon=True, name="log-connections")
                self._thread.start()

    def let_go(self, connection: _Connection) -> None:
        with self._lock:
            self._connections.discard(connection)

    def _run(self) -> None:
        while True:
            time.sleep(KEEP_S / 3)
            with self._lock:
                connections = list(self._connections)
            for connection in connections:
                connection.keep()


_keeper = _Keeper()


class RemoteLog(Closable):
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
        *first, last = _record_pieces(records)
        self._connection.call("append", list(last), once, staged=((piece, ()) for piece in first))

    def forget(self, client: str) -> None:
        """See `EmbeddedLog.forget`."""
        self._connection.call("forget", client)

    def record_limits(self, topics: Iterable[str]) -> dict[str, int]:
        """See `Log.record_limits`."""
        return dict.fromkeys(topics, MAX_RECORD_BYTES)

    def reader(self, positions: Positions) -> "RemoteReader":
        """See `Log.reader`; each reader has its own connection, so that a wait blocks nobody else."""
        return RemoteReader(_Connection(self._folder), positions)

    def committer(self, application: str) -> "RemoteCommitter":
        """See `Log.committer`."""
        connection = _Connection(self._folder)
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

    def __init__(self, connection: _Connection, positions: Positions) -> None:
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

    def __init__(self, connection: _Connection, application: str, folder: Path) -> None:
        self._connection = connection
        generation = connection.call("open_committer", application, held_generation(folder, application))
        hold_generation(folder, application, generation)

    def positions(self) -> dict[TopicPartition, int]:
        """See `Committer.positions`."""
        return from_rows(self._connection.call("positions"))

    def commit(self, outputs: Sequence[NewRecord], positions: Positions, state: StateDelta | None = None) -> None:
        """See `Committer.commit`."""
        *first, last = _record_pieces(outputs)
        *first_pages, last_pages = _state_pieces(state or {})
        staged = [*((piece, ()) for piece in first), *(((), piece) for piece in first_pages)]
        self._connection.call("commit", list(last), to_rows(positions), list(last_pages), staged=staged)

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
        return from_rows(self._connection.call("stored_positions", self._application))

    def pages(self, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """See `StoredState.pages`; one read at a time."""
        return _pages(self._connection, "seek_pages", self._application, prefix)

    def write(self, delta: StateDelta) -> None:
        """See `StoredState.write`."""
        *first, last = _state_pieces(delta)
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


def _pages(connection: _Connection, call: str, *arguments: Any) -> Iterator[tuple[bytes, bytes]]:
    """What a call has made ready, a frame at a time: a state may be larger than a frame."""
    connection.call(call, *arguments)
    while pages := connection.call("next_pages"):
        yield from ((key, value) for key, value in pages)
