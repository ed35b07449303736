"""RocksDB as both homes use it: opened, scanned and closed, with errors that say what they are."""

import ctypes
import fcntl
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rocksdict import (
    AccessType,
    BlockBasedOptions,
    Cache,
    DBCompressionType,
    DBRecoveryMode,
    Options,
    Rdict,
    WriteBatch,
)

from consumers.errors import LogUnavailable
from consumers.storage.private_files import hold_mask, only_mine, private_folder, release_mask
from consumers.storage.wal import WalEnd, find_end, is_whole

MEMTABLE_BYTES, CACHE_BYTES, FILE_BYTES, OPEN_FILES, WAL_BYTES = 8 << 20, 16 << 20, 8 << 20, 128, 32 << 20
LARGE_BLOCK, _MMAP_THRESHOLD = 128 << 10, -3  # the latter as malloc.h has it
_LOCKED = ("while lock file", "lock hold by")  # what RocksDB says of the file LOCK
_DAMAGE = ("corruption", "checksum", "no such file", "input/output error")  # of files that are not what was written
_FULL = ("no space left", "file too large", "quota exceeded")
_logger = logging.getLogger(__name__)


class Locked(Exception):
    """Another process has the database open."""


class Damaged(Exception):
    """A file of the database is not what was written."""


def is_damage(text: str) -> bool:
    """Whether an error of RocksDB is about a file that is not what was written."""
    return any(words in text.lower() for words in _DAMAGE)


def told_apart(error: Exception, failed: str) -> Damaged | LogUnavailable:
    """What an exception of rocksdict is: Damaged where RocksDB met a file that is not what was written, else
    LogUnavailable: the system refuses.

    failed: what the caller could not do, "the log cannot be written".
    """
    if isinstance(error, Damaged | LogUnavailable):
        return error
    text = _line(error)  # rocksdict raises bare Exception; the text is all there is to tell them apart
    if is_damage(text):
        return Damaged(text)
    full = any(words in text.lower() for words in _FULL)
    return LogUnavailable(f"{failed}: {text}; {'free space on' if full else 'see to'} its disk")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def open_database(folder: Path, recovery: Any = None, options: Options | None = None) -> Any:
    """The database in a folder, made where there is none, readable by this user alone. Raises Locked, Damaged.

    Args:
        folder: of the database.
        recovery: what is done with a write-ahead log that is not whole; None: everything before the fault is taken.
        options: of RocksDB, in raw mode.
    """
    options = options or Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_wal_recovery_mode(recovery or DBRecoveryMode.point_in_time())
    hold_mask()
    try:
        private_folder(folder)
        only_mine(folder)
        return Rdict(str(folder.resolve()), options)  # RocksDB tells two opens in one process apart by the path
    except Exception as error:  # rocksdict raises bare Exception; the text is all there is to tell them apart
        release_mask()
        locked = any(words in str(error).lower() for words in _LOCKED)
        raise (Locked if locked else Damaged)(_line(error)) from error


def steady_options() -> Options:
    """Those of a database that takes the same memory whatever it holds: indices and filters count as cached blocks."""
    blocks = BlockBasedOptions()
    blocks.set_block_cache(Cache(CACHE_BYTES))
    blocks.set_cache_index_and_filter_blocks(True)
    blocks.set_bloom_filter(10, False)
    options = Options(raw_mode=True)
    options.set_block_based_table_factory(blocks)
    options.set_write_buffer_size(MEMTABLE_BYTES)
    options.set_target_file_size_base(FILE_BYTES)
    options.set_max_open_files(OPEN_FILES)
    options.set_max_total_wal_size(WAL_BYTES)
    options.set_compression_type(DBCompressionType.lz4())
    options.set_keep_log_file_num(2)
    return options


