"""Undo: what was taken back, dropped, erased or came late, from the ledger to the graph.

The ledger is edited at once, but for the interactions with a deleted item, of which there may be very many. The graph
follows in repairs, a piece at a time, each an epoch's:

(1) lists that name a deleted item, (2) the users: what a deleted item left in their ledgers, then their rings, pairs
and memories, (3) once no user waits, items: each is built again from the interactions of everybody who touched it, in
as many pieces as it takes (`Rebuilding`), (4) the lists of the users, once every item that was wanted when they came is
built.

What a piece does follows from the state and its size, which the epoch's manifest says, never from the clock. Each of
its steps leaves users and items as they would be without what was taken back, so that interactions between two pieces
are observed as ever.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from streamer.state.ledger import Ledger, ranks
from streamer.state.rebuilding import OBSERVE, READ, Rebuilding, first_place
from tgn.graph import I32, I64, U8
from tgn.model import Model
from tgn.repair import History

PIECE = 150_000  # interactions that a piece reads at most: about a tenth of a second
ALL = 1 << 62  # the size of a piece that does everything
NONE = np.zeros(0, np.int32)
EDIT, LIST = 100, 200  # what it costs besides to edit a user, and to make a list, in interactions


PLACE = np.dtype(
    [
        ("order_ms", "<i8"),
        ("order", "<u8"),
        ("to_end", "?"),  # what came after it was observed in another order
    ]
)
"""Where a user's sequence is another than was observed."""


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


