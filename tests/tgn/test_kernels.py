"""Each kernel against a few lines of plain Python that say the same thing slowly."""

import copy
import importlib
import math
import pkgutil
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import grimp
import llvmlite
import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba.core.dispatcher import Dispatcher

import tgn
from tgn import kernel
from tgn.config import DAY_MS, HOUR_MS, ModelConfig
from tgn.features import FEATURES, RING_FEATURES, USER_FEATURES
from tgn.graph import new_graph, no_contexts
from tgn.item_embedding import (
    embed,
    embedding_features,
    grown_embeddings,
    learn_embedding,
    new_embeddings,
    new_popularity_weights,
    new_taste,
)
from tgn.kernel import decay, fast_log
from tgn.model import Model
from tgn.node_index import NodeIndex, name_before
from tgn.observe import observe
from tgn.popularity_heads import drop, lift
from tgn.ranker import Activations, Ranker, forward, learn, new_activations, new_ranker, softmax
from tgn.seen_pairs import add_pair, grown_pairs, has_pair
from tgn.successors import add_successor
from tgn.top_k import top_k

CONFIG = ModelConfig(ring=4, row=4, window=3, popularity_scales_ms=(DAY_MS,) * 5, row_scales_ms=(DAY_MS, 30 * DAY_MS))
NO_CONTEXT = no_contexts(1)[0]
SCALES = np.array(CONFIG.popularity_scales_ms, np.float64)
ROW_SCALES = np.array(CONFIG.row_scales_ms, np.float64)


@given(st.floats(1e-30, 1e30))
def test_fast_log_is_near_the_logarithm(x: float) -> None:
    assert fast_log(np.float32(x)) == pytest.approx(math.log(x), abs=2e-3)


def test_decay_never_grows() -> None:
    assert decay(0, 10.0) == decay(-5, 10.0) == 1.0
    assert decay(10, 10.0) == pytest.approx(math.exp(-1))


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), max_size=300))
def test_pairs_are_a_set(added: list[tuple[int, int]]) -> None:
    pairs = new_graph(CONFIG).pairs
    expected: set[tuple[int, int]] = set()
    for n, (user, item) in enumerate(added):
        assert add_pair(pairs, user, item) == ((user, item) not in expected)
        expected.add((user, item))
        if n % 100 == 99:
            pairs = grown_pairs(pairs, len(pairs.key))  # twice as large
    assert {(u, i) for u in range(51) for i in range(51) if has_pair(pairs, u, i)} == expected
    assert pairs.size[0] == len(expected)


@settings(deadline=None, max_examples=30)
@given(st.permutations([(i % 4, t * DAY_MS) for i, t in enumerate(range(12))]))
def test_rows_hold_decayed_sums_in_whatever_order_they_came(events: list[tuple[int, int]]) -> None:
    rows = new_graph(CONFIG).co
    for successor, t in events:
        add_successor(rows, 0, successor, t, 1.0, ROW_SCALES, True)
    latest = 11 * DAY_MS
    for s, scale in enumerate(CONFIG.row_scales_ms):
        factor = math.exp((int(rows.time[0]) - latest) / scale)
        sums = {i: sum(math.exp((t - latest) / scale) for j, t in events if i == j) for i in range(4)}
        held = {int(i): float(w) * factor for i, w in zip(rows.item[0], rows.weight[0, s], strict=True)}
        assert held == pytest.approx(sums, rel=1e-5)
        assert rows.total[0, s] * factor == pytest.approx(sum(sums.values()), rel=1e-5)


def test_a_row_moves_its_reference_before_it_overflows() -> None:
    rows = new_graph(CONFIG).co
    for n in range(400):
        add_successor(rows, 0, n % 2, n * DAY_MS, 1.0, ROW_SCALES, True)
    latest = 399 * DAY_MS
    for s, scale in enumerate(CONFIG.row_scales_ms):
        factor = math.exp((int(rows.time[0]) - latest) / scale)
        for i in range(2):
            expected = sum(math.exp((n * DAY_MS - latest) / scale) for n in range(400) if n % 2 == i)
            assert float(rows.weight[0, s, i]) * factor == pytest.approx(expected, rel=1e-4)


