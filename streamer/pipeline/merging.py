"""What users did before they were known: sessions become theirs."""

from collections.abc import Mapping, Sequence

import numpy as np

from consumers.records import NewRecord
from streamer.lists.publisher import Publisher
from streamer.state.merges import Merges, SessionOwner, WaitingMerge
from streamer.state.pending_repairs import PendingRepairs
from streamer.state.stream_state import StreamState
from tgn.node_index import NodeIndex


def merge_sessions(
    state: StreamState, merges: Sequence[WaitingMerge], reached: Mapping[int, int], publish: Publisher
) -> dict[str, NewRecord]:
    """Makes sessions users' that have been taken up to where their merges say; the others wait.

    Args:
        merges: those that have come now.
        reached: the next offset to take of each partition of the interactions.

    Returns:
        the withdrawn lists, by the ids of the sessions.
    """
    state.merges.waiting += merges
    withdrawn: dict[str, NewRecord] = {}
    for one in state.merges.due(reached):
        session_id = one.merge.merge
        if _merge(state, session_id, one.merge.user_id, one.partition):
            withdrawn[session_id] = publish.withdrawal(session_id)
    return withdrawn


def _merge(state: StreamState, session_id: str, user_id: str, partition: int) -> bool:
    """Makes one session a user's, or the user's whose session that user is; whether the session had a list.

    Of two merges of a session that wait together the first one counts.
    """
    merged = take_merge(state.engine.model.users, state.merges, state.repairs, session_id, user_id, partition)
    if merged is None:
        return False
    session, owner = merged
    both = np.array([session, owner.user], np.int32)
    had, has = state.listed.has_list(both).tolist()
    if had:
        if not has:  # so that one is made for the user
            state.listed.note(both[1:], state.listed.rows(both[:1]), np.array([owner.partition], np.int32))
        state.listed.withdraw(both[:1])
    return bool(had)


def take_merge(
    users: NodeIndex, merges: Merges, repairs: PendingRepairs, session_id: str, user_id: str, partition: int
) -> tuple[int, SessionOwner] | None:
    """Makes what a session did its owner's: the session's node, and the owner.

    None where it is somebody's already, or the two are the other way round. partition: of the user's records.
    """
    session, user = users.encode([session_id, user_id])
    owner = merges.owner(user) or SessionOwner(user, partition)
    if owner.user == session or merges.owner(session) is not None:
        return None
    merges.note(session, owner)
    repairs.merge(session, owner.user)
    return session, owner


def owner_and_names(users: NodeIndex, merges: Merges, user_id: str) -> tuple[int, list[str]] | None:
    """The node that a user's interactions are of, and every id that they may have come under.

    None where nothing is known of the user.
    """
    node = users.get(user_id)
    if node is None:
        return None
    owner = merges.owner(node)
    mine = node if owner is None else owner.user
    return mine, sorted({user_id, *(users.ids[one] for one in (mine, *merges.sessions_of(mine)))})


def forget_sessions(state: StreamState, user: int, erased: tuple[int, dict[int, int]]) -> list[bytes]:
    """Erases the sessions of a user who is erased, of node `user`; returns the digests that stand for them now.

    erased: when that was, and the offset of each partition before which nothing counts any more.
    """
    model, digests = state.engine.model, []
    for session in state.merges.sessions_of(user):
        digests.append(state.digest_user(model.users.ids[session]))
        state.erased[digests[-1]] = erased
        state.catalogue.drop_user(session)
        state.engine.forget_user(session)
    state.merges.forget(user)
    return digests
