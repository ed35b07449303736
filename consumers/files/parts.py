"""What a user names as a file: one, several, a folder of parts, or standard input; plain, or compressed."""

import gzip
import hashlib
import io
import sys
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from consumers.errors import DataRefused

STDIN = Path("-")
COMPRESSED = (".gz", ".zst")
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_LINE = 65_536
UNREADABLE = (pa.ArrowException, OSError, EOFError, zlib.error, UnicodeError)


@dataclass(frozen=True)
class FilePart:
    """One file that is to be read, or standard input."""

    path: Path

    def __str__(self) -> str:
        return "standard input" if self.path == STDIN else str(self.path)

    @property
    def name(self) -> str:
        """The name of the file as it was before it was compressed."""
        name = self.path.name
        return name[: -len(self.path.suffix)] if self.path.suffix in COMPRESSED else name

    @property
    def piped(self) -> bool:
        """Whether what it holds can be read once only: standard input, or a pipe that a shell made."""
        return self.path == STDIN or not self.path.is_file()

    @cached_property
    def _piped(self) -> bytes:
        return sys.stdin.buffer.read() if self.path == STDIN else self.path.read_bytes()

    def stored(self) -> bytes:
        """The bytes as they are stored."""
        return self._piped if self.piped else self.path.read_bytes()

    def text(self, encoding: str | None = None) -> bytes:
        """The text in UTF-8, without a byte order mark. encoding: of a file that is in another one."""
        data = self.stored()
        if data[:2] == _GZIP:
            data = gzip.decompress(data)
        elif data[:4] == _ZSTD:
            data = pa.CompressedInputStream(pa.BufferReader(data), "zstd").read()
        return _without_bom(data.decode(encoding).encode() if encoding else data)

    def first_line(self, encoding: str | None = None) -> bytes:
        """The first line, without reading the rest of a file."""
        with io.BytesIO(self._piped) if self.piped else self.path.open("rb") as file:
            magic = file.read(4)
            file.seek(0)
            if magic[:2] == _GZIP:
                line = gzip.GzipFile(fileobj=file).readline(_LINE)
            elif magic == _ZSTD:
                line = pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd").read(_LINE).partition(b"\n")[0]
            else:
                line = file.readline(_LINE)
        return _without_bom(line.decode(encoding, "replace").encode() if encoding else line)

    def digest(self) -> bytes:
        """8 bytes that stand for what is stored."""
        if self.piped:
            return hashlib.blake2b(self._piped, digest_size=8).digest()
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=8)).digest()


def parts_of(paths: Path | Iterable[Path | FilePart]) -> list[FilePart]:
    """The files that paths name, a folder by those in it, in the order of their names.

    What a writer of parts leaves beside them, `_SUCCESS` or `.part-0.crc`, is none. Raises DataRefused.
    """
    found: list[FilePart] = []
    for path in [paths] if isinstance(paths, Path) else paths:
        if isinstance(path, FilePart):
            found.append(path)
        elif path.is_dir():
            inside = sorted(file for file in path.rglob("*") if file.is_file() and _is_data(file.relative_to(path)))
            if not inside:
                raise DataRefused(f"there is no file in the folder {path}")
            found += map(FilePart, inside)
        elif path != STDIN and not path.exists():
            raise DataRefused(f"there is no file {path}")
        else:
            found.append(FilePart(path))
    if sum(part.path == STDIN for part in found) > 1:
        raise DataRefused("standard input can be read once; - was given twice")
    return found


def digest_files(parts: Iterable[FilePart]) -> str:
    """16 hex digits that stand for what is in the files."""
    digests = [part.digest() for part in parts]
    return (digests[0] if len(digests) == 1 else hashlib.blake2b(b"".join(digests), digest_size=8).digest()).hex()


def _is_data(inside: Path) -> bool:
    return not any(name.startswith((".", "_")) for name in inside.parts)


def _without_bom(data: bytes) -> bytes:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", "replace").encode()
    return data.removeprefix(b"\xef\xbb\xbf")