def test_a_full_row_drops_its_least_weight() -> None:
    rows = new_graph(CONFIG).transitions
    for successor, weight in ((1, 5.0), (2, 1.0), (3, 4.0), (4, 3.0), (5, 2.0)):
        add_successor(rows, 0, successor, 0, weight, ROW_SCALES, True)
    assert sorted(rows.item[0].tolist()) == [1, 3, 4, 5]
    assert rows.total[0, 0] == 15.0  # evicted weight still counts as evidence about the item


@pytest.mark.parametrize(("apart_ms", "together"), [(0, 1.0), (HOUR_MS, 1.0), (HOUR_MS + 1, 0.0), (DAY_MS, 0.0)])
def test_the_first_of_several_scales_counts_one_sitting_alone(apart_ms: int, together: float) -> None:
    graph = new_graph(CONFIG)
    for item, t in ((1, 0), (2, apart_ms)):
        observe(graph, 0, item, t, 1.0, NO_CONTEXT, 3, HOUR_MS, SCALES, ROW_SCALES)
    for rows, source in ((graph.transitions, 1), (graph.co, 1), (graph.co, 2)):
        assert rows.size[source] == 1
        assert rows.total[source, 0] == pytest.approx(together * rows.weight[source, 0, 0], abs=0)
        assert (rows.weight[source, 0, 0] > 0) == (together > 0)
        assert rows.weight[source, 1, 0] > 0


def test_a_single_scale_counts_whatever_lies_between() -> None:
    config = ModelConfig(row_scales_ms=(365 * DAY_MS,))
    rows = new_graph(config).co
    add_successor(rows, 0, 1, 0, 1.0, np.array(config.row_scales_ms, np.float64), False)
    assert rows.weight[0, 0, 0] == 1


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 20)), min_size=1, max_size=200), st.integers(0, 10**6))
def test_heads_are_the_exact_top_n(steps: list[tuple[int, int]], seed: int) -> None:
    config = ModelConfig(head=5)
    graph = new_graph(config)
    scales = np.array(config.popularity_scales_ms, np.float64)
    now = 0
    for item, gap in steps:
        now += gap * 3_600_000
        observe(
            graph,
            0,
            item,
            now,
            1.0,
            NO_CONTEXT,
            config.window,
            config.sitting_ms,
            scales,
            np.array(config.row_scales_ms, np.float64),
        )
    for s, scale in enumerate(scales):
        decayed = graph.items.popularity[:31, s] * np.exp(-(now - graph.items.last_time[:31]) / scale)
        decayed[graph.items.first_time[:31] < 0] = -1
        held = graph.heads.item[s, : graph.heads.size[s]]
        assert sorted(decayed[held]) == pytest.approx(sorted(decayed)[-len(held) :], rel=1e-6)
        assert len(held) == min(5, len({item for item, _ in steps}))


def test_a_dropped_item_leaves_its_head() -> None:
    heads = new_graph(CONFIG).heads
    for item in range(3):
        lift(heads, 0, item, float(item))
    drop(heads, 0, 1)
    assert sorted(heads.item[0, : heads.size[0]].tolist()) == [0, 2]


def test_a_dislike_is_remembered_and_counts_for_nothing() -> None:
    graph = new_graph(CONFIG)
    observe(graph, 0, 1, 0, 1.0, NO_CONTEXT, 3, HOUR_MS, SCALES, ROW_SCALES)
    observe(graph, 0, 2, 1, -1.0, NO_CONTEXT, 3, HOUR_MS, SCALES, ROW_SCALES)
    observe(graph, 0, 3, 2, 1.0, NO_CONTEXT, 3, HOUR_MS, SCALES, ROW_SCALES)
    assert has_pair(graph.pairs, 0, 2)
    assert graph.items.events[2] == 0
    assert 2 not in graph.co.item
    assert 2 not in graph.transitions.item


def test_a_disliked_item_is_not_listed_until_it_is_liked_again() -> None:
    model = Model(ModelConfig())
    model.users.encode(["u", "v"])
    model.items.encode(["a", "b"])
    steps = [(1, 0, 1.0), (1, 1, 1.0), (0, 0, 1.0), (0, 1, 1.0), (0, 0, -1.0), (0, 1, 1.0), (0, 0, 1.0)]
    listed = []
    for n, (user, item, weight) in enumerate(steps):
        one, none = np.ones(1, np.uint8), np.zeros(1, np.uint8)
        model.take(np.array([user], np.int32), np.array([item], np.int32), np.array([n * 1000], np.int64),
                   np.array([weight], np.float32), k=5, score=none, learn=one, publish=none)  # fmt: skip
        listed.append(sorted(model.recommend(0, n * 1000, 5)))
    assert listed == [[0], [0, 1], [0, 1], [0, 1], [1], [1], [0, 1]]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=60), st.integers(1, 70))
