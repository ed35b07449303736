"""What a user names as a file: one, several, a folder of parts, or standard input; plain, or compressed."""

import bz2
import gzip
import hashlib
import io
import lzma
import sys
import zipfile
import zlib
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE, BOM_UTF32_BE, BOM_UTF32_LE
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from consumers.errors import DataRefused

STDIN = Path("-")
COMPRESSED = (".gz", ".zst", ".bz2", ".xz", ".zip")
_LINE = 65_536
UNREADABLE = (
    pa.ArrowException, OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, NotImplementedError,
    UnicodeError,
)  # fmt: skip


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

    @property
    def packed(self) -> bool:
        """Whether what it holds has to be unpacked."""
        with self._open() as file:
            return _unpacking(file) is not None

    @cached_property
    def _piped(self) -> bytes:
        return sys.stdin.buffer.read() if self.path == STDIN else self.path.read_bytes()

    def stored(self) -> bytes:
        """The bytes as they are stored."""
        return self._piped if self.piped else self.path.read_bytes()

    def text(self, encoding: str | None = None) -> bytes:
        """The text in UTF-8, without a byte order mark.

        encoding: of a file that is in another one. Raises DataRefused where it is an archive or another program's file.
        """
        data = self._unpacked()
        return _without_bom(data.decode(encoding).encode() if encoding else data)

    def first_line(self, encoding: str | None = None) -> bytes:
        """The first line, without reading the rest of a file. Raises DataRefused as `text` does."""
        line = self._unpacked(_LINE).partition(b"\n")[0]
        return _without_bom(line.decode(encoding, "replace").encode() if encoding else line, "replace")

    def _open(self) -> BinaryIO:
        return io.BytesIO(self._piped) if self.piped else self.path.open("rb")

    def _unpacked(self, size: int | None = None) -> bytes:
        """The first bytes, all of them if there is no size, without their compression."""
        with self._open() as file:
            unpack = _unpacking(file)
            packed: Any = unpack(file, self) if unpack else file
            data = bytes(packed.read(size))
        for place, magic, what, mend in _FOREIGN:
            if data.startswith(magic, place):
                raise DataRefused(f"{self} is {what}; {mend}")
        return data

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


def _member(file: BinaryIO, part: FilePart) -> Any:
    """The one file in a zip archive."""
    archive = zipfile.ZipFile(file)
    inside = archive.namelist()
    if "[Content_Types].xml" in inside:
        raise DataRefused(f"{part} is an Excel workbook; save its sheet as CSV")
    members = [one for one in archive.infolist() if not one.is_dir() and _is_data(Path(one.filename))]
    if len(members) != 1:
        named = ", ".join(one.filename for one in members[:10]) + (", …" if len(members) > 10 else "")
        raise DataRefused(
            f"{part} holds {len(members)} files{named and ': '}{named}; unpack it and name those you mean"
        )
    if members[0].flag_bits & 1:
        raise DataRefused(f"{part} is encrypted; unpack it")
    return archive.open(members[0])


_UNPACK: dict[bytes, Callable[[BinaryIO, FilePart], Any]] = {
    b"\x1f\x8b": lambda file, _: gzip.GzipFile(fileobj=file),
    b"\x28\xb5\x2f\xfd": lambda file, _: pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd"),
    b"BZh": lambda file, _: bz2.BZ2File(file),
    b"\xfd7zXZ\x00": lambda file, _: lzma.LZMAFile(file),  # noqa: SIM115 - whoever called closes the file
    b"PK\x03\x04": _member,
    b"PK\x05\x06": _member,
}
_SAVE, _UNPACKED = "save what it holds as CSV, JSON lines or Parquet", "unpack it"
_FOREIGN = (
    (0, b"ARROW1", "an Arrow file", _SAVE),
    (0, b"FEA1", "a Feather file", _SAVE),
    (0, b"ORC\n", "an ORC file", _SAVE),
    (0, b"Obj\x01", "an Avro file", _SAVE),
    (0, b"SQLite format 3\x00", "a database of SQLite", _SAVE),
    (0, b"\xd0\xcf\x11\xe0", "an Excel workbook", "save its sheet as CSV"),
    (0, b"%PDF-", "a PDF", _SAVE),
    (0, b"7z\xbc\xaf\x27\x1c", "an archive of 7-Zip", _UNPACKED),
    (0, b"Rar!\x1a\x07", "a RAR archive", _UNPACKED),
    (257, b"ustar", "a tar archive", _UNPACKED),
)
"""Where a file that is neither text nor Parquet has its mark, the mark, what it is, and what to do with it."""


def _unpacking(file: BinaryIO) -> Callable[[BinaryIO, FilePart], Any] | None:
    head = file.read(6)
    file.seek(0)
    return next((unpack for magic, unpack in _UNPACK.items() if head.startswith(magic)), None)


def _is_data(inside: Path) -> bool:
    return not any(name.startswith((".", "_")) for name in inside.parts)


_WIDE = ((BOM_UTF32_LE, "utf-32"), (BOM_UTF32_BE, "utf-32"), (BOM_UTF16_LE, "utf-16"), (BOM_UTF16_BE, "utf-16"))


def _without_bom(data: bytes, errors: str = "strict") -> bytes:
    """The text in UTF-8 without byte order marks, however many were put before one another. Raises UnicodeError."""
    wide = next((encoding for mark, encoding in _WIDE if data.startswith(mark)), None)
    data = data.decode(wide, errors).encode() if wide else data
    while data.startswith(BOM_UTF8):
        data = data.removeprefix(BOM_UTF8)
    return data
