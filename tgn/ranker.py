"""The ranker: a small MLP over candidate features, scored and learned one event at a time, in kernels.

score(x) = w_skip·x + w₃·relu(W₂ relu(W₁ x + b₁) + b₂), learned by softmax cross-entropy over the candidate pool
(the pool is the hard negatives) with schedule-free Adam (Defazio et al. 2024, "The Road Less Scheduled"): z takes the
steps, x is the running mean of z and the lists are scored at y = β x + (1 − β) z, where the gradient is taken too. A
mean of the last ten thousand steps is steadier than any one of them and still follows a stream that drifts. Where
nothing is learned any more the lists are scored at x, as schedule-free evaluation is.
"""

from typing import NamedTuple

import numpy as np

from tgn import features as f
from tgn.compiling.aligned import zeros
from tgn.config import ModelConfig
from tgn.graph import F32, I64
from tgn.kernel import flushed, kernel

ONE, BETA2, EPSILON = np.float32(1), np.float32(0.999), np.float32(1e-8)
MEAN_SHARE = np.float32(0.9)  # β
SHORTEST_MEAN = np.float32(1e-4)  # the mean forgets over at most 1 / this many steps
WARM_UP = np.float32(50)  # steps in which the rate rises


Parameters = tuple[F32, F32, F32, F32, F32, F32]
"""W₁ [H, F], W₂ [H, H], b₁, b₂, w₃ [H], w_skip [F]."""


class Ranker(NamedTuple):
    """Weights and what their optimiser remembers, each one flat vector; all of it is state."""

    weights: F32  # [P] y: what scores
    fast: F32  # [P] z
    slow: F32  # [P] x
    variance: F32  # [P] mean square of the gradient
    steps: I64  # [1] steps taken


class Activations(NamedTuple):
    """Scratch space of one query and one backward pass: [H, C], [H, C], [C], [C], rows, and the gradient."""

    first: F32
    second: F32
    score: F32
    probability: F32
    row: F32  # [F + 2 H]
    gradient: F32  # [P]


def parameters(hidden: int) -> int:
    """P: W₁ [H, F], W₂ [H, H], b₁, b₂, w₃ [H], w_skip [F], in this order."""
    return hidden * f.FEATURES + hidden * hidden + 3 * hidden + f.FEATURES


def new_ranker(config: ModelConfig) -> Ranker:
    """Untrained weights that already rank: the skip weights prefer what repeats, follows and is popular, in that
    order, and w₃ starts at 0, so the first lists are no worse than popularity. A version of trained vectors comes
    later: its features have no say before there was something to learn from."""
    h, size = config.hidden, parameters(config.hidden)
    rng = np.random.default_rng(config.seed)
    weights = np.zeros(size, np.float32)
    drawn = np.delete(np.arange(f.FEATURES), np.arange(f.TRAINED_LAST, f.TRAINED_USER + 1))
    weights[: h * f.FEATURES].reshape(h, -1)[:, drawn] = rng.normal(0, (2 / len(drawn)) ** 0.5, (h, len(drawn)))
    weights[h * f.FEATURES : h * f.FEATURES + h * h] = rng.normal(0, (2 / h) ** 0.5, h * h)
    skip = weights[size - f.FEATURES :]
    for feature, weight in PRIOR.items():
        skip[feature] = weight
    return Ranker(weights, weights.copy(), weights.copy(), np.zeros(size, np.float32), np.zeros(1, np.int64))


PRIOR = {
    f.RECENCY: 3.0,
    f.AGE + 2: 1.5,
    f.RING_SHARE: 1.5,
    f.TRANSITION: 1.5,
    f.TRANSITION + 1: 0.75,
    f.CO: 1.5,
    f.CO_LAST: 0.75,
    f.POPULARITY + 1: 0.75,
    f.POPULARITY + 2: 1.5,
    f.POPULARITY + 3: 1.5,
}


