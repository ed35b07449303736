"""What a recorded stream takes back, or gives to another user, as the worker does it in a replay."""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from streamer.engine.engine import Columns, Engine
from streamer.features.event_ids import digest_event_id
from streamer.pipeline.merging import owner_and_names, take_merge
from streamer.state.dedup import SeenEvents
from streamer.state.ledger import ENTRY, Ledger, event_number
from streamer.state.merges import Merges
from streamer.state.pending_repairs import PendingRepairs
from tgn.graph import I32


class Retractions:
    """The undo of a replay: what was taken, so that it can be taken back, or be another user's."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self.merges = engine, Merges()
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
        if "event_id" not in rows.column_names:
            return self.repair()
        for user_id, event_id in zip(rows["user_id"].to_pylist(), rows["event_id"].to_pylist(), strict=True):
            if user_id and event_id:
                seen_events.take(digest_event_id(user_id, event_id))
                if found := owner_and_names(self._engine.model.users, self.merges, user_id):
                    owner, names = found
                    events = [event_number(digest_event_id(name, event_id)) for name in names]
                    self._repairs.retract(owner, events)
        return self.repair()

    def merge(self, user_id: str, session_id: str) -> str | None:
        """Makes a session a user's: its owner; None where it is somebody's already."""
        users = self._engine.model.users
        merged = take_merge(users, self.merges, self._repairs, session_id, user_id, 0)
        return None if merged is None else users.ids[merged[1].user]

    def is_same(self, user_id: str, session_id: str) -> bool:
        """Whether two ids stand for one user."""
        users = self._engine.model.users
        first, second = (owner_and_names(users, self.merges, id_) for id_ in (user_id, session_id))
        return first is not None and second is not None and first[0] == second[0]

    def repair(self) -> I32:
        """Makes the graph follow; gives the users whose interactions are others now."""
        return self._repairs.repair() if len(self._repairs) else np.zeros(0, np.int32)
