"""An item's memory is the running mean of what its users had in mind."""

import numpy as np
import pytest

from tgn.config import ModelConfig
from tgn.features import FEATURES, MEMORY, REPEAT
from tgn.memory import grown_memories, memory_feature, new_memories, remember

CONFIG = ModelConfig(embedding=4)


def test_a_memory_is_the_mean_of_unit_messages_until_it_forgets() -> None:
    rng = np.random.default_rng(0)
    memories, expected = new_memories(CONFIG, 3), np.zeros(4)
    for n in range(1, 30):
        taste = rng.normal(0, 1, 4).astype(np.float32)
        remember(memories, 1, taste, 5)
        expected += (taste / np.linalg.norm(taste) - expected) / min(n, 5)
    np.testing.assert_allclose(memories.mean[1], expected, atol=1e-5)
    assert memories.norm[1] == pytest.approx(np.linalg.norm(expected), abs=1e-5)
    assert memories.messages.tolist() == [0, 29, 0]
    assert memories.dirty.tolist() == [0, 1, 0]


def test_the_feature_is_the_cosine_and_says_nothing_of_what_the_ring_holds() -> None:
    memories = new_memories(CONFIG, 3)
    remember(memories, 0, np.array([1, 0, 0, 0], np.float32), 50)
    remember(memories, 1, np.array([0, 1, 0, 0], np.float32), 50)
    x = np.zeros((FEATURES, 16), np.float32)
    x[REPEAT, 3] = 1
    memory_feature(memories, np.array([3, 4, 0, 0], np.float32), np.array([0, 1, 2, 0], np.int32), x, 4)
    assert x[MEMORY, :4].tolist() == pytest.approx([0.6, 0.8, 0, 0], abs=1e-5)


def test_memories_survive_growth() -> None:
    memories = new_memories(CONFIG, 2)
    remember(memories, 1, np.ones(4, np.float32), 50)
    grown = grown_memories(memories, CONFIG, 9)
    assert grown.mean[1].tolist() == memories.mean[1].tolist()
    assert grown.messages.tolist() == [0, 1, 0, 0, 0, 0, 0, 0, 0]
