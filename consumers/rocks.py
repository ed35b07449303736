"""RocksDB as both homes use it: opened, scanned and closed, with errors that say what they are."""

import logging
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rocksdict import AccessType, Options, Rdict, WriteBatch

_logger = logging.getLogger(__name__)


class Locked(Exception):
    """Another process has the database open."""


class Damaged(Exception):
    """A file of the database is not what was written."""


def open_database(folder: Path) -> Any:
    """The database in a folder, made where there is none. Raises Locked, Damaged."""
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        return Rdict(str(folder.resolve()), options)  # RocksDB tells two opens in one process apart by the path
    except Exception as error:  # rocksdict raises bare Exception; the text is all there is to tell them apart
        busy = "lock" in str(error).lower() and "ermission denied" not in str(error)
        raise (Locked if busy else Damaged)(str(error)) from error


@contextmanager
def database_beside(folder: Path) -> Iterator[Any]:
    """The database as it is now, beside whoever has it open; None where there is none. Raises Damaged."""
    if not (folder / "CURRENT").is_file():
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="freshet-") as own:  # RocksDB's secondary writes a log of its own
        try:
            db = Rdict(str(folder), Options(raw_mode=True), access_type=AccessType.secondary(own))
        except Exception as error:  # rocksdict raises bare Exception
            raise Damaged(str(error)) from error
        try:
            yield db
        finally:
            shut(db)


def write_batch(db: Any, changes: Mapping[bytes, bytes | None]) -> None:
    """Puts the keys, or deletes them where the value is None: all or nothing."""
    batch = WriteBatch(raw_mode=True)
    for key, value in changes.items():
        if value is None:
            batch.delete(key)
        else:
            batch.put(key, value)
    db.write(batch)


def scan(db: Any, prefix: bytes, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
    """Keys that begin with `prefix`, from prefix + start on, and their values, in key order. Raises Damaged.

    An iterator of rocksdict ends at a damaged block as if nothing came after it, so its end is looked at twice.
    """
    last = prefix + start
    for key, value in db.items(from_key=last):
        if not key.startswith(prefix):
            return
        last = key
        yield key, value
    after = db.iter()
    after.seek(last)
    if after.valid() and after.key() == last:
        after.next()
    try:
        after.status()
    except Exception as error:
        raise Damaged(str(error)) from error
    if after.valid() and after.key().startswith(prefix):
        raise Damaged(f"the records after {last!r} cannot be read")


def shut(db: Any) -> None:
    """Closes a database. One that could not write says so again when it is closed: it has been heard."""
    try:
        db.close()
    except Exception as error:  # rocksdict raises bare Exception
        _logger.debug("closed after a failed write: %s", error)
