"""Interactions that a recorded stream takes back, as the worker takes them back: in a replay, and before a training."""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from streamer.engine.engine import Columns, Engine
from streamer.features.tables import digest_rows
from streamer.state.dedup import SeenEvents
from streamer.state.ledger import ENTRY, Ledger, event_number
from streamer.state.pending_repairs import PendingRepairs
from tgn.graph import I32


class Retractions:
    """The undo of a replay: what was taken, so that it can be taken back."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.ledger = Ledger(lambda prefix: ())
        self._repairs = PendingRepairs(engine.model, self.ledger)

    @property
    def taken_back(self) -> int:
        """Interactions."""
        return self._repairs.taken_back

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
        for user_id, digest in zip(rows["user_id"].to_pylist(), digest_rows(rows), strict=True):
            node = self._engine.model.users.get(user_id)
            if digest is not None:
                seen_events.take(digest)
                if node is not None:
                    self._repairs.retract(node, [event_number(digest)])
        return self._repairs.repair() if len(self._repairs) else np.zeros(0, np.int32)
