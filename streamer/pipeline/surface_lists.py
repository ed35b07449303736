"""Lists of a surface by its rules: what is taken and listed in an epoch, in a replay, and when a list is made anew."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property, partial
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from streamer.engine.engine import Columns, Engine, Selection, last_of_user
from streamer.lists.building.diversity import features
from streamer.lists.building.fallback import FallbackSource
from streamer.lists.building.filling import Ranking
from streamer.lists.filters.masks import Asked, FilterMasks
from streamer.lists.listed_items import PINNED, configuration_name, model_version
from streamer.lists.rule_book import ItemFacts, RuleBook, Wishes, choose
from streamer.pipeline.fallback_lists import (
    NOTHING,
    Beginner,
    FallbackList,
    fallback_list,
    in_cohort,
    is_known,
    sources_for,
)
from streamer.pipeline.outcomes import joined, rearranged, with_published, with_room
from streamer.settings import Settings
from streamer.state.catalogue import Catalogue
from streamer.state.ledger import Ledger
from tgn.asking.asked_lists import AskedLists
from tgn.graph import F64, I16, I32, LISTED, U8
from tgn.model import Model, new_lists
from tgn.prequential import Lists, Outcome
from tgn.reasons import Evidence
from tgn.selection import Allowed

MEASURED_EVERY = 1_000
"""Interactions since the stream began, after which it is counted anew how many items pass: whatever an epoch holds."""
RELISTED_AT_ONCE = 4
"""Lists made anew before somebody else may look at the state: some 1 ms."""
NO_ITEM, NOBODY = -1, -1
NO_CHANCES = np.zeros((0, 0))
NOTHING_BEFORE = np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.int64)
"""User, item and time of interactions of the batch that are taken, and that the ledger does not have yet."""
RelistBy = Callable[[I32, int, Selection], Outcome]
"""Makes the rankings of users [N] at a time, epoch ms."""
Sources = Mapping[int, Sequence[FallbackSource]]
"""What fills the list in a row; rows that are not there have the model's."""


class Listed(NamedTuple):
    """What a batch gave, by rules."""

    outcome: Outcome
    propensity: F64 | None = None  # [N, K] of the published lists; None: nothing was drawn


