"""Lists: of a user, of a session, of a basket, of anybody."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple, cast
from uuid import uuid4

import msgspec
import numpy as np
from msgspec import UNSET

from consumers.event_weights import EventWeights
from consumers.schemas import ListedItem
from streamer.asking.answer_models import AskedItem, AskedList, AskedWarning, Cause
from streamer.asking.known import Known
from streamer.asking.list_building import Built, built, depth_of, experiment_of, is_ranking, whose
from streamer.asking.questions import Answer, ListQuestion, PreviewQuestion, RulesQuestion
from streamer.asking.refusals import QuestionRefused
from streamer.features.contexts import rows_of_contexts
from streamer.lists.listed_items import fallback_of, listed_items
from streamer.pipeline.surface_lists import SurfaceLists
from tgn.asking.asked_lists import AskedLists, Ring
from tgn.graph import I16, I32, NONE, REQUEST_SLOTS, SLOTS
from tgn.prequential import Outcome
from tgn.reasons import BY_REPEAT
from tgn.selection import Allowed

AT_ONCE, SELECTED_AT_ONCE = 4, 2
"""Lists made in one call of a kernel, without a filter and with one: 1 to 2 ms, up to 5 on a machine that is busy."""
NOBODY = Ring(np.zeros(0, np.int32), np.zeros(0, np.int64), np.zeros(0, np.float32))
_encode = msgspec.json.Encoder().encode


class _Plan(NamedTuple):
    """A question, and what the model is asked for it."""

    question: ListQuestion
    user: int | None
    ring: Ring  # of whoever is no user
    context: I16 | None
    k: int
    depth: int  # how many places the ranking has, of which the list is built
    surface: SurfaceLists

    def is_selected(self) -> bool:
        """Whether a filter says what may be listed."""
        book = self.surface.book
        return self.question.filter is not None or (book is not None and book.filter is not None)


class ListAnswers:
    """Makes lists at the time of a question."""

    def __init__(self, known: Known, asked: AskedLists) -> None:
        self._known, self._asked = known, asked

    def answers(self, questions: Sequence[ListQuestion]) -> list[Answer]:
        """A fresh list for each.

        It is short only where fewer items may be listed than it has places. A user of whom nothing is known gets
        the list of anybody. A filter reads what is known of the user, unless nothing of the user is to be read.
        """
        now_ms = self._known.clock.now_ms()
        return self._answers([self._plan(question, now_ms) for question in questions], now_ms)

    def preview(self, question: PreviewQuestion) -> Answer:
        """The list of a user as it is, and as other rules would make it; nothing is changed."""
        now_ms, rules = self._known.clock.now_ms(), question.rules
        own = {"user_id", "k", "fields", "context"}
        asked = ListQuestion.model_validate(question.model_dump(include=own) | {"surface": rules.surface})
        plans = [self._plan(asked, now_ms), self._plan(asked, now_ms, self._known.proposed(rules))]
        before, after = (self._answers([plan], now_ms)[0] for plan in plans)
        told = {"user_id": question.user_id, "surface": rules.surface, "version": rules.version()}
        lists = {"before": msgspec.Raw(before.body), "after": msgspec.Raw(after.body)}
        return Answer(200, _encode(told | lists))

    def check(self, question: RulesQuestion) -> Answer:
        """What of rules can have no effect now, a warning each."""
        warnings = self._known.warnings_of(question.rules)
        return Answer(200, _encode({"warnings": [warning._asdict() for warning in warnings]}))

    def _answers(self, plans: Sequence[_Plan], now_ms: int) -> list[Answer]:
        found: dict[int, Answer] = {}
        groups: dict[Hashable, list[int]] = {}
        for n, plan in enumerate(plans):
            groups.setdefault(self._group(plan) or ("alone", n), []).append(n)
        for members in groups.values():
            at_once = SELECTED_AT_ONCE if plans[members[0]].is_selected() else AT_ONCE
            for first in range(0, len(members), at_once):
                some = members[first : first + at_once]
                try:
                    answers = self._together([plans[n] for n in some], now_ms)
                except QuestionRefused as refused:
                    answers = [refused.answer()] * len(some)
                found.update(zip(some, answers, strict=True))
        return [found[n] for n in range(len(plans))]

    def _group(self, plan: _Plan) -> tuple[int, str | None, str, str | None] | None:
        """Plans of one group differ in their users alone, and are asked of the model together; None: it is alone."""
        question = plan.question
        if plan.user is None or question.exclude or question.candidates is not None or question.boost:
            return None
        if not (self._known.is_same_for_all(question.filter) and plan.surface.is_same_for_all()):
            return None
        return plan.depth, question.filter, question.surface, plan.surface.challenger

    def _plan(self, question: ListQuestion, now_ms: int, surface: SurfaceLists | None = None) -> _Plan:
        known = self._known
        user = known.user(question.user_id) if question.user_id is not None and question.personalize else None
        surface = surface or known.surface(question.surface).for_user(whose(question))
        k, rows = question.k or surface.k, _rows_of(question.context)
        return _Plan(
            question, user, self._ring(question, now_ms), rows, k, depth_of(question, surface.book, k), surface
        )  # fmt: skip

    def _together(self, plans: Sequence[_Plan], now_ms: int) -> list[Answer]:
        """The answers of one group."""
        allowed, exclude_seen = self._allowed(plans[0], now_ms), plans[0].surface.seen_for_ms == np.inf
        depth, live = plans[0].depth, plans[0].surface.challenger is None
        asked = self._asked if live else plans[0].surface.asked
        askers = [(plan.user, plan.context) for plan in plans if plan.user is not None]
        if askers:
            outcome = asked.of_users(askers, now_ms, depth, exclude_seen, allowed)
        else:
            outcome = asked.of_ring(plans[0].ring, now_ms, depth, allowed, plans[0].context)
        return [Answer(200, self._body(plan, now_ms, outcome, n, allowed)) for n, plan in enumerate(plans)]

    def _allowed(self, plan: _Plan, now_ms: int) -> Allowed | None:
        known, question, surface = self._known, plan.question, plan.surface
        exclude = {*known.items(question.exclude), *surface.taken_lately(plan.user, now_ms).tolist()}
        if question.items is not None:
            exclude.update(plan.ring.item.tolist())
        elif surface.seen_for_ms:
            exclude.update(plan.ring.item[plan.ring.t > now_ms - surface.seen_for_ms].tolist())
        return known.allowed(
            now_ms,
            filter_text=question.filter,
            rules=surface.mask(known.asked(now_ms, plan.user, question.context)),
            user=plan.user,
            context=question.context,
            exclude=exclude,
            candidates=None if question.candidates is None else known.items(question.candidates),
        )

    def _ring(self, question: ListQuestion, now_ms: int) -> Ring:
        """The interactions of a session or a basket, in the order of their times; none of items that nobody knows."""
        known = self._known
        if not question.personalize:
            return NOBODY
        if question.items is not None:
            items = known.items(question.items)
            return Ring(np.array(items, np.int32), np.full(len(items), now_ms), np.ones(len(items), np.float32))
        if not question.session:
            return NOBODY
        taken: list[tuple[int, int, float]] = []
        weights = EventWeights(known.settings.event_weights)
        for one in question.session:
            t = now_ms if one.timestamp is None else min(one.timestamp, now_ms)
            weight = 1.0 if one.event_type is None else weights.weigh(one.event_type, None)
            taken += [(t, item, weight) for item in known.items((one.item_id,))]
        if not taken:
            return NOBODY
        taken.sort(key=lambda one: one[0])
        times, nodes, weighed = (np.array(column) for column in zip(*taken, strict=True))
        return Ring(nodes.astype(np.int32), times.astype(np.int64), weighed.astype(np.float32))

    def _body(self, plan: _Plan, now_ms: int, outcome: Outcome, n: int, allowed: Allowed | None) -> bytes:
        """The list in row n of an outcome."""
        known, question, request_id = self._known, plan.question, str(uuid4())
        list_id = f"q-{request_id}"
        made = Built(outcome, n)
        if not is_ranking(question, plan.surface.book):
            made = built(
                known, question, plan.surface, plan.user, *self._brought(plan), list_id, now_ms, plan.k, outcome, n,
                allowed,
            )  # fmt: skip
        items: Sequence[ListedItem] = listed_items(made.outcome, made.row, known.model.items.ids)
        drawn = made.propensity
        if drawn is not None and (drawn != 1).any():
            items = [
                msgspec.structs.replace(item, propensity=propensity)
                for item, propensity in zip(items, drawn.tolist(), strict=True)
            ]
        places: Sequence[ListedItem] = items
        if question.fields or question.explain:
            told = self._told(plan, made)
            places = [AskedItem(**msgspec.structs.asdict(item), **more) for item, more in zip(items, told, strict=True)]
        fallback = fallback_of(items)
        if fallback is None and self._is_new(plan):
            fallback = "cohort" if items else "new"
        live = plan.surface.challenger is None
        return _encode(
            AskedList(
                list_id=list_id,
                user_id=question.user_id,
                surface=known.surface_name(question.surface),
                items=cast(list[AskedItem], places),  # whose further fields are not said
                as_of=known.as_of(now_ms),
                model_version=known.model_version if live else plan.surface.model_version,
                fallback=fallback,
                request_id=request_id,
                age_ms=known.age_ms(now_ms),
                rules=plan.surface.version or UNSET,
                experiment=experiment_of(known, question, plan.surface) or UNSET,
                warnings=self._warnings(plan) or UNSET,
            )
        )

    def _warnings(self, plan: _Plan) -> list[AskedWarning]:
        """What of the question has no effect: a surface without rules, fields that no item has or has so, contexts that
        nothing reads."""
        known, question = self._known, plan.question
        found = []
        if not known.is_surface(question.surface):
            message = f"nothing is known of the surface {question.surface!r}: the list is that of no rules"
            found.append(AskedWarning("unknown-surface", message, "surface"))
        found += [
            AskedWarning("unknown-field", warning.message, warning.field)
            for warning in known.fields_without_effect(question)
        ]
        if not question.context:
            return found
        if unread := question.context.keys() - known.read_of_context(question, plan.surface):
            message = "no rule, no filter and nothing that is learned reads it"
            found += [
                AskedWarning("unknown-context", f"context.{name}: {message}", f"context.{name}")
                for name in sorted(unread)
            ]
        return found

    def _brought(self, plan: _Plan) -> tuple[I32, I16]:
        """What is known of whoever asks: [R] the items of the ring, the last one first, and rows of Contexts."""
        model = self._known.model
        given = np.full(SLOTS, NONE, np.int16) if plan.context is None else plan.context
        if plan.user is None:
            return plan.ring.item[::-1], given
        users = model.graph.users
        context = np.where(given == NONE, users.context[plan.user], given)
        ring = users.ring_item[plan.user, model.ring_places(plan.user)]
        return ring, np.concatenate([context, users.attribute[plan.user]])

    def _is_new(self, plan: _Plan) -> bool:
        """Whether nobody's history was read: what suits comes of the context, of attributes, and of being new."""
        if plan.user is None:
            return not len(plan.ring.item)
        return not self._known.model.graph.users.events[plan.user]

    def _told(self, plan: _Plan, made: Built) -> list[dict[str, Any]]:
        """What is told of each item where it is asked: title, attributes, the interaction that led to it."""
        known, outcome, row = self._known, made.outcome, made.row
        items = outcome.published.item[row, : int(outcome.published.size[row])].tolist()
        told = [known.shown(item, plan.question.fields) for item in items]
        if plan.question.explain:
            last = self._last_times(plan.user, plan.ring)
            sources, causes = outcome.evidence.source[row].tolist(), outcome.evidence.cause[row].tolist()
            for place, item in enumerate(items):
                cause = item if sources[place] == BY_REPEAT else causes[place]
                because = Cause(known.id_of(cause), last.get(cause)) if cause >= 0 else None
                told[place]["because"] = because
        return told

    def _last_times(self, user: int | None, ring: Ring) -> dict[int, int]:
        """When each of the last items was chosen last."""
        if user is None:
            return dict(zip(ring.item.tolist(), ring.t.tolist(), strict=True))
        model = self._known.model
        users, places = model.graph.users, model.ring_places(user)[::-1]
        return dict(zip(users.ring_item[user, places].tolist(), users.ring_time[user, places].tolist(), strict=True))


def _rows_of(context: Mapping[str, Any]) -> I16 | None:
    """Rows of the contexts that can be known when a list is asked for; None where none is given."""
    if not context:
        return None
    rows: I16 = rows_of_contexts([context])[0]
    rows[REQUEST_SLOTS:] = NONE
    return rows
