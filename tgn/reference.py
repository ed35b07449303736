"""Read this first: what the model does with one event, in NumPy, slowly. The kernels compute the same.

    list = score(before the event);  learn(from what was taken);  observe(the event)

`tests/tgn/test_reference.py` takes a stream through this page and through the kernels and finds the same lists and the
same state. The configuration is SMALL: few items, every known one a candidate. Left out, by a switch of the
configuration or because SMALL never comes to it: memories (`tgn.memory`), hours of the day (`tgn.features`), contexts
(`tgn.context_embedding`), vectors from outside (`tgn.outside_vectors`), retrieval (`tgn.retrieval`), seen, hidden and
deleted items (`tgn.seen_pairs`, `tgn.observe`), events that come late (`tgn.successors`), blocks, frozen learning and
lists longer than the pool (`tgn.prequential`). What is drawn at the start is taken from where the kernels draw it.

Shapes: C candidates, F features, I items, L popularity scales, S row scales, M successors, D embedding, H hidden.
"""

from typing import Any, NamedTuple

import numpy as np

from tgn import features as f
from tgn.config import ModelConfig
from tgn.graph import F64
from tgn.item_embedding import new_embeddings
from tgn.ranker import new_ranker

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
SMALL = ModelConfig(
    ring=4, row=4, window=3, transition_sources=3, co_sources=4, hidden=4, embedding=4, learning_draws=8,
    popularity_scales_ms=(6 * HOUR_MS, DAY_MS, 3 * DAY_MS, 7 * DAY_MS, 45 * DAY_MS),
    without=("memory", "hours", "content", "context", "trained", "retrieval"),
)  # fmt: skip

SMOOTHING = 1.0  # P(next | source) = w / (total + 1): an item that little is known of promises little
LEFT_TO_NEWCOMER = 0.5  # of the weight that a full row drops (`tgn.successors`)
FLOOR, SHARE_FLOOR = 1e-4, 1e-5  # below them a probability counts as none
RING_SCALE = 1.4  # of the weights of a ring
NEVER_SEEN, HELD = 2.0, -30.0  # idle time of a new user; score by embeddings of what the ring holds
INITIAL_ADAGRAD, POPULARITY_RATE = 0.1, 0.1
BETA2, MEAN_SHARE, SHORTEST_MEAN, WARM_UP, EPSILON = 0.999, 0.9, 1e-4, 50, 1e-8  # of schedule-free Adam


class Event(NamedTuple):
    user: int
    item: int
    t: int  # epoch ms, never before that of the last event
    weight: float  # ≤ 0: a dislike


class Held(NamedTuple):
    event: Event
    nth: int  # which event of its item it was, from 1


class Query(NamedTuple):
    items: list[int]  # [C] the candidates
    x: F64  # [C, F]
    taste: F64  # [D] e(u)
    share: F64  # [C] P(item) by the embeddings alone
    first: F64  # [C, H] of the ranker's layers
    second: F64  # [C, H]
    score: F64  # [C]


class Row:
    """What follows an item, or goes with it: weights decayed to `time` at each of S scales."""

    def __init__(self, scales: int) -> None:
        self.items: list[int] = []
        self.weight, self.total, self.time = np.zeros((0, scales)), np.zeros(scales), 0  # total: of all ever added


