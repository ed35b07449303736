"""The lists and titles that `serve` answers from, on disk: memory does not grow with users and items.

Keys of the database:

    l<user>     the newest list, as it is on the topic
    t<item>     the title
    e<digest>   when a user was erased; the digest is keyed, the id itself is not kept
    m           which topics it was read from and up to which positions, and how many lists there are

What a batch of records changes and the positions after it are one write: after a crash both are there, or neither.
"""

import itertools
import logging
import secrets
import shutil
import tempfile
import threading
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any

import msgspec
from rocksdict import WriteBatch

from consumers.positions import Rows, from_rows, to_rows
from consumers.records import TopicPartition
from consumers.storage.rocks import Damaged, Locked, is_damage, open_database, shut, steady_options
from streamer.errors import ListsDamaged, ListsUnavailable
from streamer.runtime.clock import SYSTEM_CLOCK, Clock

FORMAT = 1
MAX_AGE_MS = 12 * 3_600_000  # a compacted topic may drop tombstones after a day: what missed them is no truth any more
REMOVED = (
    1_000  # keys of withdrawn lists whose bytes are still on the disk; of more RocksDB takes care by itself, later
)
SLICE = 2_000  # titles that are looked through before others may read
_LIST, _TITLE, _ERASED, _META = b"l", b"t", b"e", b"m"
_logger = logging.getLogger(__name__)


class _Meta(msgspec.Struct, array_like=True):
    format: int
    source: str
    positions: Rows
    lists: int
    current_ms: int
    key: bytes
    ids: dict[str, str] = {}