def give_back_large_blocks() -> None:
    """Has the allocator of this process give blocks of `LARGE_BLOCK` and more back to the system once they are free.

    Memtables grow by such blocks. Left to itself, glibc takes them from the heap after the first has been freed, where
    small ones that live longer come between them: the heap grows for as long as the process lives. An allocator
    without mallopt is left as it is.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, LARGE_BLOCK)


def open_checked(folder: Path, options: Options | None = None) -> Any:
    """The database, also where the end of its write-ahead log was torn off by a crash. Raises Locked, Damaged.

    Damaged where anything else was changed; then no file has been written to.
    """
    tails = _tails(folder)
    if WalEnd.DAMAGED in tails:  # refuses what is damaged, and takes what another process was just about to write
        return open_database(folder, DBRecoveryMode.absolute_consistency(), options)
    if WalEnd.ZEROS in tails:
        return open_database(folder, DBRecoveryMode.point_in_time(), options)
    return open_database(folder, DBRecoveryMode.tolerate_corrupted_tail_records(), options)


def _tails(folder: Path) -> set[WalEnd]:
    """How the log files end. Raises Damaged where the list of the database's files is not what was written."""
    current = folder / "CURRENT"
    if not current.is_file():
        if any(folder.glob("*.sst")) or any(folder.glob("*.log")):
            raise Damaged("its file CURRENT is missing")
        return set()
    if not any(folder.glob("*.log")):
        raise Damaged("its write-ahead log is missing")
    for _ in range(3):  # a process that has it open may be writing
        name = current.read_text(errors="replace").strip()
        manifest = _tail(folder / name) if name.isprintable() else WalEnd.DAMAGED
        if manifest is not WalEnd.DAMAGED:
            break
        time.sleep(0.05)
    else:
        raise Damaged("its list of files is not what was written")
    tails = [_tail(file) for file in sorted(folder.glob("*.log"))]
    if set(tails[:-1]) & {WalEnd.TORN, WalEnd.ZEROS} and tails[-1:] != [WalEnd.WHOLE]:
        return {WalEnd.DAMAGED}
    return set(tails)


def _tail(file: Path) -> WalEnd:
    try:
        return find_end(file)
    except OSError:  # RocksDB says what is missing
        return WalEnd.WHOLE


@contextmanager
def database_read_only(folder: Path, lenient: bool = False) -> Iterator[Any]:
    """The database as far as it can be read, with nothing changed. Raises Damaged.

    lenient: a table that cannot be opened fails who reads what it held, not who opens the database. What is damaged in
        the write-ahead log is passed over then without a word; otherwise it ends there.
    """
    options = Options(raw_mode=True)
    options.set_paranoid_checks(not lenient)
    options.set_wal_recovery_mode(DBRecoveryMode.point_in_time())
    with _looked_at(folder.resolve(), options, AccessType.read_only()) as db:
        yield db


@contextmanager
def database_pieced_together(folder: Path, place: Path) -> Iterator[tuple[Any, list[str]]]:
    """A database of every table of a damaged one that is whole, whatever its list of files says, and of the write-ahead
    log before and after what is damaged there; and the names of the tables that are not in it. Raises Damaged.

    Where something is missing, older values come back, and what was deleted.

    Args:
        folder: of the damaged database, which is not changed.
        place: a folder for the other one, which holds links; it is removed before and after.
    """
    try:
        _link_files(folder, place, "*.sst", "*.log")
        _repair(place)
        with database_read_only(place) as db:
            yield db, _refused_tables(place)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def missing_tables(folder: Path) -> list[str]:
    """The names of the tables that a database has by its list of files, and that are not there."""
    try:
        with database_read_only(folder, lenient=True) as db:
            names = sorted(file["name"].lstrip("/") for file in db.live_files())
    except Damaged:
        return []
    return [name for name in names if not (folder / name).exists()]


def damaged_logs(folder: Path) -> list[str]:
    """The names of the files of the write-ahead log that are not what was written: all of each is read."""
    return [file.name for file in sorted(folder.glob("*.log")) if not is_whole(file)]


def damaged_tables(folder: Path) -> list[str]:
    """The names of the tables of a database, open or not, that are not what was written: all of each is read."""
    with tempfile.TemporaryDirectory(prefix="freshet-") as own:
        place = Path(own) / "tables"
        _link_files(folder, place, "*.sst")
        _repair(place)
        refused = _refused_tables(place)
        return [name for name in refused if (folder / name).exists()]  # the others were compacted away meanwhile


