"""What answers read of the state: nodes by id, the stream's clock, what may be listed, what is told of an item."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any
from uuid import uuid4

import msgspec
import numpy as np

from consumers.schemas import CONTEXT_NAMES, AsOf, Item
from streamer.asking.answer_models import StateAnswer
from streamer.asking.asked_clock import AskedClock
from streamer.asking.questions import Answer, ListQuestion
from streamer.asking.refusals import QuestionRefused
from streamer.errors import RulesRefused
from streamer.lists.filters.compiled import Filter, compile_filter
from streamer.lists.filters.conditions import check_condition, check_values
from streamer.lists.filters.masks import Asked, FilterMasks
from streamer.lists.filters.syntax import FilterError
from streamer.lists.listed_items import configuration_name, model_version
from streamer.lists.rule_warnings import RuleWarning, check_conditions, fields_without_effect, warnings_of
from streamer.lists.rules import Rules
from streamer.pipeline.known_positions import by_partition
from streamer.pipeline.surface_lists import SurfaceLists
from streamer.pipeline.surfaces import build_surfaces
from streamer.settings import Settings
from streamer.state.stream_state import StreamState
from tgn.graph import DELETED, LISTED, REQUEST_SLOTS, U8
from tgn.model import Model
from tgn.selection import Allowed

Fields = Mapping[str, Any]
_encode = msgspec.json.Encoder().encode


class Known:
    """The state, as answers read it. Nothing here changes it."""

    def __init__(self, state: StreamState, clock: AskedClock) -> None:
        self.state, self.clock = state, clock
        self._configuration = configuration_name(state.engine.model.config)
        self._positions: tuple[int, dict[str, int]] = (-1, {})
        self._surfaces = build_surfaces(state)
        self._listable, self.masks = _Listable(state), FilterMasks(state.catalogue)

    @property
    def model(self) -> Model:
        return self.state.engine.model

    @property
    def settings(self) -> Settings:
        """Those in force."""
        return self.state.settings

    @property
    def model_version(self) -> str:
        return model_version(self._configuration, self.model)

    def surface_name(self, asked: str) -> str:
        """The surface that a question means: `default` is the one that the settings name."""
        return self.settings.surface if asked == "default" else asked

    def surface(self, asked: str) -> SurfaceLists:
        """The lists of a surface, by its rules."""
        return self._surfaces.lists_of(self.surface_name(asked))

    def proposed(self, rules: Rules) -> SurfaceLists:
        """The lists of a surface as other rules would make them."""
        return self._surfaces.proposed(rules)

    def is_surface(self, asked: str) -> bool:
        """Whether a surface is that of the settings, or has had rules."""
        name = self.surface_name(asked)
        return name == self.settings.surface or name in self.state.rules

    def read_of_context(self, question: ListQuestion, surface: SurfaceLists) -> set[str]:
        """The fields of a request's context that the model, the rules or the question itself read."""
        texts = [] if question.filter is None else [question.filter]
        texts += [boost.condition for boost in question.boost]
        read = set(CONTEXT_NAMES[:REQUEST_SLOTS])
        if surface.book is not None:
            read |= surface.book.reads_of_context
        return read | {names[0] for text in texts for root, names in _compiled(text).fields() if root == "context"}

    def warnings_of(self, rules: Rules) -> list[RuleWarning]:
        """What of rules can have no effect now. Raises QuestionRefused where a condition is none for any item."""
        columns, main = self.state.catalogue.columns, self.settings.surface
        try:
            check_conditions(rules, columns)
        except RulesRefused as refused:
            raise QuestionRefused(400, "bad-rules", str(refused), refused.field) from None
        return warnings_of(rules, columns, lambda item_id: bool(self.items((item_id,))), main)

    def fields_without_effect(self, question: ListQuestion) -> list[RuleWarning]:
        """What conditions of a question read that no item has, or that no item has so."""
        texts = {} if question.filter is None else {"filter": question.filter}
        texts |= {f"boost.{n}.if": boost.condition for n, boost in enumerate(question.boost)}
        columns = self.state.catalogue.columns
        of_each = (fields_without_effect(field, _compiled(text), columns) for field, text in texts.items())
        return [warning for warnings in of_each for warning in warnings]

    # nodes

    def item(self, item_id: str) -> int:
        """The index of an item. Raises QuestionRefused where nothing is known of it."""
        found = self.items((item_id,))
        if not found:
            raise QuestionRefused(404, "unknown-item", f"nothing is known of the item {item_id!r}", "item_id")
        return found[0]

    def items(self, ids: Iterable[str]) -> list[int]:
        """The indices of those of the items of which something is known, in order."""
        index, first, alive = self.model.items, self.model.graph.items.first_time, self.model.graph.items.alive
        nodes = (index.get(id_) for id_ in ids)
        return [n for n in nodes if n is not None and n < len(first) and first[n] >= 0 and alive[n] != DELETED]

    def user(self, user_id: str) -> int | None:
        """The index of a user, None for somebody unknown. A session that was merged into a user is that user."""
        node = self.model.users.get(user_id)
        if (owner := self.state.merges.owner(node)) is not None:
            return owner.user
        return node if node is not None and node < len(self.model.graph.users.events) else None

    def known_user(self, user_id: str) -> int:
        """The same; raises QuestionRefused where nothing is known of the user."""
        node = self.user(user_id)
        if node is None:
            raise QuestionRefused(404, "unknown-user", f"nothing is known of the user {user_id!r}", "user_id")
        return node

    # what may be listed

    def allowed(
        self,
        now_ms: int,
        *,
        filter_text: str | None = None,
        rules: U8 | None = None,
        user: int | None = None,
        context: Fields | None = None,
        exclude: Collection[int] = (),
        candidates: Collection[int] | None = None,
    ) -> Allowed | None:
        """What may be listed; None: what the model lists by default.

        Args:
            filter_text: an expression in CEL; user, context: what it reads beside the item.
            rules: [I] 1 where the rules let an item pass; None: everywhere.
            exclude: items that may not be listed.
            candidates: the only ones that may.
        """
        listable = self._listable.at(now_ms)
        alive = self.model.graph.items.alive
        mask = alive if listable is None else alive * listable  # 1 · 1 is LISTED
        if filter_text is not None:
            mask = mask * self.passing(filter_text, now_ms, user, context or {})
        if rules is not None:
            mask = mask * rules
        if candidates is not None:
            chosen = np.zeros_like(alive)
            chosen[list(candidates)] = 1
            mask = mask * chosen
        if exclude:
            mask = mask.copy() if mask is alive else mask
            mask[list(exclude)] = DELETED
        if mask is alive:
            return None
        return Allowed(mask, selected=filter_text is not None or rules is not None or candidates is not None)

    def listable(self, now_ms: int, filter_text: str | None) -> np.ndarray:
        """[N] int32: the items that may be listed, known ones alone."""
        allowed = self.allowed(now_ms, filter_text=filter_text)
        items = self.model.graph.items
        alive = items.alive if allowed is None else allowed.alive
        return np.flatnonzero((alive == LISTED) & (items.first_time >= 0)).astype(np.int32)

    def is_same_for_all(self, filter_text: str | None) -> bool:
        """Whether a filter lets the same items pass whoever asks; also where there is none. False for what is none."""
        try:
            return filter_text is None or _compiled(filter_text).item_only
        except FilterError:
            return False

    def passing(self, text: str, now_ms: int, user: int | None, context: Fields, field: str = "filter") -> U8:
        """[I] 1 where a filter lets the item pass. Raises QuestionRefused where the text, of a field, is none."""
        try:
            found, asked = _compiled(text), self.asked(now_ms, user, context)
            check_values(found, self.state.catalogue.columns, asked.user, context)
        except FilterError as error:
            raise QuestionRefused(400, "bad-filter", str(error), field) from None
        return self.masks.mask(found, asked)

    def asked(self, now_ms: int, user: int | None, context: Fields) -> Asked:
        """What conditions are about, beside items; user: whose attributes they read, None: nobody's."""
        return Asked(now_ms, {} if user is None else self.state.catalogue.attributes_of_user(user), context)

    # what is told

    def shown(self, item: int, fields: Sequence[str]) -> dict[str, Any]:
        """What is told of an item where it is asked."""
        if not fields:
            return {}
        record = self.state.catalogue.item(item)
        told: dict[str, Any] = {}
        if "title" in fields:
            told["title"] = None if record is None else record.title
        if "attributes" in fields:
            told["attributes"] = {} if record is None else attributes_of(record)
        return told

    def id_of(self, item: int) -> str:
        return self.model.items.ids[item]

    def as_of(self, now_ms: int) -> AsOf:
        """What an answer at `now_ms` knows."""
        if self._positions[0] != self.state.epoch:
            topic = self.settings.interactions_topic
            self._positions = self.state.epoch, by_partition(self.state.positions, topic)
        return AsOf(now_ms, self._positions[1])

    def age_ms(self, now_ms: int) -> int:
        """How long ago, by the stream's clock, the last of what is known happened."""
        return max(now_ms - self.state.clock_ms, 0)

    def told(self, now_ms: int, kind: type[StateAnswer], **said: Any) -> Answer:
        """An answer of a kind, with what every one says: what it knows, and how old that is."""
        as_of, age_ms = self.as_of(now_ms), self.age_ms(now_ms)
        return Answer(200, _encode(kind(as_of=as_of, age_ms=age_ms, request_id=str(uuid4()), **said)))


