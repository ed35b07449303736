"""Lists that are asked for: those of the model where nothing is another, and full ones under any mask."""

from typing import Any

import numpy as np
import pytest

from tgn.asking.asked_lists import AskedLists, Ring
from tgn.config import ModelConfig
from tgn.graph import DELETED, LISTED, NONE, SLOTS
from tgn.model import Model
from tgn.selection import ALL_SCORED, Allowed

USERS, ITEMS = 60, 5_000
NOW = 10_000_000


@pytest.fixture(scope="module")
def model() -> Model:
    """More items than are ever scored together, most of them taken once or twice."""
    model, rng = Model(ModelConfig()), np.random.default_rng(0)
    n = 9_000
    user = rng.integers(0, USERS, n).astype(np.int32)
    item = (ITEMS * rng.random(n) ** 2).astype(np.int32)
    item[:ITEMS] = rng.permutation(ITEMS)
    model.users.encode([f"u{u}" for u in range(USERS)])
    model.items.encode([f"i{i}" for i in range(ITEMS)])
    ones, none, t = np.ones(n, np.uint8), np.zeros(n, np.uint8), np.arange(n, dtype=np.int64) * 1_000
    model.take(user, item, t, ones.astype(np.float32), k=1, score=none, learn=ones, publish=none)
    return model


def mask(model: Model, allowed: np.ndarray) -> np.ndarray:
    alive = np.full(len(model.graph.items.alive), DELETED, np.uint8)
    alive[allowed] = LISTED
    return alive


@pytest.mark.parametrize("exclude_seen", [False, True])
def test_users_are_listed_what_the_model_publishes(model: Model, exclude_seen: bool) -> None:
    users = np.arange(20, dtype=np.int32)
    wanted = model.relist(users, NOW, 20, exclude_seen)
    outcome = AskedLists(model).of_users([(u, None) for u in range(20)], NOW, 20, exclude_seen)
    for ours, theirs in ((outcome.published, wanted.published), (outcome.evidence, wanted.evidence)):
        for array, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(array, other)


def test_a_user_who_asks_twice_at_once_is_answered_in_each_context(model: Model) -> None:
    asked = AskedLists(model)
    phone = np.full(SLOTS, NONE, np.int16)
    phone[0] = 7
    model.contexts.vector[7] = 1
    together = asked.of_users([(3, None), (3, phone), (4, phone), (3, None)], NOW, 20, False).published.item
    alone = [asked.of_users([one], NOW, 20, False).published.item[0] for one in [(3, None), (3, phone), (4, phone)]]
    np.testing.assert_array_equal(together, [alone[0], alone[1], alone[2], alone[0]])
    assert (alone[0] != alone[1]).any()
    model.contexts.vector[7] = 0


@pytest.mark.parametrize("passing", [0, 1, 15, 300, ALL_SCORED, ALL_SCORED + 1, 2_400, 4_000, ITEMS])
@pytest.mark.parametrize("selected", [True, False])
def test_a_list_is_full_wherever_enough_items_pass(model: Model, passing: int, selected: bool) -> None:
    rng = np.random.default_rng(passing)
    allowed = rng.permutation(ITEMS)[:passing]
    of = Allowed(mask(model, allowed), selected)
    asked, k = AskedLists(model), 50
    seen = {int(z) for u, z in pairs(model) if u == 2}
    for exclude_seen in (False, True):
        may = set(allowed.tolist()) - (seen if exclude_seen else set())
        outcome = asked.of_users([(2, None)], NOW, k, exclude_seen, of)
        size = int(outcome.published.size[0])
        assert size == min(k, len(may))
        assert set(outcome.published.item[0, :size].tolist()) <= may
        assert len(set(outcome.published.item[0, :size].tolist())) == size
    ring = Ring(np.arange(3, dtype=np.int32), np.full(3, NOW, np.int64), np.ones(3, np.float32))
    for one in (ring, Ring(*(array[:0] for array in ring))):
        assert asked.of_ring(one, NOW, k, of).published.size[0] == min(k, passing)


def pairs(model: Model) -> list[tuple[int, int]]:
    return [(int(key >> np.uint64(32)) - 1, int(key) & 0xFFFFFFFF) for key in model.graph.pairs.key if key]


