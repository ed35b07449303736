"""Paired comparison of two replays of one stream: differences of quality, with intervals that know of dependence.

Events of one user resemble each other, and so do events of one hour: an interval that takes events for independent is
several times too narrow (six times on wikipedia). Both kinds are resampled: whole users (cluster bootstrap, Field and
Welsh 2007) and blocks of neighbouring events (non-overlapping block bootstrap, Carlstein 1986). What both resample is
counted once, as Cameron, Gelbach and Miller (2011, "Robust inference with multiway clustering") do with variances:
V = V_user + V_time − V_event.
"""

import math
from typing import NamedTuple

import numpy as np

from streamer.monitoring.prequential_quality import metrics, places, scores

LEAST_EVENTS, LEAST_USERS = 50, 10  # fewer say nothing of their spread
EXACT = 1_000  # discordant events up to which McNemar's test is exact
RESAMPLES = 4_000
USER_GROUPS = 2_000  # at most; more users are dealt into groups at random: whole users stay together
TIME_BLOCKS = 50
RESAMPLES_AT_ONCE = 500  # bounds the memory: so many times USER_GROUPS draws


class Difference(NamedTuple):
    """One metric of A and B over the same events; the interval is that of B − A."""

    metric: str
    a: float
    b: float
    low: float
    high: float

    @property
    def difference(self) -> float:
        """B − A."""
        return self.b - self.a

    @property
    def verdict(self) -> str:
        """What the interval says of B."""
        if self.low > 0:
            return "better"
        return "worse" if self.high < 0 else "no difference shown"


class Discordance(NamedTuple):
    """Events that one of A and B hit and the other missed, and McNemar's test of whether both are as frequent."""

    only_a: int
    only_b: int
    p: float  # two-sided; it takes events for independent, which they are not, so it is too small

    @property
    def p_in_words(self) -> str:
        """As many digits as say something."""
        return f"{self.p:.2g}" if self.p > 1e-16 else "under 1e-16"


def discordance(rank_a: np.ndarray, rank_b: np.ndarray, k: int) -> Discordance:
    """Of ranks [N] of the same events, from 1, 0: missed; k: items in the shorter of their lists.

    p is exact, of the binomial distribution, up to EXACT discordant events, and of the normal one with continuity
    correction above (McNemar 1947, Edwards 1948).

    >>> rank_a, rank_b = np.array([1] * 20 + [0] * 9), np.array([1] * 12 + [0] * 8 + [3] + [0] * 8)
    >>> found = discordance(rank_a, rank_b, k=10)
    >>> found.only_a, found.only_b, round(found.p, 4)
    (8, 1, 0.0391)
    """
    hit_a, hit_b = (scores(rank, places(k))[:, 0] > 0 for rank in (rank_a, rank_b))
    a, b = int((hit_a & ~hit_b).sum()), int((hit_b & ~hit_a).sum())
    n = a + b
    if n <= EXACT:
        tail = sum(math.comb(n, hits) for hits in range(min(a, b) + 1)) / 2**n
        return Discordance(a, b, min(1.0, 2 * tail))
    return Discordance(a, b, math.erfc(max(abs(a - b) - 1, 0) / math.sqrt(2 * n)))


def compare_ranks(
    rank_a: np.ndarray, rank_b: np.ndarray, user: np.ndarray, k: int, confidence: float = 0.95, seed: int = 0
) -> list[Difference]:
    """The metrics of N events, in time order, that both measured.

    Args:
        rank_a: [N] place of the item under the first settings, from 1; 0: missed.
        rank_b: [N] the same under the second ones.
        user: [N] any integer id.
        k: items in the shorter of their lists.
        confidence: of the intervals.
        seed: of the draws that they are made from.

    >>> user = np.arange(2_000) % 100
    >>> rank_a, rank_b = np.where(user % 2, 1, 0), np.ones(2_000, np.int64)
    >>> hit_rate = compare_ranks(rank_a, rank_b, user, k=10)[0]
    >>> hit_rate.metric, hit_rate.difference, hit_rate.verdict
    ('hr@10', 0.5, 'better')
    """
    a, b = scores(rank_a, places(k)), scores(rank_b, places(k))
    low, high = interval(b - a, user, confidence, seed)
    columns = zip(metrics(k), a.mean(axis=0), b.mean(axis=0), low, high, strict=True)
    return [Difference(metric, *map(float, figures)) for metric, *figures in columns]


def interval(
    difference: np.ndarray, user: np.ndarray, confidence: float = 0.95, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the interval of the mean of M paired differences, `[N, M]` → `[M]`, `[M]`. Deterministic by `seed`."""
    rng, n = np.random.default_rng(seed), len(difference)
    mean = difference.mean(axis=0)
    by_user = deviations(difference, _groups_of_users(user, rng), rng)
    by_time = deviations(difference, np.arange(n) * min(TIME_BLOCKS, n) // n, rng)
    user_variance, time_variance = by_user.var(axis=0), by_time.var(axis=0)
    event_variance = difference.var(axis=0) / n
    variance = np.maximum(user_variance + time_variance - event_variance, np.maximum(user_variance, time_variance))
    drawn = by_user + by_time  # [resamples, M], of variance V_user + V_time
    drawn *= np.sqrt(variance / np.maximum(user_variance + time_variance, np.finfo(float).tiny))
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, [1 - tail, tail], axis=0)
    return mean - low, mean - high


def deviations(difference: np.ndarray, group: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """[resamples, M] what resampling whole groups does to the mean of `difference` [N, M]; group: [N] from 0, no gaps.

    Each group stands for what leaving it out does to the mean: that keeps the interval wide enough where one user has
    a large share of the events (the jackknife variance, CV3 of MacKinnon, Nielsen and Webb 2023). Few groups say
    little of the spread: Student's t instead of the normal, with n² / Σ n_g² groups (Carter, Schnepel, Steigerwald
    2017).
    """
    size, n = np.bincount(group).astype(float), len(difference)
    centred = difference - difference.mean(axis=0)
    sums = np.stack([np.bincount(group, column) for column in centred.T], axis=1)  # [G, M]
    without = sums / np.maximum(n - size, 1)[:, None]
    groups = len(size)
    drawn = [
        (rng.multinomial(groups, np.full(groups, 1 / groups), RESAMPLES_AT_ONCE) - 1) @ without
        for _ in range(RESAMPLES // RESAMPLES_AT_ONCE)
    ]
    return np.asarray(np.concatenate(drawn) * _student(n * n / (size @ size) - 1))


def _student(freedom: float) -> float:
    """How much wider 95 % of Student's t is than of the normal: t ≈ z + (z³ + z) / 4ν (Cornish and Fisher 1938)."""
    return 1 + (1.96**2 + 1) / (4 * max(freedom, 1.0))


def _groups_of_users(user: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """[N] group of each event's user, without gaps."""
    users, of_event = np.unique(user, return_inverse=True)
    if len(users) <= USER_GROUPS:
        return np.asarray(of_event)
    dealt = rng.permutation(len(users)) % USER_GROUPS
    return np.asarray(dealt[of_event])
