"""Whether a log file of RocksDB (write-ahead log, MANIFEST) ends as a crash leaves it, or was changed since.

RocksDB takes a length that was changed in the last block for the torn end of the file, and drops what follows without
a word. A file is blocks of 32 KiB of records: checksum (4 bytes), length (2), type (1), payload; a record never crosses
the end of a block.
"""

from enum import Enum
from pathlib import Path

BLOCK, HEADER, SECTOR = 32 * 1024, 7, 512
_RECYCLED = {5, 6, 7, 8, 11, 131}  # types whose header goes on with the number of the log
_FRAGMENTS = {1, 2, 3, 4}  # full, first, middle, last
_MASK_DELTA = 0xA282EAD8


class WalEnd(Enum):
    """How a file ends: as it was closed, cut off, filled up with zeros after a power failure, or changed."""

    WHOLE = "whole"
    TORN = "torn"
    ZEROS = "zeros"
    DAMAGED = "damaged"


def find_end(file: Path) -> WalEnd:
    """Looks at the last block that holds anything; RocksDB checks those before it by itself.

    Not where zeros follow, which it would take for damage: then all of them are looked at.
    """
    size = file.stat().st_size
    with file.open("rb") as opened:
        start = max(size - 1, 0) // BLOCK * BLOCK
        while True:
            opened.seek(start)
            block = opened.read(BLOCK)
            if block.strip(b"\0") or start == 0:
                break
            start -= BLOCK
        tail = _tail(block, start + BLOCK < size)
        opened.seek(0)
        if tail is WalEnd.ZEROS and any(
            _tail(opened.read(BLOCK), False) is not WalEnd.WHOLE for _ in range(start // BLOCK)
        ):
            return WalEnd.DAMAGED
    return tail


def is_whole(file: Path) -> bool:
    """Whether all of a file is what was written, but for an end that was torn off. It reads all of it."""
    if find_end(file) is WalEnd.DAMAGED:
        return False
    last = max(file.stat().st_size - 1, 0) // BLOCK
    with file.open("rb") as opened:
        return all(_tail(opened.read(BLOCK), False) is not WalEnd.DAMAGED for _ in range(last))


def _tail(block: bytes, zeros_follow: bool) -> WalEnd:
    at, kind = 0, 0
    while at + HEADER <= len(block):
        length, kind = int.from_bytes(block[at + 4 : at + 6], "little"), block[at + 6]
        if not any(block[at : at + HEADER]):
            return WalEnd.DAMAGED if any(block[at:]) else WalEnd.WHOLE
        end = at + HEADER + (4 if kind in _RECYCLED else 0) + length
        if end > BLOCK:
            return WalEnd.DAMAGED
        if end > len(block):
            return WalEnd.DAMAGED if _goes_on(block, at) else WalEnd.TORN
        if not _holds(block, at, end):
            return WalEnd.ZEROS if _zeros_from(block, at, end) else WalEnd.DAMAGED
        at = end
    if zeros_follow:
        return WalEnd.ZEROS
    return WalEnd.TORN if at < len(block) < BLOCK else WalEnd.WHOLE


def _goes_on(block: bytes, at: int) -> bool:
    """Whether what looks like a cut-off record is one whose length was changed: it, or one after it, is whole."""
    if _holds(block, at, len(block)):
        return True
    for start in range(at + 1, len(block) - HEADER):
        end = start + HEADER + int.from_bytes(block[start + 4 : start + 6], "little")
        if block[start + 6] in _FRAGMENTS and start + HEADER < end <= len(block) and _holds(block, start, end):
            return True
    return False


def _zeros_from(block: bytes, at: int, end: int) -> bool:
    """Whether whole sectors were never written, from within a record on to the end of the file."""
    sector = (end - 1) // SECTOR * SECTOR
    return sector > at and not any(block[sector:])


def _holds(block: bytes, at: int, end: int) -> bool:
    stored = int.from_bytes(block[at : at + 4], "little")
    crc = crc32c(block[at + 6 : end])
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF == stored


def _table() -> tuple[int, ...]:
    rows = []
    for crc in range(256):
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        rows.append(crc)
    return tuple(rows)


_TABLE = _table()


def crc32c(data: bytes) -> int:
    """The Castagnoli checksum."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF
