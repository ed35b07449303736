"""Which items the newest list of each user names: so that a deleted item can be taken out of every list that has it."""

from collections.abc import Iterable

import numpy as np

from tgn.graph import I32


class PublishedLists:
    """One row a user, −1 past the end of a list; a user without a list has `NO_LIST` in the first place.

    A row is as wide as the longest list: those of another `k` stay as they were published.
    """

    NO_LIST = -2

    def __init__(self, k: int) -> None:
        self._item = np.full((1024, k), self.NO_LIST, np.int32)
        self._partition = np.full(1024, -1, np.int32)  # of the user's last interaction
        self._changed: set[int] = set()
        self.away: set[int] = set()  # partitions for whose users another worker publishes

    def note(self, users: I32, items: I32, partitions: I32 | None = None) -> None:
        """Lists [N, K] of users [N] were published; `partitions`: of the interactions that caused them."""
        if len(users):
            self._make_room(int(users.max()) + 1, items.shape[1])
            self._item[users] = -1
            self._item[users, : items.shape[1]] = items
            if partitions is not None:
                self._partition[users] = partitions
            self._changed.update(users.tolist())

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

    def naming(self, item: int) -> I32:
        """The users whose list names an item."""
        return np.flatnonzero((self._item == item).any(axis=1) & self._here(self._partition)).astype(np.int32)

    def lists(self) -> dict[int, list[int]]:
        """User → items, of everybody who has a list."""
        users = np.flatnonzero((self._item[:, 0] != self.NO_LIST) & self._here(self._partition))
        return {user: row[row >= 0].tolist() for user, row in zip(users.tolist(), self._item[users], strict=True)}

    def saved(self) -> int:
        """How many pages all the calls of `delta` have written, the last one up to now."""
        return int((self._item[:, 0] != self.NO_LIST).sum())

    def delta(self) -> dict[bytes, bytes | None]:
        """What changed since the last call."""
        pages: dict[bytes, bytes | None] = {}
        for user in sorted(self._changed):
            row = self._item[user]
            value = self._partition[user].tobytes() + row[row >= 0].tobytes()
            pages[user.to_bytes(4, "big")] = value if row[0] != self.NO_LIST else None
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

    def _make_room(self, users: int, width: int = 0) -> None:
        if width > self._item.shape[1]:
            wider = np.full((len(self._item), width), -1, np.int32)
            wider[:, : self._item.shape[1]] = self._item
            self._item = wider
        if users > len(self._item):
            grown = np.full((max(users, 2 * len(self._item)), self._item.shape[1]), self.NO_LIST, np.int32)
            grown[: len(self._item)] = self._item
            self._item = grown
            of = np.full(len(grown), -1, np.int32)
            of[: len(self._partition)] = self._partition
            self._partition = of