def new_activations(config: ModelConfig, room: int) -> Activations:
    """Scratch space for `room` candidates."""
    h = config.hidden
    return Activations(
        zeros((h, room), np.float32),
        zeros((h, room), np.float32),
        zeros(room, np.float32),
        zeros(room, np.float32),
        np.zeros(f.FEATURES + 2 * h, np.float32),
        np.zeros(parameters(h), np.float32),
    )


@kernel
def _unpack(flat: F32, h: int) -> Parameters:
    """Views into a flat parameter vector: W₁ [H, F], W₂ [H, H], b₁, b₂, w₃ [H], w_skip [F]."""
    a = h * f.FEATURES
    b = a + h * h
    return (
        flat[:a].reshape(h, f.FEATURES),
        flat[a:b].reshape(h, h),
        flat[b : b + h],
        flat[b + h : b + 2 * h],
        flat[b + 2 * h : b + 3 * h],
        flat[b + 3 * h :],
    )


@kernel
def _add_inputs(w: F32, x: F32, out: F32, i: int, first: int, last: int, n: int) -> None:
    """Adds inputs [first, last) of n columns to the outputs i and i + 1; w [H, D], x [D, C], out [H, C].

    Two outputs and four inputs at a time: the inner loop runs over candidates in vector registers.
    """
    a, b = out[i], out[i + 1]
    for d in range(first, last, 4):
        a0, a1, a2, a3 = w[i, d], w[i, d + 1], w[i, d + 2], w[i, d + 3]
        b0, b1, b2, b3 = w[i + 1, d], w[i + 1, d + 1], w[i + 1, d + 2], w[i + 1, d + 3]
        x0, x1, x2, x3 = x[d], x[d + 1], x[d + 2], x[d + 3]
        for c in range(n):
            a[c] += a0 * x0[c] + a1 * x1[c] + a2 * x2[c] + a3 * x3[c]
            b[c] += b0 * x0[c] + b1 * x1[c] + b2 * x2[c] + b3 * x3[c]


@kernel
def forward(weights: F32, act: Activations, x: F32, n: int, held: int) -> None:
    """Scores of n candidates with features x [F, C] into act.score, the first `held` of them of the user's ring.

    weights: [P] of a ranker, `weights` where it learns, `slow` where nothing moves any more (schedule-free evaluation).
    Features that only those have are 0 for the others and cost nothing there; the user's are the same for all.
    """
    h = act.first.shape[0]
    w1, w2, b1, b2, w3, skip = _unpack(weights, h)
    for i in range(0, h, 2):
        for j in range(i, i + 2):
            bias, out = b1[j], act.first[j]
            for d in range(f.USER_FEATURES, f.FEATURES):
                bias += w1[j, d] * x[d, 0]
            for c in range(n):
                out[c] = bias
        _add_inputs(w1, x, act.first, i, 0, f.RING_FEATURES, held)
        _add_inputs(w1, x, act.first, i, f.RING_FEATURES, f.USER_FEATURES, n)
        _rectify(act.first, i, n)
    for i in range(0, h, 2):
        for j in range(i, i + 2):
            bias, out = b2[j], act.second[j]
            for c in range(n):
                out[c] = bias
        _add_inputs(w2, act.first, act.second, i, 0, h, n)
        _rectify(act.second, i, n)
    score, constant = act.score, np.float32(0)
    for d in range(f.USER_FEATURES, f.FEATURES):
        constant += skip[d] * x[d, 0]
    for c in range(n):
        score[c] = constant
    for d in range(f.USER_FEATURES):
        weight, row = skip[d], x[d]
        for c in range(held if d < f.RING_FEATURES else n):
            score[c] += weight * row[c]
    for i in range(h):
        weight, row = w3[i], act.second[i]
        for c in range(n):
            score[c] += weight * row[c]


@kernel
def _rectify(out: F32, i: int, n: int) -> None:
    """relu of rows i and i + 1."""
    a, b = out[i], out[i + 1]
    for c in range(n):
        a[c] = max(a[c], np.float32(0))
        b[c] = max(b[c], np.float32(0))


