"""Exploration with propensities: some places are drawn, and each says how likely it was to be given to its item.

The ranking is dealt out to the k places like cards: place j has the items j, j + k, j + 2k, … to draw from. With
probability 1 − ε it keeps the first of them, otherwise one of all of them is drawn by the softmax of their scores.
So no item can come twice, places are drawn independently of one another, and the propensity of a place is exactly the
probability that its item stands there; that of a whole list is the product. That is what inverse propensity scores
(Horvitz and Thompson 1952; Swaminathan et al. 2017 for lists) need, and what drawing without replacement cannot say
in closed form. An infinite temperature draws all alike: the slots of an ε-greedy policy.
"""

from hashlib import shake_128
from typing import NamedTuple

import numpy as np

from tgn.graph import F64, I64


class Drawn(NamedTuple):
    """A list of at most k places."""

    place: I64  # [K] in the ranking
    propensity: F64  # [K] the probability that this item stands here; 1 where nothing is drawn


def explored(score: F64, strength: float, k: int, seed: int, list_id: str, temperature: float = 1.0) -> Drawn:
    """The list that the seed and the list's id draw: always the same one.

    Args:
        score: [N] of a ranking; to have something to draw it is longer than k.
        strength: ε, the share of places that are drawn; 0: the first k of the ranking.
        temperature: the higher, the more alike are the chances; inf: they are equal.

    >>> drawn = explored(np.array([2.0, 1.0, 0.0, 0.0]), 0.5, 2, seed=0, list_id="interactions-0-7")
    >>> drawn.place.tolist(), drawn.propensity.round(3).tolist()
    ([0, 3], [0.94, 0.134])
    """
    n = len(score)
    k = min(k, n)
    if not strength or n == k:
        return Drawn(np.arange(k), np.ones(k))
    deals = -(-n // k)
    dealt = np.full((deals, k), -np.inf)
    dealt.flat[:n] = score / temperature
    odds = np.exp(dealt - dealt.max(axis=0))
    chance = strength * odds / odds.sum(axis=0)
    chance[0] += 1 - strength
    up_to = chance.cumsum(axis=0)
    deal = (up_to <= draws(seed, list_id, k) * up_to[-1]).sum(axis=0)
    alone = np.arange(k) + k >= n  # no second item was dealt to the place
    propensity = np.where(alone, 1.0, chance[deal, np.arange(k)])
    return Drawn(deal * k + np.arange(k), propensity)


def draws(seed: int, list_id: str, n: int) -> F64:
    """[n] numbers in [0, 1), uniform and independent, of a hash of the seed and the list's id."""
    bits = np.frombuffer(shake_128(f"{seed}\0{list_id}".encode()).digest(8 * n), "<u8")
    return np.asarray((bits >> np.uint64(12)) * 2.0**-52)