def attributes_of(item: Item) -> dict[str, Any]:
    """What a record says of an item beside its id, title and time; attributes stand beside the fields of ours."""
    fields = msgspec.to_builtins(item)
    own = fields.pop("attributes", {})
    return {name: value for name, value in (own | fields).items() if name not in ("item_id", "title", "timestamp")}


@lru_cache(maxsize=1_024)
def _compiled(text: str) -> Filter:
    """A condition that somebody asks with. Raises FilterError."""
    found = compile_filter(text)
    check_condition(found)
    return found


class _Listable:
    """Keeps the mask of what is neither hidden nor expired for as long as it is true."""

    def __init__(self, state: StreamState) -> None:
        self._state = state
        self._of: tuple[int, int] = (-1, -1)  # version of the catalogue, rows
        self._from_ms, self._until_ms = 0, -1
        self._mask: U8 | None = None

    def at(self, now_ms: int) -> U8 | None:
        """[I] 1 where an item may be listed at `now_ms`; None where every one may."""
        catalogue = self._state.catalogue
        of = catalogue.version, catalogue.rows()
        if of != self._of or not self._from_ms <= now_ms < self._until_ms:
            mask = catalogue.listable(now_ms)
            self._mask = None if mask.all() else mask
            self._of, self._from_ms, self._until_ms = of, now_ms, catalogue.next_flip(now_ms)
        return self._mask
