"""What a log cannot do without and nothing else tells, in a file beside the database too: topics, their ids, secrets.

They are a few keys in one or two blocks of the database. Where these are damaged, the file has them.
"""

import logging
import zlib
from collections.abc import Mapping
from pathlib import Path

import msgspec

from consumers.storage.private_files import write_private

ESSENTIALS_FILE = "essentials"
ESSENTIAL = (b"i/", b"k/", b"t/")
"""What their keys begin with, see `consumers.embedded.keys`."""
_decode = msgspec.msgpack.Decoder(dict[bytes, bytes]).decode
_logger = logging.getLogger(__name__)


def read_essentials(file: Path) -> dict[bytes, bytes]:
    """The keys and values in a file; none where there is no file, or it is not what was written."""
    try:
        data = file.read_bytes()
        return _decode(data[4:]) if data[:4] == _checksum(data[4:]) else {}
    except (OSError, msgspec.MsgspecError) as error:
        _logger.debug("the file of essentials cannot be read: %s", error)
        return {}


def write_essentials(file: Path, essentials: Mapping[bytes, bytes]) -> None:
    """Replaces the file. A failure is no reason to stop: the file then tells less."""
    data = msgspec.msgpack.encode(essentials)
    part = file.with_name(file.name + ".part")
    try:
        write_private(part, _checksum(data) + data)
        part.replace(file)
    except OSError as error:
        _logger.debug("the file of essentials cannot be written: %s", error)


def _checksum(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(4, "big")