class SurfaceLists:
    """Takes interactions and makes lists by the settings, and by the rules of one surface where it has some.

    Args:
        engine: takes them.
        catalogue: what is known of items and users.
        ledger: what users did before the last of it that the graph holds; None: nothing is known of that.
        settings: `k`, `exclude_seen`, `seed`, where the rules do not say.
        book: the rules; None: there are none.
        challenger: whose engine it is, `experiment/arm`; None: it is the live one.

    `rivals`: who makes the lists of an arm's users, by challenger, while its experiment runs on this surface.
    """

    def __init__(
        self,
        engine: Engine,
        catalogue: Catalogue,
        ledger: Ledger | None,
        settings: Settings,
        book: RuleBook | None,
        challenger: str | None = None,
    ) -> None:
        self._engine, self._catalogue, self._ledger, self.book = engine, catalogue, ledger, book
        self.challenger, self.rivals = challenger, dict[str, SurfaceLists]()
        self._seed = settings.seed
        self.k = settings.k if book is None or book.rules.k is None else book.rules.k
        without_rules = np.inf if settings.exclude_seen else 0.0
        self.seen_for_ms = without_rules if book is None else book.rules.seen_for_ms(settings.exclude_seen)
        self.depth = self.k if book is None else book.depth(self.k)
        self.has_wishes = book is not None and book.has_wishes()
        self._masks = FilterMasks(catalogue)
        self._before = NOTHING_BEFORE
        self.facts = item_facts(engine, catalogue)
        self._fallback = () if book is None else book.rules.fallback

    @property
    def version(self) -> str | None:
        """Names the rules; None: there are none."""
        return None if self.book is None else self.book.version

    @property
    def model(self) -> Model:
        """What ranks the items."""
        return self._engine.model

    @cached_property
    def model_version(self) -> str:
        """Names that model."""
        return model_version(configuration_name(self.model.config), self.model)

    @cached_property
    def asked(self) -> AskedLists:
        """Asks that model, and writes nothing to it."""
        return AskedLists(self.model)

    def for_user(self, user_id: str | None) -> "SurfaceLists":
        """Who makes the lists of whoever it is: a challenger, where they are in its arm."""
        if self.book is None or not self.rivals:
            return self
        challenger = self.book.challenger_of(user_id, self._catalogue.attributes_of)
        return self if challenger is None else self.rivals.get(challenger, self)

    def _makers(self, users: I32) -> list[tuple["SurfaceLists", np.ndarray]]:
        """Who makes the lists of users [N], and in which rows those are."""
        ids = self.model.users.ids
        whose = [self.for_user(ids[user]) for user in users.tolist()]
        every = (self, *self.rivals.values())
        found = [(one, np.flatnonzero([maker is one for maker in whose])) for one in every]
        return [(one, rows) for one, rows in found if len(rows)]

    def rows_of(self, challenger: str, users: I32) -> np.ndarray:
        """[N] bool: whose lists a challenger makes."""
        found = np.zeros(len(users), bool)
        for maker, rows in self._makers(users) if challenger in self.rivals else ():
            found[rows] = maker.challenger == challenger
        return found

    def is_published(self) -> bool:
        """Whether lists are published, and not made where they are asked for alone."""
        return self.book is None or self.book.rules.publish is not False

    def is_same_for_all(self) -> bool:
        """Whether the same items may be listed for everybody, until an item changes, but for what each has taken."""
        if self.book is None:
            return True
        filter_ = self.book.filter
        return (filter_ is None or filter_.item_only) and self.seen_for_ms in (0, np.inf)

    def _is_one_by_one(self) -> bool:
        """Whether each interaction is taken by itself: what its lists read is another for the next one."""
        return self.book is not None and not self.book.rules.same_for_block()

    # interactions

    def take(
        self,
        columns: Columns,
        list_ids: Callable[[int], str] = str,
        *,
        publish: np.ndarray | bool = True,
        between: Callable[[], None] | None = None,
        **more: Any,
    ) -> Listed:
        """See `Engine.take`, whose arguments it has. list_ids: the id of the list that an interaction causes."""
        engine = self._engine
        if self.book is None:
            return Listed(engine.take(columns, publish=publish, between=between, **more))
        n = len(columns.user)
        if not isinstance(publish, np.ndarray):
            publish = last_of_user(columns.user) * np.uint8(publish)
        engine.model.make_room(n)
        parts = list[Listed]()
        try:
            for rows in self._cuts(columns, more.get("block")):
                self._before = columns.user[: rows.start], columns.item[: rows.start], columns.t[: rows.start]
                part = Columns(*(column[rows] for column in columns))
                sources = self._sources_before(part) if more.get("score", True) else {}
                own = {name: value[rows] if isinstance(value, np.ndarray) else value for name, value in more.items()}
                event = engine.model.events
                taken = self._take(part, publish[rows], between, own)
                if publish.any():
                    taken = with_room(taken, len(part.user))
                later, test_id = partial(_later, list_ids, rows.start), partial(_test_id, event)
                parts.append(self._chosen(part, taken, later, test_id, sources))
        finally:
            self._before = NOTHING_BEFORE
        propensity = np.concatenate([part.propensity for part in parts if part.propensity is not None] or [NO_CHANCES])
        return Listed(joined([part.outcome for part in parts]), propensity if self.has_wishes else None)

    def _cuts(self, columns: Columns, block: np.ndarray | None) -> Iterable[slice]:
        """Where the mask is made anew: for each interaction, where it is another for each; blocks stay whole.

        What fills the list of somebody unknown is that of the moment, so that interactions of theirs stand alone.
        """
        n = len(columns.user)
        if not self._is_one_by_one():
            before = self._engine.model.events
            starts = [0, *range(MEASURED_EVERY - before % MEASURED_EVERY, n, MEASURED_EVERY)]
            alone = self._of_unknown(columns.user)
            starts = sorted({*starts, *alone.tolist(), *(alone[alone + 1 < n] + 1).tolist()})
        else:
            starts = list(range(n)) or [0]
        if block is not None and n:
            begins = np.flatnonzero(np.diff(block, prepend=block[0] - 1))
            starts = sorted({int(begins[np.searchsorted(begins, start, "right") - 1]) for start in starts})
        return [slice(a, b) for a, b in zip(starts, [*starts[1:], n], strict=True)]

    def _take(
        self, columns: Columns, publish: np.ndarray, between: Callable[[], None] | None, more: Mapping[str, Any]
    ) -> Outcome:
        engine = self._engine
        if not self._is_one_by_one() or not len(columns.user):
            under = self._under(Asked(0, {}, {}), None)
            return engine.take(columns, publish=publish, between=between, under=under, **more)
        user, now_ms = int(columns.user[0]), int(columns.t[0])
        under = self._under(self._asked(user, now_ms), user)
        outcome = engine.take(columns, publish=False, between=between, under=under, **more)
        if under.allowed is not None and self.seen_for_ms not in (0, np.inf):
            hidden = under.allowed.alive[columns.item] != LISTED
            outcome.rank[hidden] = -1  # nobody could list what is left out for a while
        if not publish.any():
            return outcome
        last = np.flatnonzero(publish)
        again = self._relist(columns.user[last], int(columns.t[last[-1]]), engine.relist)
        return with_published(outcome, again, last)

    # lists without an interaction

    def relist(
        self,
        users: I32,
        now_ms: int,
        list_ids: Callable[[int], str] = str,
        by: RelistBy | None = None,
        between: Callable[[], None] | None = None,
    ) -> Listed:
        """The published lists of users [N] at `now_ms`.

        Args:
            by: makes rankings in place of `Engine.relist`, which notes that they are published.
            between: called between two pieces of a few milliseconds; it may read the state. None: it is one piece.
        """
        by = by or self._engine.relist
        if self.rivals and len(users):
            return self._relist_by_arm(users, now_ms, list_ids, by, between)
        return self._relist_all(users, now_ms, list_ids, by, between)

    def _relist_by_arm(
        self, users: I32, now_ms: int, list_ids: Callable[[int], str], by: RelistBy, between: Callable[[], None] | None
    ) -> Listed:
        """The same, of each user from who makes their lists; `by` is of the live model."""
        parts, rows_of_parts = list[Listed](), list[np.ndarray]()
        for maker, rows in self._makers(users):
            ids, ranked = partial(_at, list_ids, rows), by if maker is self else maker.ranked
            parts.append(maker._relist_all(users[rows], now_ms, ids, ranked, between))
            rows_of_parts.append(rows)
        back = np.argsort(np.concatenate(rows_of_parts))
        drawn = [part.propensity for part in parts if part.propensity is not None]
        outcome = rearranged(joined([part.outcome for part in parts]), back)
        return Listed(outcome, np.concatenate(drawn)[back] if drawn else None)

    def ranked(self, users: I32, at_ms: int, under: Selection) -> Outcome:
        """Rankings of users [N], with nothing written."""
        return self.asked.of_users([(user, None) for user in users.tolist()], at_ms, *under)

    def _relist_all(
        self, users: I32, now_ms: int, list_ids: Callable[[int], str], by: RelistBy, between: Callable[[], None] | None
    ) -> Listed:
        if between is None or len(users) <= RELISTED_AT_ONCE:
            return self._relisted(users, now_ms, list_ids, by)
        parts = list[Listed]()
        for first in range(0, len(users), RELISTED_AT_ONCE):
            some = users[first : first + RELISTED_AT_ONCE]
            parts.append(self._relisted(some, now_ms, partial(_later, list_ids, first), by))
            between()
        drawn = [part.propensity for part in parts if part.propensity is not None]
        return Listed(joined([part.outcome for part in parts]), np.concatenate(drawn) if drawn else None)

    def _relisted(self, users: I32, now_ms: int, list_ids: Callable[[int], str], by: RelistBy) -> Listed:
        if self.book is None:
            return Listed(by(users, now_ms, Selection(self.k, self.seen_for_ms == np.inf)))
        self._engine.model.make_room(0)
        outcome = self._relist(users, now_ms, by)
        t = np.full(len(users), now_ms)
        nothing = np.zeros(len(users), np.int32)
        columns = Columns(users, nothing, t, nothing.astype(np.float32), np.zeros((len(users), 0), np.int16))
        return self._chosen(columns, outcome, list_ids, str)

    def of_nobody(self, now_ms: int, by: Callable[[int, Selection], Outcome], list_id: str) -> Listed:
        """The list at `now_ms` of somebody of whom nothing is known; by: makes the ranking."""
        if self.book is None:
            return Listed(by(now_ms, Selection(self.k, False)))
        outcome = by(now_ms, self._under(Asked(now_ms, {}, {}), None)._replace(exclude_seen=False))
        one = np.zeros(1, np.int32)
        columns = Columns(one + NOBODY, one, np.array([now_ms]), one.astype(np.float32), np.zeros((1, 0), np.int16))
        return self._chosen(columns, outcome, lambda row: list_id, str)

    def _relist(self, users: I32, now_ms: int, by: RelistBy) -> Outcome:
        if self.is_same_for_all() or not len(users):
            return by(users, now_ms, self._under(Asked(0, {}, {}), None))
        return joined(
            [
                by(users[n : n + 1], now_ms, self._under(self._asked(user, now_ms), user))
                for n, user in enumerate(users.tolist())
            ]
        )

    # what may be listed

    def mask(self, asked: Asked) -> U8 | None:
        """[I] 1 where the rules let an item pass; None: everywhere."""
        return None if self.book is None else self.book.allowed(self._masks, asked)

    def _under(self, asked: Asked, user: int | None) -> Selection:
        """What is listed; user: somebody of whom items may be left out for a while."""
        alive, mask = self._engine.model.graph.items.alive, self.mask(asked)
        recent = self.taken_lately(user, asked.now_ms)
        if mask is None and not len(recent):
            return Selection(self.depth, self.seen_for_ms == np.inf)
        allowed = alive.copy() if mask is None else alive * mask  # LISTED is 1
        allowed[recent] = 0
        return Selection(self.depth, self.seen_for_ms == np.inf, Allowed(allowed, mask is not None))

    def taken_lately(self, user: int | None, now_ms: int) -> I32:
        """The items that a user took so lately that the rules leave them out.

        The ring says it, unless all that it holds is that young: then the ledger does.
        """
        if user is None or user == NOBODY or self.seen_for_ms in (0, np.inf):
            return np.zeros(0, np.int32)
        model, since_ms = self._engine.model, now_ms - self.seen_for_ms
        users, places = model.graph.users, model.ring_places(user)
        items, times = users.ring_item[user, places], users.ring_time[user, places]
        if self._ledger is not None and len(places) < users.events[user] and (times > since_ms).all():
            before, mine = self._ledger.before(user), self._before[0] == user
            items = np.concatenate([items, before["item"], self._before[1][mine]])
            times = np.concatenate([times, before["t"], self._before[2][mine]])
        return np.unique(items[times > since_ms]).astype(np.int32)

    def _asked(self, user: int, now_ms: int) -> Asked:
        return Asked(now_ms, {} if user == NOBODY else self._catalogue.attributes_of_user(user), {})

    # wishes

    def _chosen(
        self,
        columns: Columns,
        outcome: Outcome,
        list_ids: Callable[[int], str],
        test_ids: Callable[[int], str],
        sources: Sources = MappingProxyType({}),
    ) -> Listed:
        """The lists that are wished for, out of the rankings of an outcome; ranks are those in the test lists.

        sources: of test lists of unknown users.
        """
        if not self.has_wishes:
            return Listed(outcome)
        told = None
        if len(outcome.source):
            told = Evidence(outcome.source, np.full(outcome.source.shape, NO_ITEM, np.int32))
        test, of_test, _ = self._lists(columns, outcome.test, told, test_ids, sources)
        published, evidence, propensity = self._lists(columns, outcome.published, outcome.evidence, list_ids)
        rank = outcome.rank.copy()
        for n in np.flatnonzero(rank >= 0).tolist() if len(test.item) else ():
            at = np.flatnonzero(test.item[n, : test.size[n]] == columns.item[n])
            rank[n] = at[0] + 1 if len(at) else 0
        popularity_rank = np.where(outcome.popularity_rank > self.k, 0, outcome.popularity_rank)
        outcome = outcome._replace(
            test=test, source=outcome.source[:, :0] if told is None else of_test.source, published=published,
            evidence=evidence, rank=rank, popularity_rank=popularity_rank,
        )  # fmt: skip
        return Listed(outcome, propensity)

    def _lists(
        self,
        columns: Columns,
        rankings: Lists,
        evidence: Evidence | None,
        list_ids: Callable[[int], str],
        sources: Sources | None = None,
    ) -> tuple[Lists, Evidence, F64]:
        """sources: what fills the lists of unknown users, of the time before their interactions; None: that of now."""
        found = new_lists(len(rankings.item), self.k)
        said = Evidence(np.full(found.item.shape, PINNED, np.uint8), np.full(found.item.shape, NO_ITEM, np.int32))
        propensity = np.ones(found.item.shape)
        for n in np.flatnonzero(rankings.item[:, 0] != NO_ITEM).tolist() if rankings.item.shape[1] else ():
            size = int(rankings.size[n])
            ranking = Ranking(rankings.item[n, :size], rankings.score[n, :size])
            user, now_ms = int(columns.user[n]), int(columns.t[n])
            wishes = self._wishes(user, now_ms)
            told = None if evidence is None else Evidence(evidence.source[n], evidence.cause[n])
            filled = self._filled(ranking, user, now_ms, wishes, sources if sources is None else sources.get(n, ()))
            if filled is not None:
                ranking, told = filled.ranking, without_cause(filled)
            chosen = choose(ranking, self.k, wishes, self.facts, self._seed, list_ids(n))
            at = slice(len(chosen.item))
            found.item[n, at], found.score[n, at], found.size[n] = chosen.item, chosen.score, len(chosen.item)
            propensity[n, at] = chosen.propensity
            if told is not None:
                known = np.flatnonzero(chosen.place >= 0)
                said.source[n, known] = told.source[chosen.place[known]]
                said.cause[n, known] = told.cause[chosen.place[known]]
        return found, said, propensity

    def _wishes(self, user: int, now_ms: int) -> Wishes:
        assert self.book is not None
        book = self.book.for_user(
            None if user == NOBODY else self._engine.model.users.ids[user], self._catalogue.attributes_of
        )
        asked = self._asked(user, now_ms)
        mask = self.mask(asked)
        gone = set(self.taken_lately(user, now_ms).tolist()) if book.rules.pins else set()
        taker = user if self.seen_for_ms == np.inf and user != NOBODY else None

        def pinnable(item_id: str) -> int | None:
            node = self._engine.listable(item_id, taker)
            return None if node is None or node in gone or (mask is not None and not mask[node]) else node

        return book.wishes(self._masks, self._catalogue, pinnable, asked)

    # whom nothing is known of

    def fallback(
        self, ranking: Ranking, user: int, ring: I32, contexts: I16, now_ms: int, alive: U8, wishes: Wishes, depth: int
    ) -> FallbackList | None:
        """What is ranked in place of the model's ranking; None: that stays, as for whom something is known of.

        Args:
            ranking: the model's.
            user: whose list it is; NOBODY: that of somebody without an index.
            ring: [R] the items that they took, the last one first.
            contexts: rows of Contexts that they bring along.
            alive: [I] LISTED where an item may be listed.
            wishes: whose pins items are looked for like, where the ring is empty.
            depth: how many places are ranked.
        """
        model = self._engine.model
        if not self._fallback or is_known(model.graph, ring):
            return None
        beginner = self._beginner(user, ring, contexts, wishes)
        return fallback_list(
            sources_for(model, self._catalogue, self._fallback, beginner, ranking.item, alive, now_ms, depth), depth
        )  # fmt: skip

    def _filled(
        self, ranking: Ranking, user: int, now_ms: int, wishes: Wishes, sources: Sequence[FallbackSource] | None
    ) -> FallbackList | None:
        """The same of a user, now, or, where they are given, from the sources of before."""
        if sources is None:
            alive = self._alive(user, now_ms)
            ring, contexts = self._ring_of(user), self._contexts_of(user)
            return self.fallback(ranking, user, ring, contexts, now_ms, alive, wishes, self.depth)
        if not sources:
            return None
        return fallback_list(
            [one._replace(item=ranking.item) if one.label == "cohort" else one for one in sources], self.depth
        )

    def _sources_before(self, columns: Columns) -> Sources:
        """What the test lists of unknown users are filled from, before their interactions are taken."""
        model, found = self._engine.model, dict[int, Sequence[FallbackSource]]()
        for n in self._of_unknown(columns.user).tolist():
            user, now_ms = int(columns.user[n]), int(columns.t[n])
            beginner = self._beginner(
                user, self._ring_of(user), self._contexts_of(user), self._wishes(user, now_ms)
            )  # fmt: skip
            alive = self._alive(user, now_ms)
            found[n] = list(
                sources_for(model, self._catalogue, self._fallback, beginner, NOTHING, alive, now_ms, self.depth)
            )
        return found

    def _of_unknown(self, users: I32) -> np.ndarray:
        """The rows [N] of users of whom nothing is known yet."""
        if not self._fallback:
            return np.zeros(0, np.int64)
        graph = self._engine.model.graph
        unknown = [user for user in np.unique(users).tolist() if not is_known(graph, self._ring_of(user))]
        return np.flatnonzero(np.isin(users, unknown))

    def _beginner(self, user: int, ring: I32, contexts: I16, wishes: Wishes) -> Beginner:
        model = self._engine.model
        items = ring if len(ring) else np.array([item for item, _ in wishes.pins], np.int32)
        cohort, events = in_cohort(model, contexts), 0 if user == NOBODY else int(model.graph.users.events[user])
        if self.seen_for_ms != np.inf or not events:
            return Beginner(items, cohort)
        return Beginner(items, cohort, partial(self._engine.has_taken, user), events)

    def _alive(self, user: int, now_ms: int) -> U8:
        allowed = self._under(self._asked(user, now_ms), None if user == NOBODY else user).allowed
        return self._engine.model.graph.items.alive if allowed is None else allowed.alive

    def _ring_of(self, user: int) -> I32:
        model = self._engine.model
        return NOTHING if user == NOBODY else model.graph.users.ring_item[user, model.ring_places(user)]

    def _contexts_of(self, user: int) -> I16:
        users = self._engine.model.graph.users
        if user == NOBODY:
            return np.zeros(0, np.int16)
        return np.concatenate([users.context[user], users.attribute[user]])


def item_facts(engine: Engine, catalogue: Catalogue) -> ItemFacts:
    """What steps need to know of items: ids, categories, what their records say, who takes them along with what."""
    model = engine.model

    def rows(items: I32) -> F64:
        records = [catalogue.item(item) for item in items.tolist()]
        categories = [() if record is None else record.categories for record in records]
        return features(categories, model.content.vector[items], model.embeddings.candidate[items])

    return ItemFacts(model.items.ids, rows, lambda items: model.graph.items.events[items])


def without_cause(filled: FallbackList) -> Evidence:
    """The evidence of a list that is filled from sources."""
    return Evidence(filled.source, np.full(len(filled.source), NO_ITEM, np.int32))


def _at(list_ids: Callable[[int], str], rows: np.ndarray, row: int) -> str:
    return list_ids(int(rows[row]))


def _later(list_ids: Callable[[int], str], start: int, row: int) -> str:
    return list_ids(start + row)


def _test_id(event: int, row: int) -> str:
    """What names a test list: how many interactions the model had taken before it."""
    return f"test-{event + row}"
