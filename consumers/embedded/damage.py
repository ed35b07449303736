"""Opening the folder of an embedded log, where a damaged one is mended or refused with what it has lost."""

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from consumers.embedded.mending import DATABASE, Loss, copy_readable, finish_mending, look_for_loss
from consumers.embedded.written_ends import ENDS_FILE, read_ends
from consumers.errors import DamageMet, LogBusy, LogDamaged, LogUnavailable
from consumers.storage.private_files import private_folder, write_private
from consumers.storage.rocks import Damaged, Locked, damaged_tables, kept_closed, open_checked

_REFUSED = ("Permission denied", "No space left", "Read-only file system", "Too many open files")  # by the system
ACCEPT = "restore its folder from a copy, or go on without them: FRESHET_ON_LOG_DAMAGED=accept"
ELSEWHERE = "name another with --log"
_MARK = "DAMAGED"  # the file in the database's folder that says what was met; RocksDB looks at none of this name
_logger = logging.getLogger(__name__)


def open_folder(folder: Path, accept_damage: bool) -> Any:
    """The database of the log in a folder, mended where it is damaged.

    Where all that producers sent is there it is mended by itself: a checkpoint is made anew from the log. Otherwise
    only with `accept_damage`. Raises LogBusy, LogUnavailable; LogDamaged, which says what is lost.
    """
    database = folder / DATABASE
    if folder.exists() and not folder.is_dir():
        raise LogUnavailable(f"{folder} is a file, and a log is a folder; {ELSEWHERE}")
    try:
        private_folder(folder)
        with _alone(folder):
            finish_mending(folder)
            met = marked(folder) or _open(folder)
            if not isinstance(met, str):
                return met
            with kept_closed(database):
                _mend(folder, met, accept_damage)
            return open_checked(database)
    except Locked as error:
        raise LogBusy(f"another process has the log in {folder} open; end it or choose another --log") from error
    except OSError as error:
        raise LogUnavailable(f"the log in {folder} cannot be opened: {error.strerror}; {ELSEWHERE}") from error
    except Damaged as error:
        raise LogUnavailable(f"the log in {folder} cannot be opened: {error}") from error


def mark_damaged(folder: Path, met: str) -> DamageMet | LogDamaged:
    """Has whoever opens the log next look through all of it, and mend it. Gives the error for whoever met it."""
    try:
        write_private(folder / DATABASE / _MARK, met)
    except OSError as error:
        return LogDamaged(f"the log in {folder} is damaged ({met}), and cannot be mended: {error.strerror}")
    return DamageMet(f"the log in {folder} is damaged ({met}); start again: it is mended then, or what is lost is said")


def marked(folder: Path) -> str:
    """What was met since the log was opened last, empty where nothing was."""
    mark = folder / DATABASE / _MARK
    return mark.read_text(errors="replace") or "a file is not what was written" if mark.is_file() else ""


def examine_files(folder: Path) -> tuple[str, str]:
    """What is damaged of a log, whoever has it open, and what mends it; both empty where nothing is.

    All of it is read. What is found is noted, so that whoever opens the log next mends it. Raises LogUnavailable.
    """
    tables = damaged_tables(folder / DATABASE)
    if tables and not marked(folder):
        mark_damaged(folder, f"{', '.join(tables)}: not what was written")
    if not (met := marked(folder)):
        return "", ""
    loss = look_for_loss(folder)
    mend = ACCEPT if loss.is_any() else "end what has the log open and start it again: that mends it"
    return f"damaged ({met}); {loss.in_words()}", mend


def _refusal(folder: Path, met: str, loss: Loss) -> str:
    """What the operator is told of a damaged log, and does."""
    return f"the log in {folder} is damaged ({met}); {loss.in_words()}; {ACCEPT}"


def _open(folder: Path) -> Any:
    """The database; or a text, which says what is damaged. Raises Locked, LogUnavailable."""
    database = folder / DATABASE
    is_there = any(file for pattern in ("CURRENT", "*.sst", "*.log") for file in database.glob(pattern))
    if not is_there and any(read_ends(folder / ENDS_FILE).values()):
        return "its database is gone"
    try:
        return open_checked(database)
    except Damaged as error:
        if any(words in str(error) for words in _REFUSED):
            raise LogUnavailable(f"the log in {folder} cannot be opened: {error}; {ELSEWHERE}") from error
        return str(error)


def _mend(folder: Path, met: str, accept_damage: bool) -> None:
    loss = look_for_loss(folder)
    if loss.is_any() and not accept_damage:
        raise LogDamaged(_refusal(folder, met, loss))
    copy_readable(folder, loss)
    aside = finish_mending(folder)
    _logger.warning("the log in %s was damaged (%s) and is mended; %s; the damaged one is set aside as %s",
                    folder, met, loss.in_words(), aside)  # fmt: skip


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Nobody else opens the folder meanwhile. Raises Locked."""
    held = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Locked("somebody else opens it") from error
        yield
    finally:
        os.close(held)
