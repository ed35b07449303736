"""What a user brings along besides a history, and what the model learns of it.

The contexts of the last interaction (device, region, …), the user's attributes, and the fact of being new each name a
row of one table of vectors. They are added to the user's embedding (`tgn.item_embedding`) and learned with it, by the
same gradient,

    e_d(u) = 1.4 Σ_k w_dk (h + v)_d(i_k) / √(Σ_k w_dk) + Σ_c w_d(c),

as fields of a factorisation machine are (Rendle 2010). So what is read in a region, on a phone, by students or by
those who have just come is known for every item that has been learned, a user without any history has an embedding,
and a context costs one sum a query, not one a candidate. Names of values are hashed to rows (Weinberger et al. 2009):
two that share one share what is learned.

Where learning is frozen they are not read: what is popular in a region moves on, and a vector that does not misleads.
"""

from typing import NamedTuple

import numpy as np

from tgn.config import ModelConfig
from tgn.graph import F32, NONE, SLOTS, U8, Users
from tgn.item_embedding import INITIAL_ADAGRAD, mean_square
from tgn.kernel import kernel

ROWS = 1024
NEW_USER = 0  # the row of those who have done nothing yet; hashed values have the others


class Contexts(NamedTuple):
    """One row a value."""

    vector: F32  # [ROWS, D]
    adagrad: F32  # [ROWS] sums of squared gradients
    dirty: U8  # [ROWS] 1: changed since the last checkpoint


def new_contexts(config: ModelConfig) -> Contexts:
    """Nothing is known of any value: vectors of 0."""
    return Contexts(
        np.zeros((ROWS, config.embedding), np.float32),
        np.full(ROWS, INITIAL_ADAGRAD, np.float32),
        np.zeros(ROWS, np.uint8),
    )


@kernel
def add_contexts(contexts: Contexts, users: Users, user: int, out: F32) -> None:
    """Adds the vectors of what the user brings along to out [D]."""
    for slot in range(2 * SLOTS + 1):
        row = _row(users, user, slot)
        if row >= 0:
            vector = contexts.vector[row]
            for d in range(len(out)):
                out[d] += vector[d]


@kernel
def step_contexts(contexts: Contexts, users: Users, user: int, gradient: F32, rate: float) -> None:
    """One step of AdaGrad by the gradient [D] of the user's embedding."""
    square = mean_square(gradient)
    for slot in range(2 * SLOTS + 1):
        row = _row(users, user, slot)
        if row >= 0:
            contexts.dirty[row] = 1
            contexts.adagrad[row] += square
            step = rate / np.sqrt(contexts.adagrad[row])
            vector = contexts.vector[row]
            for d in range(len(vector)):
                vector[d] -= step * gradient[d]


@kernel
def _row(users: Users, user: int, slot: int) -> int:
    """Which row a slot names, NONE where it names none."""
    if slot < SLOTS:
        return int(users.context[user, slot])
    if slot < 2 * SLOTS:
        return int(users.attribute[user, slot - SLOTS])
    return NEW_USER if users.events[user] == 0 else NONE
