"""One contract for every peer of the benchmarks: small worlds, the same protocol, lists whose answer is known."""

import warnings
from functools import cache
from typing import Any

import numpy as np
import pytest

from streamer.evaluation.peers.contract import top_k
from tests import conftest
from tests.benchmarks import protocol
from tests.benchmarks.peers import PEERS, make_peer, missing
from tests.benchmarks.protocol import Events, Measured, Plan, prequential
from tests.worlds import Events as Triples
from tests.worlds import checkerboard, repeat_buyer

K = 10
WORLDS = {
    "checkerboard": lambda: checkerboard(users=20, items=20, events=1_000),
    "repeat buyer": lambda: repeat_buyer(users=40, events=800),
    "unseen": lambda: first_times(checkerboard(users=40, items=40, events=3_000)),
}
TINY: dict[str, dict[str, object]] = {  # trained in a blink
    "als": {"factors": 8},
    "gru4rec": {"size": 16, "batch": 100, "rate": 0.01, "passes": (10, 10)},
    "sasrec": {"size": 16, "batch": 100, "rate": 0.01, "passes": (10, 10)},
    "tgn": {"size": 16, "passes": 1},
}


def first_times(events: Triples) -> Triples:
    """Each pair once: a world where repeats are off."""
    seen: dict[tuple[str, str], int] = {}
    for user, item, t in events:
        seen.setdefault((user, item), t)
    return [(user, item, t) for (user, item), t in seen.items()]


def events_of(triples: Triples) -> Events:
    users, items = (sorted({triple[side] for triple in triples}) for side in (0, 1))
    columns = ([users.index(u) for u, _, _ in triples], [items.index(i) for _, i, _ in triples])
    return Events(*(np.array(column) for column in (*columns, [t for _, _, t in triples])), users, items)


def measure(name: str, world: str, stale: int = 1) -> tuple[Events, Plan, Measured]:
    """A fresh peer over a world; its last fifth is measured."""
    events = events_of(WORLDS[world]())
    first = int(len(events) * 0.8)
    plan = Plan(k=K, exclude_seen=world == "unseen", measured_from=first, fit_at=first, stale=stale)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the peers' packages deprecate is their own affair
        peer = make_peer(name, protocol.world_of(events, plan), **TINY.get(name, {}))
        return events, plan, prequential(peer, events, plan)


measured = cache(measure)


@pytest.fixture(params=PEERS)
def peer(request: pytest.FixtureRequest) -> str:
    """The name of each peer; one whose package is not installed is a failure in CI, a named skip elsewhere."""
    reason = missing(request.param)
    if reason:
        conftest.missing(reason)
    return str(request.param)


def hit_rate(name: str, world: str, at: int) -> float:
    events, plan, out = measured(name, world)
    return float(
        np.mean([t in listed[:at] for t, listed in zip(events.item[plan.measured_from :], out.lists, strict=True)])
    )


@pytest.mark.parametrize("world", WORLDS)
def test_a_list_names_known_items_once(peer: str, world: str) -> None:
    events, plan, out = measured(peer, world)
    assert len(out.lists) == len(events) - plan.measured_from
    for n, listed in enumerate(out.lists, plan.measured_from):
        known = set(events.item[:n].tolist())
        left = known - set(events.item[:n][events.user[:n] == events.user[n]].tolist()) if plan.exclude_seen else known
        assert len(listed) == min(K, len(left))
        assert len(set(listed.tolist())) == len(listed)
        assert set(listed.tolist()) <= left


def test_twice_the_same(peer: str) -> None:
    again = measure(peer, "checkerboard")[2]
    for first, second in zip(measured(peer, "checkerboard")[2].lists, again.lists, strict=True):
        np.testing.assert_array_equal(first, second)


