"""Retrieval: the items nearest to a user's embedding, at a cost that does not grow with the catalogue.

Scanning is exact, among the A items that were touched last (CLOCK replacement: an item that was touched since the hand
last passed stays). What nobody has touched for so long has no embedding worth retrieving, and is still found through
the rows and the newest items. The vectors stand in blocks of 128 items, [A / 128, D, 128], so that the inner loop runs
over items. To the inner product comes what the item is worth by popularity at the longest scale,
w·(log p + (t_last − t₀)/τ), which does not change between touches.
"""

from typing import NamedTuple

import numpy as np

from tgn.compiling.aligned import zeros
from tgn.config import ModelConfig
from tgn.graph import F32, I32, I64, U8, Items
from tgn.item_embedding import Embeddings, PopularityWeights
from tgn.kernel import kernel

LANES, BINS = 128, 1024
HAND, USED, ORIGIN = 0, 1, 2
"""Cells of `Active.hand`: the next slot to give away, slots in use, t₀."""


class Active(NamedTuple):
    """The items that are scanned. `vector`, `standing` and `slot_of` follow from the rest and the items."""

    item: I32  # [A] −1: free
    touched: U8  # [A] since the hand passed
    hand: I64  # [HAND, USED, ORIGIN]
    vector: F32  # [A / 128, D, 128] their candidate vectors
    standing: F32  # [A]
    score: F32  # [A] scratch, like `bins`
    bins: I32  # [BINS]
    slot_of: I32  # [I] −1: not active


def new_active(config: ModelConfig, items: int) -> Active:
    """No item is active."""
    return Active(
        np.full(config.active, -1, np.int32),
        np.zeros(config.active, np.uint8),
        np.zeros(3, np.int64),
        zeros((config.active // LANES, config.embedding, LANES), np.float32),
        zeros(config.active, np.float32),
        zeros(config.active, np.float32),
        np.zeros(BINS, np.int32),
        np.full(items, -1, np.int32),
    )


def grown_active(active: Active, items: int) -> Active:
    """The same with room for more items."""
    slot_of = np.full(items, -1, np.int32)
    slot_of[: len(active.slot_of)] = active.slot_of
    return active._replace(slot_of=slot_of)


@kernel
def touch(active: Active, items: Items, embeddings: Embeddings, item: int, scale_ms: float) -> None:
    """Makes an item active, or keeps it so; after it was observed."""
    if active.hand[USED] == 0:
        active.hand[ORIGIN] = items.last_time[item]
    slot = active.slot_of[item]
    if slot < 0:
        slot = _free_slot(active)
        active.item[slot] = item
        active.slot_of[item] = slot
        refresh_vector(active, embeddings, item)
    active.touched[slot] = 1
    refresh_standing(active, items, item, scale_ms)


@kernel
def _free_slot(active: Active) -> int:
    if active.hand[USED] < len(active.item):
        active.hand[USED] += 1
        return active.hand[USED] - 1
    slot = active.hand[HAND]
    while active.touched[slot]:
        active.touched[slot] = 0
        slot = (slot + 1) % len(active.item)
    active.hand[HAND] = (slot + 1) % len(active.item)
    active.slot_of[active.item[slot]] = -1
    return slot


@kernel
def refresh_vector(active: Active, embeddings: Embeddings, item: int) -> None:
    """Copies the item's candidate vector into its slot, if it has one."""
    slot = active.slot_of[item]
    if slot >= 0:
        block, lane, row = active.vector[slot // LANES], slot % LANES, embeddings.candidate[item]
        for d in range(len(row)):
            block[d, lane] = row[d]


@kernel
def refresh_standing(active: Active, items: Items, item: int, scale_ms: float) -> None:
    """What the item of a slot is worth by popularity at the longest scale."""
    longest = items.log_popularity.shape[1] - 1
    elapsed = np.float32((items.last_time[item] - active.hand[ORIGIN]) / scale_ms)
    active.standing[active.slot_of[item]] = items.log_popularity[item, longest] + elapsed


@kernel
def restore(active: Active, items: Items, embeddings: Embeddings, scale_ms: float) -> None:
    """Fills what follows from `item`, `touched`, `hand`, after a checkpoint was loaded."""
    for slot in range(active.hand[USED]):
        active.slot_of[active.item[slot]] = slot
        refresh_vector(active, embeddings, active.item[slot])
        refresh_standing(active, items, active.item[slot], scale_ms)


@kernel
def scan(active: Active, popularity: PopularityWeights, user: F32) -> None:
    """Scores the active items for a user's embedding [D] into `score`."""
    used = active.hand[USED]
    weight = np.float32(0)
    for scale in range(2, len(popularity.weight)):  # scales of a day and more
        weight += popularity.weight[scale]
    weight = max(weight, np.float32(0)) * np.float32(0.25)  # as `tgn.features` scales popularity
    for block in range((used + LANES - 1) // LANES):
        vectors = active.vector[block]
        score = active.score[block * LANES : (block + 1) * LANES]
        for lane in range(LANES):
            score[lane] = weight * active.standing[block * LANES + lane]
        for d in range(len(user)):
            u, row = user[d], vectors[d]
            for lane in range(LANES):
                score[lane] += u * row[lane]


@kernel
def any_active(active: Active, key: int, nth: int) -> int:
    """An active item, each as likely, by a hash (splitmix64) of key and nth alone, so that a replay draws the same."""
    z = np.uint64(key + 1) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(nth) * np.uint64(0xD1342543DE82EF95)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return active.item[np.int64(z >> np.uint64(33)) % active.hand[USED]]


@kernel
def best(active: Active, out: I32, k: int) -> int:
    """Writes the k best-scored active items into `out`, in no order, and returns how many.

    A histogram of the scores tells from which bin on to take them; of the last bin, the first slots. Two passes
    without a branch that is hard to predict, where a heap would reorder itself hundreds of times.
    """
    used, score, count = active.hand[USED], active.score, active.bins
    low, high = np.float32(np.inf), np.float32(-np.inf)
    for slot in range(used):
        low = min(low, score[slot])
        high = max(high, score[slot])
    scale = np.float32(BINS - 1) / max(high - low, np.float32(1e-6))
    count[:] = 0
    for slot in range(used):
        count[np.int32((score[slot] - low) * scale)] += 1
    edge, above = BINS - 1, 0
    while edge > 0 and above + count[edge] < k:
        above += count[edge]
        edge -= 1
    n, room = 0, k - above
    for slot in range(used):
        bin_ = np.int32((score[slot] - low) * scale)
        if bin_ > edge or (bin_ == edge and room > 0):
            out[n] = active.item[slot]
            n += 1
            if bin_ == edge:
                room -= 1
    return n
