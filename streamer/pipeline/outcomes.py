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


def rearranged(outcome: Outcome, rows: np.ndarray) -> Outcome:
    """An outcome of other rows, which are those of published lists."""
    found: Any = _rearranged(outcome, rows)
    return Outcome(*found)


def _rearranged(part: Any, rows: np.ndarray) -> Any:
    if isinstance(part, np.ndarray):
        return part[rows] if len(part) == len(rows) else part
    return type(part)(*(_rearranged(column, rows) for column in part))


def with_lists_of(outcome: Outcome, other: Outcome, rows: np.ndarray) -> Outcome:
    """An outcome with the published lists of some of its rows from the same rows of another one of as many places."""
    ours: Any = outcome.published, outcome.evidence
    theirs: Any = other.published, other.evidence
    made = []
    for mine, its in zip(ours, theirs, strict=True):
        columns = [column.copy() for column in mine]
        for column, of in zip(columns, its, strict=True):
            column[rows] = of[rows]
        made.append(type(mine)(*columns))
    return outcome._replace(published=made[0], evidence=made[1])


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
