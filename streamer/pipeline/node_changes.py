"""What an epoch makes of records of items and users, before its interactions."""

from collections.abc import Sequence

import numpy as np

from consumers.records import NewRecord
from streamer.lists.publisher import Publisher
from streamer.pipeline.beside import ListsBeside
from streamer.pipeline.epoch import Erasure, ItemChange, NodeChange, UserChange
from streamer.pipeline.merging import forget_sessions
from streamer.state.stream_state import StreamState
from tgn.graph import I32, LISTED


class NodeChanges:
    """Takes changes of items and users into a state; has the lists that they touch made anew."""

    sessions_erased: dict[str, list[bytes]]
    """The digests of the sessions of each user whom the epoch erases."""

    def __init__(self, state: StreamState, beside: ListsBeside) -> None:
        self._state, self._beside = state, beside
        self.sessions_erased = {}

    def take(self, changes: Sequence[NodeChange], publish: Publisher) -> list[NewRecord]:
        """Takes the changes of an epoch; returns the withdrawn lists of those who were erased."""
        self.sessions_erased = {}
        withdrawn: list[NewRecord] = []
        for change in changes:
            if isinstance(change, ItemChange):
                self._change_item(change)
            elif isinstance(change, UserChange):
                node = self._state.engine.describe(change.user)
                self._state.catalogue.take_user(node, change.user)
            else:
                withdrawn += self._erase(change, publish)
        return withdrawn

    def flip_items(self, start_ms: int, end_ms: int) -> None:
        """Lists items that are available at the first interaction, and no longer those that expire by the last."""
        state = self._state
        flipped = state.catalogue.flips(start_ms, end_ms)
        for item in filter(None, map(state.catalogue.item, flipped)):
            state.engine.introduce(item, start_ms, end_ms)
        if flipped:
            state.repairs.relist(self._naming(flipped))

    def _change_item(self, change: ItemChange) -> None:
        state, model = self._state, self._state.engine.model
        node = model.items.encode([change.item_id])[0]
        was_listed = self._is_listed(node)
        if change.item is not None:
            state.engine.introduce(change.item, state.clock_ms)
            state.catalogue.take_item(node, change.item)
        else:
            state.engine.delete(node)
            state.repairs.drop_item(node)
            state.catalogue.drop_item(node)
        if not (was_listed and self._is_listed(node)):
            state.repairs.relist(self._naming(node))

    def _naming(self, items: int | Sequence[int]) -> I32:
        """The users one of whose lists names an item, or one of several."""
        return np.union1d(self._state.listed.naming(items), self._beside.naming(items)).astype(np.int32)

    def _is_listed(self, node: int) -> bool:
        alive = self._state.engine.model.graph.items.alive
        return node >= len(alive) or bool(alive[node] == LISTED)

    def _erase(self, erasure: Erasure, publish: Publisher) -> list[NewRecord]:
        """Takes a user out of the ledger, the lists and the ids; what comes of them later is somebody new."""
        state, user_id = self._state, erasure.user_id
        topic = state.settings.interactions_topic
        before = {tp.partition: offset for tp, offset in state.positions.items() if tp.topic == topic}
        erased = state.erased_by_name if erasure.by_name else state.erased
        erased[erasure.digest or state.digest_user(user_id)] = (erasure.at_ms, before)
        state.merges.waiting = [
            one for one in state.merges.waiting if user_id not in (one.merge.user_id, one.merge.merge)
        ]
        node = state.engine.model.users.get(user_id)
        if node is None:
            return []
        self.sessions_erased[user_id] = forget_sessions(state, node, (erasure.at_ms, before))
        had_list = state.listed.has_list(np.array([node], np.int32))[0]
        state.repairs.erase(node)
        state.listed.withdraw(np.array([node], np.int32))
        beside = self._beside.withdraw(np.array([node], np.int32))
        state.engine.forget_user(node)
        state.catalogue.drop_user(node)
        return [*([publish.withdrawal(user_id)] if had_list else []), *beside]
