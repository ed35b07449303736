"""Popularity debias: scores without a share of what an item owes to being popular.

It is the logit adjustment of Menon et al. (2021, "Long-tail learning via logit adjustment"): where scores are those of
a softmax, taking the logarithm of an item's frequency away gives the scores that it would have if all were equally
frequent. Abdollahpouri et al. (2019) do the same to lists for the long tail.
"""

import numpy as np

from tgn.graph import F64


def debiased(score: F64, interactions: np.ndarray, strength: float) -> F64:
    """[N] the scores, popularity taken away.

    Args:
        score: [N]
        interactions: [N] how often each item was chosen.
        strength: 0: not at all, 1: all of it.

    >>> debiased(np.array([1.0, 0.9]), np.array([99, 9]), 0.5).round(2).tolist()
    [-1.3, -0.25]
    """
    return np.asarray(score - strength * np.log1p(interactions))
