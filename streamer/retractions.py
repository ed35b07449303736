"""Interactions that a recorded stream takes back, as the worker takes them back: in a replay, and before a training."""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from streamer.amendments import Amendments
from streamer.dedup import SeenEvents, digest_of
from streamer.engine import Columns, Engine
from streamer.ledger import ENTRY, Ledger, event_number
from tgn.graph import I32


def retraction_rows(table: pa.Table) -> np.ndarray:
    """[N] bool: which good rows take an interaction back."""
    if "retract" not in table.column_names:
        return np.zeros(len(table), bool)
    wanted = pc.and_(pc.fill_null(table["retract"], False), pc.is_null(table["reason"]))
    return np.asarray(wanted.to_numpy(), bool)


def digests_of(rows: pa.Table) -> list[bytes | None]:
    """What stands for the event id of each row; None: it has none."""
    if "event_id" not in rows.column_names:
        return [None] * len(rows)
    ids = zip(rows["user_id"].to_pylist(), rows["event_id"].to_pylist(), strict=True)
    return [digest_of(user, id_) if user and id_ else None for user, id_ in ids]


class Retractions:
    """The undo of a replay: what was taken, so that it can be taken back."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.ledger = Ledger(lambda prefix: ())
        self._amendments = Amendments(engine.model, self.ledger)

    @property
    def taken_back(self) -> int:
        """Interactions."""
        return self._amendments.taken_back

    def note(self, event: np.ndarray, columns: Columns, digests: Iterable[bytes | None]) -> None:
        """Keeps interactions [N] that were taken; event: their numbers."""
        entries = np.zeros(len(event), ENTRY)
        entries["order_ms"], entries["order"], entries["t"] = columns.t, event, columns.t
        entries["event"] = [0 if digest is None else event_number(digest) for digest in digests]
        entries["item"], entries["weight"], entries["context"] = columns.item, columns.weight, columns.context
        self.ledger.add(columns.user, entries)

    def take_back(self, rows: pa.Table, seen_events: SeenEvents) -> I32:
        """Takes back what retractions name; gives the users whose interactions are others now.

        An interaction that comes after its retraction is a duplicate.
        """
        for user_id, digest in zip(rows["user_id"].to_pylist(), digests_of(rows), strict=True):
            node = self._engine.model.users.get(user_id)
            if digest is not None:
                seen_events.take(digest)
                if node is not None:
                    self._amendments.retract(node, [event_number(digest)])
        return self._amendments.repair() if len(self._amendments) else np.zeros(0, np.int32)


def counted_rows(table: pa.Table) -> pa.Table:
    """The good rows that count in the end: each event id of a user once, and none that is taken back."""
    kept = table["reason"].is_null().to_numpy().copy()
    if "event_id" in table.column_names:
        retracts = retraction_rows(table)
        row_of: dict[bytes, int | None] = {}
        for row, digest in enumerate(digests_of(table)):
            if digest is None or not kept[row]:
                continue
            if retracts[row]:
                before = row_of.get(digest)
                if before is not None:
                    kept[before] = False
                row_of[digest] = None
            elif digest in row_of:
                kept[row] = False
            else:
                row_of[digest] = row
        kept &= ~retracts
    return table if kept.all() else table.filter(pa.array(kept))
