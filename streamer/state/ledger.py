"""The undo ledger: every interaction that was taken, by user, in the checkpoint; read only where something is undone.

A user's interactions lie in blocks, one for each checkpoint that they were active in; an edit makes one block of them.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise

import numpy as np

from consumers.errors import CheckpointDamaged
from tgn.graph import I32, I64, SLOTS
from tgn.repair import History

ENTRY = np.dtype(
    [
        ("order_ms", "<i8"),  # with `order`: the place among all interactions
        ("order", "<u8"),
        ("t", "<i8"),  # event time, epoch ms
        ("event", "<u8"),  # digest of the event id and its user; in older checkpoints of the id alone, 0: none
        ("item", "<i4"),
        ("weight", "<f4"),
        ("context", "<i2", (SLOTS,)),  # rows of tgn.context_embedding.Contexts, −1: none
    ]
)
KEY_BYTES = 12  # user, number of the block
ALL_AT_ONCE = 5_000  # more users than this are read in one pass over the ledger
READ_AT_ONCE = 256  # users read ahead before it is asked whether to stop
HELD = 2_000_000  # users whose saved interactions are held at most
Pages = Callable[[bytes], Iterable[tuple[bytes, bytes]]]


def _nothing_expected(users: I32) -> I64:
    return np.full(len(users), -1)


def event_number(digest: bytes) -> int:
    """What stands for an event id here."""
    return int.from_bytes(digest[:8], "little") or 1


class Ledger:
    """Interactions by user.

    What is read raises CheckpointDamaged where a block is damaged or missing.

    Args:
        pages: reads the saved blocks whose keys begin with a prefix, as `Committer.load_state` does.
        expected: how many interactions users [N] must have, −1 where nobody knows.
    """

    def __init__(self, pages: Pages, expected: Callable[[I32], I64] = _nothing_expected) -> None:
        self._pages, self._expected = pages, expected
        self._users: list[np.ndarray] = []  # of what was added since the last checkpoint
        self._entries: list[np.ndarray] = []
        self._edited: dict[int, np.ndarray] = {}  # whole ledgers that replace what is saved and added
        self._held: dict[int, bytes] = {}  # the blocks of users who are read again and again
        self._blocks = 0  # number of the next block
        self.saved = 0  # blocks in the checkpoint

    def add(self, users: I32, entries: np.ndarray) -> None:
        """Adds interactions [N], entries of dtype ENTRY, of users [N]."""
        edited = np.isin(users, list(self._edited)) if self._edited else np.zeros(len(users), bool)
        for user in set(users[edited].tolist()):
            self._edited[user] = _in_order(np.concatenate([self._edited[user], entries[users == user]]))
        self._users.append(users[~edited])
        self._entries.append(entries[~edited])

    def of(self, user: int) -> np.ndarray:
        """A user's interactions in order, dtype ENTRY."""
        return self._read([user])[1]

    def history(self, users: I32) -> History:
        """The interactions of several users in the order of all of them."""
        user, entries = self.read(users)
        return History(
            user=user, item=entries["item"], t=entries["t"], weight=entries["weight"], context=entries["context"]
        )

    def read(self, users: I32) -> tuple[I32, np.ndarray]:
        """Whose interaction it is [N], and what, dtype ENTRY, of several users in the order of all of them.

        What is read is held until `let_go`: who is read for a piece of a repair is read for the next ones too.
        """
        self.hold(users)
        return self._read(users.tolist())

    def hold(self, users: I32, stop: Callable[[], bool] = lambda: False) -> bool:
        """Reads what is saved of users ahead, until it is told to stop; True once all of it is held."""
        missing = [user for user in users.tolist() if user not in self._held and user not in self._edited]
        if self._held and len(self._held) + len(missing) > HELD:
            self.let_go()
            return self.hold(users, stop)
        for n, user in enumerate(missing):
            if n % READ_AT_ONCE == READ_AT_ONCE - 1 and stop():
                return False
            self._held[user] = b"".join(_block(key, value) for key, value in self._pages(_prefix(user)))
        return True

    def let_go(self) -> None:
        """Holds nothing any more."""
        self._held = {}

    def replace(self, user: int, entries: np.ndarray) -> None:
        """Makes `entries` all that a user has done."""
        for n, users in enumerate(self._users):
            others = users != user
            self._users[n], self._entries[n] = users[others], self._entries[n][others]
        self._edited[user] = entries

    def delta(self) -> dict[bytes, bytes | None]:
        """Blocks to write and to delete at a checkpoint."""
        pages: dict[bytes, bytes | None] = {}
        for user, entries in self._edited.items():
            gone = [key for key, _ in self._pages(_prefix(user))]
            pages.update((key, None) for key in gone)
            self.saved -= len(gone)
            if len(entries):
                pages[self._key(user)] = entries.tobytes()
            if user in self._held:
                self._held[user] = entries.tobytes()
        users, entries = self._unsaved()
        order = np.argsort(users, kind="stable")
        users, entries = users[order], entries[order]
        starts = np.flatnonzero(np.diff(users, prepend=-1))
        for start, end in pairwise([*starts.tolist(), len(users)]):
            user = int(users[start])
            pages[self._key(user)] = entries[start:end].tobytes()
            if user in self._held:
                self._held[user] += entries[start:end].tobytes()
        self._users, self._entries, self._edited = [], [], {}
        self._blocks += 1
        self.saved += sum(value is not None for value in pages.values())
        return pages

    def state(self) -> int:
        """What `restore` needs beside the blocks."""
        return self._blocks

    def restore(self, blocks: int, saved: int) -> None:
        """Takes back what `state` gave; `saved`: how many blocks the checkpoint has."""
        self._blocks, self.saved = blocks, saved

    def _key(self, user: int) -> bytes:
        return _prefix(user) + self._blocks.to_bytes(8, "big")

    def _read(self, wanted: Sequence[int]) -> tuple[I32, np.ndarray]:
        users, entries = self._unsaved()
        mine = np.isin(users, wanted)
        of, blocks = list[int](), list[bytes]()
        for user, block in self._whole(wanted):
            of.append(user)
            blocks.append(block)
        sizes = [len(block) // ENTRY.itemsize for block in blocks]
        whole = np.frombuffer(b"".join(blocks), ENTRY)  # joined as bytes: NumPy compares the fields of each array
        users = np.concatenate([np.repeat(np.array(of, np.int32), sizes), users[mine]])
        entries = np.concatenate([whole, entries[mine]])
        self._check(np.array(sorted(wanted), np.int32), users)
        order = _order_of(entries)
        return users[order], entries[order]

    def _whole(self, wanted: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        """What of users is saved or edited, in pieces."""
        missing = []
        for user in wanted:
            if user in self._edited:
                yield user, self._edited[user].tobytes()
            elif user in self._held:
                yield user, self._held[user]
            else:
                missing.append(user)
        yield from self._saved(missing)

    def _saved(self, users: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        if len(users) > ALL_AT_ONCE:
            wanted = set(users)
            for key, value in self._pages(b""):
                user = int.from_bytes(key[:4], "big")
                if user in wanted:
                    yield user, _block(key, value)
            return
        for user in users:
            for key, value in self._pages(_prefix(user)):
                yield user, _block(key, value)

    def _check(self, wanted: I32, found: I32) -> None:
        """Finds blocks that are missing: `found` has the user of every interaction that was read of `wanted`."""
        expected, found = self._expected(wanted), np.sort(found)
        count = np.searchsorted(found, wanted, "right") - np.searchsorted(found, wanted, "left")
        wrong = np.flatnonzero((expected >= 0) & (count != expected))
        if len(wrong):
            raise CheckpointDamaged(
                f"the checkpoint's ledger has {count[wrong[0]]} interactions of user {wanted[wrong[0]]}, "
                f"the graph {expected[wrong[0]]}, and differs in {len(wrong)} users"
            )

    def _unsaved(self) -> tuple[I32, np.ndarray]:
        if len(self._users) != 1:
            self._users = [np.concatenate([np.zeros(0, np.int32), *self._users])]
            self._entries = [np.concatenate([np.zeros(0, ENTRY), *self._entries])]
        return self._users[0], self._entries[0]


def _block(key: bytes, value: bytes) -> bytes:
    """A saved block, as it is. Raises CheckpointDamaged where it cannot be one."""
    if len(key) != KEY_BYTES or not value or len(value) % ENTRY.itemsize:
        raise CheckpointDamaged(f"page ledger/{key!r} of the checkpoint is damaged: it has {len(value)} bytes")
    return value


def _in_order(entries: np.ndarray) -> np.ndarray:
    return np.asarray(entries[_order_of(entries)])


def _order_of(entries: np.ndarray) -> np.ndarray:
    """By order_ms, then order; one sort does where the one rises with the other, as it does without lateness."""
    order = np.argsort(entries["order"], kind="stable")
    order_ms = entries["order_ms"][order]
    if (order_ms[1:] < order_ms[:-1]).any():
        order = np.lexsort((entries["order"], entries["order_ms"]))
    return np.asarray(order)


def _prefix(user: int) -> bytes:
    return user.to_bytes(4, "big")
