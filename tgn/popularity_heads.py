"""The most popular items per time scale, kept exactly while items are touched, without ever scanning the catalogue."""

import numpy as np

from tgn.graph import Heads
from tgn.kernel import kernel


@kernel
def lift(heads: Heads, scale: int, item: int, key: float) -> None:
    """Tells the head of one scale that `item`'s key rose to `key`. O(N), vectorised."""
    ids, keys = heads.item[scale], heads.key[scale]  # [N], [N]
    size = heads.size[scale]
    place = -1
    for n in range(len(ids)):
        if ids[n] == item:
            place = n
    if place < 0 and size < len(ids):
        place = size
        heads.size[scale] = size + 1
    if place < 0:
        lowest = np.argmin(keys)
        if keys[lowest] >= key:
            return
        place = lowest
    ids[place] = item
    keys[place] = key


@kernel
def drop(heads: Heads, scale: int, item: int) -> None:
    """Takes a deleted item out of the head of one scale."""
    ids, keys = heads.item[scale], heads.key[scale]
    for n in range(heads.size[scale]):
        if ids[n] == item:
            last = heads.size[scale] - 1
            ids[n], keys[n] = ids[last], keys[last]
            ids[last], keys[last] = -1, -np.inf
            heads.size[scale] = last
            return