class State:
    """All that events change."""

    def __init__(self, config: ModelConfig, users: int, names: list[str]) -> None:
        self.config, self.names, items = config, names, len(names)
        self.scales, self.row_scales = np.array(config.popularity_scales_ms), np.array(config.row_scales_ms)
        self.ring: list[list[Held]] = [[] for _ in range(users)]  # the newest first
        self.taken, self.repeats = np.zeros(users, int), np.zeros(users, int)
        self.known: list[int] = []  # items in the order in which they were first taken
        self.popularity = np.zeros((items, len(self.scales)))  # decayed to `last`
        self.events, self.predecessors = np.zeros(items, int), np.zeros(items, int)
        self.first, self.last = np.full(items, -1), np.full(items, -1)  # when the item was taken
        self.transitions = [Row(len(self.row_scales)) for _ in names]
        self.co = [Row(len(self.row_scales)) for _ in names]
        drawn = new_embeddings(config, items)
        self.history, self.candidate = drawn.history.astype(float), drawn.candidate.astype(float)  # h, v [I, D]
        self.history_adagrad, self.candidate_adagrad = np.full((2, items), INITIAL_ADAGRAD)
        self.beta, self.beta_adagrad = np.zeros(len(self.scales)), np.full(len(self.scales), INITIAL_ADAGRAD)
        h, flat = config.hidden, new_ranker(config).weights.astype(float)
        w1, w2, b1, b2, w3, skip = np.split(flat, np.cumsum([h * f.FEATURES, h * h, h, h, h]))
        self.weights = [w1.reshape(h, -1), w2.reshape(h, h), b1, b2, w3, skip]  # y: what scores
        self.fast, self.slow = [w.copy() for w in self.weights], [w.copy() for w in self.weights]  # z, x
        self.variance = [np.zeros_like(w) for w in self.weights]
        self.steps = 0


def take(s: State, event: Event) -> list[tuple[int, float]]:
    """The list (item, score) that the user is given before the event, best first; then learns and observes."""
    q = score(s, event.user, event.t)
    if event.weight > 0 and event.item in q.items:
        learn(s, q, event.user, q.items.index(event.item))
    elif event.weight > 0 and event.item not in s.known:  # SMALL misses nothing else that may be listed
        _learn_missed(s, q, event.item)
    observe(s, event)
    return sorted(zip(q.items, q.score.tolist(), strict=True), key=lambda at: (-at[1], s.names[at[0]].encode()))


def score(s: State, user: int, now: int) -> Query:
    """score(x) = w_skip·x + w₃·relu(W₂ relu(W₁ x + b₁) + b₂) of every candidate (`tgn.ranker`)."""
    items = _candidates(s, user)
    x = np.zeros((len(items), f.FEATURES))
    _ring_features(s, x, items, user, now)
    _row_features(s, x, items, user, now)
    _item_and_user_features(s, x, items, user, now)
    taste, share = _embedding_features(s, x, items, user)
    w1, w2, b1, b2, w3, skip = s.weights
    first = np.maximum(x @ w1.T + b1, 0)
    second = np.maximum(first @ w2.T + b2, 0)
    return Query(items, x, taste, share, first, second, x @ skip + second @ w3)


def _candidates(s: State, user: int) -> list[int]:
    """The ring, what the rows of its items hold, every known item; not what the user disliked last."""
    named = [held.event.item for held in s.ring[user]]
    for back, source in _liked(s, user):
        named += s.transitions[source].items if back < s.config.transition_sources else []
        named += s.co[source].items if back < s.config.co_sources else []
    said_last = {held.event.item: held.event.weight for held in reversed(s.ring[user])}
    return [z for z in dict.fromkeys(named + s.known) if said_last.get(z, 1) > 0]


def _liked(s: State, user: int) -> list[tuple[int, int]]:
    """(how many events ago, item) of what the user liked lately."""
    return [(back, held.event.item) for back, held in enumerate(s.ring[user]) if held.event.weight > 0]


def _ring_features(s: State, x: F64, items: list[int], user: int, now: int) -> None:
    """What only an item of the user's ring has: how often, how long ago, what others did with it since."""
    for c, z in enumerate(items):
        mine = [(back, held) for back, held in enumerate(s.ring[user]) if held.event.item == z]
        if mine:
            back, newest = mine[0]
            age, others = now - newest.event.t, s.events[z] - newest.nth
            x[c, [f.REPEAT, f.RECENCY, f.LAST]] = 1, 1 / (1 + back), back == 0
            x[c, f.AGE : f.AGE + f.AGES] = (np.maximum(-age / s.scales[: f.AGES], np.log(FLOOR)) - np.log(FLOOR)) / 4
            x[c, [f.LOG_AGE, f.OTHERS_SINCE, f.LAST_TOUCHED]] = _log_minutes(age), log(1 + others) / 4, others == 0
            x[c, f.RING_COUNT], x[c, f.RING_SHARE] = log(1 + len(mine)), squash(len(mine) / len(s.ring[user]))
            x[c, f.RING_DECAYED] = squash(sum(decay(now - held.event.t, s.scales[f.AGES - 1]) for _, held in mine))