def test_recommend_changes_nothing(peer: str) -> None:
    """Lists of a block are made one after the other from the same state: the first again is the first."""
    events = events_of(WORLDS["repeat buyer"]())
    plan = Plan(K, False, len(events), len(events))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        candidate = make_peer(peer, protocol.world_of(events, plan), **TINY.get(peer, {}))
        for n in range(len(events)):
            candidate.observe(int(events.user[n]), int(events.item[n]), int(events.t[n]))
        now = int(events.t[-1])
        candidate.refit(now)
        first = candidate.recommend(0, now, K)
        for user in range(1, 10):
            candidate.recommend(user, now, K)
        np.testing.assert_array_equal(candidate.recommend(0, now, K), first)


@pytest.mark.parametrize("name", ["last-item", "edgebank", "edgebank-window", "item-knn"])
def test_who_repeats_is_found(name: str) -> None:
    """Every tenth comes back after more than EdgeBank's window."""
    assert hit_rate(name, "repeat buyer", 1) > (0.8 if name == "edgebank-window" else 0.95)


@pytest.mark.parametrize("name", ["item-knn", "isgd", "als", "gru4rec", "sasrec"])
def test_taste_is_found(name: str) -> None:
    """The ten items of the user's colour, of twenty: chance hits half of the time."""
    if reason := missing(name):
        conftest.missing(reason)
    assert hit_rate(name, "checkerboard", 10) > 0.75


@pytest.mark.parametrize("k", [3, 40])
def test_the_best_come_first_and_ties_go_by_index(k: int) -> None:
    rng = np.random.default_rng(0)
    score, then = rng.integers(0, 4, (2, 40)).astype(np.float64)
    allowed = rng.integers(0, 2, 40).astype(np.uint8)
    best = sorted(np.flatnonzero(allowed).tolist(), key=lambda n: (-score[n], -then[n], n))
    assert top_k(score, then, allowed, k).tolist() == best[:k]


def test_tgn_embeds_all_that_changed() -> None:
    """After each event the items' embeddings are those that all items embedded anew would have."""
    if reason := missing("tgn"):
        conftest.missing(reason)
    import torch

    events = events_of(WORLDS["checkerboard"]())
    tgn: Any = make_peer("tgn", protocol.world_of(events, Plan(K, False, 0, 0)), **TINY["tgn"])
    for n, (user, item, t) in enumerate(
        zip(events.user.tolist(), events.item.tolist(), events.t.tolist(), strict=True)
    ):
        if n == 500:
            tgn.refit(t)
        if n >= 600 and n % 7 == 0:
            tgn.recommend(user, t, K)
            kept = tgn._items.clone()
            tgn._embedded = False
            tgn.recommend(user, t, K)
            torch.testing.assert_close(kept, tgn._items)
        tgn.observe(user, item, t)


def test_stale_blocks_hide_their_own_events() -> None:
    """In blocks, an item that first occurs within a block is in no list of it."""
    events, plan, out = measured("last-item", "repeat buyer", stale=50)
    for n, listed in enumerate(out.lists, plan.measured_from):
        before = n // 50 * 50
        own = events.item[:before][events.user[:before] == events.user[n]]
        assert not len(own) or listed[0] == own[-1]


def test_refits_are_counted_out() -> None:
    """At most 24 refits, however short the peer's own interval is; none where weights are frozen."""

    class Counting:
        refit_every_ms = 1
        fits: list[int]

        def __init__(self) -> None:
            self.fits, self.observed = [], 0

        def recommend(self, user: int, now: int, k: int) -> np.ndarray:
            return np.empty(0, np.int64)

        def observe(self, user: int, item: int, t: int) -> None:
            self.observed += 1

        def refit(self, now: int) -> None:
            self.fits.append(self.observed)

    events = events_of(WORLDS["checkerboard"]())
    live, frozen = Counting(), Counting()
    out = prequential(live, events, Plan(K, False, 800, 800))
    assert live.fits[0] == 800
    assert 1 < len(out.refits) <= 24
    assert len(live.fits) == len(out.refits) + 1
    assert prequential(frozen, events, Plan(K, False, 850, 700, frozen=True)).refits == []
    assert frozen.fits == [700]
