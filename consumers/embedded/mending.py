"""Mends a damaged log: what can be read goes into a new database, which takes the place of the damaged one.

(1) The new database is written as `rocksdb.part`; (2) it is whole, and named `rocksdb.mended`; (3) the damaged one is
set aside as `rocksdb.damaged-<time>`, (4) the new one is named `rocksdb`. A crash before (2) leaves the damaged log as
it was; after it, whoever opens the log next goes on with (3).
"""

import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from rocksdict import WriteBatch

from consumers.crash_points import happened
from consumers.embedded.salvage import Salvage
from consumers.embedded.written_ends import named_records
from consumers.storage.rocks import (
    Damaged,
    damaged_logs,
    database_pieced_together,
    database_read_only,
    missing_tables,
    open_database,
    shut,
    told_apart,
)

DATABASE = "rocksdb"
_PART, _MENDED, _ASIDE, _PIECES = "rocksdb.part", "rocksdb.mended", "rocksdb.damaged", "rocksdb.pieces"
_BATCH_BYTES = 1 << 20


class Loss(NamedTuple):
    """What cannot be read of a log, and the way of reading it that loses the least."""

    way: str
    without: tuple[str, ...]  # files of the write-ahead log that are damaged, and tables that are missing
    records: str  # that are lost, by partition
    others: tuple[str, ...]
    checkpoints: tuple[str, ...]  # of which applications

    def is_any(self) -> bool:
        """Whether anything is lost that cannot be made anew."""
        return bool(self.records or self.others)

    def in_words(self) -> str:
        """What is lost, and what is made anew."""
        lost = [part for part in (self.records, *self.others) if part]
        said = [f"lost: {', '.join(lost)}" if lost else "nothing that was sent to it is lost"]
        if self.checkpoints:
            said.append(f"the checkpoint of {', '.join(self.checkpoints)} is to be made anew from the log")
        return "; ".join(said)


def look_for_loss(folder: Path) -> Loss:
    """Reads all of a damaged log that nobody has open, in the ways there are; gives that which loses the least.

    Either as RocksDB does: "lenient" towards tables that cannot be opened; where its write-ahead log is damaged,
    "strict", up to there, with all that belongs to it. Or every file that is whole by itself, "pieced" together.
    Raises LogUnavailable.
    """
    best: tuple[int, Loss] | None = None
    logs = damaged_logs(folder / DATABASE)
    without = (*logs, *missing_tables(folder / DATABASE))
    for way in ("strict" if logs else "lenient", "pieced"):
        try:
            with _salvage(folder, way, without) as salvage:
                salvage.look()
                records, others = named_records(salvage.lost, salvage.at_most), tuple(salvage.others)
                loss = Loss(way, without, records, others, tuple(salvage.checkpoints))
                if best is None or salvage.records > best[0]:
                    best = salvage.records, loss
        except Damaged:
            continue
        if not loss.is_any():
            return loss
    assert best is not None, "a database can be pieced together of nothing"
    return best[1]


def copy_readable(folder: Path, loss: Loss) -> None:
    """(1), (2). Raises LogUnavailable where the disk has no room for it."""
    part = folder / _PART
    shutil.rmtree(part, ignore_errors=True)
    with _salvage(folder, loss.way, loss.without) as salvage:
        db = open_database(part)
        try:
            batch, size = WriteBatch(raw_mode=True), 0
            for key, value in salvage.pairs():
                batch.put(key, value)
                size += len(key) + len(value)
                if size >= _BATCH_BYTES:
                    db.write(batch)
                    batch, size = WriteBatch(raw_mode=True), 0
                    happened("copying")
            db.write(batch)
            db.flush()  # to the disk, not only to the system
        except Exception as error:  # rocksdict raises bare Exception
            raise told_apart(error, f"the log in {folder} is damaged and cannot be mended") from error
        finally:
            shut(db)
    part.rename(folder / _MENDED)
    _to_disk(folder)
    happened("copied")


def finish_mending(folder: Path) -> str:
    """(3), (4), where (2) was done. Gives the name of the folder that was set aside, empty where nothing was to do."""
    mended, database, aside = folder / _MENDED, folder / DATABASE, ""
    if not mended.is_dir():
        return aside
    if database.exists():
        aside = f"{_ASIDE}-{time.time_ns() // 1_000_000}"
        database.rename(folder / aside)
        happened("aside")
    mended.rename(database)
    _to_disk(folder)
    return aside


def set_aside(folder: Path) -> list[str]:
    """The names of the damaged databases that were set aside in the folder of a log."""
    return sorted(path.name for path in folder.glob(f"{_ASIDE}-*"))


@contextmanager
def _salvage(folder: Path, way: str, without: Sequence[str]) -> Iterator[Salvage]:
    """Raises Damaged where nothing can be read in this way."""
    database = folder / DATABASE
    if way == "pieced":
        with database_pieced_together(database, folder / _PIECES) as (db, refused):
            yield Salvage(db, folder, [*refused, *without])
    else:
        with database_read_only(database, lenient=way == "lenient") as db:
            yield Salvage(db, folder)


def _to_disk(folder: Path) -> None:
    held = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(held)
    finally:
        os.close(held)