def _row_features(s: State, x: F64, items: list[int], user: int, now: int) -> None:
    """P(next | source), P(with | source) and the cosine of source and candidate, from rows decayed to now."""
    place = {z: c for c, z in enumerate(items)}
    for back, source in _liked(s, user):
        follows, goes_with = s.transitions[source], s.co[source]
        for z, w in zip(follows.items, follows.weight, strict=True):
            if back < s.config.transition_sources and z in place:
                p, column = _probability(s, follows, w, now), f.TRANSITION + min(back, 2)
                x[place[z], column] = max(x[place[z], column], p[-1])  # at the longest scale
                x[place[z], f.TRANSITION_SHORT] += p[0] if back == 0 else 0  # at the shortest
        for z, w in zip(goes_with.items, goes_with.weight, strict=True):
            if back < s.config.co_sources and z in place:
                p, other = _probability(s, goes_with, w, now), s.co[z]
                x[place[z], f.CO] += p[-1] / (1 + back)
                weight, total, other_total = (
                    amount[-1] * decay(now - row.time, s.row_scales[-1])
                    for amount, row in ((w, goes_with), (goes_with.total, goes_with), (other.total, other))
                )
                x[place[z], f.CO_COSINE] += weight / np.sqrt((total + SMOOTHING) * (other_total + SMOOTHING))
                x[place[z], f.CO_SITTING] += p[0] / (1 + back)
                x[place[z], [f.CO_LAST, f.CO_LAST_SHORT]] += (p[-1], p[0]) if back == 0 else (0, 0)
    rows = [*range(f.TRANSITION, f.CO_LAST_SHORT + 1), f.CO_SITTING]
    x[:, rows] = squash(x[:, rows])


def _probability(s: State, row: Row, weight: F64, now: int) -> F64:
    """[S] what a weight [S] of the row is worth now."""
    left = decay(now - row.time, s.row_scales)
    return np.asarray(weight * left / (row.total * left + SMOOTHING))


def _item_and_user_features(s: State, x: F64, items: list[int], user: int, now: int) -> None:
    """The item by itself; what is the same for all candidates of the user, and that crossed with REPEAT."""
    idle_ms = now - s.last[items]
    decayed = np.log(s.popularity[items]) - idle_ms[:, None] / s.scales
    x[:, f.POPULARITY : f.IDLE] = np.maximum(decayed, -4) / 4 + 1
    x[:, f.IDLE], x[:, f.ITEM_AGE] = _log_minutes(idle_ms), _log_minutes(now - s.first[items])
    x[:, f.ITEM_COUNT], x[:, f.PREDECESSORS] = log(1 + s.events[items]) / 8, log(1 + s.predecessors[items]) / 8
    idle = _log_minutes(now - s.ring[user][0].event.t) if s.ring[user] else NEVER_SEEN
    of_user = [np.log(1 + s.taken[user]) / 5, idle, s.repeats[user] / (s.taken[user] + 1)]
    x[:, f.USER_COUNT : f.USER_REPEATS + 1] = of_user
    x[:, f.REPEAT_COUNT : f.REPEAT_REPEATS + 1] = np.outer(x[:, f.REPEAT], of_user)
    x[:, f.CATALOGUE] = np.log(1 + len(s.known)) / 10


def _embedding_features(s: State, x: F64, items: list[int], user: int) -> tuple[F64, F64]:
    """e(u) = Σ_k w_k (h + v)(i_k), by dimension; P(z) = softmax of e·v(z) + Σ_l β_l pop_l(z) (`tgn.item_embedding`)."""
    taste = np.zeros(s.config.embedding)
    for weight, held in zip(_ring_weights(s, user), s.ring[user], strict=True):
        taste += weight * (s.history[held.event.item] + s.candidate[held.event.item])
    new, product = x[:, f.REPEAT] == 0, s.candidate[items] @ taste  # what the ring holds is the ranker's business
    share = softmax(np.where(new, product + x[:, f.POPULARITY : f.IDLE] @ s.beta, HELD))
    x[:, f.EMBEDDING] = np.where(new, np.clip(product, -4, 4) / 2, 0)
    x[:, f.EMBEDDING_SHARE] = np.where(new, (log(share + SHARE_FLOOR) - np.log(SHARE_FLOOR)) / 4, 0)
    return taste, share


