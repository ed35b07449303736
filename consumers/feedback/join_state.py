"""What the join of feedback keeps: one RocksDB, changed by one WriteBatch a step, with the positions it stands for."""

import logging
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import msgspec

from consumers.errors import CheckpointDamaged, LogBusy
from consumers.feedback.kept_rows import WAITING
from consumers.feedback.totals import Arm, Cell, Totals
from consumers.log import Closable
from consumers.positions import from_rows, pack, to_rows, unpack
from consumers.records import TopicPartition
from consumers.storage.rocks import (
    Damaged,
    Locked,
    give_back_large_blocks,
    open_checked,
    scan,
    shut,
    steady_options,
    stored,
    write_batch,
)

_DUE, _CELL, _COUNTER, _RULES, _POSITIONS, _SEEN = b"x", b"c", b"n", b"r", b"p", b"m"
_NEVER = b"\xff" * 8
_encode, _decode = msgspec.msgpack.encode, msgspec.msgpack.decode
_logger = logging.getLogger(__name__)


class JoinState(Closable):
    """Rows of the join, totals, counters, positions and the watermark, of one process at a time.

    Reads see what was put since the last `commit`, which makes all of it durable at once; what was not committed is as
    if it had never been. In memory are the totals and what was put since; rows are on disk, until they are due.

    Args:
        folder: of the database, made where there is none. One that is damaged, or of other rules, is set aside and
            begins anew: everything in it is a function of the log.
        rules: names what the numbers depend on, see `JoinRules.name`.
        window_ms: see `Totals`.

    Raises LogBusy where another process has it open. Where damage is met later, CheckpointDamaged: what is damaged is
    removed when it is closed, and opening it again begins anew.
    """

    def __init__(self, folder: Path, rules: str, window_ms: int) -> None:
        self._changes: dict[bytes, bytes | None] = {}
        self.totals = Totals(window_ms)
        self._counted: dict[str, int] = {}
        self._rules, self._folder, self._is_damaged = rules.encode(), folder, False
        give_back_large_blocks()
        try:
            self._open()
            if self._stored(_RULES) in (None, self._rules):
                self._load()
                return
            _logger.warning("feedback is counted by other settings than before: it is counted anew, from the log")
        except CheckpointDamaged as error:
            _logger.warning("%s", error)
        self._is_damaged = True  # or is of no use
        self.close()
        self.totals = Totals(window_ms)
        self._open()
        self._load()

    def _open(self) -> None:
        self._db: Any = None
        try:
            self._db = open_checked(self._folder, steady_options())
        except Locked as error:
            raise LogBusy(
                f"another process counts the feedback of this application, in {self._folder}: one is enough; another "
                "application has its own --application"
            ) from error
        except Damaged as error:
            raise self._damaged(error) from error
        self._is_damaged = False

    def _load(self) -> None:
        self.positions = unpack(self._stored(_POSITIONS))
        self._watermark_ms, seen = _decode(
            self._stored(_SEEN) or _encode((-1, [])), type=tuple[int, list[tuple[str, int, int]]]
        )
        self._seen = from_rows(seen)
        for key, value in self._scan(_CELL):
            arm, cell = _decode(key[1:], type=tuple[tuple[str, str], tuple[str, int, str, str]])
            self.totals.cells.setdefault(arm, {})[Cell(*cell)] = int(value)
        self.counters = {key[1:].decode(): int(value) for key, value in self._scan(_COUNTER)}

    def _damaged(self, error: Damaged) -> CheckpointDamaged:
        """What is damaged is removed by `close`; whoever opens it next begins anew."""
        self._is_damaged = True
        return CheckpointDamaged(f"what was counted of feedback is damaged ({error}): it is counted anew, from the log")

    def _stored(self, key: bytes) -> bytes | None:
        try:
            return stored(self._db, key)
        except Damaged as error:
            raise self._damaged(error) from error

    def _scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        try:
            yield from scan(self._db, prefix)
        except Damaged as error:
            raise self._damaged(error) from error

    # rows

    def get(self, key: bytes) -> bytes | None:
        """A row, or None."""
        found = self._changes[key] if key in self._changes else self._stored(key)
        return None if found is None else found[8:]

    def put(self, key: bytes, row: bytes, due_ms: int | None = None) -> None:
        """Sets a row, which is forgotten once the watermark has passed `due_ms`; None: never."""
        due = _NEVER if due_ms is None else max(due_ms, 0).to_bytes(8, "big")
        self._changes[key] = due + row
        if due_ms is not None:
            self._changes[_DUE + due + key] = b""

    def delete(self, key: bytes) -> None:
        """Forgets a row."""
        self._changes[key] = None

    def keys(self, prefix: bytes) -> list[bytes]:
        """The keys that begin with `prefix`."""
        changed = [key for key in self._changes if key.startswith(prefix)]
        return list({*changed, *(key for key, _ in self._scan(prefix))})

    def expired(self, watermark_ms: int, most: int) -> Iterator[bytes]:
        """Forgets up to `most` rows that are due, of those that are committed; gives those that waited for a list."""
        for n, (index, _) in enumerate(self._scan(_DUE)):
            due, key = index[1:9], index[9:]
            if n == most or int.from_bytes(due, "big") > watermark_ms:
                return
            self._changes[index] = None
            found = self._changes[key] if key in self._changes else self._stored(key)
            if found is None or found[:8] > due:  # it was put again since, for longer
                continue
            self._changes[key] = None
            if key.startswith(WAITING):
                yield found[8:]

    # figures

    def count(self, what: str, n: int = 1) -> None:
        """Counts something that is no total."""
        self.counters[what] = self.counters.get(what, 0) + n
        self._counted[what] = self.counters[what]

    def saw(self, at: TopicPartition, at_ms: int) -> None:
        """A partition of feedback has come to this event time."""
        self._seen[at] = max(self._seen.get(at, -1), at_ms)

    def watermark_ms(self) -> int:
        """The event time that feedback has come to, −1: none yet; the same until `move_watermark`."""
        return self._watermark_ms

    def move_watermark(self, behind: Collection[TopicPartition]) -> None:
        """Moves it to the latest event time taken of all partitions, or of those that are `behind` their end."""
        seen = [self._seen.get(at, -1) for at in behind]
        reached = min(seen) if seen else max(self._seen.values(), default=-1)
        self._watermark_ms = max(self._watermark_ms, reached)

    # durable

    def commit(self) -> set[Arm]:
        """Makes all of it durable in one write; the arms whose totals are others than before."""
        changes, arms = self._changes, set(self.totals.changed)
        for arm, changed in self.totals.changed.items():
            cells = self.totals.cells[arm]
            for cell in changed:
                total = cells.get(cell)
                changes[_CELL + _encode((arm, tuple(cell)))] = None if total is None else str(total).encode()
        changes |= {_COUNTER + what.encode(): str(n).encode() for what, n in self._counted.items()}
        watermark = _encode((self._watermark_ms, to_rows(self._seen)))
        changes |= {_RULES: self._rules, _POSITIONS: pack(self.positions), _SEEN: watermark}
        try:
            write_batch(self._db, changes)
        except Damaged as error:
            raise self._damaged(error) from error
        self._changes, self._counted = {}, {}
        self.totals.changed.clear()
        return arms

    def close(self) -> None:
        """Closes it; what was not committed is gone."""
        if self._db is not None:
            shut(self._db)
        if self._is_damaged:
            shutil.rmtree(self._folder, ignore_errors=True)