def test_all_of_a_small_selection_are_scored(model: Model) -> None:
    """The list of few is the list that a catalogue scored whole gives, with the others taken out."""
    allowed = np.random.default_rng(1).permutation(ITEMS)[:ALL_SCORED]
    asked = AskedLists(model)
    listed = asked.of_users([(5, None)], NOW, 20, False, Allowed(mask(model, allowed), True)).published
    assert asked._scratch.pool.sizes[0] == ALL_SCORED
    scores = listed.score[0]
    assert (np.diff(scores) <= 0).all()
    odds = [asked.odds(5, int(z), NOW, False) for z in listed.item[0]]
    assert [one.score for one in odds if one.place] == pytest.approx(
        [float(score) for score, one in zip(scores, odds, strict=True) if one.place], abs=0.2
    )


def test_candidates_of_a_large_selection_are_more_than_what_is_popular(model: Model) -> None:
    allowed = np.random.default_rng(2).permutation(ITEMS)[: ALL_SCORED + 100]
    asked = AskedLists(model)
    asked.of_users([(5, None)], NOW, 20, False, Allowed(mask(model, allowed), True))
    under = int(asked._scratch.pool.sizes[0])
    asked.of_users([(5, None)], NOW, 20, False, Allowed(mask(model, allowed), False))
    plain = int(asked._scratch.pool.sizes[0])
    assert under > plain + 30


def test_where_an_item_stands_is_its_place_in_the_ranking(model: Model) -> None:
    asked = AskedLists(model)
    items, scores = model.ranking(6, NOW, 100)
    for place in (1, 2, 50, 100):
        odds = asked.odds(6, items[place - 1], NOW, False)
        assert (odds.place, odds.score) == (place, pytest.approx(scores[place - 1]))
        assert 0 < odds.chance < 1
    missing = next(z for z in range(ITEMS) if asked.odds(6, z, NOW, False).place == 0)
    assert asked.odds(6, missing, NOW, False).chance == 0
    forced = asked.odds(6, missing, NOW, False, forced=True)
    assert 0 < forced.place <= forced.candidates


@pytest.mark.parametrize("exclude_seen", [False, True])
def test_nothing_taken_out_of_a_ring_changes_nothing(model: Model, exclude_seen: bool) -> None:
    asked = AskedLists(model)
    item = model.recommend(6, NOW, 30, exclude_seen)[20]
    [without] = asked.odds_without(6, item, NOW, [[]], exclude_seen)
    assert without == asked.odds(6, item, NOW, exclude_seen)


def test_what_is_taken_out_of_a_ring_is_as_if_it_had_not_been_there() -> None:
    """As `tgn.asking.counterfactual` does it in place, in a ring that is full and in one that is not."""
    from tgn.asking.counterfactual import carried_by

    for events in (40, 90):
        small = Model(ModelConfig())
        small.users.encode([f"u{u}" for u in range(8)])
        small.items.encode([f"i{i}" for i in range(30)])
        rng, n = np.random.default_rng(events), 8 * events
        user, item = (np.arange(n) % 8).astype(np.int32), rng.integers(0, 30, n).astype(np.int32)
        ones, none, t = np.ones(n, np.uint8), np.zeros(n, np.uint8), np.arange(n, dtype=np.int64) * 1_000
        small.take(user, item, t, ones.astype(np.float32), k=1, score=none, learn=ones, publish=none)
        asked, now = AskedLists(small), n * 1_000
        before = asked.odds(1, 7, now, False).score
        falls: dict[int, Any] = {one.back: one.fall for one in carried_by(small, 1, 7, now)}
        backs = sorted(falls)
        for back, odds in zip(backs, asked.odds_without(1, 7, now, [[b] for b in backs], False), strict=True):
            assert before - odds.score == pytest.approx(falls[back], abs=1e-4)


def test_the_scratch_arrays_grow_with_the_model() -> None:
    small = Model(ModelConfig())
    asked = AskedLists(small)
    for size in (10, 3_000):
        small.users.encode([f"u{n}" for n in range(size)])
        small.items.encode([f"i{n}" for n in range(size)])
        node, none = np.arange(size, dtype=np.int32), np.zeros(size, np.uint8)
        weight, t = np.ones(size, np.float32), np.full(size, size, np.int64)
        small.take(node, node, t, weight, k=1, score=none, learn=none, publish=none)
        outcome = asked.of_users([(size - 1, None)], size, 5, False)
        np.testing.assert_array_equal(outcome.published.item, small.relist(node[-1:], size, 5).published.item)
