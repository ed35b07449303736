"""Event ids that have been taken, so that a repeated one counts once. A record without an id is never a duplicate."""

from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice

import msgspec
import numpy as np


class SeenEvents:
    """The last `window` event ids, in order of arrival."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._ids: dict[str, None] = {}
        self._unsaved: list[str] = []
        self._first = 0  # number of the oldest id held
        self._blocks: deque[tuple[int, int]] = deque()  # (number of the first id, size) of each saved block

    def add(self, ids: Sequence[str | None], wanted: np.ndarray | None = None) -> np.ndarray:
        """[N] bool: whether each id is new. Ids where `wanted` is False are left alone."""
        known, fresh = self._ids, np.ones(len(ids), bool)
        for n, id_ in enumerate(ids):  # order matters: an id may repeat within one batch
            if id_ is None or (wanted is not None and not wanted[n]):
                continue
            if id_ in known:
                fresh[n] = False
            else:
                known[id_] = None
                self._unsaved.append(id_)
        self._forget()
        return fresh

    def _forget(self) -> None:
        excess = max(len(self._ids) - self._window, 0)
        for id_ in list(islice(self._ids, excess)):
            del self._ids[id_]
        self._first += excess

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

    def load(self, pages: Iterable[tuple[bytes, bytes]]) -> None:
        """Takes back the blocks that `delta` gave, in any order."""
        for key, value in sorted(pages):
            ids = msgspec.msgpack.decode(value)
            first = int.from_bytes(key, "big")
            self._first = first if not self._ids else self._first
            self._ids.update(dict.fromkeys(ids))
            self._blocks.append((first, len(ids)))
        self._forget()
