"""The memory of a node: a random projection of the temporal walks that lead to it.

Layer 0 of a node is its name, a random vector of signs of length 1. At an interaction of user u with item z at time t
either side takes the other's layer below as a message, as it was before,

    m_u^l ← e^{−Δt/τ} m_u^l + m_z^{l−1} / |m_z^{l−1}|,     l = 1, 2, 3,        and the same for z,

so that layer l is a sum of the names at the ends of the walks of l steps, newer steps counting more. These are the
temporal walk matrices of TPNet (Lu et al. 2024, "Improving Temporal Link Prediction via Temporal Walk Matrix
Projection"), and inner products of random projections are about those of what was projected (Johnson & Lindenstrauss
1984). Two cosines are features of a candidate: cos(m_u², m_z³) says whether the same users lead to both,
cos(m_u³, m_z²) whether the same items do. It is the memory module of TGN (Rossi et al. 2020) with nothing in it to be
learned: it goes on where learning is frozen, a node that is minutes old has one, and it is state in the checkpoint.
"""

from typing import NamedTuple

import numpy as np

from tgn.compiling.aligned import zeros
from tgn.config import ModelConfig
from tgn.features import MEMORY_ITEMS, MEMORY_USERS
from tgn.graph import F32, I32, I64, U8, with_room
from tgn.kernel import decay, flushed, kernel

LAYERS = 3
FIRST, SECOND, THIRD = range(LAYERS)  # m¹, m², m³
SMALL = np.float32(1e-6)
USER, ITEM = 0, 1  # which side's names


class Memory(NamedTuple):
    """One row a node of one side. D: a multiple of 16."""

    layer: F32  # [N, LAYERS, D] m¹, m², m³ as of `last_update`
    norm: F32  # [N, LAYERS]
    last_update: I64  # [N] epoch ms
    dirty: U8  # [N] 1: changed since the last checkpoint


class Memories(NamedTuple):
    """Those of users and items."""

    user: Memory
    item: Memory


def new_memory(config: ModelConfig, nodes: int) -> Memory:
    """Room for so many nodes, none of which has met another yet."""
    return Memory(
        zeros((nodes, LAYERS, config.memory), np.float32),
        np.zeros((nodes, LAYERS), np.float32),
        np.zeros(nodes, np.int64),
        np.zeros(nodes, np.uint8),
    )


def grown_memory(memory: Memory, config: ModelConfig, nodes: int) -> Memory:
    """The same with room for more nodes."""
    return with_room(memory, new_memory(config, 1), nodes)


@kernel
def remember(memories: Memories, user: int, item: int, t: int, scale_ms: float, seed: int) -> None:
    """User and item take each other's message at time t; upper layers first, since they need the lower as it was."""
    users, items = memories.user, memories.item
    user_share, item_share = _age(users, user, t, scale_ms), _age(items, item, t, scale_ms)
    for layer in range(LAYERS - 1, 0, -1):
        _take(users, user, layer, user_share, items.layer[item, layer - 1], items.norm[item, layer - 1])
        _take(items, item, layer, item_share, users.layer[user, layer - 1], users.norm[user, layer - 1])
    _take_name(users, user, user_share, ITEM, item, seed)
    _take_name(items, item, item_share, USER, user, seed)


@kernel
def recall(memories: Memories, changed: U8, user: I32, item: I32, t: I64, scale_ms: float, seed: int) -> None:
    """Makes the memories of `changed` users [U] anew from their interactions and their items' memories as they are."""
    users, items = memories.user, memories.item
    for u in range(len(changed)):
        if changed[u]:
            users.layer[u], users.norm[u], users.last_update[u], users.dirty[u] = 0, 0, 0, 1
    for n in range(len(user)):
        u, z = user[n], item[n]
        if changed[u]:
            share = _age(users, u, t[n], scale_ms)
            for layer in range(LAYERS - 1, 0, -1):
                _take(users, u, layer, share, items.layer[z, layer - 1], items.norm[z, layer - 1])
            _take_name(users, u, share, ITEM, z, seed)


@kernel
def memory_features(memories: Memories, user: int, items: I32, x: F32, n: int, held: int) -> None:
    """Writes the cosines of n candidates into x [F, C]; 0 for the first `held`, which the user's ring holds."""
    second, third = memories.user.layer[user, SECOND], memories.user.layer[user, THIRD]
    second_unit = np.float32(1) / (memories.user.norm[user, SECOND] + SMALL)
    third_unit = np.float32(1) / (memories.user.norm[user, THIRD] + SMALL)
    for c in range(held):
        x[MEMORY_USERS, c] = 0
        x[MEMORY_ITEMS, c] = 0
    for c in range(held, n):
        z = items[c]
        item_second, item_third = memories.item.layer[z, SECOND], memories.item.layer[z, THIRD]
        same_users, same_items = np.float32(0), np.float32(0)
        for d in range(len(second)):
            same_users += second[d] * item_third[d]
            same_items += third[d] * item_second[d]
        x[MEMORY_USERS, c] = same_users * second_unit / (memories.item.norm[z, THIRD] + SMALL)
        x[MEMORY_ITEMS, c] = same_items * third_unit / (memories.item.norm[z, SECOND] + SMALL)


@kernel
def _age(memory: Memory, node: int, t: int, scale_ms: float) -> float:
    """What is left of a node's memory at time t, which becomes its last update."""
    share = np.float32(decay(t - memory.last_update[node], np.float64(scale_ms)))
    memory.last_update[node] = max(t, memory.last_update[node])
    memory.dirty[node] = 1
    return share


@kernel
def _take(memory: Memory, node: int, layer: int, share: float, message: F32, norm: float) -> None:
    row, square = memory.layer[node, layer], np.float32(0)
    unit = np.float32(1) / norm if norm > SMALL else np.float32(0)
    for d in range(len(row)):
        row[d] = flushed(share * row[d] + unit * message[d])
        square += row[d] * row[d]
    memory.norm[node, layer] = np.sqrt(square)


@kernel
def _take_name(memory: Memory, node: int, share: float, side: int, other: int, seed: int) -> None:
    """The message of layer 0, the other's name: signs from a hash (splitmix64) of seed, side and index."""
    row, square = memory.layer[node, FIRST], np.float32(0)
    unit = np.float32(1) / np.sqrt(np.float32(len(row)))
    for first in range(0, len(row), 16):
        z = np.uint64(2 * other + side) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed + first)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
        for d in range(16):
            sign = unit if (z >> np.uint64(d)) & np.uint64(1) else -unit
            row[first + d] = flushed(share * row[first + d] + sign)
            square += row[first + d] * row[first + d]
    memory.norm[node, FIRST] = np.sqrt(square)
