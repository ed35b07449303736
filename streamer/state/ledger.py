"""The undo ledger: every interaction that was taken, by user, in the checkpoint; read only where something is undone.

A user's interactions lie in blocks, one for each checkpoint that they were active in. An edit writes those again that
it changes.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from operator import itemgetter

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
WRITTEN_AT_ONCE = 256  # blocks of a checkpoint that are made without a pause: under 1 ms
HELD_BYTES = 1 << 30  # of saved interactions that are held, about
BLOCK = 1 << 16  # interactions in a block that an edit makes
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
        self._edited: dict[int, np.ndarray] = {}  # what replaces all that is saved
        self._held: dict[int, list[tuple[bytes, bytes]]] = {}  # the saved blocks of users who are read again and again
        self._held_bytes = 0
        self._blocks = 0  # number of the next block
        self.saved = 0  # blocks in the checkpoint

    def add(self, users: I32, entries: np.ndarray) -> None:
        """Adds interactions [N], entries of dtype ENTRY, of users [N]."""
        self._users.append(users)
        self._entries.append(entries)

    def entries(self, user: int) -> np.ndarray:
        """A user's interactions in order, dtype ENTRY."""
        return self.read(np.array([user], np.int32))[1]

    def history(self, users: I32) -> History:
        """The interactions of several users in the order of all of them."""
        user, entries = self._read(users.tolist())
        order = _order_of(entries)
        user, entries = user[order], entries[order]
        return History(
            user=user, item=entries["item"], t=entries["t"], weight=entries["weight"], context=entries["context"]
        )

    def before(self, user: int) -> np.ndarray:
        """A user's interactions, dtype ENTRY, but for those of an epoch that is being taken."""
        return self._read([user], checked=False)[1]

    def read(self, users: I32) -> tuple[I32, np.ndarray]:
        """Whose interaction it is [N], and what, dtype ENTRY, user by user, each user's in order.

        What is read is held until `let_go`: who is read for a piece of a repair is read for the next ones too.
        """
        self.hold(users)
        return self._read(users.tolist())

    def hold(self, users: I32, stop: Callable[[], bool] = lambda: False) -> bool:
        """Reads what is saved of users ahead, until it is told to stop; True once all of it is held."""
        missing = [user for user in users.tolist() if user not in self._held and user not in self._edited]
        if self._held_bytes > HELD_BYTES and missing:
            self.let_go()
            return self.hold(users, stop)
        for n, user in enumerate(missing):
            if n % READ_AT_ONCE == READ_AT_ONCE - 1 and stop():
                return False
            self._hold(user, list(self._saved_chunks(user)))
        return True

    def _hold(self, user: int, blocks: list[tuple[bytes, bytes]]) -> None:
        self._held_bytes -= sum(len(block) for _, block in self._held.get(user, ()))
        self._held[user] = blocks
        self._held_bytes += sum(len(block) for _, block in blocks)

    def let_go(self) -> None:
        """Holds nothing any more."""
        self._held, self._held_bytes = {}, 0

    def replace(self, user: int, entries: np.ndarray) -> None:
        """Makes `entries` all that a user has done."""
        for n, users in enumerate(self._users):
            others = users != user
            self._users[n], self._entries[n] = users[others], self._entries[n][others]
        self._edited[user] = entries

    def delta(self, between: Callable[[], None] = lambda: None) -> dict[bytes, bytes | None]:
        """Blocks to write and to delete at a checkpoint. between: called now and then; it may read the ledger."""
        pages: dict[bytes, bytes | None] = {}
        added: list[tuple[int, bytes, bytes]] = []
        for user, entries in self._edited.items():
            pages.update(self._chunks_again(user, entries))
        users, entries = self._unsaved()
        order = np.argsort(users, kind="stable")
        users, entries = users[order], entries[order]
        starts = np.flatnonzero(np.diff(users, prepend=-1))
        packed, size = entries.tobytes(), entries.itemsize
        cuts = pairwise([*starts.tolist(), len(users)])
        for user, (start, end) in zip(users[starts].tolist(), cuts, strict=True):
            added.append((user, self._key(user), packed[start * size : end * size]))
            if not len(added) % WRITTEN_AT_ONCE:
                between()  # what is added counts as unsaved until the end
        for user, key, block in added:
            pages[key] = block
            if user in self._held:
                self._hold(user, [*self._held[user], (key, block)])
        self.saved += len(added)
        self._users, self._entries, self._edited = [], [], {}
        self._blocks += 1
        return pages

    def _chunks_again(self, user: int, entries: np.ndarray) -> dict[bytes, bytes | None]:
        """What makes a user's saved blocks hold these entries, in order: each keeps its part of the order."""
        before = self._held.get(user) or list(self._saved_chunks(user))
        first = [np.frombuffer(block, ENTRY, 1)[0] for _, block in before[1:]]
        last = [np.frombuffer(block, ENTRY)[-1] for _, block in before[-1:]]
        cuts = np.maximum.accumulate(ranks(entries, np.array(first + last, ENTRY))).tolist()
        if before:
            cuts[-1] = min(cuts[-1] + 1, len(entries))
        parts = [entries[begin:end] for begin, end in pairwise([0, *cuts])]
        after = [(key, part.tobytes()) for (key, _), part in zip(before, parts, strict=True)]
        pages = {key: block or None for (key, block), (_, was) in zip(after, before, strict=True) if block != was}
        self.saved -= sum(block is None for block in pages.values())
        for begin in range(cuts[-1] if before else 0, len(entries), BLOCK):
            after.append((self._key(user), entries[begin : begin + BLOCK].tobytes()))
            pages[after[-1][0]] = after[-1][1]
            self._blocks += 1
            self.saved += 1
        if user in self._held:
            self._hold(user, [(key, block) for key, block in after if block])
        return pages

    def state(self) -> int:
        """What `restore` needs beside the blocks."""
        return self._blocks

    def restore(self, blocks: int, saved: int) -> None:
        """Takes back what `state` gave; `saved`: how many blocks the checkpoint has."""
        self._blocks, self.saved = blocks, saved

    def _key(self, user: int) -> bytes:
        return _prefix(user) + self._blocks.to_bytes(8, "big")

    def _read(self, wanted: Sequence[int], checked: bool = True) -> tuple[I32, np.ndarray]:
        users, entries = self._unsaved()
        mine = np.isin(users, wanted)
        blocks = sorted(self._whole(wanted), key=itemgetter(0))
        sizes = [len(block) // ENTRY.itemsize for _, block in blocks]
        saved = np.repeat(np.array([user for user, _ in blocks], np.int32), sizes)
        whole = np.frombuffer(b"".join([block for _, block in blocks]), ENTRY)  # NumPy would compare the fields of each
        if mine.any():
            saved, whole = np.concatenate([saved, users[mine]]), np.concatenate([whole, entries[mine]])
        saved, whole = _by_user(saved, whole)
        if checked:
            self._check(np.array(sorted(wanted), np.int32), saved)
        return saved, whole

    def _whole(self, wanted: Sequence[int]) -> Iterator[tuple[int, bytes | memoryview]]:
        """What of users is saved or edited, in pieces, each user's in the order in which they were saved."""
        missing = []
        for user in wanted:
            if user in self._edited:
                yield user, self._edited[user].view(np.uint8).data
            elif user in self._held:
                yield from ((user, block) for _, block in self._held[user])
            else:
                missing.append(user)
        if len(missing) > ALL_AT_ONCE:
            every = set(missing)
            for key, value in self._pages(b""):
                user = int.from_bytes(key[:4], "big")
                if user in every:
                    yield user, _chunk(key, value)
            return
        for user in missing:
            yield from ((user, block) for _, block in self._saved_chunks(user))

    def _saved_chunks(self, user: int) -> Iterator[tuple[bytes, bytes]]:
        return ((key, _chunk(key, value)) for key, value in self._pages(_prefix(user)))

    def _check(self, wanted: I32, found: I32) -> None:
        """Finds blocks that are missing: `found` has the user of each interaction that was read of `wanted`, sorted."""
        expected = self._expected(wanted)
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


def _chunk(key: bytes, value: bytes) -> bytes:
    """A saved block, as it is. Raises CheckpointDamaged where it cannot be one."""
    if len(key) != KEY_BYTES or not value or len(value) % ENTRY.itemsize:
        raise CheckpointDamaged(f"page ledger/{key!r} of the checkpoint is damaged: it has {len(value)} bytes")
    return value


def ranks(entries: np.ndarray, places: np.ndarray) -> I64:
    """How many of a user's entries, in order, come before each place [N], with order_ms and order."""
    ms, order = np.ascontiguousarray(entries["order_ms"]), np.ascontiguousarray(entries["order"])
    first, end = (np.searchsorted(ms, places["order_ms"], side) for side in ("left", "right"))
    for n in np.flatnonzero(first < end).tolist():
        first[n] += np.searchsorted(order[first[n] : end[n]], places["order"][n])
    return first


def _by_user(users: I32, entries: np.ndarray) -> tuple[I32, np.ndarray]:
    """User by user, each user's by order_ms, then order: as they are but for lateness and what is not saved yet."""
    if (users[1:] < users[:-1]).any():
        by_user = np.argsort(users, kind="stable")
        users, entries = users[by_user], entries[by_user]
    ms, order = entries["order_ms"], entries["order"]
    back = (ms[1:] < ms[:-1]) | ((ms[1:] == ms[:-1]) & (order[1:] < order[:-1]))
    if (back & (users[1:] == users[:-1])).any():
        by_place = np.lexsort((order, ms, users))
        users, entries = users[by_place], entries[by_place]
    return users, entries


def _order_of(entries: np.ndarray) -> np.ndarray:
    """By order_ms, then order; one sort does where the one rises with the other, as it does without lateness."""
    order = np.argsort(entries["order"], kind="stable")
    order_ms = entries["order_ms"][order]
    if (order_ms[1:] < order_ms[:-1]).any():
        order = np.lexsort((entries["order"], entries["order_ms"]))
    return np.asarray(order)


def _prefix(user: int) -> bytes:
    return user.to_bytes(4, "big")
