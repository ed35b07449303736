"""Reads what can be read of the damaged database of an embedded log, and counts what cannot."""

from collections.abc import Iterable, Iterator, Sequence, Set
from pathlib import Path
from typing import Any

import msgspec

from consumers.embedded.essentials import ESSENTIAL, ESSENTIALS_FILE, read_essentials
from consumers.embedded.keys import decode_end_key, end_key, records_prefix, redo_prefix, state_prefix
from consumers.embedded.written_ends import ENDS_FILE, read_ends
from consumers.records import TopicPartition, TopicSpec
from consumers.storage.rocks import Damaged, stored, told_apart

_REMADE = (b"c/", b"g/", b"p/", b"w/")  # a worker goes on without them, and writes them again
_OF_APPLICATIONS = (b"g/", b"k/", b"p/")
_ESSENTIAL_IN_WORDS = {b"i/": "the ids of its topics", b"k/": "the keys of erased users", b"t/": "its topics"}
_UNREADABLE = b"damaged"  # what is no page
PROBED = 100_000  # offsets that are looked for where no end is known


class Salvage:
    """One pass over a database.

    Args:
        folder: of the log: what lies beside the database tells what must be in it.
        without: the files that it was pieced together without, see `database_pieced_together`. What is missing meets no
            error then: gaps count as lost, and pages may be of several checkpoints. None: it was not pieced together.

    After `pairs` has ended, or `look`:

    lost: partition → (first offset that is lost, that plus how many are lost).
    at_most: the partitions that compaction leaves gaps in: some of these may have been no loss.
    checkpoints: the applications whose pages cannot be read.
    others: what else cannot be had, in words.
    records: how many can be read.
    """

    def __init__(self, db: Any, folder: Path, without: Sequence[str] | None = None) -> None:
        self._rows, self._pieced, self._without = _DatabaseRows(db), without is not None, without or ()
        self._known = read_essentials(folder / ESSENTIALS_FILE)
        self._written = read_ends(folder / ENDS_FILE)
        self._begin()

    def _begin(self) -> None:
        self.lost: dict[TopicPartition, tuple[int, int]] = {}
        self.at_most = set[TopicPartition]()
        self.checkpoints: list[str] = []
        self.others: list[str] = []
        self.records = 0
        self._unread = set[bytes]()  # kinds of keys of which not every one can be read

    def look(self) -> "Salvage":
        """Reads all of it, for the counts."""
        for _ in self.pairs():
            pass
        return self

    def pairs(self) -> Iterator[tuple[bytes, bytes]]:
        """Keys and values of a whole database: those that can be read, and those that follow from them."""
        self._begin()
        tables = {kind: self._table(kind) for kind in (*_REMADE, *ESSENTIAL, b"e/")}
        ends = {decode_end_key(key): int.from_bytes(value, "big") for key, value in tables.pop(b"e/").items()}
        for table in tables.values():
            yield from table.items()
        found = (msgspec.msgpack.decode(value, type=TopicSpec) for value in tables[b"t/"].values())
        specs = {spec.name: spec for spec in found}
        partitions = {*ends, *self._written}
        yield from self._missing_topics(specs, partitions)
        partitions |= {TopicPartition(spec.name, n) for spec in specs.values() for n in range(spec.partitions)}
        self.at_most = {tp for tp in partitions if specs[tp.topic].cleanup != "delete"}
        for tp in sorted(partitions, key=lambda tp: (tp in self.at_most, tp)):
            is_dense = tp not in self.at_most
            yield from self._partition(tp, ends.get(tp, 0), is_dense)
        names = {key[2:].decode() for kind in _OF_APPLICATIONS for key in tables[kind]}
        for name in sorted(names | self._names_of_states()):
            yield from self._pages(name)
        if self._without and not self._written:
            self.others.append(f"what {', '.join(self._without)} held, which nobody knows")

    def _table(self, kind: bytes) -> dict[bytes, bytes]:
        """The keys of a kind. Of those that are essential the file beside the database has what cannot be read."""
        known = {key: value for key, value in self._known.items() if key.startswith(kind)}
        try:
            return known | dict(self._rows.under(kind))
        except Damaged:
            self._unread.add(kind)
        if kind in ESSENTIAL and not self._known:
            self.others.append(_ESSENTIAL_IN_WORDS[kind])
        return known | self._rows.each(known)

    def _missing_topics(
        self, specs: dict[str, TopicSpec], partitions: Set[TopicPartition]
    ) -> Iterator[tuple[bytes, bytes]]:
        """Topics of which only the ends are known."""
        for name in sorted({tp.topic for tp in partitions} - specs.keys()):
            specs[name] = TopicSpec(name, 1 + max(tp.partition for tp in partitions if tp.topic == name))
            yield b"t/" + name.encode(), msgspec.msgpack.encode(specs[name])
            self.others.append(f"the settings of the topic {name}")

    def _partition(self, tp: TopicPartition, end: int, is_dense: bool) -> Iterator[tuple[bytes, bytes]]:
        """The records of a partition, and its end: no offset is used again. `is_dense`: it has no gaps by itself."""
        prefix, every = records_prefix(tp), max(self._written.get(tp, 0), end)
        counts_gaps = self._pieced if is_dense else self._lacks()
        limit = every or (0 if tp in self._written else PROBED)
        at, lost = 0, list[tuple[int, int]]()  # the next offset to look for
        while True:
            try:
                for key, value in self._rows.under(prefix, at.to_bytes(8, "big")):
                    offset = int.from_bytes(key[-8:], "big")
                    if counts_gaps:
                        lost.append((at, offset))
                    at = offset + 1
                    self.records += 1
                    yield key, value
                break
            except Damaged:
                if at >= limit:
                    break
            key = prefix + at.to_bytes(8, "big")
            try:  # what lies in another table than the one that is damaged here
                if (single := self._rows.get(key)) is not None:
                    self.records += 1
                    yield key, single
            except Damaged:
                lost.append((at, at + 1))
            at += 1
        if at >= PROBED and not every:
            self.others.append(f"records of {tp.topic}[{tp.partition}], nobody knows how many")
            lost = []
        if counts_gaps or (is_dense and b"e/" in self._unread):
            lost.append((at, every))
        elif b"e/" not in self._unread:
            lost.append((max(at, end), every))
        missing = sum(max(after - first, 0) for first, after in lost)
        if missing:
            first = next(first for first, after in lost if after > first)
            self.lost[tp] = first, first + missing
        yield end_key(tp), max(every, at if every else 0).to_bytes(8, "big")

    def _lacks(self) -> bool:
        """Whether the database was pieced together, and lacks something."""
        return self._pieced and bool(self._without or self.lost)

    def _names_of_states(self) -> set[str]:
        """The applications whose pages can be found."""
        names: set[str] = set()
        key = b"s/"
        try:
            while row := next(self._rows.under(b"s/", key[2:]), None):
                name, _, _ = row[0][2:].partition(b"/")
                names.add(name.decode())
                key = b"s/" + name + b"0"  # "0" follows "/"
        except Damaged:
            return names
        return names

    def _pages(self, name: str) -> Iterator[tuple[bytes, bytes]]:
        """The pages of an application, or one that is damaged: whoever reads it makes the checkpoint anew."""
        prefixes = state_prefix(name), redo_prefix(name) + b"/"
        try:
            if self._lacks():
                raise Damaged("they may be of several checkpoints")
            for prefix in prefixes:
                for _ in self._rows.under(prefix):
                    pass
            redo = self._rows.get(redo_prefix(name))
        except Damaged:
            self.checkpoints.append(name)
            yield state_prefix(name) + b"stream", _UNREADABLE
            return
        if redo is not None:
            yield redo_prefix(name), redo
        for prefix in prefixes:
            yield from self._rows.under(prefix)


class _DatabaseRows:
    """Reads a database; one iterator, which can be set behind a block that cannot be read."""

    def __init__(self, db: Any) -> None:
        self._db, self._at = db, db.iter()

    def under(self, prefix: bytes, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """As `consumers.storage.rocks.scan`; another pass must not begin meanwhile. Raises Damaged."""
        at = self._at
        at.seek(prefix + start)
        while at.valid():
            key = at.key()
            if not key.startswith(prefix):
                return
            yield key, at.value()
            at.next()
        try:
            at.status()
        except Exception as error:  # rocksdict raises bare Exception
            raise told_apart(error, "the log cannot be read") from error

    def get(self, key: bytes) -> bytes | None:
        """The value of a key, or None. Raises Damaged."""
        return stored(self._db, key)

    def each(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """Of these keys those that are there and can be read."""
        found = {}
        for key in keys:
            try:
                value = stored(self._db, key)
            except Damaged:
                continue
            if value is not None:
                found[key] = value
        return found
