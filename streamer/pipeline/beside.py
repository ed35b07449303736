"""Lists of further surfaces, published beside those of the one that the settings name, each on a topic of its own."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from consumers.records import NewRecord
from consumers.schemas import AsOf
from streamer.engine.engine import Selection
from streamer.lists.filters.masks import Asked
from streamer.lists.publisher import Publisher
from streamer.pipeline.list_changes import differs
from streamer.pipeline.surfaces import Surfaces
from streamer.runtime.topics import topic_of_surface
from streamer.state.published_lists import PublishedLists
from streamer.state.stream_state import StreamState
from tgn.asking.asked_lists import AskedLists
from tgn.graph import I32, U8
from tgn.prequential import Outcome

NOBODY = np.zeros(0, np.int32)


class MadeLists(NamedTuple):
    """Lists of N users."""

    items: I32  # [N, K]
    record: Callable[[int], NewRecord]  # of the nth


class ListsBeside:
    """Makes them at an epoch's end, of all that it took, for the users of its interactions.

    Args:
        limits: the largest record of each topic, see `Log.record_limits`.
    """

    def __init__(self, state: StreamState, surfaces: Surfaces, limits: Mapping[str, int]) -> None:
        self._state, self._surfaces, self._limits = state, surfaces, limits
        self._asked = AskedLists(state.engine.model)

    def names(self) -> list[str]:
        """The surfaces that are published, and those whose lists are out still."""
        return sorted({*self._surfaces.beside(), *self._state.beside})

    def naming(self, items: int | Sequence[int]) -> I32:
        """The users one of whose lists names an item, or one of several."""
        found = [lists.naming(items) for lists in self._state.beside.values()]
        return np.unique(np.concatenate([NOBODY, *found])).astype(np.int32)

    def has_list(self, users: I32) -> np.ndarray:
        """[N] bool: whether one of the surfaces has one published."""
        found = np.zeros(len(users), bool)
        for lists in self._state.beside.values():
            found |= lists.has_list(users)
        return found

    def publish(
        self,
        users: I32,
        cause: Callable[[int], str],
        as_of: AsOf,
        partitions: I32 | None = None,
        between: Callable[[], None] | None = None,
    ) -> list[NewRecord]:
        """The lists of users [N] where they are others than before; who has done nothing has none any more.

        Args:
            cause: what has caused the list of the nth user: the list's id without the surface.
            as_of: what they know.
            partitions: [N] of the interactions that caused them; None: none did.
            between: see `SurfaceLists.relist`.
        """
        active = np.flatnonzero(self._state.engine.model.graph.users.events[users] > 0)
        gone = np.delete(users, active)
        records = self.withdraw(gone)
        chosen = users[active]
        for name in self.names() if len(chosen) else ():
            if name not in self._surfaces.beside():
                records += self._withdraw(name, chosen)
                continue
            lists, made = self._lists(name), self.make(name, chosen, lambda n: cause(active[n]), as_of, between)
            rows = np.flatnonzero(differs(lists, chosen, made.items))
            records += map(made.record, rows.tolist())
            lists.note(chosen[rows], made.items[rows], None if partitions is None else partitions[active][rows])
        return records

    def make(
        self,
        name: str,
        users: I32,
        cause: Callable[[int], str],
        as_of: AsOf,
        between: Callable[[], None] | None = None,
    ) -> MadeLists:
        """The lists of users [N] on a surface, whether they are others than before or not."""
        publisher, surface = self._publisher(name), self._surfaces.lists_of(name)
        ids = self._state.engine.model.users.ids

        def list_id(n: int) -> str:
            return publisher.list_id(cause(n))

        outcome, propensity = surface.relist(users, as_of.timestamp, list_id, self._rank, between)

        def record(n: int) -> NewRecord:
            return publisher.make_list(
                cause(n), ids[users[n]], as_of, outcome, n, (), surface.book, propensity
            )  # fmt: skip

        return MadeLists(outcome.published.item, record)

    def refused(self, passed: Mapping[str, U8 | None], items: I32) -> I32:
        """The users whose lists name what the rules of their surface let pass before, and no longer do.

        Args:
            passed: what `passing` said before.
            items: [N] those that have changed.
        """
        found = [NOBODY]
        for name, now in self.passing().items():
            book, lists = self._surfaces.lists_of(name).book, self.lists(name)
            if book is None or book.filter is None:
                continue
            before = passed.get(name)
            gone = items.tolist()  # where that is another for each user or at each time, it may be each of them
            if now is not None and before is not None:
                gone = np.flatnonzero(before & (1 - now[: len(before)])).tolist()
            found += [lists.naming(gone)] if gone else []
        return np.unique(np.concatenate(found)).astype(np.int32)

    def passing(self) -> dict[str, U8 | None]:
        """[I] 1 where the rules of each surface let an item pass; None where that is another for each user or time."""
        found = dict[str, U8 | None]()
        for name in (self._state.settings.surface, *self._surfaces.beside()):
            surface = self._surfaces.lists_of(name)
            filter_ = None if surface.book is None else surface.book.filter
            found[name] = surface.mask(Asked(0, {}, {})) if filter_ is not None and filter_.item_only else None
        return found

    def lists(self, name: str) -> PublishedLists:
        """The published lists of a surface, the main one too."""
        return self._state.listed if name == self._state.settings.surface else self._lists(name)

    def withdraw(self, users: I32) -> list[NewRecord]:
        """The tombstones of the lists of users [N]."""
        return [record for name in self.names() for record in self._withdraw(name, users)]

    def withdrawal(self, name: str, user_id: str) -> NewRecord:
        """The tombstone of a user's list on a surface."""
        return self._publisher(name).withdrawal(user_id)

    def users_with_lists(self) -> I32:
        """The users who have a list on one of the surfaces."""
        users = {user for lists in self._state.beside.values() for user in lists.lists()}
        return np.array(sorted(users), np.int32)

    def _withdraw(self, name: str, users: I32) -> list[NewRecord]:
        lists, ids = self._lists(name), self._state.engine.model.users.ids
        had = users[lists.has_list(users)]
        lists.withdraw(had)
        publisher = self._publisher(name)
        return [publisher.withdrawal(ids[user]) for user in had.tolist()]

    def _lists(self, name: str) -> PublishedLists:
        lists = self._state.beside.get(name)
        if lists is None:
            lists = self._state.beside[name] = PublishedLists(self._surfaces.lists_of(name).k)
            lists.away = self._state.listed.away
        return lists

    def _publisher(self, name: str) -> Publisher:
        settings = self._state.settings
        own = {"surface": name, "recommendations_topic": topic_of_surface(settings, name)}
        return Publisher(
            settings.model_copy(update=own), self._state.engine.model, self._state.catalogue.attributes_of, self._limits
        )

    def _rank(self, users: I32, at_ms: int, under: Selection) -> Outcome:
        """Rankings of users [N]; what is published on the main topic stays noted."""
        return self._asked.of_users([(user, None) for user in users.tolist()], at_ms, *under)
