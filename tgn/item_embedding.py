"""Learned item embeddings: which items go together beyond those that ever met in one row.

Every item has two vectors: one for whom it suits as a candidate (v), one for what it says beyond that of a user who
has it in the ring (h). The user's embedding at any time is a sum over the ring, nearer items counting more,

    e_d(u) = 1.4 Σ_k w_dk (h + v)_d(i_k) / √(Σ_k w_dk),    w_dk = (1 + k)^−γ_d,    s(z) = e(u)·v(z) + Σ_l β_l pop_l(z),

with γ = ½ in the first half of the dimensions, 1 in the next quarter and 1½ in the last: what a user has liked for long
and what the last few events are about are read side by side. Learning e(u) moves h alone: v learns as a candidate, at
every event with the item, so an item says something of who has it from its first event on, while h is still the 0 that
it began with. A long history says more than a short one, not in proportion to its length (the n^−α of FISM, Kabbur et
al. 2013); e(u) moves with every event and needs no training for a new user; `tgn.context_embedding` adds what else a
user brings along. It is a bag-of-events form of the sequence models of session recommendation, learned online by its
own softmax over the candidate pool (sampled as in `tgn.ranker`) with row-wise AdaGrad (Duchi et al. 2011). Popularity
comes from the graph, as fresh as it is there, and takes the place of a learned bias (the logQ correction of sampled
softmax, its weights β learned too): e·v is left to say what popularity does not, and a bias that stops being learned
misleads. What the ring holds is none of its business: the ranker knows better, and learning repeats makes the ids
overfit. The ranker reads e·v and the softmax of s as features and so learns how far to trust them.
"""

from typing import NamedTuple

import numpy as np

from tgn.compiling.aligned import aligned, zeros
from tgn.config import ModelConfig
from tgn.features import EMBEDDING, EMBEDDING_SHARE, POPULARITY, REPEAT
from tgn.graph import F32, I32, U8, Users, with_room
from tgn.kernel import fast_log, kernel
from tgn.outside_vectors import SIZE
from tgn.ranker import drawn, softmax

INITIAL_RANGE = 0.17  # uniform in ±: a standard deviation of 0.1
INITIAL_ADAGRAD = 0.1
POPULARITY_RATE = np.float32(0.1)
RING_SCALE = np.float32(1.4)  # a ring of two or three items counts as their plain weighted sum
NEVER = np.float32(-30)  # the score of what has no share
SHARE_FLOOR = np.float32(1e-5)
SHARE_SHIFT = np.float32(2.8782)  # −ln(SHARE_FLOOR) / 4


class Embeddings(NamedTuple):
    """One row an item. The `_adagrad` columns are sums of squared gradients."""

    history: F32  # [I, D]
    candidate: F32  # [I, D]
    history_adagrad: F32  # [I]
    candidate_adagrad: F32  # [I]
    dirty: U8  # [I] 1: changed since the last checkpoint
    moved: U8  # [I] 1: learned since the last step that others are told of, see `tgn.sharing.learned_steps`


class PopularityWeights(NamedTuple):
    """β and its sums of squared gradients."""

    weight: F32  # [L]
    adagrad: F32  # [L]


class Taste(NamedTuple):
    """Scratch space of one query."""

    user: F32  # [D] e(u)
    gradient: F32  # [D] of e(u)
    score: F32  # [C]
    share: F32  # [C] softmax of score
    popularity_gradient: F32  # [L]
    vector: F32  # [SIZE] what the user's ring is about
    waiting: I32  # [N] items nobody has touched that are nearest to it
    nearness: F32  # [N]
    stepped: U8  # [C] 1: the last step moved the candidate's vector


def new_embeddings(config: ModelConfig, items: int) -> Embeddings:
    """Room for so many items: h is 0, and v depends on seed and index alone, not on when room was made."""
    d = config.embedding
    return Embeddings(
        zeros((items, d), np.float32),
        aligned(_initial(config.seed, 0, items, d)),
        np.full(items, INITIAL_ADAGRAD, np.float32),
        np.full(items, INITIAL_ADAGRAD, np.float32),
        np.zeros(items, np.uint8),
        np.zeros(items, np.uint8),
    )


def new_popularity_weights(config: ModelConfig) -> PopularityWeights:
    """β = 0: unlearned."""
    scales = len(config.popularity_scales_ms)
    return PopularityWeights(np.zeros(scales, np.float32), np.full(scales, INITIAL_ADAGRAD, np.float32))


def grown_embeddings(embeddings: Embeddings, config: ModelConfig, items: int) -> Embeddings:
    """The same embeddings with room for more items."""
    first, d = len(embeddings.moved), config.embedding
    grown = with_room(embeddings, new_embeddings(config, 1), items)
    grown.candidate[first:] = _initial(config.seed, first, items, d)
    return grown


