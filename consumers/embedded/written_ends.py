"""Where each partition of an embedded log ends, in a file beside the database: it says when records are missing.

It is written after the database and never synced. What a killed process wrote to either is there, so the file does not
lead the database; where it does, the database has lost its end, by a power failure or by damage.

The file: 16 bytes of heading, then entries of multiples of 16 bytes: end (8), checksum (4), partition (4), length of
the topic's name (2), the name. An end is written over in place and does not cross a sector of the disk.
"""

import logging
import os
import struct
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path

from consumers.records import TopicPartition

ENDS_FILE = "ends"
_HEADING = b"freshet ends 1\n\0"
_ENTRY, _END = struct.Struct(">QIIH"), struct.Struct(">QI")
_ALIGNED = 16
_logger = logging.getLogger(__name__)


def read_ends(file: Path) -> dict[TopicPartition, int]:
    """The ends in a file; none where there is no file. An entry whose checksum does not hold is left out."""
    data, at = file.read_bytes() if file.is_file() else b"", len(_HEADING)
    ends: dict[TopicPartition, int] = {}
    while data.startswith(_HEADING) and at + _ENTRY.size <= len(data):
        end, checksum, partition, length = _ENTRY.unpack_from(data, at)
        name = data[at + _ENTRY.size : at + _ENTRY.size + length]
        if checksum == _checksum(end, partition, name):
            ends[TopicPartition(name.decode(), partition)] = end
        at += _size(name)
    return ends


def lost_records(
    expected: Mapping[TopicPartition, int], found: Mapping[TopicPartition, int]
) -> dict[TopicPartition, tuple[int, int]]:
    """Partition → (the end found, the end that was written), where they differ, of those found."""
    return {tp: (found[tp], end) for tp, end in sorted(expected.items()) if tp in found and end > found[tp]}


def named_records(
    lost: Mapping[TopicPartition, tuple[int, int]], at_most: Collection[TopicPartition] = frozenset()
) -> str:
    """The records that are missing, by partition. `at_most`: the partitions that may lack fewer."""
    parts = []
    for tp, (first, end) in lost.items():
        number = f"{'up to ' * (tp in at_most)}{end - first} record{'s' * (end - first != 1)}"
        parts.append(f"{tp.topic}[{tp.partition}] from offset {first} on, {number}")
    return ", ".join(parts)


class WrittenEnds:
    """Keeps the file in step with the log that is open. Begins with these ends, in the place of an older file."""

    def __init__(self, file: Path, ends: Mapping[TopicPartition, int]) -> None:
        self._places: dict[TopicPartition, tuple[int, bytes]] = {}  # offset in the file and the topic's name
        self._size = len(_HEADING)
        part = file.with_name(file.name + ".part")
        part.write_bytes(_HEADING + b"".join(self._entry(tp, end) for tp, end in ends.items()))
        part.replace(file)
        self._file = os.open(file, os.O_WRONLY)

    def note(self, ends: Mapping[TopicPartition, int]) -> None:
        """Writes the ends that changed. A failure is no reason to stop: the file then tells less."""
        try:
            for tp, end in ends.items():
                if tp not in self._places:
                    at = self._size
                    os.pwrite(self._file, self._entry(tp, end), at)
                else:
                    at, name = self._places[tp]
                    os.pwrite(self._file, _END.pack(end, _checksum(end, tp.partition, name)), at)
        except OSError as error:
            _logger.debug("the file of ends cannot be written: %s", error)

    def close(self) -> None:
        """Frees the file."""
        os.close(self._file)

    def _entry(self, tp: TopicPartition, end: int) -> bytes:
        name = tp.topic.encode()
        self._places[tp] = self._size, name
        self._size += _size(name)
        entry = _ENTRY.pack(end, _checksum(end, tp.partition, name), tp.partition, len(name)) + name
        return entry.ljust(_size(name), b"\0")


def _size(name: bytes) -> int:
    return -(-(_ENTRY.size + len(name)) // _ALIGNED) * _ALIGNED


def _checksum(end: int, partition: int, name: bytes) -> int:
    return zlib.crc32(end.to_bytes(8, "big") + partition.to_bytes(4, "big") + name)