def test_top_k_sorts_by_score_then_by_the_bytes_of_the_id(scores: list[int], k: int) -> None:
    ids = [f"{n % 7}é{'x' * (n % 3)}{n}" for n in range(len(scores))]
    names = NodeIndex(ids).names
    out_items, out_scores = np.full(k, -1, np.int32), np.zeros(k, np.float32)
    n = len(scores)
    size = top_k(np.arange(n, dtype=np.int32), np.array(scores, np.float32), n, names, out_items, out_scores)
    expected = sorted(range(n), key=lambda i: (-scores[i], ids[i].encode()))[:k]
    assert out_items[:size].tolist() == expected


def test_names_compare_by_bytes() -> None:
    ids = ["a", "ab", "b", "é", "", "a\0"]
    names = NodeIndex(ids).names
    for a, first in enumerate(ids):
        for b, second in enumerate(ids):
            assert name_before(names, a, b) == (first.encode() < second.encode())


HELD = 5  # candidates of the ring


def _ranker(n: int) -> tuple[Ranker, Activations, np.ndarray]:
    config = ModelConfig(hidden=4, seed=3)
    ranker = new_ranker(config)
    rng = np.random.default_rng(0)
    for vector in (ranker.weights, ranker.fast, ranker.slow):
        vector[:] = rng.normal(0, 0.5, len(vector)) if vector is ranker.weights else ranker.weights
    act = new_activations(config, 16)
    x = rng.normal(0, 1, (FEATURES, 16)).astype(np.float32)
    x[:RING_FEATURES, HELD:] = 0
    x[USER_FEATURES:] = x[USER_FEATURES:, :1]
    forward(ranker.weights, act, x, n, HELD)
    return ranker, act, x


def test_the_ranker_scores_what_its_equation_says() -> None:
    ranker, act, x = _ranker(11)
    h, f = 4, FEATURES
    w1, w2 = ranker.weights[: h * f].reshape(h, f), ranker.weights[h * f : h * f + h * h].reshape(h, h)
    b1, b2, w3, skip = np.split(ranker.weights[h * f + h * h :], [h, 2 * h, 3 * h])
    hidden = np.maximum(w2 @ np.maximum(w1 @ x + b1[:, None], 0) + b2[:, None], 0)
    np.testing.assert_allclose(act.score[:11], (skip @ x + w3 @ hidden)[:11], rtol=1e-4, atol=1e-5)


def test_the_gradient_is_that_of_the_softmax_loss() -> None:
    """With as many draws as it takes, the sampled gradient is the true one, worked out here by the chain rule."""
    n, target, h = 11, 4, 4
    ranker, act, x = _ranker(n)
    softmax(act.score, act.probability, n)
    learn(ranker, act, x, n, target, 0.0, 10_000, 0.5)
    w = ranker.weights.astype(np.float64)
    w1, w2 = w[: h * FEATURES].reshape(h, -1), w[h * FEATURES : h * FEATURES + h * h].reshape(h, h)
    b1, b2, w3, skip = np.split(w[h * FEATURES + h * h :], [h, 2 * h, 3 * h])
    x = x[:, :n].astype(np.float64)
    first = np.maximum(w1 @ x + b1[:, None], 0)
    second = np.maximum(w2 @ first + b2[:, None], 0)
    score = skip @ x + w3 @ second
    g = np.exp(score - score.max()) / np.exp(score - score.max()).sum() - (np.arange(n) == target)
    d2 = np.outer(w3, g) * (second > 0)
    d1 = (w2.T @ d2) * (first > 0)
    expected = [d1 @ x.T, d2 @ first.T, d1.sum(1), d2.sum(1), second @ g, x @ g]
    np.testing.assert_allclose(act.gradient, np.concatenate([e.ravel() for e in expected]), atol=3e-3)


