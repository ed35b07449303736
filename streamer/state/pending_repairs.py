"""Undo: what was taken back, dropped, erased or came late, from the ledger to the graph.

The ledger is edited at once, but for the interactions with a deleted item, of which there may be very many. The graph
follows in repairs, a piece at a time, each an epoch's:

(1) lists that name a deleted item, (2) the users: what a deleted item left in their ledgers, then their rings, pairs
and memories, (3) once no user waits, items: each is built again from the interactions of everybody who touched it,
(4) the lists of the users, once every item that was wanted when they came is built.

What a piece does follows from the state and its size, which the epoch's manifest says, never from the clock. Each of
its steps leaves users and items as they would be without what was taken back, so that interactions between two pieces
are observed as ever.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from streamer.state.ledger import ENTRY, Ledger
from tgn.graph import I32, I64, U8
from tgn.model import Model
from tgn.repair import History

PIECE = 150_000  # interactions that a piece reads at most: about a tenth of a second
ALL = 1 << 62  # the size of a piece that does everything
READ, EDIT, LIST = 8, 100, 200  # what it costs besides to read a user, to edit one, to make a list, in interactions


class Place(NamedTuple):
    """Where a user's sequence is another than was observed."""

    order_ms: int
    order: int
    to_end: bool  # what came after it was observed in another order


class _Room:
    """What is left of a piece. Of the first thing that it does, one is done whatever it costs."""

    def __init__(self, size: int) -> None:
        self.left, self._used = size, False

    def some(self, cost: I64) -> int:
        """How many of what costs so much each [N] there is room for; they are taken to be done."""
        n = int(np.searchsorted(np.cumsum(cost), self.left, side="right"))
        n = max(n, 0 if self._used else min(1, len(cost)))
        self.spend(int(cost[:n].sum()))
        return n

    def spend(self, cost: int) -> None:
        """Takes what something has cost."""
        self.left -= cost
        self._used = self._used or cost > 0