@kernel
def learn(
    ranker: Ranker, act: Activations, x: F32, n: int, target: int, rate: float, draws: int, offset: float
) -> None:
    """One step on an unbiased estimate of the gradient of −log probability[target], after `forward` and `softmax`.

    The gradient is Σ p_c ∇score_c − ∇score_target. The sum is an expectation over candidates, taken by `draws`
    systematic draws (one random offset, evenly spaced), so the backward pass costs the same however large the pool.
    """
    h = act.first.shape[0]
    weights = _unpack(ranker.weights, h)
    gradient = _unpack(act.gradient, h)
    act.gradient[:] = 0
    each = np.float32(1) / np.float32(draws)
    next_draw = offset * each
    cumulated = np.float32(0)
    for c in range(n):
        cumulated += act.probability[c]
        g, next_draw = drawn(cumulated, next_draw, each)
        if c == target:
            g -= np.float32(1)
        if g != 0:
            _backward(weights, gradient, act, x, c, g)
    _step(ranker, act.gradient, rate)


@kernel
def drawn(cumulated: float, next_draw: float, each: float) -> tuple[float, float]:
    """What part of evenly spaced draws falls on a candidate, and where the next draw is.

    cumulated: the probability up to the candidate, its own counted; each: the part of one draw.
    """
    part = np.float32(0)
    while cumulated > next_draw:
        part += each
        next_draw += each
    return part, next_draw


@kernel
def uniform(steps: I64) -> float:
    """A number in [0, 1) from the count of steps alone (splitmix64), so that a restart draws the same."""
    z = (np.uint64(steps[0]) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return np.float32(z >> np.uint64(40)) * np.float32(1 / (1 << 24))


@kernel
def softmax(score: F32, out: F32, n: int) -> None:
    """Writes the softmax of n scores into out."""
    top = score[0]
    for c in range(n):
        top = max(top, score[c])
    total = np.float32(0)
    for c in range(n):
        out[c] = np.exp(score[c] - top)
        total += out[c]
    for c in range(n):
        out[c] /= total


@kernel
def _backward(weights: Parameters, gradient: Parameters, act: Activations, x: F32, c: int, g: float) -> None:
    """Back-propagates one candidate's score gradient g through both layers: rank-one updates over contiguous rows."""
    _, w2, _, _, w3, _ = weights
    g1, g2, gb1, gb2, g3, gskip = gradient
    h, inputs = w2.shape[0], g1.shape[1]
    column = act.row[:inputs]
    first = act.row[inputs : inputs + h]
    d1 = act.row[inputs + h : inputs + 2 * h]
    for d in range(inputs):
        column[d] = x[d, c] if d < f.USER_FEATURES else x[d, 0]
        gskip[d] += g * column[d]
    for i in range(h):
        first[i] = act.first[i, c]
        d1[i] = 0
    for i in range(h):
        out = act.second[i, c]
        g3[i] += g * out
        if out > 0:
            d2 = g * w3[i]
            gb2[i] += d2
            for j in range(h):
                g2[i, j] += d2 * first[j]
                d1[j] += d2 * w2[i, j]
    for i in range(h):
        if first[i] > 0:
            gb1[i] += d1[i]
            for d in range(inputs):
                g1[i, d] += d1[i] * column[d]


@kernel
def _step(ranker: Ranker, gradient: F32, rate: float) -> None:
    ranker.steps[0] += 1
    step = ranker.steps[0]
    warm = min(ONE, np.float32(step) / WARM_UP)
    scale = np.float32(rate * np.sqrt(1 - 0.999**step)) * warm
    share = max(ONE / np.float32(step + 1), SHORTEST_MEAN)
    y, z, x, v = ranker.weights, ranker.fast, ranker.slow, ranker.variance
    for p in range(len(y)):
        v[p] = flushed(BETA2 * v[p] + (ONE - BETA2) * gradient[p] * gradient[p])
        z[p] -= scale * gradient[p] / (np.sqrt(v[p]) + EPSILON)
        x[p] += share * (z[p] - x[p])
        y[p] = MEAN_SHARE * x[p] + (ONE - MEAN_SHARE) * z[p]
