"""Outcomes put together: parts of a batch, and lists that were made anew for some of its rows."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tgn.model import new_lists
from tgn.prequential import Outcome
from tgn.reasons import Evidence


def joined(parts: Sequence[Outcome]) -> Outcome:
    """Outcomes one after the other."""
    if len(parts) == 1:
        return parts[0]
    joined: Any = _concatenated(parts)
    return Outcome(*joined)


def _concatenated(parts: Sequence[Any]) -> Any:
    first = parts[0]
    if isinstance(first, np.ndarray):
        return np.concatenate(parts)
    return type(first)(*(_concatenated(column) for column in zip(*parts, strict=True)))


def with_room(outcome: Outcome, n: int) -> Outcome:
    """An outcome of n interactions whose published lists have a row for each."""
    return outcome if len(outcome.published.item) == n else with_published(outcome, outcome, np.zeros(0, np.int64), n)


def with_published(outcome: Outcome, again: Outcome, rows: np.ndarray, n: int | None = None) -> Outcome:
    """An outcome with the published lists of some of its rows from another one."""
    n, depth = len(outcome.rank) if n is None else n, again.published.item.shape[1]
    published = new_lists(n, depth)
    evidence = Evidence(np.zeros((n, depth), np.uint8), np.full((n, depth), -1, np.int32))
    changed = outcome.changed.copy()
    if len(rows):
        changed[rows] = again.changed
        mine: Any = (*published, *evidence)
        for ours, theirs in zip(mine, (*again.published, *again.evidence), strict=True):
            ours[rows] = theirs
    return outcome._replace(published=published, evidence=evidence, changed=changed)