def _repair(place: Path) -> None:
    """Makes a database of the tables and logs that are linked in a folder. Raises Damaged, LogUnavailable."""
    try:
        Rdict.repair(str(place), Options(raw_mode=True))
    except Exception as error:  # rocksdict raises bare Exception
        raise told_apart(error, f"{place} cannot be written") from error


def _refused_tables(place: Path) -> list[str]:
    return [file.name for file in sorted((place / "lost").glob("*.sst"))]


def _link_files(folder: Path, place: Path, *patterns: str) -> None:
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(mode=0o700)
    for pattern in patterns:
        for file in folder.glob(pattern):
            (place / file.name).symlink_to(file.resolve())


@contextmanager
def kept_closed(folder: Path) -> Iterator[None]:
    """Nobody else opens the database meanwhile. Raises Locked where somebody has it open."""
    folder.mkdir(mode=0o700, exist_ok=True)
    file = folder / "LOCK"
    if file.exists() and _has_open(file.stat()):
        raise Locked("this process has it open")
    with file.open("a") as lock:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # as RocksDB does
        except OSError as error:
            raise Locked(str(error)) from error
        yield


def _has_open(file: os.stat_result) -> bool:
    """Whether this process has a file open, which its own locks do not keep it from locking."""
    for name in os.listdir("/dev/fd"):
        with suppress(OSError):  # that of the listing itself
            if os.path.samestat(os.fstat(int(name)), file):
                return True
    return False


@contextmanager
def database_beside(folder: Path) -> Iterator[Any]:
    """The database as it is now, beside whoever has it open; None where there is none. Raises Damaged."""
    if not (folder / "CURRENT").is_file():
        yield None
        return
    with (
        tempfile.TemporaryDirectory(prefix="freshet-") as own,  # RocksDB's secondary writes a log of its own
        _looked_at(folder, Options(raw_mode=True), AccessType.secondary(own)) as db,
    ):
        yield db


@contextmanager
def _looked_at(folder: Path, options: Options, access: AccessType) -> Iterator[Any]:
    """A database that is not written to, and closed in the end. Raises Damaged."""
    try:
        db = Rdict(str(folder), options, access_type=access)
    except Exception as error:  # rocksdict raises bare Exception
        raise Damaged(_line(error)) from error
    try:
        yield db
    finally:
        _close(db)


def stored(db: Any, key: bytes) -> bytes | None:
    """The value of a key, or None. Raises Damaged, LogUnavailable."""
    try:
        value: bytes | None = db.get(key)
    except Exception as error:  # rocksdict raises bare Exception
        raise told_apart(error, "the database cannot be read") from error
    return value


def write_batch(db: Any, changes: Mapping[bytes, bytes | None]) -> None:
    """Puts the keys, or deletes them where the value is None: all or nothing. Raises Damaged, LogUnavailable."""
    batch = WriteBatch(raw_mode=True)
    for key, value in changes.items():
        if value is None:
            batch.delete(key)
        else:
            batch.put(key, value)
    try:
        db.write(batch)
    except Exception as error:  # rocksdict raises bare Exception
        raise told_apart(error, "the database cannot be written") from error


def scan(db: Any, prefix: bytes, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
    """Keys that begin with `prefix`, from prefix + start on, and their values, in key order. Raises Damaged,
    LogUnavailable.

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
    except Exception as error:  # rocksdict raises bare Exception
        raise told_apart(error, "the database cannot be read") from error
    if after.valid() and after.key().startswith(prefix):
        raise Damaged(f"the records after {last!r} cannot be read")


def shut(db: Any) -> None:
    """Closes a database that `open_database` gave."""
    _close(db)
    release_mask()


def _close(db: Any) -> None:
    """One that could not write says so again when it is closed: it has been heard."""
    try:
        db.close()
    except Exception as error:  # rocksdict raises bare Exception
        _logger.debug("closed after a failed write: %s", error)
