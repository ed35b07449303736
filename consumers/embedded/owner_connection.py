"""A connection to the process that has an embedded log open, and what keeps it from being taken for gone."""

import json
import socket
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from weakref import WeakSet

from consumers import errors
from consumers.embedded.frames import OWNER_FILE, receive, send

KEEP_S = 30.0  # without a call; the owner takes who says nothing for four times as long for gone
ANSWER_S = 60.0


class OwnerConnection:
    """A connection to the owner that calls its methods one at a time."""

    def __init__(self, folder: Path) -> None:
        try:
            address = json.loads((folder / OWNER_FILE).read_text())
            self._socket = socket.create_connection(("127.0.0.1", address["port"]), timeout=ANSWER_S)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            send(self._socket, address["token"])
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
            send(self._socket, (name, *arguments))
            kind, result = receive(self._socket)
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


class Keeper:
    """Keeps this process's connections from being taken for those of a client that is gone."""

    def __init__(self) -> None:
        self._connections: WeakSet[OwnerConnection] = WeakSet()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def keep(self, connection: OwnerConnection) -> None:
        with self._lock:
            self._connections.add(connection)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, daemon=True, name="log-connections")
                self._thread.start()

    def let_go(self, connection: OwnerConnection) -> None:
        with self._lock:
            self._connections.discard(connection)

    def _run(self) -> None:
        while True:
            time.sleep(KEEP_S / 3)
            with self._lock:
                connections = list(self._connections)
            for connection in connections:
                connection.keep()


_keeper = Keeper()