def _ring_weights(s: State, user: int) -> F64:
    """[R, D] 1.4 w_dk / √(Σ_k w_dk), w_dk = (1 + k)^−γ_d; γ: ½ in half of the D, 1 and 1½ in a quarter each."""
    size = s.config.embedding
    gamma = np.repeat([0.5, 1, 1.5], [size - size // 2, size // 2 - size // 4, size // 4])
    weights = (1 + np.arange(len(s.ring[user]))[:, None]) ** -gamma
    return np.asarray(RING_SCALE * weights / np.sqrt(np.maximum(weights.sum(axis=0), 1)))


def learn(s: State, q: Query, user: int, target: int) -> None:
    """A step of the ranker on −ln P(target), then one of the embeddings unless the ring holds the target."""
    _learn_ranker(s, q, target)
    if q.x[target, f.REPEAT] == 0:
        _learn_embedding(s, q, user, target)


def _score_gradient(s: State, probability: F64, target: int) -> F64:
    """[C] estimates P(c) − [c = target]: evenly spaced draws from P, all moved by one random offset."""
    draws = (np.arange(s.config.learning_draws) + _uniform(s.steps)) / s.config.learning_draws
    drawn = np.searchsorted(np.cumsum(probability)[:-1], draws, side="right")
    g = np.bincount(drawn, minlength=len(probability)) / s.config.learning_draws
    g[target] -= 1
    return g


def _learn_ranker(s: State, q: Query, target: int) -> None:
    """The gradient, and a step of schedule-free Adam (Defazio et al. 2024; `tgn.ranker`).

    z takes the steps, x is their running mean, y = β x + (1 − β) z is what scores and where the gradient is taken.
    """
    g = _score_gradient(s, softmax(q.score), target)
    _, w2, _, _, w3, _ = s.weights
    d2 = (q.second > 0) * np.outer(g, w3)
    d1 = (q.first > 0) * (d2 @ w2)
    gradients = [d1.T @ q.x, d2.T @ q.first, d1.sum(axis=0), d2.sum(axis=0), g @ q.second, g @ q.x]
    s.steps += 1
    rate = s.config.learning_rate * np.sqrt(1 - BETA2**s.steps) * min(1, s.steps / WARM_UP)
    share = max(1 / (s.steps + 1), SHORTEST_MEAN)
    for y, z, x, v, gradient in zip(s.weights, s.fast, s.slow, s.variance, gradients, strict=True):
        v += (1 - BETA2) * (gradient**2 - v)
        z -= rate * gradient / (np.sqrt(v) + EPSILON)
        x += share * (z - x)
        y[:] = MEAN_SHARE * x + (1 - MEAN_SHARE) * z


def _learn_embedding(s: State, q: Query, user: int, target: int) -> None:
    """Row-wise AdaGrad (Duchi et al. 2011): a row's steps shrink with the root of its summed squared gradients."""
    g, rate = _score_gradient(s, q.share, target), s.config.embedding_rate
    of_taste, of_beta = g @ s.candidate[q.items], g @ q.x[:, f.POPULARITY : f.IDLE]
    _step_candidates(s, q.taste, q.items, g)
    s.beta_adagrad += of_beta**2
    s.beta -= POPULARITY_RATE * of_beta / np.sqrt(s.beta_adagrad)
    for weight, held in zip(_ring_weights(s, user), s.ring[user], strict=True):
        z, gradient = held.event.item, weight * of_taste
        s.history_adagrad[z] += np.mean(gradient**2)
        s.history[z] -= rate * gradient / np.sqrt(s.history_adagrad[z])


def _learn_missed(s: State, q: Query, item: int) -> None:
    """A step of the vectors of candidates alone, with the item added to the pool (`tgn.prequential`)."""
    items, pop = [*q.items, item], np.vstack([q.x[:, f.POPULARITY : f.IDLE], np.zeros(len(s.scales))])
    held = np.append(q.x[:, f.REPEAT] > 0, False)
    share = softmax(np.where(held, HELD, s.candidate[items] @ q.taste + pop @ s.beta))
    _step_candidates(s, q.taste, items, _score_gradient(s, share, len(q.items)))


def _step_candidates(s: State, taste: F64, items: list[int], g: F64) -> None:
    for z, of_score in zip(items, g, strict=True):
        s.candidate_adagrad[z] += np.mean((of_score * taste) ** 2)
        s.candidate[z] -= s.config.embedding_rate * of_score * taste / np.sqrt(s.candidate_adagrad[z])


def observe(s: State, event: Event) -> None:
    """The event enters the item's counts, the rows, and last the user's ring (`tgn.observe`); a dislike the ring."""
    user, z, t = event.user, event.item, event.t
    if event.weight > 0:
        if s.first[z] < 0:
            s.known.append(z)
            s.first[z] = s.last[z] = t
        s.popularity[z] = s.popularity[z] * decay(t - s.last[z], s.scales) + event.weight
        s.last[z], s.events[z] = t, s.events[z] + 1
        _relate(s, event)
    s.repeats[user] += z in [held.event.item for held in s.ring[user]]
    s.ring[user] = [Held(event, s.events[z]), *s.ring[user]][: s.config.ring]
    s.taken[user] += 1


def _relate(s: State, event: Event) -> None:
    """The last item → this one; and this one with each of the last W, both ways."""
    for back, other in _liked(s, event.user):
        if back < s.config.window and other != event.item:
            sitting = event.t - s.ring[event.user][back].event.t <= s.config.sitting_ms
            if back == 0:
                dropped = _add(s, s.transitions[other], event.item, event, 1, sitting)
                s.predecessors[event.item] += dropped != event.item
                s.predecessors[dropped] -= dropped not in (-1, event.item)
            _add(s, s.co[other], event.item, event, 1 / np.sqrt(1 + back), sitting)
            _add(s, s.co[event.item], other, event, 1 / np.sqrt(1 + back), sitting)


def _add(s: State, row: Row, successor: int, event: Event, share: float, sitting: bool) -> int:
    """Returns whom the successor drove out, −1: nobody, though it is new in the row; itself: it was there."""
    left, dropped = decay(event.t - row.time, s.row_scales), -1
    weight = share * event.weight * np.array([sitting] + [True] * (len(left) - 1))  # the first scale: one sitting alone
    row.weight, row.total, row.time = row.weight * left, row.total * left + weight, event.t
    if successor in row.items:
        dropped = successor
    elif len(row.items) < s.config.row:
        row.items, row.weight = [*row.items, successor], np.vstack([row.weight, np.zeros_like(left)])
    else:
        least = int(np.argmin(row.weight[:, -1]))
        dropped, row.items[least] = row.items[least], successor
        row.weight[least] *= LEFT_TO_NEWCOMER
    row.weight[row.items.index(successor)] += weight
    return dropped


def decay(elapsed_ms: Any, scale_ms: Any) -> Any:
    """exp(−Δt/τ): the one formula for forgetting."""
    return np.exp(-elapsed_ms / scale_ms)


def softmax(scores: F64) -> F64:
    powers = np.exp(scores - scores.max(initial=-np.inf))
    return np.asarray(powers / powers.sum())


def log(x: Any) -> Any:
    """ln to 1e-4: the exponent and a cubic in the mantissa (`tgn.kernel.fast_log`), since features are made of it."""
    m, exponent = np.frexp(x)  # m in [1/2, 1)
    cubic = -2.153620718 + 2 * m * (3.047884161 + 2 * m * (-1.051875031 + 2 * m * 0.158248766))
    return (exponent - 1 + cubic) * np.log(2)


def squash(probability: Any) -> Any:
    """A probability or a decay on a log scale, [0, 2.3]; none is 0."""
    return (log(probability + FLOOR) - np.log(FLOOR)) / 4


def _log_minutes(elapsed_ms: Any) -> Any:
    return log(1 + elapsed_ms / 60_000) / 10


def _uniform(steps: int) -> float:
    """[0, 1) from the count of steps alone (splitmix64), so that a restart draws the same."""
    z = (steps + 1) * 0x9E3779B97F4A7C15 % 2**64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return ((z ^ (z >> 31)) >> 40) / 2**24
