"""Rows that a model has learned: taken from its weights, and added to another's."""

from typing import NamedTuple

from tgn.context_embedding import Contexts
from tgn.graph import F32, I32, I64, U8
from tgn.item_embedding import Embeddings
from tgn.kernel import kernel
from tgn.prequential import ModelArrays
from tgn.retrieval import refresh_vector


class LearnedRows(NamedTuple):
    """What N rows have moved by."""

    row: I32  # [N] items or contexts, each once
    vector: F32  # [N, D]
    adagrad: F32  # [N] sums of squared gradients

    def take(self, which: I64 | slice) -> "LearnedRows":
        """Some of them."""
        return LearnedRows(self.row[which], self.vector[which], self.adagrad[which])


@kernel
def take_rows(vector: F32, adagrad: F32, base: F32, base_adagrad: F32, out: LearnedRows) -> None:
    """Writes into `out`, whose rows are given, what they have moved by from `base`, which then is where they are."""
    for n in range(len(out.row)):
        row = out.row[n]
        for d in range(vector.shape[1]):
            out.vector[n, d] = vector[row, d] - base[row, d]
            base[row, d] = vector[row, d]
        out.adagrad[n] = adagrad[row] - base_adagrad[row]
        base_adagrad[row] = adagrad[row]


@kernel
def mark_moved(vector: F32, adagrad: F32, base: F32, base_adagrad: F32, moved: U8) -> None:
    """Marks in `moved` [N] the rows that are not where `base` is.

    A gradient can be too small for its square to count, and the vector moves all the same.
    """
    for row in range(len(moved)):
        differs = adagrad[row] != base_adagrad[row]
        for d in range(vector.shape[1]):
            differs |= vector[row, d] != base[row, d]
        moved[row] = differs


@kernel
def add_step(
    arrays: ModelArrays, embeddings: Embeddings, contexts: Contexts, history: LearnedRows, candidate: LearnedRows,
    context: LearnedRows,
) -> None:  # fmt: skip
    """Adds rows to a model's weights and to `embeddings`, `contexts`, which are those without what it has not told."""
    now = arrays.embeddings
    _add_rows(now.history, now.history_adagrad, history)
    _add_rows(now.candidate, now.candidate_adagrad, candidate)
    _add_rows(arrays.contexts.vector, arrays.contexts.adagrad, context)
    _add_rows(embeddings.history, embeddings.history_adagrad, history)
    _add_rows(embeddings.candidate, embeddings.candidate_adagrad, candidate)
    _add_rows(contexts.vector, contexts.adagrad, context)
    for row in history.row:
        now.dirty[row] = 1
    for row in candidate.row:
        now.dirty[row] = 1
        refresh_vector(arrays.active, now, row)
    for row in context.row:
        arrays.contexts.dirty[row] = 1


@kernel
def _add_rows(vector: F32, adagrad: F32, rows: LearnedRows) -> None:
    for n in range(len(rows.row)):
        row = rows.row[n]
        for d in range(vector.shape[1]):
            vector[row, d] += rows.vector[n, d]
        adagrad[row] += rows.adagrad[n]