class TwoGroups:
    """Users and items, the even ones and the odd ones, whose items never share a row: the embedding alone is learned."""

    def __init__(self, items: int) -> None:
        config = ModelConfig(embedding=8)
        self.graph, self.embeddings = new_graph(config), new_embeddings(config, items)
        self.taste, self.popularity = new_taste(config, 32), new_popularity_weights(config)
        self.pool, self.x = np.arange(items, dtype=np.int32), np.zeros((FEATURES, 32), np.float32)
        self.rng = np.random.default_rng(0)

    def scores(self, user: int) -> np.ndarray:
        """[items]"""
        embed(self.embeddings, self.graph.users, user, self.taste.user)
        embedding_features(self.embeddings, self.popularity, self.taste, self.pool, self.x, len(self.pool))
        return self.taste.score[: len(self.pool)]

    def take(self, n: int, user: int, item: int) -> None:
        self.scores(user)
        learn_embedding(
            self.embeddings, self.popularity, self.taste, self.graph.users, self.pool, self.x, len(self.pool), user, item,
            0.15, 16, float(self.rng.random()), True,
        )  # fmt: skip
        self.observe(n, user, item)

    def observe(self, n: int, user: int, item: int) -> None:
        observe(self.graph, user, item, n * 1000, 1.0, NO_CONTEXT, 1, HOUR_MS, SCALES, ROW_SCALES)

    def take_own(self, events: int) -> None:
        """Ten users take what they like of the first twenty items."""
        for n in range(events):
            self.take(n, n % 10, int(self.rng.integers(0, 10)) * 2 + n % 2)

    def first_ten(self, user: int) -> set[int]:
        """Which groups the best ten of the first twenty items are of."""
        return set((np.argsort(-self.scores(user)[:20])[:10] % 2).tolist())


def test_an_embedding_learns_what_goes_together() -> None:
    groups = TwoGroups(20)
    groups.take_own(3_000)
    for user in range(10):
        assert groups.first_ten(user) == {user % 2}


def test_an_item_says_whom_it_suits_before_its_history_vector_has_learned() -> None:
    """Five users of a group take a new item last; somebody who has nothing else is shown that group's items."""
    groups = TwoGroups(22)
    groups.take_own(3_000)
    for user in range(10):
        groups.take(3_000 + user, user, 20 + user % 2)
    assert not groups.embeddings.history[20:].any()
    for user in (10, 11):
        groups.observe(3_010, user, 20 + user % 2)
        assert groups.first_ten(user) == {user % 2}


def test_embeddings_start_the_same_whenever_room_is_made() -> None:
    config = ModelConfig(seed=5)
    at_once, grown = new_embeddings(config, 100), grown_embeddings(new_embeddings(config, 7), config, 100)
    assert all(a.tobytes() == b.tobytes() for a, b in zip(at_once, grown, strict=True))
    assert at_once.candidate.std() == pytest.approx(0.1, rel=0.1)
    assert new_embeddings(ModelConfig(seed=6), 7).candidate[0, 0] != at_once.candidate[0, 0]


def test_batches_are_counted_from_the_start_whatever_the_commits() -> None:
    """The same events in one batch or in many: the same bytes everywhere."""
    rng = np.random.default_rng(0)
    user, item = rng.integers(0, 20, 400).astype(np.int32), rng.integers(0, 30, 400).astype(np.int32)
    t = np.arange(400, dtype=np.int64) * 60_000
    states = []
    for cuts in ([400], [1, 7, 100, 101, 300, 400]):
        model = Model(ModelConfig())
        model.users.encode([str(n) for n in range(20)])
        model.items.encode([str(n) for n in range(30)])
        start = 0
        for end in cuts:
            ones = np.ones(end - start, np.uint8)
            model.take(user[start:end], item[start:end], t[start:end], ones.astype(np.float32), k=5,
                       score=ones, learn=ones, publish=ones)  # fmt: skip
            start = end
        arrays = [a for group in (model.graph.users, model.graph.items, model.graph.co) for a in group]
        learned = (
            *model.embeddings,
            *model.popularity,
            *model.memories.user,
            *model.memories.item,
            *model.active,
            *model.ranker,
        )
        states.append(b"".join(a.tobytes() for a in (*arrays, *learned)))
    assert states[0] == states[1]


