"""Sessions that are users' now: what was done under a session's id is taken as the user's."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from consumers.schemas import Merge


class SessionOwner(NamedTuple):
    """Whose a session is: the user's node, and the partition of the user's records."""

    user: int
    partition: int


class WaitingMerge(NamedTuple):
    """A merge that waits until the session's interactions before it have been taken."""

    merge: Merge
    partition: int


class Merges:
    """Owners by session, both as nodes of the model, and merges that wait."""

    def __init__(self) -> None:
        self._owners: dict[int, SessionOwner] = {}
        self._sessions: dict[int, set[int]] = {}  # user → sessions
        self._changed: set[int] = set()
        self.waiting: list[WaitingMerge] = []

    def __bool__(self) -> bool:
        return bool(self._owners)

    def owner(self, node: int | None) -> SessionOwner | None:
        """Whose the session of a node is; None where it is no session of anybody."""
        return None if node is None else self._owners.get(node)

    def sessions_of(self, user: int) -> list[int]:
        """The sessions of a user, in order of their nodes."""
        return sorted(self._sessions.get(user, ()))

    def note(self, session: int, owner: SessionOwner) -> None:
        """A session is a user's from now on, and so are the sessions that were the session's."""
        for one in (session, *self.sessions_of(session)):
            self._drop(one)
            self._owners[one] = owner
            self._sessions.setdefault(owner.user, set()).add(one)
            self._changed.add(one)

    def forget(self, node: int) -> None:
        """Nothing is known of a node any more: neither of its sessions nor of whom it is a session."""
        for one in (node, *self.sessions_of(node)):
            self._drop(one)

    def due(self, positions: Mapping[int, int]) -> list[WaitingMerge]:
        """The merges whose sessions are taken up to where they say; they wait no more. positions: by partition."""
        due = [one for one in self.waiting if _is_reached(one.merge, positions)]
        if due:
            self.waiting = [one for one in self.waiting if not _is_reached(one.merge, positions)]
        return due

    def _drop(self, session: int) -> None:
        owner = self._owners.pop(session, None)
        if owner is not None:
            self._changed.add(session)
            of_user = self._sessions[owner.user]
            of_user.discard(session)
            if not of_user:
                del self._sessions[owner.user]

    # the checkpoint

    def state(self) -> list[tuple[str, str, dict[str, int], int]]:
        """What of it stands in the page `stream`: the merges that wait."""
        return [(one.merge.user_id, one.merge.merge, one.merge.upto, one.partition) for one in self.waiting]

    def restore(self, state: Iterable[tuple[str, str, dict[str, int], int]]) -> None:
        """Takes back what `state` gave."""
        self.waiting = [WaitingMerge(Merge(user, session, upto), partition) for user, session, upto, partition in state]

    def owners(self) -> list[tuple[int, int, int]]:
        """(session, user, partition), in one order: equal for equal states."""
        return sorted((session, *owner) for session, owner in self._owners.items())

    def saved(self) -> int:
        """How many pages all the calls of `delta` have written, the last one up to now."""
        return len(self._owners)

    def delta(self) -> dict[bytes, bytes | None]:
        """What changed since the last call."""
        pages: dict[bytes, bytes | None] = {}
        for session in sorted(self._changed):
            owner = self._owners.get(session)
            pages[session.to_bytes(4, "big")] = None if owner is None else msgspec.msgpack.encode(owner)
        self._changed = set()
        return pages

    def load(self, pages: Iterable[tuple[bytes, bytes]]) -> None:
        """Takes back what `delta` gave."""
        for key, value in pages:
            session, owner = (
                int.from_bytes(key, "big"),
                SessionOwner(*msgspec.msgpack.decode(value, type=tuple[int, int])),
            )
            self._owners[session] = owner
            self._sessions.setdefault(owner.user, set()).add(session)


def _is_reached(merge: Merge, positions: Mapping[int, int]) -> bool:
    return all(positions.get(int(partition), 0) >= offset for partition, offset in merge.upto.items())