def _initial(seed: int, first: int, end: int, d: int) -> F32:
    """Rows [first, end) of d columns, uniform in ±INITIAL_RANGE, by hashing (splitmix64) seed, row and column."""
    z = np.arange(first * d, end * d, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    z = z + np.uint64((seed * 0x9E3779B97F4A7C15 + 0x632BE59BD9B4E019) % 2**64)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    unit = ((z ^ (z >> np.uint64(31))) >> np.uint64(40)).astype(np.float32) / np.float32(1 << 24)
    return ((2 * unit - 1) * np.float32(INITIAL_RANGE)).reshape(end - first, d).astype(np.float32)


def new_taste(config: ModelConfig, room: int) -> Taste:
    """Scratch space for `room` candidates."""
    d = config.embedding
    return Taste(
        np.zeros(d, np.float32),
        np.zeros(d, np.float32),
        np.zeros(room, np.float32),
        np.zeros(room, np.float32),
        np.zeros(len(config.popularity_scales_ms), np.float32),
        np.zeros(SIZE, np.float32),
        np.zeros(config.waiting_nearest, np.int32),
        np.zeros(config.waiting_nearest, np.float32),
        np.zeros(room, np.uint8),
    )


@kernel
def embed(embeddings: Embeddings, users: Users, user: int, out: F32) -> None:
    """Writes e(u) into out [D]. Pure."""
    ring, size = users.ring_item.shape[1], len(out)
    held = min(users.events[user], ring)
    long, middle, short = _ring_scales(held)
    out[:] = 0
    for back in range(held):
        z = users.ring_item[user, (users.events[user] - 1 - back) % ring]
        says, suits = embeddings.history[z], embeddings.candidate[z]
        near = np.float32(1) / np.sqrt(np.float32(1 + back))
        _add_both(says, suits, out, 0, _middle_from(size), long * near)
        _add_both(says, suits, out, _middle_from(size), _short_from(size), middle * near * near)
        _add_both(says, suits, out, _short_from(size), size, short * near * near * near)


@kernel
def _middle_from(size: int) -> int:
    """The first of `size` dimensions with γ = 1; those before it have γ = ½."""
    return size - size // 2


@kernel
def _short_from(size: int) -> int:
    """The first of `size` dimensions with γ = 1½."""
    return size - size // 4


@kernel
def _add_both(says: F32, suits: F32, out: F32, first: int, end: int, weight: float) -> None:
    """Adds weight (says + suits) to dimensions [first, end) of out."""
    for d in range(first, end):
        out[d] += weight * (says[d] + suits[d])


@kernel
def _ring_scales(held: int) -> tuple[float, float, float]:
    """1.4 / √(Σ_k w_k) of a ring that holds so many items, for γ = ½, 1, 1½."""
    long, middle, short = np.float32(0), np.float32(0), np.float32(0)
    for back in range(held):
        near = np.float32(1) / np.sqrt(np.float32(1 + back))
        long += near
        middle += near * near
        short += near * near * near
    return _ring_scale(long), _ring_scale(middle), _ring_scale(short)


@kernel
def _ring_scale(total: float) -> float:
    return RING_SCALE / np.sqrt(max(total, np.float32(1)))


@kernel
def embedding_features(
    embeddings: Embeddings, popularity: PopularityWeights, taste: Taste, items: I32, x: F32, n: int
) -> None:
    """Scores n candidates by the embedding in `taste.user` and writes its two features into x [F, C]."""
    for c in range(n):
        row, s = embeddings.candidate[items[c]], np.float32(0)
        for d in range(len(taste.user)):
            s += taste.user[d] * row[d]
        taste.score[c] = s
    for c in range(n):
        x[EMBEDDING, c] = max(np.float32(-4), min(np.float32(4), taste.score[c])) * np.float32(0.5)
    for scale in range(len(popularity.weight)):
        for c in range(n):
            taste.score[c] += popularity.weight[scale] * x[POPULARITY + scale, c]
    for c in range(n):
        if x[REPEAT, c] > 0:
            taste.score[c] = NEVER
    softmax(taste.score, taste.share, n)
    for c in range(n):
        x[EMBEDDING_SHARE, c] = fast_log(taste.share[c] + SHARE_FLOOR) * np.float32(0.25) + SHARE_SHIFT
    for c in range(n):
        if x[REPEAT, c] > 0:
            x[EMBEDDING, c] = 0
            x[EMBEDDING_SHARE, c] = 0


@kernel
def share_with(
    embeddings: Embeddings, popularity: PopularityWeights, taste: Taste, items: I32, x: F32, size: int, n: int,
    drawn_for: float,
) -> None:  # fmt: skip
    """Shares of a pool and of what is added to it after `embedding_features`: candidates [size, n) without evidence.

    The first of these is an item by itself, the others were drawn, each for `drawn_for` items like it, so that its
    share is theirs (the logQ correction of sampled softmax, Bengio & Senécal 2008).
    """
    for c in range(size, n):
        row, s = embeddings.candidate[items[c]], np.float32(0)
        for d in range(len(taste.user)):
            s += taste.user[d] * row[d]
        for scale in range(len(popularity.weight)):
            s += popularity.weight[scale] * x[POPULARITY + scale, c]
        taste.score[c] = s + (np.float32(np.log(drawn_for)) if c > size else np.float32(0))
    softmax(taste.score, taste.share, n)


@kernel
def learn_embedding(
    embeddings: Embeddings, popularity: PopularityWeights, taste: Taste, users: Users, items: I32, x: F32, n: int,
    user: int, target: int, rate: float, draws: int, offset: float, pooled: bool,
) -> None:  # fmt: skip
    """One step on −log share[target] after `embedding_features`, over `draws` systematic draws from the pool.

    pooled: the target was in the pool. Else it alone learns, with the candidates that are drawn: most of what a pool
    misses nobody could tell, and taught of that too, the ring's vectors get worse.
    """
    each = np.float32(1) / np.float32(draws)
    next_draw = offset * each
    cumulated = np.float32(0)
    norm = mean_square(taste.user)
    taste.gradient[:] = 0
    taste.popularity_gradient[:] = 0
    for c in range(n):
        cumulated += taste.share[c]
        g, next_draw = drawn(cumulated, next_draw, each)
        if c == target:
            g -= np.float32(1)
        taste.stepped[c] = g != 0
        if g != 0:
            _step_candidate(embeddings, taste, items[c], g, norm, rate)
            for scale in range(len(popularity.weight)):
                taste.popularity_gradient[scale] += g * x[POPULARITY + scale, c]
    if not pooled:
        return
    for scale in range(len(popularity.weight)):
        g = taste.popularity_gradient[scale]
        popularity.adagrad[scale] += g * g
        popularity.weight[scale] -= POPULARITY_RATE * g / np.sqrt(popularity.adagrad[scale])
    _step_history(embeddings, taste, users, user, rate)


@kernel
def _step_candidate(embeddings: Embeddings, taste: Taste, z: int, g: float, norm: float, rate: float) -> None:
    embeddings.dirty[z] = embeddings.moved[z] = 1
    embeddings.candidate_adagrad[z] += g * g * norm
    step = rate * g / np.sqrt(embeddings.candidate_adagrad[z])
    row = embeddings.candidate[z]
    for d in range(len(row)):
        taste.gradient[d] += g * row[d]
        row[d] -= step * taste.user[d]


@kernel
def _step_history(embeddings: Embeddings, taste: Taste, users: Users, user: int, rate: float) -> None:
    gradient, size = taste.gradient, len(taste.gradient)
    middle_from, short_from = _middle_from(size), _short_from(size)
    ring = users.ring_item.shape[1]
    held = min(users.events[user], ring)
    long, middle, short = _ring_scales(held)
    long_square = long * long * _square(gradient, 0, middle_from)
    middle_square = middle * middle * _square(gradient, middle_from, short_from)
    short_square = short * short * _square(gradient, short_from, size)
    for back in range(held):
        z = users.ring_item[user, (users.events[user] - 1 - back) % ring]
        near = np.float32(1) / np.sqrt(np.float32(1 + back))
        left = near * near
        square = left * (long_square + left * (middle_square + left * short_square)) / np.float32(size)
        embeddings.dirty[z] = embeddings.moved[z] = 1
        embeddings.history_adagrad[z] += square
        step = near * rate / np.sqrt(embeddings.history_adagrad[z])
        row = embeddings.history[z]
        _descend(row, gradient, 0, middle_from, long * step)
        _descend(row, gradient, middle_from, short_from, middle * near * step)
        _descend(row, gradient, short_from, size, short * left * step)


@kernel
def _descend(row: F32, gradient: F32, first: int, end: int, step: float) -> None:
    for d in range(first, end):
        row[d] -= step * gradient[d]


@kernel
def _square(vector: F32, first: int, end: int) -> float:
    """The sum of squares of dimensions [first, end)."""
    total = np.float32(0)
    for d in range(first, end):
        total += vector[d] * vector[d]
    return total


@kernel
def mean_square(vector: F32) -> float:
    """What a row's sum of squared gradients grows by."""
    return _square(vector, 0, len(vector)) / np.float32(len(vector))
