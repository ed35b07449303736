"""Which user has interacted with which item: an exact, open-addressing hash set in one array."""

import numpy as np

from tgn.graph import I32, I64, PAIRS_A_PAGE, U8, U64, Pairs
from tgn.kernel import kernel

MAX_LOAD = 0.5


@kernel
def pair_key(user: int, item: int) -> int:
    """The key of a pair; never 0, which marks an empty slot."""
    return (np.uint64(user + 1) << np.uint64(32)) | np.uint64(item)


@kernel
def _home(key: int, mask: int) -> int:
    """The slot where the search for `key` begins."""
    return ((key * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(20)) & mask


@kernel
def _find_slot(keys: U64, key: int) -> int:
    """Where `key` is, or the empty slot where it would go (linear probing after Fibonacci hashing)."""
    mask = np.uint64(len(keys) - 1)
    slot = _home(key, mask)
    while keys[slot] != 0 and keys[slot] != key:
        slot = (slot + np.uint64(1)) & mask
    return slot


@kernel
def has_pair(pairs: Pairs, user: int, item: int) -> bool:
    """Whether the user has ever interacted with the item."""
    key = pair_key(user, item)
    return pairs.key[_find_slot(pairs.key, key)] == key


@kernel
def add_pair(pairs: Pairs, user: int, item: int) -> bool:
    """Adds the pair; True if it was new. The caller has made room (`grown_pairs`)."""
    key = pair_key(user, item)
    slot = _find_slot(pairs.key, key)
    if pairs.key[slot] == key:
        return False
    pairs.key[slot] = key
    pairs.dirty[slot // np.uint64(PAIRS_A_PAGE)] = 1
    pairs.size[0] += 1
    return True


@kernel
def remove_pair(pairs: Pairs, user: int, item: int) -> bool:
    """Takes the pair out; True if it was there. What follows it in its run of slots moves up, so no search is cut."""
    keys, mask = pairs.key, np.uint64(len(pairs.key) - 1)
    hole = _find_slot(keys, pair_key(user, item))
    if keys[hole] == 0:
        return False
    pairs.size[0] -= 1
    slot = hole
    while True:
        keys[hole] = 0
        pairs.dirty[hole // np.uint64(PAIRS_A_PAGE)] = 1
        while True:
            slot = (slot + np.uint64(1)) & mask
            if keys[slot] == 0:
                return True
            if (slot - _home(keys[slot], mask)) & mask >= (slot - hole) & mask:
                break
        keys[hole] = keys[slot]
        hole = slot


@kernel
def users_of(pairs: Pairs, wanted: U8, found: U8) -> None:
    """Marks in `found` [U] every user who has interacted with an item that `wanted` [I] marks."""
    for key in pairs.key:
        if key != 0 and wanted[key & np.uint64(0xFFFFFFFF)]:
            found[(key >> np.uint64(32)) - np.uint64(1)] = 1


@kernel
def count_users(pairs: Pairs, wanted: U8, count: I64) -> None:
    """Adds to `count` [I] how many users have interacted with each item that `wanted` [I] marks."""
    for key in pairs.key:
        if key != 0 and wanted[key & np.uint64(0xFFFFFFFF)]:
            count[key & np.uint64(0xFFFFFFFF)] += 1


@kernel
def list_users(pairs: Pairs, row: I32, begin: I64, out: I32) -> None:
    """Writes the users of each item z into `out` from begin[row[z]] on, in no order; row: [I] −1: not wanted.

    `begin` is moved on to the ends.
    """
    for key in pairs.key:
        if key != 0 and row[key & np.uint64(0xFFFFFFFF)] >= 0:
            r = row[key & np.uint64(0xFFFFFFFF)]
            out[begin[r]] = np.int32(key >> np.uint64(32)) - 1
            begin[r] += 1


@kernel
def rehash(old: U64, new: U64) -> None:
    """Puts every key of `old` into `new`, which is empty."""
    for key in old:
        if key != 0:
            new[_find_slot(new, key)] = key


def grown_pairs(pairs: Pairs, more: int) -> Pairs:
    """The same set with room for `more` pairs at a load of at most MAX_LOAD; amortised by doubling."""
    slots = len(pairs.key)
    while (int(pairs.size[0]) + more) > slots * MAX_LOAD:
        slots *= 2
    if slots == len(pairs.key):
        return pairs
    keys = np.zeros(slots, np.uint64)
    rehash(pairs.key, keys)
    return Pairs(keys, pairs.size, np.ones(slots // PAIRS_A_PAGE, np.uint8))
