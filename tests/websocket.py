"""A client of WebSockets over a socket of its own."""

import json
import socket
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Message, Ping, RejectConnection, RejectData, Request
from wsproto.utilities import RemoteProtocolError


class Refused(Exception):
    """The handshake was answered with this status and body."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(status, body)
        self.status, self.body = status, body


class Closed(Exception):
    """The server ended the connection; `code`: why, 0 where it does not say."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class WebSocket:
    """One connection. Raises Refused where there is none."""

    def __init__(self, address: str, headers: Sequence[tuple[str, str]] = (), timeout_s: float = 60.0) -> None:
        url = urlsplit(address)
        self._socket = socket.create_connection((url.hostname, url.port), timeout_s)
        self._connection = WSConnection(ConnectionType.CLIENT)
        pairs: Any = [(name.encode(), value.encode()) for name, value in headers]
        target = url.path + (f"?{url.query}" if url.query else "")
        self._events: list[Any] = []
        try:
            self._send(Request(host=url.netloc, target=target, extra_headers=pairs))
            self._meet()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "WebSocket":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Goes away without a word."""
        self._socket.close()

    def send(self, value: Any) -> None:
        """Sends a value as JSON, a text and bytes as they are."""
        self._send(Message(data=value if isinstance(value, str | bytes) else json.dumps(value)))

    def receive(self) -> Any:
        """The next message. Raises Closed."""
        text = ""
        while True:
            match self._next():
                case Message(data=data, message_finished=finished):
                    text += data
                    if finished:
                        return json.loads(text)
                case Ping() as ping:
                    self._send(ping.response())
                case CloseConnection(code=code):
                    raise Closed(int(code))

    def _meet(self) -> None:
        first = self._next()
        if isinstance(first, RejectConnection):
            body = b""
            while first.has_body and isinstance(part := self._next(), RejectData):
                body += part.data
                if part.body_finished:
                    break
            raise Refused(first.status_code, body)
        assert isinstance(first, AcceptConnection), first

    def _next(self) -> Any:
        while not self._events:
            data = self._socket.recv(65_536)
            if not data:
                raise Closed(0)
            try:
                self._connection.receive_data(data)
            except RemoteProtocolError:
                raise Closed(0) from None
            self._events = list(self._connection.events())
        return self._events.pop(0)

    def _send(self, event: Any) -> None:
        self._socket.sendall(self._connection.send(event))
