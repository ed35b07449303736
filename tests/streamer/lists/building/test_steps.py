"""What every step of list building keeps: nothing twice, nothing foreign, k places, the same again, 0 is no change."""

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from streamer.evaluation import measures
from streamer.lists.building.calibration import SMOOTHING, calibrated
from streamer.lists.building.debiasing import debiased
from streamer.lists.building.diversity import diversified, features
from streamer.lists.building.exploration import explored
from streamer.lists.building.fallback import FallbackSource, chained
from streamer.lists.building.fatigue import fatigued
from streamer.lists.building.quotas import quotas_of, within_quotas
from streamer.lists.building.ranking import best_first

Floats = NDArray[np.float64]
NAMES = ("a", "b", "c", "d")
STRENGTHS = st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0])


class Ranked:
    """A ranking, the best first, and what steps read beside it."""

    def __init__(self, size: int, k: int, seed: int, equal: bool) -> None:
        rng = np.random.default_rng(seed)
        score = np.zeros(size) if equal else rng.choice([-3.0, -1.0, 0.5, 0.5, 2.0], size) + rng.integers(0, 3, size)
        self.score, self.k = np.sort(score)[::-1], k
        self.kinds = rng.random((size, len(NAMES))) < 0.3
        self.shares = self.kinds / np.maximum(self.kinds.sum(axis=1, keepdims=True), 1)
        self.vectors = rng.integers(-1, 2, (size, 3)).astype(float)
        self.wanted = rng.integers(0, 4, len(NAMES)).astype(float)
        self.counts = rng.integers(0, 50, size)
        self.categories = [[NAMES[c] for c in np.flatnonzero(row)] for row in self.kinds]

    @property
    def features(self) -> Floats:
        return features(self.categories, self.vectors)


RANKED = st.builds(Ranked, st.integers(0, 40), st.integers(1, 30), st.integers(0, 1_000), st.booleans())

ORDERS: dict[str, Callable[[Ranked, float], Floats]] = {
    "diversity": lambda r, strength: diversified(r.score, r.features, strength, r.k),
    "calibration": lambda r, strength: calibrated(r.score, r.shares, r.wanted, strength, r.k),
    "exploration": lambda r, strength: explored(r.score, strength, r.k, 0, "interactions-0-1").place,
    "equal exploration": lambda r, strength: explored(r.score, strength, r.k, 0, "l", temperature=np.inf).place,
}
SCORES: dict[str, Callable[[Ranked, float], Floats]] = {
    "debias": lambda r, strength: debiased(r.score, r.counts, strength),
    "fatigue": lambda r, strength: fatigued(r.score, r.counts, strength),
}


@pytest.mark.parametrize("step", ORDERS)
@given(RANKED, STRENGTHS)
def test_an_order_has_k_places_of_the_ranking_each_once_and_the_same_again(
    step: str, ranked: Ranked, strength: float
) -> None:
    order = ORDERS[step](ranked, strength)
    first = order[: ranked.k]
    assert len(first) == min(ranked.k, len(ranked.score))
    assert len(set(order.tolist())) == len(order)
    assert set(order.tolist()) <= set(range(len(ranked.score)))
    assert order.tolist() == ORDERS[step](ranked, strength).tolist()
    if strength == 0:
        assert first.tolist() == list(range(len(first)))


