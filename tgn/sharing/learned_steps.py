"""What one model has learned, as a step that is added to another that learned from other events.

Weights are sums of steps, so that what two models learned from one point on is the sum of what each did. The ranker's
x and v are means, linear filters of what their optimiser saw (`tgn.ranker`): over n of its steps

    z ← z + Δz        x ← a x + (1 − a) z + Δx, a = Π (1 − share)        v ← βⁿ v + Δv,

where Δx and Δv are what the filters answer to those n steps alone. What is added thus stands where it would had the
other model taken those steps itself. Sums of squared gradients add up as they are.

Of embeddings a step has the rows that make up TOLD of their squared movement. The rest, often half of the rows, is
what candidates are pushed down by where they were drawn: every model does that by itself.
"""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from tgn.config import ModelConfig
from tgn.context_embedding import new_contexts
from tgn.graph import F32, I32
from tgn.item_embedding import (
    INITIAL_ADAGRAD,
    PopularityWeights,
    grown_embeddings,
    new_embeddings,
    new_popularity_weights,
)
from tgn.model import Model
from tgn.ranker import BETA2, MEAN_SHARE, ONE, SHORTEST_MEAN, Ranker, new_ranker
from tgn.sharing.added_rows import LearnedRows, add_step, mark_moved, take_rows

INITIAL = np.float32(INITIAL_ADAGRAD)
TOLD = 0.999


class RankerStep(NamedTuple):
    """What `steps` steps of the optimiser were worth; [P] each."""

    fast: F32
    slow: F32
    variance: F32
    kept: float  # a
    steps: int


class LearnedStep(NamedTuple):
    """What was learned of items, as both of their vectors, of contexts, and by the ranker."""

    history: LearnedRows
    candidate: LearnedRows
    context: LearnedRows
    popularity: F32  # [L]
    popularity_adagrad: F32  # [L]
    ranker: RankerStep | None  # None: another part of the step has it


class Unshared:
    """What a model has learned and no step has told yet.

    `embeddings`, `contexts`, `popularity` and `ranker` are the weights without it; what the ranker learned before the
    last `add` or step is in `answer`.

    Args:
        config: of the model; it has told nothing yet, so that its first step is all that it has learned.
    """

    def __init__(self, config: ModelConfig, items: int) -> None:
        self.config = config
        self.embeddings = new_embeddings(config, items)
        self.contexts = new_contexts(config)
        self.popularity = new_popularity_weights(config)
        self.ranker = new_ranker(config)
        self.answer = _no_answer(self.ranker)


def begin(model: Model) -> Unshared:
    """From now on what a model learns is kept for a step."""
    model.make_room(0)
    embeddings = model.embeddings
    learned = (embeddings.history_adagrad != INITIAL) | (embeddings.candidate_adagrad != INITIAL)
    embeddings.moved[:] = learned
    return Unshared(model.config, len(learned))


def take_step(model: Model, unshared: Unshared, told: float = TOLD) -> LearnedStep:
    """What has been learned since the last step; from here on the next one's.

    told: of how much of the squared movement of either vector the step has the rows.
    """
    _make_room(model, unshared)
    of_items, before = model.embeddings, unshared.embeddings
    items = np.flatnonzero(of_items.moved).astype(np.int32)
    history = (of_items.history, of_items.history_adagrad), (before.history, before.history_adagrad)
    candidate = (of_items.candidate, of_items.candidate_adagrad), (before.candidate, before.candidate_adagrad)
    contexts = model.contexts[:2], unshared.contexts[:2]
    weight, adagrad = (now - base for now, base in zip(model.popularity, unshared.popularity, strict=True))
    unshared.popularity = PopularityWeights(*(array.copy() for array in model.popularity))
    _answer(model.ranker, unshared)
    answer, unshared.answer = unshared.answer, _no_answer(model.ranker)
    of_items.moved[:] = 0
    return LearnedStep(
        _most_of(_moved(*history, items), told),
        _most_of(_moved(*candidate, items), told),
        _moved(*contexts, _contexts_moved(model, unshared)),
        weight,
        adagrad,
        answer,
    )


