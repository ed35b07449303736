"""How far a ranking is from another, by what a reader sees of it: rank-biased overlap."""

import numpy as np

from tgn.graph import F64, I32

DIGITS = 12  # beyond, sums of the same differ by how many columns they have
PERSISTENCE = 0.9  # P(who reads a place reads the next one): 86 % of what counts lies in the first ten places


def distance(before: I32, after: I32, persistence: float = PERSISTENCE) -> F64:
    """One minus the rank-biased overlap of rankings, row by row: 0 where they are the same, 1 where they share nothing.

    The weight of what follows the last place of the longer one is left out, and the rest adds up to 1: columns behind
    both change nothing.

    Args:
        before: [N, K] item indices, best first; −1 past the end.
        after: [N, K'] likewise.

    Returns: [N].

    Source: Webber, Moffat & Zobel 2010, "A similarity measure for indefinite rankings", equation 7.

    >>> distance(np.array([[1, 2, 3]]), np.array([[1, 2, 3]])).tolist()
    [0.0]
    >>> distance(np.array([[1, 2, 3]]), np.array([[1, 3, 2]])).round(3).tolist()
    [0.166]
    """
    places = max(before.shape[1], after.shape[1])
    first, second = _padded(before, places), _padded(after, places)
    held = [(ranking >= 0).cumsum(axis=1) for ranking in (first, second)]
    same = (first[:, :, None] == second[:, None, :]) & (first[:, :, None] >= 0)  # [N, K, K] place and place
    reached = np.maximum(np.arange(places)[:, None], np.arange(places)[None, :])  # both are read at this depth
    shared = np.stack([same[:, reached == depth].sum(axis=1) for depth in range(places)], axis=1).cumsum(axis=1)
    longest = np.maximum(held[0], held[1])
    agreement = np.where(longest > 0, shared / np.maximum(longest, 1), 1.0)  # [N, K] at each depth
    weight = np.where(np.arange(places) < longest[:, -1:], persistence ** np.arange(places), 0.0)  # [N, K]
    missing = ((1.0 - agreement) * weight).sum(axis=1) / np.maximum(weight.sum(axis=1), 1.0)
    return np.asarray(missing.round(DIGITS))


def _padded(ranking: I32, places: int) -> I32:
    padded = np.full((len(ranking), places), -1, np.int32)
    padded[:, : ranking.shape[1]] = ranking
    return padded