class ListStore:
    """Lists and titles by id. One thread writes; any thread reads.

    Args:
        folder: where it is kept from one start to the next; None, or one that another process has: a temporary one,
            removed by `close`.
        source: names the log and the topics: what was read from another is not used.

    Raises ListsUnavailable where the folder cannot be used.
    """

    def __init__(self, folder: Path | None, source: str, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._source = source
        self._temporary = folder is None
        self._folder = folder or _temporary_folder()
        self._lock = threading.RLock()  # between readers and what opens, closes or replaces the database
        self._db: Any = None
        self._damage: str | None = None
        self._removed: deque[bytes] = deque(maxlen=REMOVED)
        self._meta = self._nothing()
        self.open()

    def open(self) -> None:
        """Opens the database where it is closed; a damaged one is set aside and begun anew."""
        with self._lock:
            if self._db is not None and self._damage is None:
                return
            self._shut()
            if self._damage is not None:
                self._set_aside(self._damage)
            self._db = self._opened()
            try:
                self._load()
            except ListsDamaged as error:
                self._shut()
                self._set_aside(str(error))
                self._db = self._opened()
                self._load()

    def positions(self) -> dict[TopicPartition, int]:
        """Up to where it was read; empty where it is to be read from the start."""
        return from_rows(self._meta.positions)

    def topic_ids(self) -> dict[str, str]:
        """Of the topics to which the positions belong, see `Log.topic_ids`."""
        return self._meta.ids

    def list_of(self, user: str) -> bytes | None:
        """A user's newest list. Raises ListsDamaged, ListsUnavailable."""
        return self._get(_LIST + user.encode("utf-8", "replace"))

    def title_of(self, item: str) -> str | None:
        """An item's title. Raises ListsDamaged, ListsUnavailable."""
        title = self._get(_TITLE + item.encode("utf-8", "replace"))
        return None if title is None else title.decode()

    def find_titles(self, text: str, most: int) -> list[tuple[str, str]]:
        """Up to `most` items whose title has `text` in it, upper and lower case alike, with their titles.

        It reads titles one after the other, a slice at a time: others read meanwhile. Raises ListsDamaged,
        ListsUnavailable.
        """
        wanted, after = text.casefold(), _TITLE
        found: list[tuple[str, str]] = []
        while len(found) < most and (part := self._titles(after)):
            found += [(item[1:].decode(), title) for item, title in part if wanted in title.casefold()]
            after = part[-1][0] + b"\0"
        return found[:most]

    def _titles(self, first: bytes) -> list[tuple[bytes, str]]:
        """The next SLICE titles by key, from `first` on."""
        with self._lock:
            try:
                rows = itertools.islice(self._open_database().items(from_key=first), SLICE)
                return [(key, value.decode()) for key, value in rows if key[:1] == _TITLE]
            except Exception as error:  # rocksdict raises bare Exception
                raise self._error(error, "read") from error

    def erased_ms(self, user: str) -> int | None:
        """When the tombstone of an erased user came, epoch ms. Raises ListsDamaged, ListsUnavailable."""
        stored = self._get(self._digest(user))
        return None if stored is None else int.from_bytes(stored, "big")

    def check(self) -> None:
        """Raises ListsDamaged, ListsUnavailable where a reader found that it has to be opened again."""
        if self._damage is not None:
            raise ListsDamaged(f"the lists in {self._folder} are damaged: {self._damage}")
        self._open_database()

    def count(self) -> int:
        """How many users have a list."""
        return self._meta.lists

    def write(
        self,
        lists: Mapping[str, bytes | None],
        titles: Mapping[str, str | None],
        erased: Mapping[str, int],
        positions: Mapping[TopicPartition, int],
        current_ms: int | None,
        ids: Mapping[str, str],
    ) -> None:
        """Puts lists and titles, or removes those that are None, with the positions after them: all or nothing.

        Args:
            lists: of each user whose list changed.
            titles: of each item whose title changed.
            erased: user → when its tombstone came, epoch ms.
            positions: the next offset to read of each partition.
            current_ms: when everything in the topics had been taken last, epoch ms; None: not since the last write.
            ids: of the topics to which the positions belong.

        Raises ListsDamaged, ListsUnavailable.
        """
        batch, count = WriteBatch(raw_mode=True), self.count()
        for user, value in lists.items():
            key = _LIST + user.encode()
            count += (value is not None) - (self._get(key) is not None)
            _change(batch, key, value)
        for item, title in titles.items():
            _change(batch, _TITLE + item.encode(), None if title is None else title.encode())
        for user, at_ms in erased.items():
            batch.put(self._digest(user), at_ms.to_bytes(8, "big"))
        self._write(batch, positions, count, self._meta.current_ms if current_ms is None else current_ms, ids)
        self._removed += (_LIST + user.encode() for user, value in lists.items() if value is None)

    def clear(self) -> None:
        """Removes everything: it will be read from the start."""
        batch = WriteBatch(raw_mode=True)
        for kind in (_LIST, _TITLE):
            batch.delete_range(kind, bytes([kind[0] + 1]))
        self._write(batch, {}, 0, self._clock.now_ms(), {})

    def purge_one(self) -> None:
        """Takes the bytes of a withdrawn list off the disk, where there is one. Raises ListsUnavailable."""
        if not self._removed:
            return
        key = self._removed.popleft()
        try:
            db = self._open_database()
            db.flush()
            db.compact_range(key, key + b"\0")
        except Exception as error:  # rocksdict raises bare Exception
            raise self._error(error, "written") from error

    def is_too_old(self) -> bool:
        """Whether so much time has passed since it was current that a tombstone may have come and gone."""
        return bool(self._meta.positions) and self._clock.now_ms() - self._meta.current_ms > MAX_AGE_MS

    def close(self) -> None:
        """Frees the folder, and removes a temporary one."""
        with self._lock:
            self._shut()
            if self._temporary:
                shutil.rmtree(self._folder, ignore_errors=True)

    def _nothing(self) -> _Meta:
        return _Meta(
            format=FORMAT,
            source=self._source,
            positions=[],
            lists=0,
            current_ms=self._clock.now_ms(),
            key=secrets.token_bytes(32),
        )

    def _write(
        self,
        batch: Any,
        positions: Mapping[TopicPartition, int],
        lists: int,
        current_ms: int,
        ids: Mapping[str, str],
    ) -> None:
        meta = _Meta(
            format=FORMAT,
            source=self._source,
            positions=to_rows(positions),
            lists=lists,
            current_ms=current_ms,
            key=self._meta.key,
            ids=dict(ids),
        )
        batch.put(_META, msgspec.msgpack.encode(meta))
        try:
            self._open_database().write(batch)
        except Exception as error:  # rocksdict raises bare Exception
            raise self._error(error, "written") from error
        self._meta = meta

    def _digest(self, user: str) -> bytes:
        return _ERASED + blake2b(user.encode("utf-8", "replace"), key=self._meta.key, digest_size=16).digest()

    def _get(self, key: bytes) -> bytes | None:
        with self._lock:
            try:
                value: bytes | None = self._open_database().get(key)
            except Exception as error:  # rocksdict raises bare Exception
                raise self._error(error, "read") from error
        return value

    def _open_database(self) -> Any:
        if self._db is None:
            raise ListsUnavailable("it is closed")
        return self._db

    def _error(self, error: Exception, what: str) -> ListsDamaged | ListsUnavailable:
        if isinstance(error, ListsDamaged | ListsUnavailable):
            return error
        if is_damage(str(error)):
            self._damage = str(error)
            return ListsDamaged(f"the lists in {self._folder} are damaged: {error}")
        self._shut()  # RocksDB takes no write after one that failed until it is opened again
        return ListsUnavailable(f"the lists in {self._folder} cannot be {what}: {error}; free space on its disk")

    def _shut(self) -> None:
        with self._lock:
            if self._db is not None:
                db, self._db = self._db, None
                shut(db)

    def _opened(self) -> Any:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                return open_database(self._folder, options=steady_options())
            except Locked:
                taken, self._folder, self._temporary = self._folder, _temporary_folder(), True
                _logger.warning("another process keeps its lists in %s; this one's are temporary", taken)
            except Damaged as error:
                self._set_aside(str(error))
            return open_database(self._folder, options=steady_options())
        except (OSError, Locked, Damaged) as error:
            raise ListsUnavailable(
                f"lists cannot be kept in {self._folder}: {error}; give this process another --state"
            ) from error

    def _set_aside(self, why: str) -> None:
        aside = self._folder.with_name(f"{self._folder.name}.damaged-{self._clock.now_ms() // 1000}")
        _logger.warning("%s: %s; it is set aside as %s and made anew from the topics", self._folder, why, aside.name)
        self._damage = None
        with suppress(FileNotFoundError):
            if self._temporary:
                shutil.rmtree(self._folder)
            else:
                self._folder.rename(aside)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _load(self) -> None:
        """Reads what the database says of itself; one of another log or of another format is emptied."""
        stored = self._get(_META)
        self._meta = self._nothing()
        try:
            meta = msgspec.msgpack.decode(stored, type=_Meta) if stored is not None else None
        except msgspec.MsgspecError as error:
            raise ListsDamaged(f"the lists in {self._folder} are damaged: {error}") from error
        if meta is not None and (meta.format, meta.source) == (FORMAT, self._source):
            self._meta = meta
        else:
            self.clear()


def _change(batch: Any, key: bytes, value: bytes | None) -> None:
    if value is None:
        batch.delete(key)
    else:
        batch.put(key, value)


def _temporary_folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="freshet-view-"))
