"""What the pool missed is learned by the vectors of candidates, and by nothing else."""

import numpy as np
import pytest

from tgn.config import ModelConfig
from tgn.item_embedding import embed, new_taste
from tgn.model import Model

ITEMS, BEFORE = 200, 600
FEW = ModelConfig(
    ring=8, row=2, head=1, newest=1, every_item_below=0, retrieved=2, without=("content", "trained", "context"), seed=3
)  # a pool so small that it misses most items


def _taken() -> Model:
    """20 users, each in its own half of the catalogue; every event is learned from."""
    model, rng = Model(FEW), np.random.default_rng(1)
    model.users.encode([f"u{n}" for n in range(20)])
    model.items.encode([f"i{n}" for n in range(ITEMS)])
    user = rng.integers(0, 20, BEFORE)
    item = rng.integers(0, ITEMS // 2, BEFORE) * 2 + user % 2
    _take(model, user, item, np.arange(BEFORE) * 1_000)
    return model


def _take(model: Model, user: np.ndarray, item: np.ndarray, t: np.ndarray, weight: float = 1.0) -> None:
    n = len(user)
    ones = np.ones(n, np.uint8)
    model.take(
        user.astype(np.int32), item.astype(np.int32), t.astype(np.int64), np.full(n, weight, np.float32),
        k=5, score=ones, learn=ones, publish=0 * ones,
    )  # fmt: skip


def _missed(model: Model, user: int) -> int:
    """A known item that the pool of the user does not hold."""
    model.ranking(user, BEFORE * 1_000, 5)
    pool = model._scratch.pool
    outside = np.flatnonzero((pool.stamp[:ITEMS] != pool.query[0]) & (model.graph.items.first_time[:ITEMS] >= 0))
    return int(outside[0])


@pytest.mark.parametrize("user", range(4))
def test_an_item_that_the_pool_missed_comes_nearer_to_its_user(user: int) -> None:
    model = _taken()
    item, taste = _missed(model, user), new_taste(FEW, 1)
    embed(model.embeddings, model.graph.users, user, taste.user)
    before, history = model.embeddings.candidate.copy(), model.embeddings.history.copy()
    popularity, steps = model.popularity.weight.copy(), model.ranker.steps[0]
    _take(model, np.array([user]), np.array([item]), np.array([BEFORE * 1_000]))
    moved = model.embeddings.candidate - before
    assert moved[item] @ taste.user > 0
    others = np.flatnonzero(moved.any(axis=1))
    assert len(others) > 1  # some of the pool or of the drawn ones go the other way
    assert all(moved[z] @ taste.user < 0 for z in others if z != item)
    assert np.array_equal(model.embeddings.history, history)
    assert np.array_equal(model.popularity.weight, popularity)
    assert model.ranker.steps[0] == steps


def test_a_dislike_teaches_nothing() -> None:
    model = _taken()
    item, before = _missed(model, 0), model.embeddings.candidate.copy()
    _take(model, np.array([0]), np.array([item]), np.array([BEFORE * 1_000]), weight=-1.0)
    assert np.array_equal(model.embeddings.candidate, before)


def test_the_same_stream_draws_the_same() -> None:
    once, again = _taken(), _taken()
    assert once.embeddings.candidate.tobytes() == again.embeddings.candidate.tobytes()
    assert once.embeddings.dirty.tobytes() == again.embeddings.dirty.tobytes()