def test_what_is_not_learned_from_is_scored_at_the_mean_of_the_weights() -> None:
    rng = np.random.default_rng(1)
    n = 300
    user, item = rng.integers(0, 20, n).astype(np.int32), (rng.zipf(1.5, n) % 30).astype(np.int32)
    t, ones = np.arange(n, dtype=np.int64) * 60_000, np.ones(n, np.uint8)
    model = Model(ModelConfig())
    model.users.encode([str(n) for n in range(20)])
    model.items.encode([str(n) for n in range(30)])
    model.take(user, item, t, ones.astype(np.float32), k=5, score=ones, learn=ones, publish=0 * ones)
    last = (user[-1:], item[-1:], t[-1:] + 1, np.ones(1, np.float32))
    (one, zero) = np.ones(1, np.uint8), np.zeros(1, np.uint8)
    scores = {}
    for name, weights, learned in (("frozen", model.ranker.weights, zero), ("live", model.ranker.slow, one)):
        other = copy.deepcopy(model)
        other.ranker.weights[:] = weights
        scores[name] = other.take(*last, k=5, score=one, learn=learned, publish=zero).test.score.copy()
    as_before = copy.deepcopy(model).take(*last, k=5, score=one, learn=one, publish=zero).test.score
    assert (scores["frozen"] == scores["live"]).all()
    assert (scores["frozen"] != as_before).any()


def _kernels() -> list[Any]:
    """Every kernel of the package."""
    modules = [
        importlib.import_module(f"tgn.{info.name}") for info in pkgutil.iter_modules(tgn.__path__) if not info.ispkg
    ]
    modules.append(importlib.import_module("tgn.family.attention"))
    found = {id(value): value for module in modules for value in vars(module).values() if isinstance(value, Dispatcher)}
    return list(found.values())


def test_kernels_call_nothing_that_the_digest_of_their_cache_does_not_cover() -> None:
    """Functions of this package, all of whose sources it covers; and of numba's NumPy, whose version it covers."""
    assert len(_kernels()) > 50
    for compiled in _kernels():
        function = compiled.py_func
        for name in function.__code__.co_names:
            value = function.__globals__.get(name)
            module = getattr(value, "__module__", None) if callable(value) else getattr(value, "__name__", None)
            if isinstance(value, ModuleType) or callable(value):
                assert str(module).partition(".")[0] in ("tgn", "numpy"), (function.__qualname__, name)


@pytest.mark.parametrize("compiler", [numba, llvmlite, np])
def test_another_version_of_a_compiler_has_a_cache_of_its_own(
    compiler: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = kernel._digest()
    monkeypatch.setattr(compiler, "__version__", "another")
    assert kernel._digest() != before


def test_another_source_in_a_subfolder_has_a_cache_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(kernel._PACKAGE, tmp_path / "tgn", ignore=shutil.ignore_patterns("__pycache__"))
    before = kernel._digest()
    monkeypatch.setattr(kernel, "_PACKAGE", tmp_path / "tgn")
    assert kernel._digest() == before
    attention = tmp_path / "tgn" / "family" / "attention.py"
    attention.write_text(attention.read_text() + "\n")
    assert kernel._digest() != before


def test_no_kernel_reads_a_module_that_the_digest_of_their_cache_leaves_out() -> None:
    left_out = {f"tgn.{name.removesuffix('.py').replace('/', '.')}" for name in kernel.WITHOUT_KERNELS}
    assert all((kernel._PACKAGE / name).is_file() for name in kernel.WITHOUT_KERNELS)
    graph = grimp.build_graph("tgn", cache_dir=None)
    for module in {compiled.py_func.__module__ for compiled in _kernels()}:
        assert module not in left_out
        assert not graph.find_upstream_modules(module) & left_out, module


def test_a_module_without_kernels_has_no_cache_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(kernel._PACKAGE, tmp_path / "tgn", ignore=shutil.ignore_patterns("__pycache__"))
    before = kernel._digest()
    monkeypatch.setattr(kernel, "_PACKAGE", tmp_path / "tgn")
    for name in kernel.WITHOUT_KERNELS:
        (tmp_path / "tgn" / name).write_text("")
    assert kernel._digest() == before


def test_a_folder_that_may_not_be_looked_into_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    def shut(*_: object) -> bool:
        raise PermissionError("the home of another user")

    monkeypatch.setattr(Path, "exists", shut)
    folder, _ = kernel._cache_of_this_source()
    assert folder.is_dir()
