"""Quotas: no more than so many places for items of a kind."""

import numpy as np

from tgn.graph import F64, I64


def within_quotas(kinds: np.ndarray, most: np.ndarray, k: int) -> I64:
    """[at most k] the first places of a ranking, without those for which a kind has no room any more.

    The list is shorter than `k` where the ranking has no more that fit.

    Args:
        kinds: [N, C] whether an item is of a kind; it may be of several, or of none, and counts for each.
        most: [C] places that a kind may have.

    >>> kinds = np.array([[1, 0], [1, 0], [1, 1], [0, 1], [0, 0]])
    >>> within_quotas(kinds, np.array([1, 2]), k=3).tolist()
    [0, 3, 4]
    """
    kinds = kinds > 0
    room = np.array(most, np.int64)
    chosen: list[int] = []
    for n, own in enumerate(kinds):
        if len(chosen) == k:
            break
        if (room[own] > 0).all():
            room[own] -= 1
            chosen.append(n)
    return np.array(chosen, np.int64)


def quotas_of(wanted: F64, strength: float, k: int) -> I64:
    """[C] quotas by what a user takes: ⌈k · (1 − λ + λ p)⌉, p the share of a kind in the history.

    Calibration (Steck 2018) as a limit: no kind has many more places than it has in the history. Together they leave
    room for k items. Nobody's history limits nothing.

    Args:
        wanted: [C] how much of each kind is wanted, counts or shares.
        strength: λ, 0: no limit, 1: a kind that the user never takes has no place.

    >>> quotas_of(np.array([3.0, 1.0, 0.0]), 1, k=10).tolist()
    [8, 3, 0]
    """
    total = wanted.sum()
    share = wanted / total if total > 0 else np.ones(len(wanted))
    least = np.ceil(k * (1 - strength + strength * share) - 1e-9)  # a share of 0.3 of 10 places is 3, not 4
    return np.asarray(least, np.int64)
