"""How records of internal topics are written: what they are, a version, a checksum, columns, and bytes as they are.

A header (magic, version, CRC-32 of all that follows, size of the columns as they are and compressed), the columns, in a
zstd frame where they are many, then what does not compress.
"""

import struct
import zlib

import pyarrow as pa

_HEADER = struct.Struct("<3sBIII")
_MOST_BYTES = 1 << 28  # of columns: a topic takes no such record
_FEW_BYTES = 2_048  # of columns that are not compressed: that would take longer than all else,
_FEW_OF = 0.25  # nor those that are no more than this beside the rest


class Unreadable(ValueError):
    """The bytes are not what was looked for, or of a version that cannot be read."""


def frame(magic: bytes, version: int, columns: bytes, rest: bytes) -> bytes:
    """The bytes of a record. magic: three bytes; rest: what does not compress."""
    packed = columns
    if len(columns) >= max(_FEW_BYTES, _FEW_OF * len(rest)):
        packed = min(columns, pa.compress(columns, codec="zstd", asbytes=True), key=len)
    content = packed + rest
    return _HEADER.pack(magic, version, zlib.crc32(content), len(columns), len(packed)) + content


def unframe(magic: bytes, version: int, value: bytes, noun: str) -> tuple[bytes | memoryview, memoryview]:
    """The columns and the rest, where they lie in `value`. Raises Unreadable. noun: what it would be."""
    if len(value) < _HEADER.size or not value.startswith(magic):
        raise Unreadable(f"it does not begin as a {noun} does")
    _, written, checksum, size, packed = _HEADER.unpack_from(value)
    if written != version:
        raise Unreadable(f"it is of version {written}, this version reads {version}")
    content = memoryview(value)[_HEADER.size :]
    if zlib.crc32(content) != checksum or packed > len(content) or size > _MOST_BYTES:
        raise Unreadable("its checksum is wrong: bytes are missing, or others than were written")
    columns: bytes | memoryview = content[:packed]
    try:
        if packed != size:
            columns = pa.decompress(columns, decompressed_size=size, codec="zstd", asbytes=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise Unreadable(f"its columns do not fit together: {error}") from error
    return columns, content[packed:]