def add(model: Model, unshared: Unshared, steps: Sequence[tuple[LearnedStep, float]]) -> None:
    """Adds what other models have learned, in this order; it is none of what this one has yet to tell.

    Args:
        unshared: of this model.
        steps: each with how much of the weights' way is gone, 1 for all of it.
    """
    _make_room(model, unshared)
    arrays = model.held_arrays()
    for step, share in steps:
        part = np.float32(share)
        rows = (_scaled(one, part) for one in (step.history, step.candidate, step.context))
        add_step(arrays, unshared.embeddings, unshared.contexts, *rows)
        for popularity in (model.popularity, unshared.popularity):
            popularity.weight[:] += part * step.popularity
            popularity.adagrad[:] += step.popularity_adagrad
    _add_to_ranker(model.ranker, unshared, [(step.ranker, share) for step, share in steps if step.ranker is not None])


def fits(model: Model, step: LearnedStep) -> bool:
    """Whether a step is of a model of the same shape."""
    d = model.config.embedding
    widths = {rows.vector.shape[1:] for rows in (step.history, step.candidate, step.context)}
    sizes = len(step.popularity) == len(model.popularity.weight)
    return widths == {(d,)} and sizes and (step.ranker is None or len(step.ranker.fast) == len(model.ranker.fast))


def page_of(model: Model, unshared: Unshared) -> bytes:
    """What a checkpoint holds of it, beside the model; the same bytes for the same state."""
    room, known = len(unshared.embeddings.moved), model.embeddings
    items = np.flatnonzero(known.moved[:room])
    rows = _contexts_moved(model, unshared)
    parts: list[np.ndarray] = [items, *(array[items] for array in unshared.embeddings[:4]), rows.astype(np.int64)]
    parts += [array[rows] for array in unshared.contexts[:2]]
    parts += [*unshared.popularity, *unshared.ranker, *unshared.answer[:3]]
    return msgspec.msgpack.encode(([array.tobytes() for array in parts], *unshared.answer[3:]))


def from_page(model: Model, page: bytes) -> Unshared:
    """Takes back what `page_of` gave, after the model. Raises MsgspecError or what NumPy does for other bytes."""
    parts, kept, steps = msgspec.msgpack.decode(page, type=tuple[list[bytes], float, int])
    values = iter(parts)

    def fill(array: np.ndarray, rows: np.ndarray | slice = slice(None)) -> None:
        target = array[rows]
        array[rows] = np.frombuffer(next(values), array.dtype).reshape(target.shape)

    unshared = Unshared(model.config, len(model.embeddings.moved))
    bases = (*unshared.embeddings[:4], *unshared.contexts[:2])
    for base, now in zip(bases, (*model.embeddings[:4], *model.contexts[:2]), strict=True):
        base[:] = now
    items = np.frombuffer(next(values), np.int64)
    model.embeddings.moved[:] = 0
    model.embeddings.moved[items] = 1
    for array in unshared.embeddings[:4]:
        fill(array, items)
    rows = np.frombuffer(next(values), np.int64)
    for array in unshared.contexts[:2]:
        fill(array, rows)
    unshared.answer = unshared.answer._replace(kept=kept, steps=steps)
    whole: list[np.ndarray] = [*unshared.popularity, *unshared.ranker, *unshared.answer[:3]]
    for array in whole:
        fill(array)
    return unshared


def _contexts_moved(model: Model, unshared: Unshared) -> I32:
    moved = np.zeros(len(model.contexts.adagrad), np.uint8)
    mark_moved(*model.contexts[:2], *unshared.contexts[:2], moved)
    return np.flatnonzero(moved).astype(np.int32)


def _moved(now: tuple[F32, F32], before: tuple[F32, F32], rows: I32) -> LearnedRows:
    """What rows have moved by; from here on they are what `before` is."""
    n, d = len(rows), now[0].shape[1]
    moved = LearnedRows(rows, np.empty((n, d), np.float32), np.empty(n, np.float32))
    take_rows(*now, *before, moved)
    return moved


