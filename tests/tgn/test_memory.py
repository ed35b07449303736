"""A node's memory is a random projection of the walks that lead to it."""

import numpy as np

from tgn.config import DAY_MS, ModelConfig
from tgn.features import FEATURES, MEMORY_ITEMS, MEMORY_USERS
from tgn.graph import I32
from tgn.memory import LAYERS, Memories, grown_memory, memory_features, new_memory, recall, remember

WIDE = ModelConfig(memory=4096)  # wide enough for inner products to be about those of the walks
TAU = 90 * DAY_MS
SIDES = (5, 7)  # users, items


def memories_of(config: ModelConfig) -> Memories:
    return Memories(new_memory(config, SIDES[0]), new_memory(config, SIDES[1]))


def world(events: int = 40) -> tuple[I32, I32, np.ndarray]:
    rng = np.random.default_rng(1)
    user, item = (rng.integers(0, n, events).astype(np.int32) for n in SIDES)
    return user, item, np.cumsum(rng.integers(0, 5 * DAY_MS, events))


def observed(config: ModelConfig, user: I32, item: I32, t: np.ndarray) -> Memories:
    memories = memories_of(config)
    for n in range(len(user)):
        remember(memories, user[n], item[n], t[n], TAU, 0)
    return memories


def walks(user: I32, item: I32, t: np.ndarray) -> list[list[np.ndarray]]:
    """[side][layer] what is projected: [N, users + items] by the definition, in float64."""
    size = sum(SIDES)
    names = [np.eye(size)[: SIDES[0]], np.eye(size)[SIDES[0] :]]
    layers = [[np.zeros((n, size)) for _ in range(LAYERS)] for n in SIDES]
    last = [np.zeros(n) for n in SIDES]
    for u, z, now in zip(user, item, t, strict=True):
        before = [[names[s][n], *(layer[n].copy() for layer in layers[s])] for s, n in enumerate((u, z))]
        for side, node in enumerate((u, z)):
            share = np.exp(-(now - last[side][node]) / TAU)
            last[side][node] = now
            for layer in range(LAYERS):
                message = before[1 - side][layer]
                length = np.linalg.norm(message)
                layers[side][layer][node] = share * layers[side][layer][node] + (message / length if length else 0)
    return layers


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    lengths = np.outer(np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1))
    return np.divide(a @ b.T, lengths, out=np.zeros_like(lengths), where=lengths > 0)


def test_the_features_are_the_cosines_of_the_walks() -> None:
    user, item, t = world()
    memories, expected = observed(WIDE, user, item, t), walks(user, item, t)
    candidates = np.arange(SIDES[1], dtype=np.int32)
    same_users = cosines(expected[0][1], expected[1][2])
    same_items = cosines(expected[0][2], expected[1][1])
    for u in range(SIDES[0]):
        x = np.ones((FEATURES, 16), np.float32)
        memory_features(memories, u, candidates, x, SIDES[1], 2)
        assert x[[MEMORY_USERS, MEMORY_ITEMS], :2].tolist() == [[0, 0], [0, 0]]  # the ring's own
        np.testing.assert_allclose(x[MEMORY_USERS, 2 : SIDES[1]], same_users[u, 2:], atol=0.06)
        np.testing.assert_allclose(x[MEMORY_ITEMS, 2 : SIDES[1]], same_items[u, 2:], atol=0.06)
    assert np.abs(same_users).max() > 0.3  # so that the comparison says something


def test_the_kept_lengths_are_those_of_the_layers() -> None:
    memories = observed(ModelConfig(), *world())
    for memory in memories:
        np.testing.assert_allclose(memory.norm, np.linalg.norm(memory.layer, axis=2), rtol=1e-5)
        assert memory.dirty.all()


def test_what_a_user_took_back_leaves_the_users_own_memory() -> None:
    """Recalled from nothing it is empty; from the same interactions the first layer, made of names, is the same."""
    user, item, t = world()
    memories = observed(ModelConfig(), user, item, t)
    before = memories.user.layer.copy()
    changed = np.array([1, 1, 0, 0, 0], np.uint8)
    keep = user != 0
    recall(memories, changed, user[keep], item[keep], t[keep], TAU, 0)
    assert not memories.user.layer[0].any()
    assert memories.user.last_update[0] == 0
    np.testing.assert_allclose(memories.user.layer[1, 0], before[1, 0], atol=1e-5)
    assert memories.user.layer[1, 1].any()
    assert (memories.user.layer[2:] == before[2:]).all()


def test_memories_survive_growth() -> None:
    memories = observed(ModelConfig(), *world())
    grown = grown_memory(memories.item, ModelConfig(), 99)
    assert (grown.layer[: SIDES[1]] == memories.item.layer).all()
    assert not grown.layer[SIDES[1] :].any()


def test_names_are_distinct_and_balanced() -> None:
    """A first meeting copies the name: nearly orthogonal to others, of length 1."""
    config, nodes = ModelConfig(memory=1024), 64
    memories = Memories(new_memory(config, nodes), new_memory(config, nodes))
    for n in range(nodes):
        remember(memories, n, n, DAY_MS, TAU, 0)
    names = np.concatenate([memories.user.layer[:, 0], memories.item.layer[:, 0]])
    inner = names @ names.T
    np.testing.assert_allclose(np.diag(inner), 1, rtol=1e-5)
    assert np.abs(inner - np.diag(np.diag(inner))).max() < 0.2
