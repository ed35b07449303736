"""Event ids that have been taken, so that a repeated one counts once. A record without an id is never a duplicate."""

from collections.abc import Sequence

import numpy as np


class SeenEvents:
    """The last `window` event ids, in order of arrival."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._ids: dict[str, None] = {}
        self._unsaved: list[str] = []
        self._first = 0  # number of the oldest id held

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
        excess = len(self._ids) - self._window
        for id_ in list(self._ids)[:excess] if excess > 0 else ():
            del self._ids[id_]
        self._first += max(excess, 0)
