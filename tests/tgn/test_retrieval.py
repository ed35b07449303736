"""Retrieval finds what a scan of everything would find, and keeps what is alive when there is more than fits."""

import numpy as np

from tgn.config import ModelConfig
from tgn.graph import new_graph, no_contexts
from tgn.item_embedding import new_embeddings, new_popularity_weights
from tgn.model import Model
from tgn.observe import observe
from tgn.retrieval import LANES, USED, Active, best, new_active, refresh_vector, scan, touch
from tgn.serialization import all_pages, load_pages

CONFIG = ModelConfig(active=2 * LANES, embedding=8)
LONGEST = CONFIG.popularity_scales_ms[-1]


def _touched(items: list[int]) -> tuple[Active, np.ndarray]:
    graph, embeddings, active = new_graph(CONFIG), new_embeddings(CONFIG, 1024), new_active(CONFIG, 1024)
    scales, row_scales = (np.array(s, np.float64) for s in (CONFIG.popularity_scales_ms, CONFIG.row_scales_ms))
    for n, item in enumerate(items):
        observe(graph, 0, item, n * 1000, 1.0, no_contexts(1)[0], 1, 0, scales, row_scales)
        touch(active, graph.items, embeddings, item, LONGEST)
    return active, embeddings.candidate


def test_the_nearest_are_those_of_an_exact_scan() -> None:
    active, vectors = _touched(list(range(200)))
    rng = np.random.default_rng(0)
    for k in (1, 10, 100):
        user = rng.normal(0, 1, 8).astype(np.float32)
        out = np.zeros(k, np.int32)
        scan(active, new_popularity_weights(CONFIG), user)
        assert best(active, out, k) == k
        exact = np.sort(vectors[:200] @ user)[-k:]
        assert np.abs(np.sort(vectors[out] @ user) - exact).max() < 2e-3 * np.ptp(vectors[:200] @ user)
        assert len(set(out.tolist())) == k


def test_fewer_than_k_are_all_found() -> None:
    active, _ = _touched([5, 7, 7, 9])
    out = np.zeros(100, np.int32)
    scan(active, new_popularity_weights(CONFIG), np.ones(8, np.float32))
    assert sorted(out[: best(active, out, 100)].tolist()) == [5, 7, 9]


def test_popularity_breaks_in() -> None:
    """With its learned weight, an item that was taken often goes before its equals."""
    active, _ = _touched([*range(50), *[3] * 20])
    popularity, out = new_popularity_weights(CONFIG), np.zeros(1, np.int32)
    popularity.weight[-1] = 4
    scan(active, popularity, np.zeros(8, np.float32))
    best(active, out, 1)
    assert out[0] == 3


def test_what_is_touched_again_stays() -> None:
    """Twice as many items as there are slots, one of them touched all the time."""
    size = 2 * LANES
    active, _ = _touched([item for n in range(2 * size) for item in (n, 0)])
    held = set(active.item.tolist())
    assert len(held) == size
    assert 0 in held
    assert 2 * size - 1 in held
    assert all(active.slot_of[item] >= 0 for item in held)
    assert sum(active.slot_of >= 0) == size


def test_slots_follow_what_is_learned_and_come_back_from_a_checkpoint() -> None:
    model = Model(ModelConfig(active=2 * LANES, every_item_below=10))
    rng, n = np.random.default_rng(0), 3_000
    user = np.array(model.users.encode([str(u) for u in rng.integers(0, 50, n)]), np.int32)
    item = np.array(model.items.encode([str(i) for i in rng.zipf(1.3, n) % 600]), np.int32)
    ones, none = np.ones(n, np.uint8), np.zeros(n, np.uint8)
    model.take(user, item, np.arange(n, dtype=np.int64) * 60_000, ones.astype(np.float32), k=5,
               score=none, learn=ones, publish=none)  # fmt: skip
    slots = np.arange(model.active.hand[USED])
    held = model.active.item[slots]
    vectors = model.active.vector[slots // LANES, :, slots % LANES]
    assert np.array_equal(vectors, model.embeddings.candidate[held])
    restored = Model(model.config)
    load_pages(restored, all_pages(model).items())
    for name in ("item", "touched", "hand", "vector", "standing"):
        assert np.array_equal(getattr(restored.active, name), getattr(model.active, name)), name


def test_only_active_items_are_refreshed() -> None:
    active, vectors = _touched([1, 2])
    before = active.vector.copy()
    refresh_vector(active, new_embeddings(ModelConfig(embedding=8, seed=9), 1024), 500)
    assert np.array_equal(active.vector, before)
    assert np.array_equal(active.vector[0, :, 1], vectors[2])
