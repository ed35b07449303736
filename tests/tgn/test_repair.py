"""A repaired graph is the graph of the history that was left, to the last bit."""

import numpy as np
import pytest

from tests.canonical import canonical
from tgn.config import DAY_MS, ModelConfig
from tgn.graph import SLOTS
from tgn.model import Model
from tgn.repair import History, Nearby

SMALL = ModelConfig(ring=6, row=5, window=3, head=4, newest=5, popularity_scales_ms=(DAY_MS,) * 5)
WIDE = ModelConfig()


def world(rng: np.random.Generator, users: int, items: int, n: int) -> History:
    return History(
        rng.integers(0, users, n).astype(np.int32),
        (rng.zipf(1.5, n) % items).astype(np.int32),
        np.cumsum(rng.integers(0, DAY_MS // 4, n)),
        rng.choice(np.array([1.0, 3.0, -1.0], np.float32), n, p=[0.7, 0.2, 0.1]),
        rng.integers(-1, 9, (n, SLOTS)).astype(np.int16),
    )


def observed(config: ModelConfig, history: History, names: tuple[int, int]) -> Model:
    model = Model(config)
    model.users.encode([f"u{n}" for n in range(names[0])])
    model.items.encode([f"i{n}" for n in range(names[1])])
    nothing = np.zeros(len(history.user), np.uint8)
    model.take(*history, k=1, score=nothing, learn=nothing, publish=nothing)
    return model


def chosen(history: History, mask: np.ndarray) -> History:
    return History(*(column[mask] for column in history))


def wanted_of(config: ModelConfig, before: History, keep: np.ndarray, items: int) -> np.ndarray:
    """Every item within a window of what was taken out, by brute force."""
    wanted = np.zeros(items, np.uint8)
    for user in np.unique(before.user[~keep]):
        mine = np.flatnonzero(before.user == user)
        left = np.flatnonzero((before.user == user) & keep)
        for place in np.flatnonzero(~keep[mine]):
            near = mine[max(place - config.window, 0) : place + config.window + 1]
            wanted[before.item[near]] = 1
            after = np.searchsorted(left, mine[place])
            wanted[before.item[left[max(after - config.window, 0) : after + config.window]]] = 1
        wanted[before.item[left[-config.ring :]]] = 1
    return wanted


@pytest.mark.parametrize("config", [SMALL, WIDE], ids=["overflowing rows", "defaults"])
@pytest.mark.parametrize("seed", range(4))
def test_what_is_taken_back_leaves_no_trace(config: ModelConfig, seed: int) -> None:
    rng = np.random.default_rng(seed)
    names = (12, 30)
    history = world(rng, *names, 600)
    keep = rng.random(600) > 0.05
    keep[history.user == 3] = False  # one user, all of it
    keep[history.item == 7] = False  # one item
    model = observed(config, history, names)
    changed = np.unique(history.user[~keep])
    wanted = np.zeros(len(model.graph.items.events), np.uint8)
    wanted[: names[1]] = wanted_of(config, history, keep, names[1])
    read = np.union1d(model.readers(wanted), changed)
    left = chosen(history, keep)
    model.repair(
        changed, (history.user[~keep], history.item[~keep]), wanted, chosen(left, np.isin(left.user, read))
    )  # fmt: skip
    assert canonical(model) == canonical(observed(config, left, names))


def test_a_late_interaction_takes_its_place() -> None:
    rng = np.random.default_rng(5)
    names = (6, 20)
    history = world(rng, *names, 300)
    late = 250
    order = np.concatenate([np.delete(np.arange(300), late - 100), [late - 100]])
    model = observed(SMALL, chosen(history, order), names)
    user = history.user[late - 100]
    wanted = np.zeros(len(model.graph.items.events), np.uint8)
    wanted[history.item[history.user == user]] = 1
    read = model.readers(wanted)
    changed = np.array([user], np.int32)
    nothing = np.zeros(0, np.int32)
    model.repair(changed, (nothing, nothing), wanted, chosen(history, np.isin(history.user, read)))
    assert canonical(model) == canonical(observed(SMALL, history, names))


@pytest.mark.parametrize("at_once", [1, 7, 100])
def test_items_that_are_built_again_a_few_interactions_at_a_time_come_out_the_same(at_once: int) -> None:
    rng = np.random.default_rng(8)
    names = (7, 25)
    history = world(rng, *names, 500)
    model = observed(SMALL, history, names)
    clean = canonical(model)
    items = np.arange(0, names[1], 2, dtype=np.int32)
    wanted = np.zeros(len(model.graph.items.events), np.uint8)
    wanted[items] = 1
    by_user = np.argsort(history.user, kind="stable")
    places, rank = model.near(history.user[by_user], history.item[by_user], wanted)
    places = by_user[places]
    assert len(np.unique(history.user[places])) == names[0]
    nearby = Nearby(history.user[places], rank, history.item[places], history.t[places], history.weight[places])
    part = model.new_part(items, model.graph.items.introduced[items])
    model.graph.users.ring_count[:] = -1  # those of the items are written again
    order = np.argsort(places)
    for first in range(0, len(order), at_once):
        assert canonical(model)["items"] == clean["items"]  # as before, until all is observed
        model.observe_again(part, nearby, order[first : first + at_once])
    model.put_in(part)
    again = canonical(model)
    assert {name: again[name] for name in again if name != "users"} == {
        name: clean[name] for name in clean if name != "users"
    }
    even = {f"i{item}" for item in items}
    counts = [
        (ours, theirs)
        for user in clean["users"]
        for ours, theirs in zip(again["users"][user][3], clean["users"][user][3], strict=True)
    ]
    assert all(ours == theirs if theirs[0] in even else ours[3] == -1 for ours, theirs in counts)
    assert any(theirs[0] in even for _, theirs in counts)


def test_what_lies_near_an_item_is_within_a_window_of_it() -> None:
    rng = np.random.default_rng(2)
    user = np.sort(rng.integers(0, 9, 400)).astype(np.int32)
    item = rng.integers(0, 60, 400).astype(np.int32)
    model = Model(SMALL)
    wanted = np.zeros(60, np.uint8)
    wanted[[3, 4, 59]] = 1
    places, rank = model.near(user, item, wanted)
    hits = np.flatnonzero(wanted[item])
    near = [n for n in range(400) if any(abs(n - hit) <= SMALL.window and user[n] == user[hit] for hit in hits)]
    assert places.tolist() == near
    assert rank.tolist() == [n - int(np.argmax(user == user[n])) for n in near]
