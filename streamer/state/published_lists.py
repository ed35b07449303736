"""Which items the newest list of each user names: so that a deleted item can be taken out of every list that has it.

Whether a new list differs from it is decided in `streamer.pipeline.list_changes`.
"""

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from tgn.compiling.growing import enough, lengthened
from tgn.graph import I32

AT_ONCE = 1_024  # entries of the index that are made together: some 1 ms
WRITTEN_AT_ONCE = 256  # lists of a checkpoint that are packed without a pause: under 1 ms
FEW = 32  # entries that are not worth going through


class PublishedLists:
    """One row a user, −1 past the end of a list; a user without a list has `NO_LIST` in the first place.

    A row is as wide as the longest list: those of another `k` stay as they were published.

    An index has, by item, the users whose lists have named it. A list that no longer does leaves its entry behind: who
    asks looks into the lists, and an item's entries are gone through once there are twice as many as were right.
    """

    NO_LIST = -2

    def __init__(self, k: int) -> None:
        self._users_of: dict[int, array[int]] = {}  # item → users, some of them more than once
        self._right: dict[int, int] = {}  # how many entries of an item were right when they were gone through
        self._unindexed: list[tuple[I32, I32]] = []  # (items, users), likewise
        self._unindexed_entries = 0
        self._item = np.full((1024, k), self.NO_LIST, np.int32)
        self._partition = np.full(1024, -1, np.int32)  # of the user's last interaction
        self._changed: set[int] = set()
        self._noted: list[I32] = []
        self.away: set[int] = set()  # partitions for whose users another worker publishes

    def note(self, users: I32, items: I32, partitions: I32 | None = None) -> None:
        """Lists [N, K] of users [N] were published; `partitions`: of the interactions that caused them."""
        if len(users):
            self._make_room(int(users.max()) + 1, items.shape[1])
            self._note_new(users, items)
            self._item[users] = -1
            self._item[users, : items.shape[1]] = items
            if self._unindexed_entries > AT_ONCE:
                self._index()
            if partitions is not None:
                self._partition[users] = partitions
            self._changed.update(users.tolist())
            self._noted.append(users)

    def noted(self) -> I32:
        """The users whose lists were published or withdrawn since the last call."""
        noted, self._noted = self._noted, []
        return np.unique(np.concatenate([np.zeros(0, np.int32), *noted]))

    def withdraw(self, users: I32) -> None:
        """The lists of users [N] are no longer published."""
        self.note(users, np.full((len(users), 1), self.NO_LIST, np.int32))

    def release(self, partition: int) -> None:
        """Another worker publishes for the users of this partition now."""
        self.away.add(partition)

    def regain(self, partition: int) -> None:
        """It is this worker again, for the lists that it knew too."""
        self.away.discard(partition)

    def is_away(self, partition: int) -> bool:
        """Whether another worker publishes for this partition's users."""
        return partition in self.away

    def has_list(self, users: I32) -> np.ndarray:
        """[N] bool: whether this worker has one published."""
        self._make_room(int(users.max(initial=-1)) + 1)
        return np.asarray((self._item[users, 0] != self.NO_LIST) & self._here(self._partition[users]))

    def _here(self, partitions: I32) -> np.ndarray:
        return ~np.isin(partitions, list(self.away))

    def partitions(self, users: I32) -> I32:
        """[N] the partition of the interaction that caused each user's list; −1: there was none."""
        self._make_room(int(users.max(initial=-1)) + 1)
        return np.asarray(self._partition[users])

    def naming(self, items: int | Sequence[int]) -> I32:
        """The users whose list names an item, or one of several, in order of their indices."""
        self._index()
        of_each = map(self._gone_through, [items] if isinstance(items, int) else items)
        users = np.unique(np.concatenate([np.zeros(0, np.int32), *of_each]))
        return np.asarray(users[self._here(self._partition[users])])

    def published_for(self) -> set[int]:
        """The partitions for whose users this worker publishes, and has published something."""
        partitions = np.unique(self._partition[self._item[:, 0] != self.NO_LIST]).tolist()
        return {one for one in partitions if one >= 0} - self.away

    def rows(self, users: I32) -> I32:
        """[N, K] the items of the lists of users [N], −1 past the end; NO_LIST in the first place: there is none."""
        self._make_room(int(users.max(initial=-1)) + 1)
        return np.asarray(self._item[users])

    def _note_new(self, users: I32, items: I32) -> None:
        """Keeps for the index which items these lists name that those before do not."""
        known = self._item[users]
        rows, places = np.nonzero((items >= 0) & ~(items[:, :, None] == known[:, None, :]).any(axis=2))
        if len(rows):  # a list may change in its order alone
            self._unindexed.append((items[rows, places], users[rows]))
            self._unindexed_entries += len(rows)

    def _index(self) -> None:
        """Enters what is not in the index yet, many at a time."""
        if not self._unindexed:
            return
        items, users = (np.concatenate(part) for part in zip(*self._unindexed, strict=True))
        self._unindexed, self._unindexed_entries = [], 0
        for item, of_item in _grouped(items, users):
            entries = self._users_of.setdefault(item, array("i"))
            entries.frombytes(of_item.tobytes())
            if len(entries) > 2 * self._right.get(item, FEW):
                self._gone_through(item)

    def _gone_through(self, item: int) -> I32:
        """Keeps of an item's entries those whose lists name it, each once."""
        users = np.unique(np.array(self._users_of.get(item, ()), np.int32))
        users = users[(self._item[users] == item).any(axis=1)]
        if item in self._users_of:
            self._users_of[item], self._right[item] = array("i", users.tobytes()), max(len(users), FEW)
        return np.asarray(users)

    def items(self, user: int) -> list[int] | None:
        """The items of a user's list; None: this worker has none published."""
        if user >= len(self._item) or not self.has_list(np.array([user], np.int32))[0]:
            return None
        row = self._item[user]
        return [int(item) for item in row[row >= 0]]

    def lists(self) -> dict[int, list[int]]:
        """User → items, of everybody who has a list."""
        users = np.flatnonzero((self._item[:, 0] != self.NO_LIST) & self._here(self._partition))
        return {user: row[row >= 0].tolist() for user, row in zip(users.tolist(), self._item[users], strict=True)}

    def saved(self) -> int:
        """How many pages all the calls of `delta` have written, the last one up to now."""
        return int((self._item[:, 0] != self.NO_LIST).sum())

    def delta(self, between: Callable[[], None] = lambda: None) -> dict[bytes, bytes | None]:
        """What changed since the last call. between: called now and then; it may read the lists."""
        pages: dict[bytes, bytes | None] = {}
        changed = np.array(sorted(self._changed), np.int64)
        for first in range(0, len(changed), WRITTEN_AT_ONCE):
            users = changed[first : first + WRITTEN_AT_ONCE]
            keys, rows = users.astype(">u4").tobytes(), self._item[users]
            there = np.column_stack([np.ones(len(users), bool), rows >= 0])
            packed = np.column_stack([self._partition[users], rows])[there].tobytes()
            ends = (there.sum(axis=1).cumsum() * rows.itemsize).tolist()
            listed = (rows[:, 0] != self.NO_LIST).tolist()
            for n, (begin, end, is_listed) in enumerate(zip([0, *ends], ends, listed, strict=False)):
                pages[keys[4 * n : 4 * n + 4]] = packed[begin:end] if is_listed else None
            between()
        self._changed = set()
        return pages

    def load(self, pages: Iterable[tuple[bytes, bytes]]) -> None:
        """Takes back what `delta` gave."""
        for key, value in pages:
            user = int.from_bytes(key, "big")
            stored = np.frombuffer(value, np.int32)
            row = stored[1:]
            self._make_room(user + 1, len(row))
            self._partition[user] = stored[0]
            self._item[user] = -1
            self._item[user, : len(row)] = row
        users, places = np.nonzero(self._item >= 0)
        self._unindexed.append((self._item[users, places], users.astype(np.int32)))
        self._index()

    def _make_room(self, users: int, width: int = 0) -> None:
        if width > self._item.shape[1]:
            wider = np.full((len(self._item), width), -1, np.int32)
            wider[:, : self._item.shape[1]] = self._item
            self._item = wider
        if users > len(self._item):
            room = enough(self._item, users)
            self._item = lengthened(self._item, room, self.NO_LIST)
            self._partition = lengthened(self._partition, room, -1)


def _grouped(items: I32, users: I32) -> Iterator[tuple[int, I32]]:
    """The users of each item, in order of the items."""
    order = np.argsort(items, kind="stable")
    named, begins = np.unique(items[order], return_index=True)
    ends = [*begins[1:].tolist(), len(items)]
    return (
        (item, users[order[begin:end]]) for item, begin, end in zip(named.tolist(), begins.tolist(), ends, strict=False)
    )