def _most_of(moved: LearnedRows, share: float) -> LearnedRows:
    """The rows that make up a share of the squared movement, in order; none that has not moved."""
    squares = np.einsum("nd,nd->n", moved.vector, moved.vector)
    order = np.argsort(-squares, kind="stable")
    reached = np.cumsum(squares[order], dtype=np.float64)
    if not len(order) or not reached[-1]:
        return moved.take(slice(0))
    return moved.take(np.sort(order[: 1 + int(np.searchsorted(reached, share * reached[-1]))]))


def _make_room(model: Model, unshared: Unshared) -> None:
    model.make_room(0)
    room = len(model.embeddings.moved)
    if len(unshared.embeddings.moved) < room:
        unshared.embeddings = grown_embeddings(unshared.embeddings, unshared.config, room)


def _scaled(rows: LearnedRows, part: np.float32) -> LearnedRows:
    return rows if part == ONE else rows._replace(vector=part * rows.vector)


# the ranker


def _copied(ranker: Ranker) -> Ranker:
    return Ranker._make(array.copy() for array in ranker)


def _no_answer(ranker: Ranker) -> RankerStep:
    fast, slow, variance = (np.zeros(len(ranker.fast), np.float32) for _ in range(3))
    return RankerStep(fast, slow, variance, 1.0, 0)


def _kept(first: int, last: int) -> float:
    """Π (1 − share) over the steps (first, last]; share as in `tgn.ranker`: 1 / (step + 1), at least the shortest."""
    turn = round(1 / float(SHORTEST_MEAN)) - 1
    early = (min(first, turn) + 1) / (min(last, turn) + 1)
    return early * (1 - float(SHORTEST_MEAN)) ** (max(last, turn) - max(first, turn))


def _answer(ranker: Ranker, unshared: Unshared) -> None:
    """Takes into `answer` what the ranker did since; from here on its weights are `unshared.ranker`."""
    before, answer = unshared.ranker, unshared.answer
    first, last = int(before.steps[0]), int(ranker.steps[0])
    if first == last:
        return
    kept, faded = np.float32(_kept(first, last)), np.float32(float(BETA2) ** (last - first))
    rest = ONE - kept
    slow = kept * answer.slow + rest * answer.fast + (ranker.slow - kept * before.slow - rest * before.fast)
    unshared.answer = RankerStep(
        fast=answer.fast + (ranker.fast - before.fast),
        slow=slow,
        variance=faded * answer.variance + (ranker.variance - faded * before.variance),
        kept=answer.kept * float(kept),
        steps=answer.steps + last - first,
    )
    unshared.ranker = _copied(ranker)


def _filtered(answer: RankerStep, step: RankerStep) -> RankerStep:
    """The answer after the steps of another model, whom it is added to after those."""
    kept, faded = np.float32(step.kept), np.float32(float(BETA2) ** step.steps)
    return answer._replace(
        slow=kept * answer.slow + (ONE - kept) * answer.fast,
        variance=faded * answer.variance,
    )


def _add_to_ranker(ranker: Ranker, unshared: Unshared, steps: Sequence[tuple[RankerStep, float]]) -> None:
    if not steps:
        return
    _answer(ranker, unshared)
    for step, share in steps:
        unshared.answer = _filtered(unshared.answer, step)
        kept, faded, part = np.float32(step.kept), np.float32(float(BETA2) ** step.steps), np.float32(share)
        ranker.slow[:] = kept * ranker.slow + (ONE - kept) * ranker.fast + part * step.slow
        ranker.fast[:] += part * step.fast
        ranker.variance[:] = np.maximum(faded * ranker.variance + step.variance, np.float32(0))
        ranker.steps[0] += step.steps
    ranker.weights[:] = MEAN_SHARE * ranker.slow + (ONE - MEAN_SHARE) * ranker.fast
    unshared.ranker = _copied(ranker)
