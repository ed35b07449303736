"""Event ids that have been taken, so that a repeated one counts once. A record without an id is never a duplicate.

An id belongs to its user: equal ids of two users are two. Of both only a digest is kept: they may say who somebody is.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice

import msgspec
import numpy as np

from streamer.features.event_ids import digest_unscoped


class SeenEvents:
    """The last `window` event ids, in order of arrival, as digests.

    Those that an older checkpoint brought are of the id alone, and count for every user until they leave the window.
    """

    def __init__(self, window: int) -> None:
        self.window = window
        self.scoped_from = 0  # number of the first id whose digest covers its user
        self._ids: dict[bytes, None] = {}
        self._unsaved: list[bytes] = []
        self._first = 0  # number of the oldest id held
        self._blocks: deque[tuple[int, int]] = deque()  # (number of the first id, size) of each saved block

    def add(self, ids: Sequence[bytes | None], wanted: np.ndarray | None = None) -> np.ndarray:
        """[N] bool: whether each id is new. Ids where `wanted` is False are left alone."""
        fresh = np.ones(len(ids), bool)
        for n, id_ in enumerate(ids):  # order matters: an id may repeat within one batch
            if id_ is not None and (wanted is None or wanted[n]):
                fresh[n] = self.take(id_)
        self.forget_old()
        return fresh

    def has(self, id_: bytes) -> bool:
        """Whether an id has been taken."""
        return id_ in self._ids

    def has_unscoped(self, event_id: str) -> bool:
        """Whether an id is among those of an older checkpoint."""
        return self._first < self.scoped_from and digest_unscoped(event_id) in self._ids

    def take(self, id_: bytes) -> bool:
        """Whether the id is new; remembers it."""
        if id_ in self._ids:
            return False
        self._ids[id_] = None
        self._unsaved.append(id_)
        return True

    def take_all(self, ids: Iterable[bytes]) -> None:
        """Remembers ids that count as taken."""
        fresh = [id_ for id_ in dict.fromkeys(ids) if id_ not in self._ids]
        self._ids.update(dict.fromkeys(fresh))
        self._unsaved += fresh
        self.forget_old()

    def forget_old(self) -> None:
        """Lets go of the ids that left the window."""
        self._forget(max(len(self._ids) - self.window, 0))

    def _forget(self, count: int) -> None:
        for id_ in list(islice(self._ids, count)):
            del self._ids[id_]
        self._first += count

    def digests(self) -> list[bytes]:
        """What is held, oldest first."""
        return list(self._ids)

    def saved(self) -> int:
        """How many blocks all the calls of `delta` have written and not deleted."""
        return len(self._blocks)

    def delta(self) -> dict[bytes, bytes | None]:
        """The ids taken since the last call, under the number of the first; blocks out of the window are deleted."""
        pages: dict[bytes, bytes | None] = {}
        if self._unsaved:
            first = self._first + len(self._ids) - len(self._unsaved)
            self._blocks.append((first, len(self._unsaved)))
            pages[first.to_bytes(8, "big")] = msgspec.msgpack.encode(self._unsaved)
            self._unsaved = []
        while self._blocks and sum(self._blocks[0]) <= self._first:
            pages[self._blocks.popleft()[0].to_bytes(8, "big")] = None
        return pages

    def first(self) -> int:
        """The number of the oldest id held: a saved block may begin with older ones."""
        return self._first

    def load(self, pages: Iterable[tuple[bytes, bytes]], oldest: int = 0, scoped_from: int | None = None) -> None:
        """Takes back the blocks that `delta` gave, in any order.

        Args:
            pages: the digests by block.
            oldest: what `first` gave.
            scoped_from: the first digest that covers its user; None: none does.
        """
        for key, value in sorted(pages):
            ids = msgspec.msgpack.decode(value)
            first = int.from_bytes(key, "big")
            self._first = first if not self._ids else self._first
            self._ids.update(dict.fromkeys(ids))
            self._blocks.append((first, len(ids)))
        self.scoped_from = self._first + len(self._ids) if scoped_from is None else scoped_from
        self._forget(max(oldest - self._first, 0))
        self.forget_old()
