"""Sessions of a recorded topic that become users', as the worker makes them: from their merge on."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from streamer.evaluation.retractions import Retractions
from streamer.features.topic_table import SessionMerge
from tgn.graph import I32
from tgn.node_index import NodeIndex


class MergedSessions:
    """Takes the merges of a stream where they are due.

    Args:
        merges: in the order of their rows.
        number: [N] which row of the topic each row of the stream is; −1: none, see `ArrivedRows`.
        users: of the model.
        undo: takes the interactions of sessions to their owners.
    """

    def __init__(self, merges: Sequence[SessionMerge], number: np.ndarray, users: NodeIndex, undo: Retractions) -> None:
        self._users, self._undo = users, undo
        begins = [int(np.flatnonzero((number >= 0) & (number < one.row)).max(initial=-1)) + 1 for one in merges]
        self._due = sorted(zip(begins, merges, strict=True), key=lambda one: one[0])
        self.taken = self.refused = 0  # merges; refused are those of a session that is another user's

    def rows(self) -> np.ndarray:
        """[M] the rows before which merges are due."""
        return np.array([row for row, _ in self._due], np.int64)

    def reach(self, row: int) -> tuple[I32, dict[str, str]]:
        """Takes what is due before a row: the users whose interactions are others now, and the owners of new sessions.

        Returns:
            nodes [N] of users; session → its owner.
        """
        owners: dict[str, str] = {}
        while self._due and self._due[0][0] <= row:
            _, merge = self._due.pop(0)
            if owner := self._undo.merge(merge.user_id, merge.session_id):
                owners[merge.session_id] = owner
                self.taken += 1
            else:
                self.refused += not self._undo.is_same(merge.user_id, merge.session_id)
        return (self._undo.repair() if owners else np.zeros(0, np.int32)), owners

    def owned(self, rows: pa.Table) -> pa.Table:
        """Rows as those of the users whose sessions they were done in."""
        if not self._undo.merges:
            return rows
        users = [self.owner(user) for user in rows["user_id"].to_pylist()]
        return rows.set_column(rows.column_names.index("user_id"), "user_id", pa.array(users, pa.string()))

    def owner(self, user_id: str) -> str:
        """The user whose session an id is; an id that is nobody's session is itself."""
        owner = self._undo.merges.owner(self._users.get(user_id))
        return user_id if owner is None else self._users.ids[owner.user]
