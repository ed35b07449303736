"""Diversity by maximal marginal relevance (Carbonell and Goldstein 1998).

One place after the other is given to the item with the largest (1 − λ) · relevance − λ · likeness to what stands
already, likeness being that to the most alike of the items placed.
"""

from collections.abc import Sequence

import numpy as np

from streamer.lists.building.ranking import chosen_first, relevance
from tgn.graph import F64, I64


def features(categories: Sequence[Sequence[str]], *vectors: np.ndarray) -> F64:
    """[N, F] rows whose products are likenesses: the mean of the cosines of what is known of both items.

    Args:
        categories: of each item, in any number.
        vectors: kinds of vectors, [N, D] each; 0 where nothing is known.

    >>> rows = features([["film"], ["film", "war"], []], np.array([[1.0, 0], [0, 1], [3, 0]]))
    >>> (rows @ rows.T).round(2).tolist()
    [[1.0, 0.35, 0.71], [0.35, 1.0, 0.0], [0.71, 0.0, 1.0]]
    """
    names = {name: n for n, name in enumerate(sorted({name for own in categories for name in own}))}
    flags = np.zeros((len(categories), len(names)))
    for row, own in enumerate(categories):
        flags[row, [names[name] for name in own]] = 1
    blocks = []
    for block in (flags, *vectors):
        length = np.linalg.norm(block, axis=1, keepdims=True)
        blocks.append(np.divide(block, length, out=np.zeros(block.shape), where=length > 0))
    joined = np.concatenate(blocks, axis=1)
    known = np.linalg.norm(joined, axis=1, keepdims=True)
    return np.asarray(np.divide(joined, known, out=joined, where=known > 0))


def diversified(score: F64, features: F64, strength: float, k: int) -> I64:
    """[N] the order in which the first `k` places are unlike one another; the others follow as before.

    Ties go to the item that stood before.

    Args:
        score: [N] of a ranking.
        features: [N, F] see `features`; likeness below 0 is none.
        strength: λ, 0: the ranking as it is, 1: as unlike as can be, whatever the scores.

    >>> rows = np.array([[1.0, 0], [1, 0], [0, 1]])
    >>> diversified(np.array([3.0, 2.9, 1.0]), rows, 0.7, k=2).tolist()
    [0, 2, 1]
    """
    n = len(score)
    if not strength:
        return np.arange(n)
    worth, alike = (1 - strength) * relevance(score), np.zeros(n)
    chosen: list[int] = []
    for _ in range(min(k, n)):
        value = worth - strength * alike
        value[chosen] = -np.inf
        best = int(value.argmax())
        chosen.append(best)
        np.maximum(alike, features @ features[best], out=alike)
    return chosen_first(chosen, n)