class PendingRepairs:
    """Edits of the ledger that the graph has not followed yet."""

    def __init__(self, model: Model, ledger: Ledger) -> None:
        self._model, self._ledger = model, ledger
        self._followers: Sequence[Model] = ()
        self._places: dict[int, np.ndarray] = {}  # of users whose rings do not follow their ledgers yet
        self._removed: dict[int, I32] = {}  # user → items, likewise
        self._drops: dict[int, int] = {}  # deleted item → the next of its users to look at
        self._spared: set[tuple[int, int, int, int]] = set()  # (item, user, order_ms, order) since its deletion
        self._wanted = np.zeros(0, np.uint8)  # [I] 1: to be built again
        self._next = 0  # the item to go on with
        self._rebuilding: Rebuilding | None = None  # items on their way
        self._relist: set[int] = set()  # users whose list is out of date
        self._settled: tuple[set[int], set[int]] = (set(), set())  # users whose list waits: since this round, before it
        self.taken_back = 0  # interactions, since the process started

    def follow(self, followers: Sequence[Model]) -> None:
        """From here on these models are repaired along, which have the same nodes and took the same interactions."""
        self._followers = followers
        if self._rebuilding:
            self._rebuilding.follow(followers)

    def __len__(self) -> int:
        """How many users, items and lists wait, about."""
        waiting = (self._places, self._drops, self._relist, *self._settled)
        return sum(len(part) for part in waiting) + int(np.count_nonzero(self._wanted))

    def lists_alone(self) -> bool:
        """Whether nothing waits but lists: the graph is what the ledger says."""
        others = self._places or self._drops or any(self._settled) or np.count_nonzero(self._wanted)
        return bool(self._relist) and not others

    def pending(self) -> I32:
        """The users whose ledger says something else than the graph: it has been edited since."""
        return np.array(sorted(self._places), np.int32)

    def retract(self, user: int, events: Iterable[int]) -> int:
        """Takes back the user's interactions with these digests of their event ids; returns how many there were."""
        entries = self._ledger.entries(user)
        taken_back = self._keep(user, entries, ~np.isin(entries["event"], np.array(list(events), np.uint64)))
        if not len(self):
            self._ledger.let_go()
        return taken_back

    def drop_item(self, item: int) -> None:
        """Takes back every interaction with an item so far."""
        self._drops[item] = 0
        self._spared = {spared for spared in self._spared if spared[0] != item}

    def spare(self, users: I32, entries: np.ndarray) -> None:
        """Says that interactions [N], entries of dtype ENTRY, are new: those with a deleted item stay."""
        if self._rebuilding:
            self._rebuilding.add(users, entries)
        if self._drops:
            for n in np.flatnonzero(np.isin(entries["item"], list(self._drops))).tolist():
                entry = entries[n]
                self._spared.add((int(entry["item"]), int(users[n]), int(entry["order_ms"]), int(entry["order"])))

    def erase(self, user: int) -> int:
        """Takes back everything that a user did, of whom the graph holds nothing then; returns how many."""
        entries = self._ledger.entries(user)
        taken_back = self._keep(user, entries, np.zeros(len(entries), bool))
        if user in self._places:
            self._settle(np.array([user], np.int32))
        return taken_back

    def merge(self, session: int, user: int) -> None:
        """Makes what a session did the user's, each interaction in its place. What both hold follows at once.

        An interaction with a deleted item that nobody has looked at yet is taken back instead.
        """
        self._model.make_room(0)
        mine, theirs = self._ledger.entries(user), self._ledger.entries(session)
        stays = np.ones(len(theirs), bool)
        for item in self._drops:
            stays &= self._stays(item, session, theirs)
        moved = theirs[stays]
        if len(theirs):
            self._keep(session, theirs, np.zeros(len(theirs), bool))
            self.taken_back -= len(moved)
        self._spared = {(item, user if by == session else by, ms, order) for item, by, ms, order in self._spared}
        if len(moved):
            places = np.zeros(len(moved), PLACE)
            places["order_ms"], places["order"], places["to_end"] = moved["order_ms"], moved["order"], True
            self._add_places(user, places)
            entries = np.concatenate([mine, moved])
            self._ledger.replace(user, entries[np.lexsort((entries["order"], entries["order_ms"]))])
            users = np.full(len(moved), user, np.int32)
            for model in (self._model, *self._followers):
                model.add_pairs(users, moved["item"])
            if self._rebuilding:
                self._rebuilding.add(users, moved)
        changed = [node for node in sorted((session, user)) if node in self._places]
        if changed:
            self._settle(np.array(changed, np.int32))
            self._relist.add(user)

    def late(self, user: int, order_ms: int, order: int) -> None:
        """Says that an interaction which has been observed belongs before others that were."""
        self._add_places(user, np.array([(order_ms, order, True)], PLACE))

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
                self._rebuild_items(room, size)
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
        if not self._drops and not self._places:
            return self._rebuilding is None or self._rebuilding.prepare(size, stop)
        if self._drops:
            item, first = next(iter(self._drops.items()))
            users = self._model.readers(self._only([item]))
            users = users[np.searchsorted(users, first) :]
        else:
            users = np.array(sorted(self._places), np.int32)
        held = self._ledger.hold(users[: _Room(size).some(self._cost(users, EDIT))], stop)
        return held and (self._rebuilding is None or self._rebuilding.read_ahead(stop))

    def state(self) -> tuple[Any, ...]:
        """What a checkpoint keeps."""
        removed = [(user, item) for user, items in self._removed.items() for item in items.tolist()]
        wanted = np.packbits(np.trim_zeros(self._wanted, "b")).tobytes()
        settled = [sorted(users) for users in self._settled]
        more: tuple[Any, ...] = list(self._drops.items()), sorted(self._spared), wanted, self._next, settled
        if self._rebuilding:
            more = *more, self._rebuilding.state()
        places = [(user, places.tolist()) for user, places in self._places.items()]
        return places, removed, sorted(self._relist), more

    def restore(self, state: tuple[Any, ...]) -> None:
        """Takes back what `state` gave, in an earlier version too."""
        places, removed, relist, *more = state
        self._places = {user: np.array([tuple(place) for place in places], PLACE) for user, places in places}
        items: dict[int, list[int]] = {}
        for user, item in removed:
            items.setdefault(user, []).append(item)
        self._removed = {user: np.array(of_user, np.int32) for user, of_user in items.items()}
        self._relist = set(relist)
        if more:
            drops, spared, wanted, self._next, (now, before), *rebuilding = more[0]
            self._drops, self._spared = dict(drops), {tuple(entry) for entry in spared}
            self._wanted = np.unpackbits(np.frombuffer(wanted, np.uint8))
            self._settled = set(now), set(before)
            for nodes, introduced, reached in rebuilding:
                self._rebuilding = Rebuilding(
                    self._model,
                    self._ledger,
                    np.array(nodes, np.int32),
                    introduced,
                    (reached[0], reached[1]),
                    self._followers,
                )

    # users

    def _keep(self, user: int, entries: np.ndarray, keep: np.ndarray) -> int:
        gone = entries[~keep]
        if len(gone):
            places = np.zeros(len(gone), PLACE)
            places["order_ms"], places["order"] = gone["order_ms"], gone["order"]
            follows = np.append(False, ~keep[:-1])[~keep]  # what was next to another is in the same place without it
            self._add_places(user, places[~follows])
            self._removed[user] = np.union1d(self._removed.get(user, NONE), gone["item"])
            self._ledger.replace(user, entries[keep])
            self.taken_back += len(gone)
        return len(gone)

    def _add_places(self, user: int, places: np.ndarray) -> None:
        self._places[user] = np.concatenate([self._places.get(user, places[:0]), places])

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
        places = {node: self._places.pop(node) for node in users.tolist()}
        removed = {node: self._removed.pop(node, NONE) for node in places}
        of = np.repeat(users, [len(items) for items in removed.values()])
        item = np.concatenate([NONE, *removed.values()])  # [R]
        near, unknown = self._only(_near(user, entries, places, self._model.config.window)), self._only(NONE)
        near[item] = 1
        for model in (self._model, *self._followers):
            model.settle(users, (of, item), unknown, _history(user, entries))
        if self._rebuilding and places:
            self._rebuilding.edited(users)
            items, first = self._rebuilding.items, min(first_place(of_user) for of_user in places.values())
            if unknown[items].any() or (near[items].any() and self._rebuilding.has_observed(first)):
                self._rebuilding.again()
        self._grown()[np.flatnonzero(near | unknown)] = 1
        self._settled[0].update(places)

    # items

    def _rebuild_items(self, room: _Room, size: int) -> None:
        """Goes on with the items that are being built again, and begins with the next ones.

        What those need is read ahead of the next piece, unless all is done in one.
        """
        if self._rebuilding is None:
            self._rebuilding = self._next_batch(size)
            if size < ALL:
                return
        observed, built = self._rebuilding.piece(size)
        room.spend(OBSERVE * observed + 1)
        if not built:
            return
        items, self._rebuilding = self._rebuilding.items, None
        self._wanted[items] = 0
        came_round = bool((items < self._next).any())
        self._next = int(items[-1]) + 1
        if came_round:
            self._end_round()
        if self._wanted.any():
            self._rebuilding = self._next_batch(size)

    def _next_batch(self, size: int) -> Rebuilding:
        every = np.arange(len(self._model.graph.users.events), dtype=np.int32)
        items, _ = self._model.next_to_rebuild(self._grown(), self._next, self._cost(every), size // 2)
        return Rebuilding(self._model, self._ledger, items, followers=self._followers)

    def _end_round(self) -> None:
        """Every item that was wanted when the round began is built: the lists of who came before it may be made."""
        now, before = self._settled
        self._relist |= before
        self._settled = set(), now

    def _lists(self, room: _Room) -> I32:
        users = self._latest_first(np.array(sorted(self._relist), np.int32))
        users = users[: room.some(np.full(len(users), LIST))]
        self._relist -= set(users.tolist())
        return users

    def _latest_first(self, users: I32) -> I32:
        """In order of their last interactions: who is here now sees a list that is right first."""
        of = self._model.graph.users
        last_ms = of.ring_time[users, (of.events[users] - 1) % of.ring_time.shape[1]]
        return users[np.argsort(-last_ms, kind="stable")]

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


def _near(user: I32, entries: np.ndarray, places: dict[int, np.ndarray], window: int) -> I32:
    """The items within a window of the places; user: [N] of entries [N], user by user, in order."""
    nodes = np.array(list(places), np.int32)
    begins, ends = (np.searchsorted(user, nodes, side).tolist() for side in ("left", "right"))
    change = np.zeros(len(entries) + 1, np.int64)
    for edits, begin, end in zip(places.values(), begins, ends, strict=True):
        rank = begin + ranks(entries[begin:end], edits)
        np.add.at(change, np.maximum(rank - window, begin), 1)
        np.add.at(change, np.where(edits["to_end"], end, np.minimum(rank + window, end)), -1)
    return np.asarray(entries["item"][np.cumsum(change)[:-1] > 0])