@pytest.mark.parametrize("step", SCORES)
@given(RANKED, STRENGTHS)
def test_a_score_is_finite_and_at_no_strength_what_it_was(step: str, ranked: Ranked, strength: float) -> None:
    score = SCORES[step](ranked, strength)
    assert np.isfinite(score).all()
    if strength == 0:
        assert score.tolist() == ranked.score.tolist()
    ids = [f"é{n % 7}" + "x" * (n // 7) for n in range(len(score))]
    pairs = [(-score[n], ids[n].encode()) for n in best_first(score, ids)]
    assert pairs == sorted(pairs)


@given(st.lists(st.text(min_size=1), unique=True))
def test_equal_scores_are_in_the_order_of_the_bytes_of_their_ids(ids: list[str]) -> None:
    ids = [id_ for id_ in ids if id_.isprintable()]
    assert [ids[n] for n in best_first(np.zeros(len(ids)), ids)] == sorted(ids, key=str.encode)


@given(RANKED)
def test_what_is_shown_more_goes_down_and_what_is_popular_too(ranked: Ranked) -> None:
    for change in (fatigued(ranked.score, ranked.counts, 0.3), debiased(ranked.score, ranked.counts, 0.3)):
        drop = (ranked.score - change)[np.argsort(ranked.counts)]
        assert (np.diff(drop) >= -1e-9).all()


@given(RANKED, st.lists(st.integers(0, 5), min_size=4, max_size=4))
def test_no_quota_is_exceeded_and_no_place_is_empty_for_nothing(ranked: Ranked, most: list[int]) -> None:
    chosen = within_quotas(ranked.kinds, np.array(most), ranked.k)
    assert (ranked.kinds[chosen].sum(axis=0) <= most).all()
    assert chosen.tolist() == sorted(set(chosen.tolist()))
    left_out = set(range(len(ranked.score))) - set(chosen.tolist())
    for n in left_out if len(chosen) < ranked.k else ():  # none of them would have fitted
        assert (ranked.kinds[chosen].sum(axis=0) + ranked.kinds[n] > most)[ranked.kinds[n]].any()


@given(RANKED, st.integers(0, 3))
def test_of_one_kind_each_the_list_is_as_long_as_quotas_let_it(ranked: Ranked, most: int) -> None:
    kind = ranked.counts % 4
    chosen = within_quotas(np.eye(4)[kind], np.full(4, most), ranked.k)
    assert len(chosen) == min(ranked.k, sum(min(n, most) for n in Counter(kind.tolist()).values()))


@given(RANKED, STRENGTHS)
def test_quotas_of_a_history_have_room_for_the_list_and_less_the_more_they_count(
    ranked: Ranked, strength: float
) -> None:
    quotas = quotas_of(ranked.wanted, strength, ranked.k)
    assert quotas.sum() >= ranked.k
    assert (quotas <= quotas_of(ranked.wanted, 0, ranked.k)).all()
    assert quotas_of(ranked.wanted, 0, ranked.k).tolist() == [ranked.k] * 4
    if ranked.wanted.any():
        share = ranked.wanted / ranked.wanted.sum()
        assert (np.abs(quotas_of(ranked.wanted, 1, ranked.k) - ranked.k * share) < 1).all()


def slow_diversified(ranked: Ranked, strength: float) -> list[int]:
    """By the definition, a pair at a time."""
    rows, score = ranked.features, ranked.score
    spread = score.max() - score.min()
    worth = (score - score.min()) / spread if spread else np.ones(len(score))
    chosen: list[int] = []
    while len(chosen) < min(ranked.k, len(score)):
        left = [n for n in range(len(score)) if n not in chosen]
        value = {
            n: (1 - strength) * worth[n] - strength * max([0.0, *(float(rows[n] @ rows[m]) for m in chosen)])
            for n in left
        }
        best = max(value.values())
        chosen.append(min(n for n in left if value[n] >= best - 1e-12))
    return chosen


@given(RANKED.filter(lambda r: len(r.score) > 0), st.sampled_from([0.3, 0.5, 0.8]))
def test_diversity_is_maximal_marginal_relevance(ranked: Ranked, strength: float) -> None:
    order = diversified(ranked.score, ranked.features, strength, ranked.k)
    wanted = slow_diversified(ranked, strength)
    if order[: len(wanted)].tolist() != wanted:  # sums in another order: what differs is worth the same
        rows, score = ranked.features, ranked.score
        worth = (score - score.min()) / max(score.max() - score.min(), 1e-12)
        at = next(n for n, (a, b) in enumerate(zip(order, wanted, strict=False)) if a != b)

        def value(n: int) -> float:
            alike = max([0.0, *(float(rows[n] @ rows[m]) for m in wanted[:at])])
            return (1 - strength) * float(worth[n]) - strength * alike

        assert value(int(order[at])) == pytest.approx(value(wanted[at]), abs=1e-9)


@given(st.lists(st.sets(st.sampled_from(NAMES)), min_size=1, max_size=12), st.integers(0, 100))
def test_likeness_is_the_mean_of_the_cosines_that_both_items_have(categories: list[set[str]], seed: int) -> None:
    vectors = np.random.default_rng(seed).normal(size=(len(categories), 4))
    rows = features([sorted(own) for own in categories], vectors)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    for n, a in enumerate(categories):
        for m, b in enumerate(categories):
            if a and b:
                of_kinds = len(a & b) / (len(a) * len(b)) ** 0.5
                assert rows[n] @ rows[m] == pytest.approx((of_kinds + unit[n] @ unit[m]) / 2)
    assert np.allclose(np.linalg.norm(rows, axis=1), 1)


@given(RANKED.filter(lambda r: len(r.score) > r.k and r.wanted.any()))
def test_calibration_alone_comes_nearer_to_the_history_than_the_ranking_with_each_place(ranked: Ranked) -> None:
    """The first place is the best of all by the measure that is reported."""
    order = calibrated(ranked.score, ranked.shares, ranked.wanted, 1.0, 1)
    wanted = np.broadcast_to(ranked.wanted, ranked.shares.shape)
    divergence = measures.calibration(ranked.shares, wanted, SMOOTHING)
    assert divergence[order[0]] == pytest.approx(divergence.min())


def test_calibration_gives_a_minority_its_share() -> None:
    kinds = np.repeat(np.eye(2), [50, 50], axis=0)  # all of the first kind stand before all of the second
    score = np.linspace(1, 0, 100)
    wanted = np.array([7.0, 3.0])
    shares = [kinds[calibrated(score, kinds, wanted, s, 10)[:10], 1].mean() for s in (0, 0.5, 0.8, 0.99)]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0, pytest.approx(0.3))


@given(st.lists(st.lists(st.integers(0, 12), unique=True), max_size=4), st.integers(1, 15))
def test_a_chain_takes_each_source_in_turn_and_says_which(parts: list[list[int]], k: int) -> None:
    sources = [FallbackSource(f"s{n}", np.array(part, np.int32)) for n, part in enumerate(parts)]
    found = chained(sources, k)
    wanted: dict[int, str] = {}
    for n, part in enumerate(parts):
        wanted |= {item: f"s{n}" for item in part if item not in wanted}
    assert list(zip(found.item.tolist(), found.label, strict=True)) == list(wanted.items())[:k]
    assert found.fallback == next((f"s{n}" for n, part in enumerate(parts) if part), None)
