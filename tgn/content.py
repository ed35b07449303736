"""What an item is, apart from who took it: a vector of its attributes, from its record of the items topic.

Two items that are alike have vectors that point the same way. Two cosines are features of a candidate: with the user's
last item, which says how near the next place is to this one, and with the sum over the user's ring, nearer interactions
counting more, which says how much of the user's taste it is. Nothing is learned here, so an item nobody has touched has
both from its record on, and they go on where learning is frozen.
"""

from typing import NamedTuple

import numpy as np

from tgn.features import CONTENT
from tgn.graph import F32, I8, I32, I64, U8, Users, copy_into
from tgn.kernel import kernel

SIZE = 64  # D: one cache line
SCALE = 256  # a component of 1 is stored as this; 127 is the largest, and a component of .5 has no likes
SMALL = np.float32(1e-6)


class Content(NamedTuple):
    """One row an item."""

    vector: I8  # [I, D] SCALE times a vector of length 1; 0: nothing is known
    described: I64  # [1] 0: no item has one
    dirty: U8  # [I] 1: changed since the last checkpoint


def new_content(items: int) -> Content:
    """Room for so many items, of which nothing is known."""
    return Content(np.zeros((items, SIZE), np.int8), np.zeros(1, np.int64), np.zeros(items, np.uint8))


def grown_content(content: Content, items: int) -> Content:
    """The same with room for more items."""
    return copy_into(new_content(items), content)


def describe(content: Content, item: int, vector: F32) -> None:
    """Stores the vector [D] of an item, of length 1 or 0."""
    content.vector[item] = np.clip(np.rint(vector * SCALE), -127, 127)
    content.dirty[item] = 1
    content.described[0] |= int(content.vector[item].any())


@kernel
def content_features(content: Content, users: Users, user: int, items: I32, x: F32, n: int, taste: F32) -> None:
    """Writes the two cosines of n candidates into x [F, C]; taste [D] is scratch."""
    ring, count = users.ring_item.shape[1], users.events[user]
    taste[:] = 0
    for back in range(min(count, ring)):
        place = (count - 1 - back) % ring
        if users.ring_weight[user, place] > 0:
            row, weight = content.vector[users.ring_item[user, place]], np.float32(1) / np.sqrt(np.float32(1 + back))
            for d in range(SIZE):
                taste[d] += weight * np.float32(row[d])
    square = np.float32(0)
    for d in range(SIZE):
        square += taste[d] * taste[d]
    unit = np.float32(1) / (np.float32(SCALE) * (np.sqrt(square) + SMALL))
    last = content.vector[max(users.ring_item[user, (count - 1) % ring], 0)]
    last_unit = np.float32(1 / SCALE**2) if count > 0 else np.float32(0)
    for c in range(n):
        row, near, alike = content.vector[items[c]], np.int32(0), np.float32(0)
        for d in range(SIZE):
            near += np.int32(last[d]) * np.int32(row[d])
            alike += taste[d] * np.float32(row[d])
        x[CONTENT, c] = np.float32(near) * last_unit
        x[CONTENT + 1, c] = alike * unit
