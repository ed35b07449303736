"""The pages of a checkpoint in a RocksDB: replaced in one step, and written in pieces.

rocksdict holds the interpreter's lock while it writes, and no thread of the process runs meanwhile: 17 ms for the 9 MB
of pages that change in a second of 1,000 interactions. So they are written a piece at a time, by way of a redo log:

(1) every piece goes to the redo log, where nobody looks for it yet; (2) a batch of the caller's ends the redo log, and
has in it whatever is to be durable together with the pages; (3) every piece goes to its place. A crash before (2)
leaves the pages as they were. From (2) on the new ones hold: who reads looks into the redo log first, who writes next
does (3) again. What is no more than a piece is written with (2).
"""

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, islice
from typing import Any, NamedTuple, TypeAlias

import msgspec
from rocksdict import WriteBatch

from consumers.crash_points import happened
from consumers.errors import CheckpointDamaged
from consumers.storage.rocks import Damaged, scan, stored

PIECE_BYTES = 64 << 10  # some .1 ms of a write
Piece: TypeAlias = list[tuple[bytes, bytes | None]]
"""Pages with their keys, each behind its checksum; None: a page that goes."""
Delta: TypeAlias = Mapping[bytes, bytes | None]
_encode = msgspec.msgpack.Encoder().encode


class _End(NamedTuple):
    """What ends a redo log.

    number: of the checkpoint; pieces: so many of it are, or were, in the redo log, 0: all are in their places.
    """

    number: int = 0
    writer: int = 0
    pieces: int = 0


_decode_end = msgspec.msgpack.Decoder(_End).decode
_decode_piece = msgspec.msgpack.Decoder(Piece).decode


class CheckpointPages:
    """Replaces pages. It makes batches, which the caller writes in order.

    Args:
        db: the database.
        prefix: what the keys of pages begin with.
        redo: what the keys of the redo log begin with.
        writer: another number for each of those that may write at the same time.
    """

    def __init__(self, db: Any, prefix: bytes, redo: bytes, writer: int = 0) -> None:
        self._db, self._prefix, self._redo, self._writer = db, prefix, redo, writer
        self._pieces: list[Piece] = []
        self._end: _End | None = None  # of the last checkpoint; None: something may lie in the redo log

    def replacing(self, delta: Delta, write: Callable[[Any], None]) -> Iterator[None]:
        """All three steps, a write at each piece of the iterator. Raises CheckpointDamaged.

        Args:
            delta: pages that change, by key; None: one that goes.
            write: writes a batch.
        """
        for batch in self.staging(delta):
            write(batch)
            yield
        end = WriteBatch(raw_mode=True)
        self.put_end(end)
        write(end)
        yield
        for batch in self.settling():
            write(batch)
            yield

    def staging(self, delta: Delta) -> Iterator[Any]:
        """(1) What puts the pages into the redo log, after what puts in order what a crash left there.

        Raises CheckpointDamaged where that cannot be read.
        """
        if self._end is None:
            try:
                self._end = _end_of(self._db, self._redo)
                yield from self._finishing(self._end)
            except Damaged as error:
                raise CheckpointDamaged(f"the checkpoint cannot be read: {error}") from error
        pieces = _cut(delta)
        self._pieces = list(islice(pieces, 2))
        staged = 0 if len(self._pieces) == 2 else 1  # one alone is written with (2)
        while staged < len(self._pieces):
            batch = WriteBatch(raw_mode=True)
            batch.put(_key(self._redo, self._writer, staged), _encode(self._pieces[staged]))
            yield batch
            self._pieces += islice(pieces, 1)
            staged += 1
        happened("staged")

    def put_end(self, batch: Any) -> None:
        """(2) Puts into a batch what makes the staged pages hold; nothing where none are staged."""
        if not self._pieces:
            return
        assert self._end is not None, "staging comes first"
        if len(self._pieces) == 1:
            self._put(batch, chain(*self._pieces))
            self._pieces = []
            return
        self._ending = _End(self._end.number + 1, self._writer, len(self._pieces))
        batch.put(self._redo, _encode(self._ending))
        self._end = None

    def settling(self) -> Iterator[Any]:
        """(3) What puts the pages into their places, once (2) is written."""
        if not self._pieces:
            return
        for n, piece in enumerate(self._pieces):
            yield self._settled(self._ending, n, piece)
            happened("settling")
        self._pieces, self._end = [], self._ending

    def _finishing(self, end: _End) -> Iterator[Any]:
        """(3) once more, and (1) without (2) undone."""
        for n, piece in _pieces_of(self._db, self._redo, end):
            yield self._settled(end, n, piece)
        left = [key for key, _ in scan(self._db, self._redo + b"/")]
        if left:
            batch = WriteBatch(raw_mode=True)
            for key in left:
                batch.delete(key)
            yield batch

    def _settled(self, end: _End, n: int, piece: Piece) -> Any:
        batch = WriteBatch(raw_mode=True)
        self._put(batch, piece)
        batch.delete(_key(self._redo, end.writer, n))
        if n == end.pieces - 1:
            batch.put(self._redo, _encode(end._replace(pieces=0)))
        return batch

    def _put(self, batch: Any, pages: Iterable[tuple[bytes, bytes | None]]) -> None:
        for page, value in pages:
            if value is None:
                batch.delete(self._prefix + page)
            else:
                batch.put(self._prefix + page, value)


