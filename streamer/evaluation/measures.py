"""Measures of lists, as pure functions of arrays. N lists of K places; what is past a list's end is −1 in `items`.

Measures of one list give [N], one value a list, so that they can be compared in pairs and averaged by group; measures
of all lists together give one number. `hits` [N, K]: whether the item at a place is one of those that were right;
`relevant` [N]: how many were right, in the list or not.
"""

import numpy as np

BITS = np.float64(np.log(2))


def hit_rate(hits: np.ndarray) -> np.ndarray:
    """HR@K: 1 where a right item is in the list."""
    return np.asarray(hits.any(axis=1), np.float64)


def precision(hits: np.ndarray) -> np.ndarray:
    """P@K: right items over K, places past a list's end counted."""
    return np.asarray(hits.mean(axis=1))


def recall(hits: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """R@K: right items in the list over right items."""
    return np.asarray(hits.sum(axis=1) / np.maximum(relevant, 1))


def average_precision(hits: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """Σ_k P@k · hit_k / min(relevant, K); their mean is MAP@K."""
    places = np.arange(1, hits.shape[1] + 1)
    at_hits = (hits.cumsum(axis=1) / places * hits).sum(axis=1)
    return np.asarray(at_hits / np.maximum(np.minimum(relevant, hits.shape[1]), 1))


def ndcg(hits: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """Σ_k hit_k / log₂(k + 1) over the same of a perfect list (Järvelin and Kekäläinen 2002).

    >>> hits = np.array([[True, False, False], [False, False, True], [False, False, False]])
    >>> ndcg(hits, relevant=np.array([1, 1, 1])).tolist()
    [1.0, 0.5, 0.0]
    """
    discount = 1 / np.log2(np.arange(2, hits.shape[1] + 2))
    perfect = np.append(0, discount.cumsum())[np.minimum(relevant, hits.shape[1])]
    return np.asarray(hits @ discount / np.maximum(perfect, discount[0]))


def coverage(items: np.ndarray, catalogue: int) -> float:
    """The share of the catalogue that is in any list."""
    return len(np.unique(items[items >= 0])) / max(catalogue, 1)


def gini(items: np.ndarray, catalogue: int) -> float:
    """Inequality of how often items are listed, those never listed included: 0 all alike, towards 1 a single item.

    G = Σ (2 i − n − 1) x_i / (n Σ x), x ascending, i from 1.
    """
    listed = np.sort(np.bincount(items[items >= 0], minlength=catalogue)).astype(np.float64)
    n = len(listed)
    total = listed.sum()
    return float((2 * np.arange(1, n + 1) - n - 1) @ listed / (n * total)) if total else 0.0


def novelty(items: np.ndarray, popularity: np.ndarray) -> np.ndarray:
    """Mean self-information of a list's items, bits: −log₂ of an item's share of all interactions (Zhou et al. 2010).

    popularity: [I] interactions of each item; one without any counts as half an interaction. An empty list gives 0.
    """
    count = np.maximum(popularity.astype(np.float64), 0.5)
    information = -np.log(count / count.sum()) / BITS
    return _mean_of_list(information[np.maximum(items, 0)], items >= 0)


def long_tail_share(items: np.ndarray, popularity: np.ndarray, head: float = 0.8) -> np.ndarray:
    """The share of a list outside the head: the most popular items that together have `head` of all interactions."""
    order = np.argsort(-popularity, kind="stable")
    before = np.append(0, popularity[order].cumsum()[:-1])
    tail = np.zeros(len(popularity))
    tail[order] = before >= head * popularity.sum()
    return _mean_of_list(tail[np.maximum(items, 0)], items >= 0)


def diversity(items: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Mean of 1 − cosine over a list's pairs (Ziegler et al. 2005). features: [I, F]; a list of under two gives 0."""
    length = np.linalg.norm(features, axis=1, keepdims=True)
    unit = np.divide(features, length, out=np.zeros_like(features, dtype=np.float64), where=length > 0)
    there = items >= 0
    rows = unit[np.maximum(items, 0)] * there[..., None]  # [N, K, F]
    alike = (rows.sum(axis=1) ** 2).sum(axis=1) - (rows**2).sum(axis=(1, 2))  # over ordered pairs
    pairs = there.sum(axis=1) * (there.sum(axis=1) - 1.0)
    return np.asarray(np.where(pairs > 0, 1 - alike / np.maximum(pairs, 1), 0.0))


def calibration(listed: np.ndarray, taken: np.ndarray, smoothing: float = 0.01) -> np.ndarray:
    """How far the kinds in a list are from those in the user's history, bits: KL(p ‖ (1 − a) q + a p) (Steck 2018).

    listed, taken: [N, C] counts of each kind of item in the list and in the history; a: smoothing. No history gives 0.
    """
    p, q = (counts / np.maximum(counts.sum(axis=1, keepdims=True), 1e-12) for counts in (taken, listed))
    mixed = (1 - smoothing) * q + smoothing * p
    ratio = np.divide(p, mixed, out=np.ones_like(p), where=(p > 0) & (mixed > 0))
    return np.asarray((p * np.log(ratio)).sum(axis=1) / BITS)


def _mean_of_list(values: np.ndarray, there: np.ndarray) -> np.ndarray:
    return np.asarray((values * there).sum(axis=1) / np.maximum(there.sum(axis=1), 1))
