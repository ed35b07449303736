"""Paths and counterfactuals: what leads to an item, and the graph without some interactions."""

import numpy as np
import pytest

from tests.canonical import canonical
from tests.tgn.test_repair import SMALL, WIDE, chosen, observed, world
from tgn.asking.counterfactual import Histories, carried_by, paths, standing, taken_lately, without
from tgn.config import DAY_MS, ModelConfig
from tgn.graph import I32, no_contexts
from tgn.repair import History
from tgn.serialization import all_pages

NAMES = (12, 30)


def histories_of(history: History) -> Histories:
    def of(users: I32) -> History:
        return chosen(history, np.isin(history.user, users))

    return of


@pytest.mark.parametrize("config", [SMALL, WIDE], ids=["overflowing rows", "defaults"])
@pytest.mark.parametrize("backs", [[0], [5], [0, 3, 4]])
def test_without_is_a_graph_that_has_never_seen_them(config: ModelConfig, backs: list[int]) -> None:
    history, user = world(np.random.default_rng(2), *NAMES, 500), 4
    model = observed(config, history, NAMES)
    before = all_pages(model)
    other = without(model, {user: backs}, histories_of(history))
    keep = np.ones(len(history.user), bool)
    keep[np.flatnonzero(history.user == user)[[-1 - back for back in backs]]] = False
    assert canonical(other) == canonical(observed(config, chosen(history, keep), NAMES))
    assert all_pages(model) == before


@pytest.mark.parametrize("config", [SMALL, WIDE], ids=["overflowing rows", "defaults"])
def test_an_item_without_what_was_done_with_it_lately(config: ModelConfig) -> None:
    history, item = world(np.random.default_rng(3), *NAMES, 500), 1
    model = observed(config, history, NAMES)
    since = int(history.t[250])
    lately = taken_lately(model, item, since, histories_of(history))
    gone = (history.item == item) & (history.t > since)
    assert sum(map(len, lately.values())) == gone.sum() > 5
    other = without(model, lately, histories_of(history))
    assert canonical(other) == canonical(observed(config, chosen(history, ~gone), NAMES))


def test_an_interaction_that_never_was_is_refused() -> None:
    history = world(np.random.default_rng(2), *NAMES, 100)
    model = observed(WIDE, history, NAMES)
    count = int((history.user == 4).sum())
    with pytest.raises(ValueError, match=f"the user has {count} interactions"):
        without(model, {4: [count]}, histories_of(history))


def test_paths_are_shares_of_the_rows_worked_out_by_hand() -> None:
    """Four users go from item 0 to item 1, one from 0 to 2; a last one has just chosen 0, and chose 3 before."""
    sequences = [(0, [0, 1]), (1, [0, 1]), (2, [0, 1]), (3, [0, 1]), (4, [0, 2]), (5, [3, 0])]
    user = np.array([u for u, items in sequences for _ in items], np.int32)
    item = np.array([z for _, items in sequences for z in items], np.int32)
    t = np.zeros(len(user), np.int64)  # no decay
    model = observed(
        WIDE,
        History(user, item, t, np.ones(len(user), np.float32), no_contexts(len(user))),
        (6, 4),
    )
    first, second = paths(model, 5, 1, 0)
    assert [(s.source, s.item, s.back) for s in (first, second)] == [("transition", 0, 0), ("co-interaction", 0, 0)]
    assert first.share == pytest.approx(4 / (5 + 1))  # of five that followed, and one for chance
    assert paths(model, 5, 3, 0)[0].source == "repeat"
    assert paths(model, 5, 2, 0)[0].share == pytest.approx(1 / 6)


@pytest.mark.parametrize("events", [40, 5_000], ids=["ring with room", "full rings"])
def test_what_carries_an_item_is_the_interaction_that_leads_to_it(events: int) -> None:
    """Users go round in pairs: after item 2n comes 2n + 1. Asking changes nothing."""
    rng = np.random.default_rng(0)
    pairs, users = rng.integers(0, 10, events), rng.integers(0, 8, events)
    pairs[users == 0] = np.where(pairs[users == 0] == 3, 4, pairs[users == 0])  # 6 is new to user 0, and so is 7
    user = np.repeat(users, 2).astype(np.int32)
    item = np.stack([2 * pairs, 2 * pairs + 1], axis=1).reshape(-1).astype(np.int32)
    t = np.arange(len(user), dtype=np.int64) * 60_000
    user, item, t = np.append(user, 0).astype(np.int32), np.append(item, 6).astype(np.int32), np.append(t, t[-1] + 1)
    model = observed(
        ModelConfig(),
        History(user, item, t, np.ones(len(user), np.float32), no_contexts(len(user))),
        (8, 20),
    )
    before = all_pages(model)
    now = int(t[-1]) + 60_000
    first = carried_by(model, 0, 7, now)[0]
    assert first.back == 0
    assert first.fall > 0
    assert all_pages(model) == before


def test_an_item_that_nobody_knows_is_no_candidate() -> None:
    history = world(np.random.default_rng(2), *NAMES, 100)
    model = observed(ModelConfig(every_item_below=0), history, NAMES)
    model.items.encode(["new"])
    assert standing(model, 0, len(model.items) - 1, 100 * DAY_MS).place == 0
