"""Whether a list is another one than the list that its user has: what decides that it is published."""

import numpy as np

from streamer.lists.distance import distance
from streamer.state.published_lists import PublishedLists
from tgn.graph import I32


def differs(published: PublishedLists, users: I32, items: I32, threshold: float = 0.0) -> np.ndarray:
    """[N] bool: whether a list is farther than the threshold from the one published last, or is its user's first.

    The kernels say, at no cost, where a ranking is another than the last one made (`Outcome.changed`). That is the same
    where every list that changes is published, and nothing comes between the ranking and the list.

    Args:
        users: [N].
        items: [N, K] item indices, best first; −1 past the end.
        threshold: a distance in [0, 1], see `streamer.lists.distance`.
    """
    before = published.rows(users)
    return np.asarray((before[:, 0] == published.NO_LIST) | (distance(before, items) > threshold))
