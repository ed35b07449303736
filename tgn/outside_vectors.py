"""Item vectors that come from outside the stream: of an item's record, and of a trained graph model.

`content`: of the attributes of the item's record (`streamer.features.item_content`), known from the record on.
`trained`: of a version of embeddings (`freshet train`), known from the switch to it on; there users have one too.

Two items that are alike have vectors that point the same way. Two cosines are features of a candidate: with the user's
last item, which says how near the next place is to this one, and with the sum over the user's ring, nearer interactions
counting more, which says how much of the user's taste it is. So both are as fresh as the ring, and a user whom the
training did not know has them too. Nothing is learned here, so an item nobody has touched has both, and they go on
where learning is frozen. With a trained version the cosine of the user's own vector is a third.

The items of the catalogue that nobody has touched yet and that are nearest to a user's taste are candidates: no other
source can name them, but for the few newest.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tgn.compiling.aligned import zeros
from tgn.compiling.growing import lengthened
from tgn.config import ModelConfig
from tgn.features import CONTENT_LAST, CONTENT_RING, TRAINED_LAST, TRAINED_RING, TRAINED_USER
from tgn.graph import F32, I8, I32, I64, LISTED, U8, Items, Users
from tgn.kernel import kernel

SIZE = 64  # D: one cache line
SCALE = 256  # a component of 1 is stored as this; 127 is the largest, and a component of .5 has no likes
SMALL = np.float32(1e-6)


class Vectors(NamedTuple):
    """One row a node."""

    vector: I8  # [N, D] SCALE times a vector of length 1; 0: nothing is known
    known: I64  # [1] 0: no node has one
    dirty: U8  # [N] 1: changed since the last checkpoint


class Trained(NamedTuple):
    """The vectors of a trained version. There is room for none before the first one."""

    user: Vectors
    item: Vectors


class Waiting(NamedTuple):
    """The items that were introduced last, place = total mod size; those of them that nobody has touched yet wait."""

    item: I32  # [W]
    total: I64  # [1]


def new_waiting(config: ModelConfig) -> Waiting:
    """Nobody waits."""
    return Waiting(np.full(config.waiting, -1, np.int32), np.zeros(1, np.int64))


def wait(waiting: Waiting, item: int) -> None:
    """Notes an item that was just introduced."""
    waiting.item[waiting.total[0] % len(waiting.item)] = item
    waiting.total[0] += 1


def new_vectors(nodes: int) -> Vectors:
    """Room for so many nodes, of which nothing is known."""
    return Vectors(zeros((nodes, SIZE), np.int8), np.zeros(1, np.int64), np.zeros(nodes, np.uint8))


def grown_vectors(vectors: Vectors, nodes: int) -> Vectors:
    """The same with room for more nodes."""
    return vectors._replace(vector=lengthened(vectors.vector, nodes), dirty=lengthened(vectors.dirty, nodes))


def describe(vectors: Vectors, nodes: int | Sequence[int], vector: F32) -> None:
    """Stores the vectors [N, D] of nodes [N], or [D] of one, each of length 1 or 0."""
    vectors.vector[nodes] = np.clip(np.rint(vector * SCALE), -127, 127)
    vectors.dirty[nodes] = 1
    vectors.known[0] |= int(vector.any())


@kernel
def sum_taste(vectors: Vectors, users: Users, user: int, out: F32) -> bool:
    """Writes the sum over what the user liked of the ring into out [D]; False where it is 0."""
    ring, count = users.ring_item.shape[1], users.events[user]
    out[:] = 0
    for back in range(min(count, ring)):
        place = (count - 1 - back) % ring
        if users.ring_weight[user, place] > 0:
            row, weight = vectors.vector[users.ring_item[user, place]], np.float32(1) / np.sqrt(np.float32(1 + back))
            for d in range(SIZE):
                out[d] += weight * np.float32(row[d])
    some = np.float32(0)
    for d in range(SIZE):
        some += abs(out[d])
    return bool(some > 0)


@kernel
def nearest_waiting(waiting: Waiting, content: Vectors, items: Items, taste: F32, out: I32, score: F32) -> int:
    """Writes the waiting items nearest to taste [D] into out [N], best first; returns how many. score [N]: scratch."""
    found = 0
    for w in range(min(waiting.total[0], len(waiting.item))):
        item = waiting.item[w]
        if items.events[item] > 0 or items.alive[item] != LISTED:
            continue
        row, near = content.vector[item], np.float32(0)
        for d in range(SIZE):
            near += taste[d] * np.float32(row[d])
        place = found if found < len(out) else len(out) - 1
        if found == len(out) and near <= score[place]:
            continue
        found = min(found + 1, len(out))
        while place > 0 and score[place - 1] < near:
            score[place], out[place] = score[place - 1], out[place - 1]
            place -= 1
        score[place], out[place] = near, item
    return found


@kernel
def content_features(content: Vectors, users: Users, user: int, items: I32, x: F32, n: int, taste: F32) -> None:
    """Writes the two cosines of n candidates into x [F, C]; taste [D] of `sum_taste`."""
    cosines(content, users, user, items, x[CONTENT_LAST], x[CONTENT_RING], n, taste)


@kernel
def trained_features(trained: Trained, users: Users, user: int, items: I32, x: F32, n: int, taste: F32) -> None:
    """Writes the two cosines, and that of the user's own vector, likewise."""
    cosines(trained.item, users, user, items, x[TRAINED_LAST], x[TRAINED_RING], n, taste)
    own = trained.user.vector[user]
    for c in range(n):
        row, product = trained.item.vector[items[c]], np.int32(0)
        for d in range(SIZE):
            product += np.int32(own[d]) * np.int32(row[d])
        x[TRAINED_USER, c] = np.float32(product) * np.float32(1 / SCALE**2)


@kernel
def cosines(
    vectors: Vectors, users: Users, user: int, items: I32, like_last: F32, like_ring: F32, n: int, taste: F32
) -> None:
    """Writes the cosines of n candidates with the user's last item [C], and with the taste [C]."""
    ring, count = users.ring_item.shape[1], users.events[user]
    square = np.float32(0)
    for d in range(SIZE):
        square += taste[d] * taste[d]
    unit = np.float32(1) / (np.float32(SCALE) * (np.sqrt(square) + SMALL))
    last = vectors.vector[max(users.ring_item[user, (count - 1) % ring], 0)]
    last_unit = np.float32(1 / SCALE**2) if count > 0 else np.float32(0)
    for c in range(n):
        row, near, alike = vectors.vector[items[c]], np.int32(0), np.float32(0)
        for d in range(SIZE):
            near += np.int32(last[d]) * np.int32(row[d])
            alike += taste[d] * np.float32(row[d])
        like_last[c] = np.float32(near) * last_unit
        like_ring[c] = alike * unit
