"""The memory of an item: what those who chose it lately had in mind, as a vector that every interaction moves.

At each interaction of user u with item z the item takes the message e(u)/|e(u)|, the user's embedding just before it,
into a running mean over its last interactions,

    m(z) ← m(z) + (e(u)/|e(u)| − m(z)) / min(n(z), N),

and a candidate's feature is cos(e(u), m(z)). It is the memory module of TGN (Rossi et al. 2020) with a fixed updater:
nothing in it is learned but the embedding that it is made of, so it goes on where learning is frozen, an item that is
minutes old already has one, and it is state in the checkpoint like any count.
"""

from typing import NamedTuple

import numpy as np

from tgn.config import ModelConfig
from tgn.features import MEMORY, REPEAT
from tgn.graph import F32, I32, U8, copy_into
from tgn.kernel import kernel

SMALL = np.float32(1e-6)


class Memories(NamedTuple):
    """One row an item."""

    mean: F32  # [I, D] m(z)
    norm: F32  # [I] |m(z)|
    messages: I32  # [I] n(z)
    dirty: U8  # [I] 1: changed since the last checkpoint


def new_memories(config: ModelConfig, items: int) -> Memories:
    """Room for so many items, none of which has a memory yet."""
    return Memories(
        np.zeros((items, config.embedding), np.float32),
        np.zeros(items, np.float32),
        np.zeros(items, np.int32),
        np.zeros(items, np.uint8),
    )


def grown_memories(memories: Memories, config: ModelConfig, items: int) -> Memories:
    """The same memories with room for more items."""
    return copy_into(new_memories(config, items), memories)


@kernel
def remember(memories: Memories, item: int, taste: F32, longest: int) -> None:
    """The item takes the message of a user with embedding `taste` [D]; `longest`: N."""
    memories.messages[item] += 1
    memories.dirty[item] = 1
    share = np.float32(1) / np.float32(min(memories.messages[item], longest))
    unit = np.float32(1) / (_norm(taste) + SMALL)
    mean = memories.mean[item]
    for d in range(len(taste)):
        mean[d] += share * (unit * taste[d] - mean[d])
    memories.norm[item] = _norm(mean)


@kernel
def memory_feature(memories: Memories, taste: F32, items: I32, x: F32, n: int) -> None:
    """Writes cos(taste, m(z)) of n candidates into x [F, C]; 0 for what the ring holds."""
    unit = np.float32(1) / (_norm(taste) + SMALL)
    for c in range(n):
        mean, product = memories.mean[items[c]], np.float32(0)
        for d in range(len(taste)):
            product += taste[d] * mean[d]
        cosine = product * unit / (memories.norm[items[c]] + SMALL)
        x[MEMORY, c] = cosine if x[REPEAT, c] == 0 else np.float32(0)


@kernel
def _norm(vector: F32) -> float:
    total = np.float32(0)
    for d in range(len(vector)):
        total += vector[d] * vector[d]
    return np.sqrt(total)
