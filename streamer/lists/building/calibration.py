"""Calibration: a list has the kinds of items that the user takes, each with its share (Steck 2018).

One place after the other is given to the item with the largest (1 − λ) · relevance − λ · KL(p ‖ q̃) / KL of an empty
list, q̃ = (1 − a) q + a p: p are the shares in the user's history, q those in the list with the item.
"""

import math

import numpy as np

from streamer.lists.building.ranking import chosen_first, relevance
from tgn.graph import F64, I64

SMOOTHING = 0.01  # a


def calibrated(score: F64, kinds: F64, wanted: F64, strength: float, k: int) -> I64:
    """[N] the order in which the first `k` places have the kinds that are wanted; the others follow as before.

    Ties go to the item that stood before. Where no kind is wanted the order is that of the ranking.

    Args:
        score: [N] of a ranking.
        kinds: [N, C] the share of each kind in an item; each row adds up to 1, or to 0 where nothing is known.
        wanted: [C] how much of each kind is wanted, counts or shares.
        strength: λ, 0: the ranking as it is, 1: the kinds alone.

    >>> kinds = np.array([[1.0, 0], [1, 0], [0, 1]])
    >>> calibrated(np.array([3.0, 2.0, 1.0]), kinds, np.array([5, 5]), 0.8, k=2).tolist()
    [0, 2, 1]
    """
    n, total = len(score), wanted.sum()
    if not strength or total <= 0:
        return np.arange(n)
    p = wanted[wanted > 0] / total
    of_wanted = kinds[:, wanted > 0]
    worth, sizes = (1 - strength) * relevance(score), kinds.sum(axis=1)
    listed, size = np.zeros(len(p)), 0.0
    chosen: list[int] = []
    for _ in range(min(k, n)):
        shares = (listed + of_wanted) / np.maximum(size + sizes, 1e-12)[:, None]
        divergence = np.log(p / ((1 - SMOOTHING) * shares + SMOOTHING * p)) @ p
        value = worth - strength * divergence / -math.log(SMOOTHING)
        value[chosen] = -np.inf
        best = int(value.argmax())
        chosen.append(best)
        listed, size = listed + of_wanted[best], size + sizes[best]
    return chosen_first(chosen, n)