def pages_of(db: Any, prefix: bytes, redo: bytes, begin: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
    """The pages of a checkpoint whose keys begin with `begin`, in key order, as they were at one moment.

    Raises CheckpointDamaged where a checksum does not hold, a page's or a file's.
    """
    try:
        ahead, found = _at_one_moment(db, prefix, redo, begin)
        for page, value in found:
            while ahead and ahead[-1][0] < page:
                yield from _there(ahead.pop())
            yield from _there(ahead.pop() if ahead and ahead[-1][0] == page else (page, value))
        while ahead:
            yield from _there(ahead.pop())
    except Damaged as error:
        raise CheckpointDamaged(f"the checkpoint cannot be read: {error}") from error


def checked(key: bytes, value: bytes) -> bytes:
    """A page with its checksum before it, which covers its key too: a page in the place of another one is damaged."""
    return _checksum(key, value) + value


def unchecked(key: bytes, value: bytes) -> bytes:
    """The page behind its checksum. Raises CheckpointDamaged where that does not hold.

    Those of checkpoints before format 10 covered the value alone.
    """
    page = value[4:]
    if value[:4] not in (_checksum(key, page), _checksum(b"", page)):
        raise CheckpointDamaged(f"page {key!r} of the checkpoint is damaged")
    return page


def _checksum(key: bytes, value: bytes) -> bytes:
    return zlib.crc32(value, zlib.crc32(key)).to_bytes(4, "big")


def _at_one_moment(db: Any, prefix: bytes, redo: bytes, begin: bytes) -> tuple[Piece, Iterator[tuple[bytes, bytes]]]:
    """Pages of the redo log, the last one first, and those in their places: of one checkpoint."""
    while True:
        end = _end_of(db, redo)
        ahead = [one for _, piece in _pieces_of(db, redo, end) for one in piece if one[0].startswith(begin)]
        found = scan(db, prefix + begin)
        first = list(islice(found, 1))  # from here on it sees the database as it is now
        if _end_of(db, redo).number == end.number:
            own = ((key[len(prefix) :], value) for key, value in chain(first, found))
            return sorted(ahead, reverse=True), own


def _there(page: tuple[bytes, bytes | None]) -> Iterator[tuple[bytes, bytes]]:
    key, value = page
    if value is not None:
        yield key, unchecked(key, value)


def _end_of(db: Any, redo: bytes) -> _End:
    value = stored(db, redo)
    return _End() if value is None else _decode_end(value)


def _pieces_of(db: Any, redo: bytes, end: _End) -> Iterator[tuple[int, Piece]]:
    """The pieces that are not in their places yet, with their numbers. Raises CheckpointDamaged, Damaged."""
    for n in range(end.pieces):
        value = stored(db, _key(redo, end.writer, n))
        if value is None:
            continue
        try:
            yield n, _decode_piece(value)
        except msgspec.MsgspecError as error:
            raise CheckpointDamaged(f"a piece of the checkpoint is damaged: {error}") from error


def _key(redo: bytes, writer: int, n: int) -> bytes:
    return redo + b"/" + writer.to_bytes(8, "big") + n.to_bytes(4, "big")


def _cut(delta: Delta) -> Iterator[Piece]:
    """Pages in pieces of PIECE_BYTES, or little more."""
    piece, size = Piece(), 0
    for page, value in delta.items():
        piece.append((page, None if value is None else checked(page, value)))
        size += len(page) + len(value or b"")
        if size >= PIECE_BYTES:
            yield piece
            piece, size = Piece(), 0
    if piece:
        yield piece
