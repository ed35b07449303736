"""Opening the folder of an embedded log, and saying which records a damaged one has lost."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from consumers.embedded.keys import decode_end_key
from consumers.embedded.written_ends import ENDS_FILE, read_ends
from consumers.errors import LogBusy, LogUnavailable
from consumers.records import TopicPartition
from consumers.storage.private_files import private_folder
from consumers.storage.rocks import Damaged, Locked, database_read_only, open_checked, open_database, scan

_REFUSED = ("Permission denied", "No space left", "Read-only file system", "Too many open files")  # by the system
ACCEPT = "restore its folder from a copy, or go on without them: FRESHET_ON_LOG_DAMAGED=accept"
ELSEWHERE = "name another with --log"
_logger = logging.getLogger(__name__)


def open_folder(folder: Path, accept_damage: bool) -> Any:
    """The database of the log in a folder. Raises LogBusy, LogUnavailable, which says what a damaged one has lost."""
    database, busy = folder / "rocksdb", f"another process has the log in {folder} open; end it or choose another --log"
    if folder.exists() and not folder.is_dir():
        raise LogUnavailable(f"{folder} is a file, and a log is a folder; {ELSEWHERE}")
    try:
        private_folder(folder)
        expected = read_ends(folder / ENDS_FILE)
        if any(expected.values()) and not any(database.glob("*")):
            raise Damaged("its database is gone")
        return open_checked(database)
    except Locked as error:
        raise LogBusy(busy) from error
    except OSError as error:
        raise LogUnavailable(f"the log in {folder} cannot be opened: {error.strerror}; {ELSEWHERE}") from error
    except Damaged as error:
        if any(words in str(error) for words in _REFUSED):
            raise LogUnavailable(f"the log in {folder} cannot be opened: {error}; {ELSEWHERE}") from error
        lost = f"the log in {folder} is damaged ({error}); {_missing(database, expected)}"
        if not accept_damage:
            raise LogUnavailable(f"{lost}; {ACCEPT}") from error
        _logger.warning("%s; going on without", lost)
    try:
        return open_database(database)
    except (Locked, Damaged) as error:
        raise LogUnavailable(
            f"nothing of the log in {folder} can be read: {error}; restore it from a copy, or remove it to begin anew"
        ) from error


def _missing(database: Path, expected: Mapping[TopicPartition, int]) -> str:
    """What a damaged database has lost, as far as it can be read."""
    if not (database / "CURRENT").is_file():
        return f"lost: {named_records(lost_records(expected, {}, every=True))}"
    try:
        with database_read_only(database) as db:
            found = {decode_end_key(key): int.from_bytes(end, "big") for key, end in scan(db, b"e/")}
    except Damaged:
        return "nothing of it can be read"
    lost = lost_records(expected, found, every=True)
    return f"lost: {named_records(lost)}" if lost else "no record is known to be lost"


def lost_records(
    expected: Mapping[TopicPartition, int], found: Mapping[TopicPartition, int], every: bool = False
) -> dict[TopicPartition, tuple[int, int]]:
    """Partition → (the end found, the end that was written), where they differ; for topics not found too: `every`."""
    return {
        tp: (found.get(tp, 0), end)
        for tp, end in sorted(expected.items())
        if (every or tp in found) and end > found.get(tp, 0)
    }


def named_records(lost: Mapping[TopicPartition, tuple[int, int]]) -> str:
    """The records that are missing, by partition."""
    parts = [f"{tp.topic}[{tp.partition}] from offset {first} on, {end - first} records"
             for tp, (first, end) in lost.items()]  # fmt: skip
    return ", ".join(parts)


def damaged(error: Exception) -> LogUnavailable:
    """The error of a database that cannot be read."""
    return LogUnavailable(f"the log is damaged: {error}; restore its folder from a copy, or begin anew")
