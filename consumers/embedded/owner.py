"""The process that has an embedded log open serves the others over loopback: RocksDB has one writer.

The owner of a log folder writes its address and a random token into `owner.json` (readable by the user alone); another
process calls the same methods through it, see `consumers.embedded.remote_log`.

Who has not shown the token gets a few bytes and seconds, and the newest of them replaces the oldest. Who has shown it
is taken for gone after a while without a word.
"""

import hmac
import json
import logging
import os
import secrets
import socket
import socketserver
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from consumers import errors
from consumers.embedded.frames import OWNER_FILE, receive, send
from consumers.embedded.log import EmbeddedLog
from consumers.embedded.owner_session import METHODS, Session
from consumers.storage.private_files import write_private

TOKEN_BYTES, TOKEN_S = 64, 5.0  # of a first frame, and how long it may take
STRANGERS, CLIENTS = 32, 256  # connections at once that have not shown the token, and that have
IDLE_S = 120.0
_logger = logging.getLogger(__name__)


class Owner:
    """Serves an open embedded log to other processes of this machine until `close`."""

    def __init__(self, log: EmbeddedLog, folder: Path) -> None:
        self._file = folder / OWNER_FILE
        token = secrets.token_hex(16)
        self._server = _Server(log, token, self._withdraw)
        address = {"port": self._server.server_address[1], "token": token, "pid": os.getpid()}
        self._file.unlink(missing_ok=True)  # an older one keeps the rights that it has
        self._address = json.dumps(address)
        write_private(self._file, self._address)
        threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True, name="log-owner").start()

    def _withdraw(self) -> None:
        """Nobody else is to come: the log met damage, and is to be opened again."""
        if self._file.is_file() and self._file.read_text() == self._address:
            self._file.unlink(missing_ok=True)

    def close(self) -> None:
        """Stops serving; connections end, and who holds one looks for another owner."""
        self._file.unlink(missing_ok=True)
        self._server.shutdown()
        self._server.server_close()
        self._server.end_connections()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128  # five, as Python has it, let a sixth at once wait a second for its next try

    def __init__(self, log: EmbeddedLog, token: str, withdraw: Callable[[], None]) -> None:
        self.log, self.token, self.withdraw = log, token, withdraw
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
            offered = receive(connection, TOKEN_BYTES, TOKEN_S)
            if not isinstance(offered, str) or not hmac.compare_digest(offered.encode(), self.server.token.encode()):
                return
            if not self.server.admit(connection):
                send(connection, ("LogUnavailable", f"the owner of the log serves {CLIENTS} connections already"))
                return
            session = Session(self.server.log)
            connection.settimeout(IDLE_S)
            while True:
                _reply(connection, _answer(session, receive(connection), self.server.log))
        except EOFError:  # the other side is gone, or the log is
            if self.server.log.closed:
                self.server.withdraw()
        except (OSError, msgspec.MsgspecError, LookupError, TypeError, ValueError):
            return  # the other side is gone, or no client of ours


def _end(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it has ended


def _answer(session: Session, call: Any, log: EmbeddedLog) -> tuple[str, Any]:
    """("", result) or (error's name, message). Raises EOFError where the log is closed: then there is no owner."""
    name, *arguments = call
    types = METHODS[name]
    try:
        typed = [msgspec.convert(argument, type_) for argument, type_ in zip(arguments, types, strict=True)]
        return "", getattr(session, name)(*typed)
    except errors.WireError as error:
        if log.closed:
            raise EOFError from error
        return type(error).__name__, str(error)


def _reply(connection: socket.socket, answer: tuple[str, Any]) -> None:
    try:
        send(connection, answer)
    except errors.DataRefused as error:
        send(connection, (type(error).__name__, str(error)))
