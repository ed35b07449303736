"""A recorded stream with less, later or twice in it than it has, to see what that does to lists."""

from typing import NamedTuple

import numpy as np
import pyarrow as pa

FARTHEST_COPY = 100  # rows that a duplicate may lie behind its original
TWICE = "twice-"  # begins the id of an interaction that has none and is there twice


class ArrivedRows(NamedTuple):
    """Rows in the order in which they arrive."""

    table: pa.Table
    number: np.ndarray  # [N] int64 number of each row's event in the whole stream; −1: it is a copy, and has none


def all_rows(table: pa.Table) -> ArrivedRows:
    """A stream as it is."""
    return ArrivedRows(table, np.arange(len(table)))


def between(rows: ArrivedRows, from_ms: int | None, to_ms: int | None) -> ArrivedRows:
    """The rows from a time on, and before another one."""
    if from_ms is None and to_ms is None:
        return rows
    t = _times(rows.table, -1)
    kept = (t >= (from_ms or 0)) & (t < (np.inf if to_ms is None else to_ms))
    return _taken(rows, np.flatnonzero(kept))


def with_duplicates(rows: ArrivedRows, share: float, seed: int) -> ArrivedRows:
    """The rows, of which a share arrives once more, a few rows later; a copy has the id of its original.

    >>> table = pa.table({"user_id": ["a", "b"], "timestamp": [1, 2], "reason": pa.nulls(2, pa.string())})
    >>> twice = with_duplicates(all_rows(table), 1.0, seed=0)
    >>> sorted(twice.table["event_id"].to_pylist()), sorted(twice.number.tolist())
    (['twice-0', 'twice-0', 'twice-1', 'twice-1'], [-1, -1, 0, 1])
    """
    rng, size = np.random.default_rng((seed, 1)), len(rows.table)
    chosen = np.flatnonzero((rng.random(size) < share) & rows.table["reason"].is_null().to_numpy())
    table = _with_ids(rows.table, chosen)
    place = np.concatenate([np.arange(size), chosen + rng.integers(1, FARTHEST_COPY + 1, len(chosen))])
    of = np.concatenate([np.arange(size), chosen])
    number = np.concatenate([rows.number, np.full(len(chosen), -1)])
    order = np.argsort(place, kind="stable")
    return ArrivedRows(table.take(pa.array(of[order])), number[order])


def with_lateness(rows: ArrivedRows, share: float, span_ms: int, seed: int) -> ArrivedRows:
    """The rows, of which a share arrives late, by up to a span of event time; their times stay.

    >>> table = pa.table({"timestamp": [0, 10, 20, 30]})
    >>> with_lateness(all_rows(table), 0.5, 25, seed=1).table["timestamp"].to_pylist()
    [0, 20, 10, 30]
    """
    rng, t = np.random.default_rng((seed, 2)), _times(rows.table, np.iinfo(np.int64).max - span_ms)
    late = rng.random(len(t)) < share
    arrived = t + np.where(late, rng.integers(1, span_ms + 1, len(t)), 0)
    return _taken(rows, np.argsort(arrived, kind="stable"))


def _times(table: pa.Table, missing: int) -> np.ndarray:
    return np.asarray(table["timestamp"].fill_null(missing).to_numpy())


def _taken(rows: ArrivedRows, at: np.ndarray) -> ArrivedRows:
    return ArrivedRows(rows.table.take(pa.array(at)), rows.number[at])


def _with_ids(table: pa.Table, chosen: np.ndarray) -> pa.Table:
    """The table in which each of the chosen rows has an id, so that a copy of it can be known."""
    there = "event_id" in table.column_names
    ids = np.array(table["event_id"].to_pylist() if there else [None] * len(table), object)
    for row in chosen.tolist():
        ids[row] = ids[row] or f"{TWICE}{row}"
    column = pa.chunked_array([pa.array(ids.tolist(), pa.string())])
    if there:
        return table.set_column(table.column_names.index("event_id"), "event_id", column)
    return table.append_column("event_id", column)