class Amendments:
    """Edits of the ledger that the graph has not followed yet."""

    def __init__(self, model: Model, ledger: Ledger) -> None:
        self._model, self._ledger = model, ledger
        self._places: dict[int, list[Place]] = {}  # of users whose rings do not follow their ledgers yet
        self._removed: dict[int, list[int]] = {}  # user → items, likewise
        self._drops: dict[int, int] = {}  # deleted item → the next of its users to look at
        self._spared: set[tuple[int, int, int, int]] = set()  # (item, user, order_ms, order) since its deletion
        self._wanted = np.zeros(0, np.uint8)  # [I] 1: to be built again
        self._next = 0  # the item to go on with
        self._relist: set[int] = set()  # users whose list is out of date
        self._settled: tuple[set[int], set[int]] = (set(), set())  # users whose list waits: since this round, before it
        self.taken_back = 0  # interactions, since the process started

    def __len__(self) -> int:
        """How many users, items and lists wait, about."""
        waiting = (self._places, self._drops, self._relist, *self._settled)
        return sum(len(part) for part in waiting) + int(np.count_nonzero(self._wanted))

    def pending(self) -> I32:
        """The users whose ledger says something else than the graph: it has been edited since."""
        return np.array(sorted(self._places), np.int32)

    def retract(self, user: int, events: Iterable[int]) -> int:
        """Takes back the user's interactions with these digests of their event ids; returns how many there were."""
        entries = self._ledger.of(user)
        return self._keep(user, entries, ~np.isin(entries["event"], np.array(list(events), np.uint64)))

    def drop_item(self, item: int) -> None:
        """Takes back every interaction with an item so far."""
        self._drops[item] = 0
        self._spared = {spared for spared in self._spared if spared[0] != item}

    def spare(self, users: I32, entries: np.ndarray) -> None:
        """Says that interactions [N], entries of dtype ENTRY, are new: those with a deleted item stay."""
        if self._drops:
            for n in np.flatnonzero(np.isin(entries["item"], list(self._drops))).tolist():
                entry = entries[n]
                self._spared.add((int(entry["item"]), int(users[n]), int(entry["order_ms"]), int(entry["order"])))

    def erase(self, user: int) -> int:
        """Takes back everything that a user did, of whom the graph holds nothing then; returns how many."""
        entries = self._ledger.of(user)
        taken_back = self._keep(user, entries, np.zeros(len(entries), bool))
        if user in self._places:
            self._settle(np.array([user], np.int32))
        return taken_back

    def late(self, user: int, order_ms: int, order: int) -> None:
        """Says that an interaction which has been observed belongs before others that were."""
        self._places.setdefault(user, []).append(Place(order_ms, order, True))

    def relist(self, users: I32) -> None:
        """Says that the lists of users [N] name what may no longer be listed."""
        self._relist.update(users.tolist())

    def repair(self, size: int = ALL) -> I32:
        """A piece of making the graph what the ledger says; returns the users whose list is to be made anew now.

        size: how many interactions to read at most, about; what else costs time counts as interactions.
        """
        room = _Room(size)
        lists = self._lists(room)
        while self._drops and self._drop(room):
            pass
        if self._places:
            users = np.array(sorted(self._places), np.int32)
            self._settle(users[: room.some(self._cost(users, EDIT))])
        if not self._drops and not self._places:
            if self._wanted.any() and room.left > size // 2:
                self._rebuild(room)
            if not self._wanted.any():
                self._end_round()
                self._end_round()
        if not len(self):
            self._ledger.let_go()
        return np.union1d(lists, self._lists(room)).astype(np.int32)

    def prepare(self, size: int, stop: Callable[[], bool]) -> bool:
        """Reads ahead what the next piece of this size needs, until it is told to stop; True once all of it is there.

        Changes nothing but how long the piece takes.
        """
        if self._drops:
            item, first = next(iter(self._drops.items()))
            users = self._model.readers(self._only([item]))
            users = users[np.searchsorted(users, first) :]
            users = users[: _Room(size).some(self._cost(users, EDIT))]
        elif self._places:
            users = np.array(sorted(self._places), np.int32)
            users = users[: _Room(size).some(self._cost(users, EDIT))]
        elif self._wanted.any():
            users = self._next_batch(size)[1]
        else:
            return True
        return self._ledger.hold(users, stop)

    def state(self) -> tuple[Any, ...]:
        """What a checkpoint keeps."""
        removed = [(user, item) for user, items in self._removed.items() for item in items]
        wanted = np.packbits(np.trim_zeros(self._wanted, "b")).tobytes()
        settled = [sorted(users) for users in self._settled]
        more = list(self._drops.items()), sorted(self._spared), wanted, self._next, settled
        return list(self._places.items()), removed, sorted(self._relist), more

    def restore(self, state: tuple[Any, ...]) -> None:
        """Takes back what `state` gave, in an earlier version too."""
        places, removed, relist, *more = state
        self._places = {user: [Place(*place) for place in places] for user, places in places}
        self._removed = {}
        for user, item in removed:
            self._removed.setdefault(user, []).append(item)
        self._relist = set(relist)
        if more:
            drops, spared, wanted, self._next, (now, before) = more[0]
            self._drops, self._spared = dict(drops), {tuple(entry) for entry in spared}
            self._wanted = np.unpackbits(np.frombuffer(wanted, np.uint8))
            self._settled = set(now), set(before)

    # users

    def _keep(self, user: int, entries: np.ndarray, keep: np.ndarray) -> int:
        gone = entries[~keep]
        if len(gone):
            places = self._places.setdefault(user, [])
            places += [Place(*place, False) for place in zip(*_order(gone), strict=True)]
            self._removed.setdefault(user, []).extend(gone["item"].tolist())
            self._ledger.replace(user, entries[keep])
            self.taken_back += len(gone)
        return len(gone)

    def _drop(self, room: _Room) -> bool:
        """Takes a deleted item out of the next of its users' ledgers, and settles them; True after the last of them."""
        item, first = next(iter(self._drops.items()))
        users = self._model.readers(self._only([item]))
        users = users[np.searchsorted(users, first) :]
        n = room.some(self._cost(users, EDIT))
        self._drop_of(item, users[:n])
        if n < len(users):
            self._drops[item] = int(users[n])
            return False
        del self._drops[item]
        self._spared = {spared for spared in self._spared if spared[0] in self._drops}
        return True

    def _drop_of(self, item: int, users: I32) -> None:
        user, entries = self._ledger.read(users)
        order = np.argsort(user, kind="stable")
        user, entries = user[order], entries[order]
        begins, ends = (np.searchsorted(user, users, side).tolist() for side in ("left", "right"))
        for node, begin, end in zip(users.tolist(), begins, ends, strict=True):
            mine = entries[begin:end]
            self._keep(node, mine, self._stays(item, node, mine))
        self._settle(np.array([node for node in users.tolist() if node in self._places], np.int32))

    def _stays(self, item: int, user: int, entries: np.ndarray) -> np.ndarray:
        stays = np.asarray(entries["item"] != item)
        if self._spared:
            for n in np.flatnonzero(~stays).tolist():
                stays[n] = (item, user, int(entries["order_ms"][n]), int(entries["order"][n])) in self._spared
        return stays

    def _settle(self, users: I32) -> None:
        """Makes users follow their ledgers, and marks the items within a window of their edits."""
        user, entries = self._ledger.read(users)
        wanted = self._grown()
        places = {node: self._places.pop(node) for node in users.tolist()}
        removed = {node: self._removed.pop(node, []) for node in places}
        wanted[_near(user, entries, places, self._model.config.window)] = 1
        of = np.repeat(users, [len(items) for items in removed.values()])
        item = np.array([item for items in removed.values() for item in items], np.int32)
        wanted[item] = 1  # [R]
        self._model.settle(users, (of, item), wanted, _history(user, entries))
        self._settled[0].update(places)

    # items

    def _rebuild(self, room: _Room) -> None:
        """Builds the next items again from the ledgers of everybody who touched them."""
        items, readers = self._next_batch(room.left)
        self._model.rebuild(self._only(items), _history(*self._ledger.read(readers)))
        self._wanted[items] = 0
        room.spend(int(self._cost(readers).sum()) + 1)
        came_round = bool((items < self._next).any())
        self._next = int(items[-1]) + 1
        if came_round:
            self._end_round()

    def _next_batch(self, most: int) -> tuple[I32, I32]:
        every = np.arange(len(self._model.graph.users.events), dtype=np.int32)
        return self._model.next_to_rebuild(self._grown(), self._next, self._cost(every), most)

    def _end_round(self) -> None:
        """Every item that was wanted when the round began is built: the lists of who came before it may be made."""
        now, before = self._settled
        self._relist |= before
        self._settled = set(), now

    def _lists(self, room: _Room) -> I32:
        users = np.array(sorted(self._relist), np.int32)
        users = users[: room.some(np.full(len(users), LIST))]
        self._relist -= set(users.tolist())
        return users

    def _cost(self, users: I32, each: int = READ) -> I64:
        """[N] of reading each user's interactions; each: what it costs besides."""
        return np.asarray(self._model.graph.users.events[users].astype(np.int64) + each)

    def _grown(self) -> U8:
        """`wanted` with room for all items."""
        room = len(self._model.graph.items.events)
        if len(self._wanted) != room:
            grown = np.zeros(max(room, len(self._wanted)), np.uint8)
            grown[: len(self._wanted)] = self._wanted
            self._wanted = grown[:room]
        return self._wanted

    def _only(self, items: Any) -> U8:
        mask = np.zeros(max(len(self._model.graph.items.events), len(self._model.items)), np.uint8)
        mask[items] = 1
        return mask


