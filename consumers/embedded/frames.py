"""Frames between processes that share an embedded log: a 4-byte length and msgpack; what is larger goes in pieces."""

import socket
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec

from consumers.errors import DataRefused
from consumers.log import StateDelta
from consumers.records import NewRecord

OWNER_FILE = "owner.json"  # in the folder of the log: port, token and process id of who has it open
MAX_FRAME_BYTES, PIECE_BYTES = 64 << 20, 4 << 20
Part = TypeVar("Part")


def send(connection: socket.socket, message: Any) -> None:
    """Sends one frame. Raises DataRefused where it is too large, OSError."""
    data = msgspec.msgpack.encode(message)
    if len(data) > MAX_FRAME_BYTES:
        raise DataRefused(f"a record or page of {len(data):,} bytes; the owner of a log takes {MAX_FRAME_BYTES:,}")
    connection.sendall(len(data).to_bytes(4, "big") + data)


def receive(connection: socket.socket, limit: int = MAX_FRAME_BYTES, within_s: float | None = None) -> Any:
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


def record_pieces(records: Sequence[NewRecord]) -> list[Sequence[NewRecord]]:
    """Records in pieces that fit a frame; the last piece may be empty."""
    return _pieces(records, lambda r: 64 + len(r.key or b"") + len(r.value or b"") + sum(len(v) for _, v in r.headers))


def state_pieces(state: StateDelta) -> list[Sequence[tuple[bytes, bytes | None]]]:
    """Pages of a state in pieces that fit a frame; the last piece may be empty."""
    return _pieces(list(state.items()), lambda page: len(page[0]) + len(page[1] or b""))
