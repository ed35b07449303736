"""What the steps have in common: a ranking is the scores of N items, the best first; an order is places in it."""

from collections.abc import Sequence

import numpy as np

from tgn.graph import F32, F64, I64


def best_first(score: F64 | F32, ids: Sequence[str]) -> I64:
    """[N] the order by score, ties by the UTF-8 bytes of the id: after a step that changes scores.

    >>> best_first(np.array([1.0, 3.0, 3.0]), ["a", "c", "b"]).tolist()
    [2, 1, 0]
    """
    order = np.argsort(-score, kind="stable")
    tied = np.flatnonzero(np.diff(score[order]) == 0)
    for run in np.split(tied, np.flatnonzero(np.diff(tied) > 1) + 1) if len(tied) else ():
        places = slice(run[0], run[-1] + 2)
        order[places] = sorted(order[places].tolist(), key=lambda n: ids[n])
    return order


def relevance(score: F64) -> F64:
    """[N] the scores from 0, the lowest, to 1, the highest; all 1 where they are equal."""
    if not len(score):
        return score
    low, high = score.min(), score.max()
    return (score - low) / (high - low) if high > low else np.ones_like(score)


def chosen_first(chosen: Sequence[int], n: int) -> I64:
    """[N] the chosen places, then the others as they were."""
    left = np.ones(n, bool)
    left[list(chosen)] = False
    return np.concatenate([np.array(chosen, np.int64), np.flatnonzero(left)])
