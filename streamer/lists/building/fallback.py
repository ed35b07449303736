"""The fallback chain: a list is filled by the first source that has something, then by the next, and says by which.

The usual one is: items similar to the few that are known, the cohort (who shares attributes or context), what is
popular under the filter, what is new.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from tgn.graph import I32


class FallbackSource(NamedTuple):
    """Items of one kind of knowledge."""

    label: str  # similar-items, cohort, popular, new
    item: I32  # [M] node index, the best first


class Chained(NamedTuple):
    """A list of at most k items."""

    item: I32  # [K]
    label: tuple[str, ...]  # [K] the source of each

    @property
    def fallback(self) -> str | None:
        """What the list begins with; None: it is empty."""
        return self.label[0] if self.label else None


def chained(sources: Iterable[FallbackSource], k: int) -> Chained:
    """The first `k` items of the sources, one after the other, each item once; a full list asks for no more sources.

    >>> similar = FallbackSource("similar-items", np.array([4, 2]))
    >>> popular = FallbackSource("popular", np.array([1, 2, 3]))
    >>> found = chained([similar, popular], k=4)
    >>> found.item.tolist(), found.label[1:3], found.fallback
    ([4, 2, 1, 3], ('similar-items', 'popular'), 'similar-items')
    """
    label_of: dict[int, str] = {}
    for source in sources:
        for item in source.item.tolist():
            if len(label_of) == k:
                break
            label_of.setdefault(item, source.label)
        if len(label_of) == k:
            break
    return Chained(np.array(list(label_of), np.int32), tuple(label_of.values()))
