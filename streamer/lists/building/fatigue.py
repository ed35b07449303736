"""Fatigue and rotation: what was shown and not taken goes down.

The odds of an item fall by a share with each impression, the exponential discount of Lee et al. (2014, "Modeling
impression discounting in large-scale recommender systems"). What counts as an impression is the caller's: all since
the item was taken last are fatigue; those of the last hours, or counts that decay, are rotation.
"""

import math

import numpy as np

from tgn.graph import F64

LEAST_LEFT = 1e-6  # share of the odds that is left by one impression at a strength of 1


def fatigued(score: F64, impressions: np.ndarray, strength: float) -> F64:
    """[N] the scores after impressions.

    Args:
        score: [N]
        impressions: [N] how often the user was shown each item; decayed counts are counts too.
        strength: the share of an item's odds that an impression takes; 1: what was shown less often goes first.

    >>> fatigued(np.array([1.0, 0.9]), np.array([2, 0]), 0.5).round(2).tolist()
    [-0.39, 0.9]
    """
    return score + impressions * math.log(max(1 - strength, LEAST_LEFT))