def _history(user: I32, entries: np.ndarray) -> History:
    return History(
        user=user, item=entries["item"], t=entries["t"], weight=entries["weight"], context=entries["context"]
    )


def _order(entries: np.ndarray) -> tuple[list[int], list[int]]:
    return entries["order_ms"].tolist(), entries["order"].tolist()


def _near(user: I32, entries: np.ndarray, places: dict[int, list[Place]], window: int) -> I32:
    """The items within a window of the places; user: [N] of entries [N], in order."""
    of = np.repeat(np.array(list(places), np.int32), [len(of_user) for of_user in places.values()])
    edits = [place for of_user in places.values() for place in of_user]
    edit = np.zeros(len(edits), ENTRY)
    edit["order_ms"], edit["order"] = [e.order_ms for e in edits], [e.order for e in edits]
    keys = [np.concatenate([entries[name], edit[name]]) for name in ("order", "order_ms")]
    every = np.concatenate([user, of])
    is_entry = np.arange(len(every)) < len(entries)
    order = np.lexsort((is_entry, *keys, every))  # user by user; an edit before what has its very place
    before = np.cumsum(is_entry[order])  # entries up to there
    rank = np.zeros(len(edits), np.int64)
    rank[order[~is_entry[order]] - len(entries)] = before[~is_entry[order]]
    by_user = order[is_entry[order]]
    begin, end = (np.searchsorted(user[by_user], of, side) for side in ("left", "right"))
    to_end = np.array([e.to_end for e in edits], bool)
    change = np.zeros(len(entries) + 1, np.int64)
    np.add.at(change, np.maximum(rank - window, begin), 1)
    np.add.at(change, np.where(to_end, end, np.minimum(rank + window, end)), -1)
    return np.asarray(entries["item"][by_user][np.cumsum(change)[:-1] > 0])
