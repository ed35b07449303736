"""Items that are built again from the interactions near them, so many of these in each piece of a repair.

How far that has come is part of the state. What was read and built on the way is not: after a restart it is made again
from the ledger, and comes to the same.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from streamer.state.ledger import Ledger
from tgn.graph import I32, I64, U8
from tgn.kernel import plain
from tgn.model import Model
from tgn.repair import Nearby, Part

READ_AT_ONCE = 150_000  # interactions that are read before it is asked whether to stop, about
READ, OBSERVE = 8, 4  # what it costs to read a user besides their interactions, and to observe one again, in those read
STALE = 1_000  # users who are read again before the last piece
START, END = (-(1 << 63), 0), ((1 << 63) - 1, (1 << 64) - 1)  # before and after every place
Place = tuple[int, int]  # order_ms, order


class _Read(NamedTuple):
    """What was read: what lies near the items, and its places."""

    nearby: Nearby
    counts: np.ndarray  # [E] bool: it says something of the items; the others are what some of these came after
    order_ms: I64  # [E]
    order: np.ndarray  # [E] uint64


class Rebuilding:
    """A batch of items on its way.

    Args:
        items: [B] node indices.
        introduced: when the catalogue introduced them, as it was when they were begun, [B] epoch ms or −1.
        reached: up to which place what lies near them has been observed.
        followers: models in which they are built as well, see `PendingRepairs.follow`.
    """

    def __init__(
        self,
        model: Model,
        ledger: Ledger,
        items: I32,
        introduced: Sequence[int] = (),
        reached: Place = START,
        followers: Sequence[Model] = (),
    ) -> None:
        self._model, self._ledger, self._followers = model, ledger, followers
        self.items = items
        self._introduced = list(introduced) or self._introduced_now()
        self._reached = reached
        self._parts, self._built = self._new_parts(), START  # up to where it is built
        self._unread = model.readers(self._wanted())
        self._is_read = np.zeros(0, np.uint8)  # [U] 1: what the user did near the items is here
        self._stale: set[int] = set()  # those of whom it is to be read again
        self._complete = END  # before this place nothing of what was read is missing
        self._chunks: list[_Read] = []

    def state(self) -> tuple[list[int], list[int], Place]:
        """What a checkpoint keeps: the arguments."""
        return self.items.tolist(), self._introduced, self._reached

    def follow(self, followers: Sequence[Model]) -> None:
        """Builds them in these models as well, from the start."""
        self._followers = followers
        self.again()

    def add(self, users: I32, entries: np.ndarray) -> None:
        """Says that interactions [N], entries of dtype ENTRY, of users [N] have come."""
        ours = self._are_read(users) | np.isin(entries["item"], self.items)
        if ours.any():
            self._stale.update(users[ours].tolist())
            self._complete = min(self._complete, first_place(entries[ours]))

    def edited(self, users: I32) -> None:
        """Says that what users [N] did is something else now."""
        ours = users[self._are_read(users)]
        if len(ours):
            self._stale.update(ours.tolist())
            self._complete = START

    def again(self) -> None:
        """Begins from the start: what was observed is not what lies near the items."""
        self._introduced, self._reached = self._introduced_now(), START
        self._parts, self._built = self._new_parts(), START

    def has_observed(self, place: Place) -> bool:
        """Whether what lies at this place has been observed."""
        return place <= self._reached

    def read_ahead(self, stop: Callable[[], bool] = lambda: False) -> bool:
        """Reads what the next piece needs; False where it was stopped."""
        if self._complete <= self._reached or len(self._stale) > STALE:
            self._forget_stale()
        return self._read(stop)

    def prepare(self, size: int, stop: Callable[[], bool] = lambda: False) -> bool:
        """Reads what the next piece needs, and builds what was built before a restart; False where it was stopped.

        Users must follow their ledgers: it writes to what they hold.
        """
        if not self.read_ahead(stop):
            return False
        while self._built < self._reached:
            self._observe(self._next(_most(size), _after(self._reached)))
            if stop():
                return False
        return True

    def piece(self, size: int) -> tuple[int, bool]:
        """Observes the next interactions, as many as a piece of this size may; how many, and whether that was all."""
        if self._introduced != self._introduced_now():
            self.again()
        self.prepare(size)
        most = _most(size)
        places = self._next(most + 1, self._complete)
        if len(places) <= most and self._stale:
            self._forget_stale()
            self._read()
            places = self._next(most + 1, END)
        self._observe(places[:most])
        self._reached = self._built
        if len(places) > most:
            return most, False
        for model, part in self._parts:
            model.put_in(part)
        return len(places), True

    def _introduced_now(self) -> list[int]:
        return list(self._model.graph.items.introduced[self.items].tolist())

    def _new_parts(self) -> list[tuple[Model, Part]]:
        introduced = np.array(self._introduced, np.int64)
        return [(model, model.new_part(self.items, introduced)) for model in (self._model, *self._followers)]

    def _wanted(self) -> U8:
        mask = np.zeros(max(len(self._model.graph.items.events), len(self._model.items)), np.uint8)
        mask[self.items] = 1
        return mask

    def _are_read(self, users: I32) -> np.ndarray:
        read = users < len(self._is_read)
        read[read] = self._is_read[users[read]] == 1
        return read

    def _read(self, stop: Callable[[], bool] = lambda: False) -> bool:
        while len(self._unread):
            cost = np.cumsum(self._model.graph.users.events[self._unread].astype(np.int64) + READ)
            n = max(int(np.searchsorted(cost, READ_AT_ONCE, side="right")), 1)
            users = self._unread[:n]
            if not self._ledger.hold(users, stop):
                return False
            self._unread = self._unread[n:]
            self._keep_near(users, *self._ledger.read(users))
            if stop():
                return False
        return True

    def _keep_near(self, users: I32, user: I32, entries: np.ndarray) -> None:
        places, rank = self._model.near(user, entries["item"], self._wanted())
        user, entries = user[places], entries[places]
        nearby = Nearby(*plain(user, rank, *(entries[name] for name in ("item", "t", "weight"))))
        counts = _are_behind(nearby, self._wanted(), self._model.config.window)
        self._chunks.append(_Read(nearby, counts, *plain(entries["order_ms"], entries["order"])))
        more = max(int(users.max()) + 1 - len(self._is_read), 0)
        self._is_read = np.append(self._is_read, np.zeros(more, np.uint8))
        self._is_read[users] = 1

    def _forget_stale(self) -> None:
        """Makes those of whom something is missing unread."""
        users = np.array(sorted(self._stale), np.int32)
        nearby, *others = self._all()
        kept = ~np.isin(nearby.user, users)
        columns: Any = (column[kept] for column in nearby)
        self._chunks = [_Read(Nearby(*columns), *(column[kept] for column in others))]
        self._is_read[users[self._are_read(users)]] = 0
        self._unread = np.union1d(self._unread, users)
        self._stale, self._complete = set(), END

    def _all(self) -> _Read:
        """All that was read, user by user."""
        if not self._chunks:
            self._chunks = [_NOTHING]
        if len(self._chunks) > 1:
            nearby = Nearby(
                *(np.concatenate(columns) for columns in zip(*(c.nearby for c in self._chunks), strict=True))
            )
            others = (np.concatenate(columns) for columns in zip(*(c[1:] for c in self._chunks), strict=True))
            self._chunks = [_Read(nearby, *others)]
        return self._chunks[0]

    def _next(self, most: int, end: Place) -> I64:
        """Where in all that was read the next interactions before the place `end` are, in order."""
        _, counts, order_ms, order = self._all()
        left = _are_before(end, order_ms, order) & ~_are_before(_after(self._built), order_ms, order)
        places = np.flatnonzero(left & counts)
        if len(places) > most:  # the others need not be sorted
            places = places[order_ms[places] <= np.partition(order_ms[places], most - 1)[most - 1]]
        return np.asarray(places[np.lexsort((order[places], order_ms[places]))][:most])

    def _observe(self, places: I64) -> None:
        nearby, _, order_ms, order = self._all()
        for model, part in self._parts:
            model.observe_again(part, nearby, places)
        if len(places):
            self._built = int(order_ms[places[-1]]), int(order[places[-1]])


_NOBODY = np.zeros(0, np.int32)
_NOTHING = _Read(
    Nearby(_NOBODY, _NOBODY, _NOBODY, np.zeros(0, np.int64), np.zeros(0, np.float32)),
    np.zeros(0, bool),
    np.zeros(0, np.int64),
    np.zeros(0, np.uint64),
)


def _most(size: int) -> int:
    """How many interactions a piece of this size observes again at most."""
    return max(size // OBSERVE, 1)


def _are_behind(nearby: Nearby, wanted: U8, window: int) -> np.ndarray:
    """[E] which interactions are with a wanted item, or come after one within a window of their user's."""
    places = np.arange(len(nearby.user))
    last = np.maximum.accumulate(np.where(wanted[nearby.item] == 1, places, -1))
    same_user = (last >= 0) & (nearby.user[last] == nearby.user)
    return np.asarray(same_user & (nearby.rank - nearby.rank[last] <= window))


def _after(place: Place) -> Place:
    return place[0], place[1] + 1


def _are_before(place: Place, order_ms: I64, order: np.ndarray) -> np.ndarray:
    """[N] which interactions come before a place."""
    return np.asarray((order_ms < place[0]) | ((order_ms == place[0]) & (order < np.uint64(place[1]))))


def first_place(places: np.ndarray) -> Place:
    """The first of places [N > 0], with order_ms and order."""
    order_ms = places["order_ms"].min()
    return int(order_ms), int(places["order"][places["order_ms"] == order_ms].min())
