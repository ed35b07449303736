"""Undo: what was taken back, dropped, erased or came late, from the ledger to the graph.

The ledger is edited at once. The graph follows in a repair, which takes in many edits together: it reads the ledgers of
everybody who touched the items around them.
"""

import time
from typing import Any, NamedTuple

import numpy as np

from streamer.ledger import Ledger
from tgn.graph import I32, U8
from tgn.model import Model

REST_FACTOR, REST_S = 20, 1.0


class Place(NamedTuple):
    """Where a user's sequence is another than was observed."""

    order_ms: int
    order: int
    to_end: bool  # what came after it was observed in another order


class Amendments:
    """Edits of the ledger that the graph has not followed yet."""

    def __init__(self, model: Model, ledger: Ledger) -> None:
        self._model, self._ledger = model, ledger
        self._places: dict[int, list[Place]] = {}
        self._removed: list[tuple[int, int]] = []  # (user, item)
        self._relist: set[int] = set()  # users whose list alone is out of date
        self.taken_back = 0  # interactions, since the process started

    def __len__(self) -> int:
        return len(self._places) + len(self._relist)

    def pending(self) -> I32:
        """The users whose ledger says something else than the graph: it has been edited since."""
        return np.array(sorted(self._places), np.int32)

    def retract(self, user: int, *events: int) -> bool:
        """Takes back the user's interaction with one of these digests of its event id; False where there is none."""
        entries = self._ledger.of(user)
        keep = ~np.isin(entries["event"], np.array(events, np.uint64))
        return bool(self._keep(user, entries, keep))

    def drop_item(self, item: int) -> int:
        """Takes back every interaction with an item; returns how many."""
        wanted = np.zeros(len(self._model.items) + 1, np.uint8)
        wanted[item] = 1
        dropped = 0
        for user in self._model.readers(wanted).tolist():
            entries = self._ledger.of(user)
            dropped += self._keep(user, entries, entries["item"] != item)
        return dropped

    def erase(self, user: int) -> int:
        """Takes back everything that a user did; returns how many interactions."""
        entries = self._ledger.of(user)
        return self._keep(user, entries, np.zeros(len(entries), bool))

    def late(self, user: int, order_ms: int, order: int) -> None:
        """Says that an interaction which has been observed belongs before others that were."""
        self._places.setdefault(user, []).append(Place(order_ms, order, True))

    def relist(self, users: I32) -> None:
        """Says that the lists of users [N] name what may no longer be listed."""
        self._relist.update(users.tolist())

    def repair(self) -> I32:
        """Makes the graph what the ledger says; returns the users whose list may be another now."""
        model = self._model
        changed = np.array(sorted(self._places), np.int32)
        wanted = np.zeros(len(model.graph.items.events), np.uint8)
        user, item = np.array(self._removed, np.int32).reshape(-1, 2).T.copy()
        wanted[item] = 1
        for node in changed.tolist():
            self._mark(node, wanted)
        history = self._ledger.history(np.union1d(model.readers(wanted), changed))
        model.repair(changed, (user, item), wanted, history)
        relist = np.array(sorted(self._relist), np.int32)
        self._places, self._removed, self._relist = {}, [], set()
        return np.union1d(changed, relist).astype(np.int32)

    def state(self) -> tuple[Any, Any, Any]:
        """What a checkpoint keeps."""
        return list(self._places.items()), self._removed, sorted(self._relist)

    def restore(self, state: tuple[Any, Any, Any]) -> None:
        """Takes back what `state` gave."""
        self._places = {user: [Place(*place) for place in places] for user, places in state[0]}
        self._removed = [(user, item) for user, item in state[1]]
        self._relist = set(state[2])

    def _keep(self, user: int, entries: np.ndarray, keep: np.ndarray) -> int:
        gone = entries[~keep]
        if len(gone):
            places = self._places.setdefault(user, [])
            places += [Place(int(e["order_ms"]), int(e["order"]), False) for e in gone]
            self._removed += [(user, int(item)) for item in gone["item"]]
            self._ledger.replace(user, entries[keep])
            self.taken_back += len(gone)
        return len(gone)

    def _mark(self, user: int, wanted: U8) -> None:
        """Marks the items within a window of the user's edits, and those of the ring."""
        window, ring = self._model.config.window, self._model.config.ring
        entries = self._ledger.of(user)
        for order_ms, order, to_end in self._places[user]:
            before = entries["order_ms"] < order_ms
            before |= (entries["order_ms"] == order_ms) & (entries["order"] < order)
            place = int(before.sum())
            wanted[entries["item"][max(place - window, 0) : None if to_end else place + window]] = 1
        wanted[entries["item"][-ring:]] = 1


class Pace:
    """When a repair is due in a busy stream: repairs take at most a twentieth of the time."""

    def __init__(self) -> None:
        self._rest_until = 0.0

    def due(self) -> bool:
        """True once the last repair is long enough ago."""
        return time.monotonic() >= self._rest_until

    def took(self, seconds: float) -> None:
        """Says that a repair is done."""
        self._rest_until = time.monotonic() + max(REST_S, REST_FACTOR * seconds)
