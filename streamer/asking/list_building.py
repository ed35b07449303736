"""What a question wishes of its list, on top of what the rules of its surface do."""

from typing import NamedTuple

import numpy as np

from streamer.asking.known import Known
from streamer.asking.questions import ListQuestion
from streamer.lists.building.filling import Ranking
from streamer.lists.listed_items import PINNED
from streamer.lists.rule_book import Chosen, RuleBook, Wishes, choose, room
from streamer.pipeline.surface_lists import NOBODY, SurfaceLists, without_cause
from tgn.graph import F64, I16, I32, LISTED
from tgn.prequential import Lists, Outcome
from tgn.reasons import Evidence
from tgn.selection import Allowed


class Built(NamedTuple):
    """A list of at most k places."""

    outcome: Outcome
    row: int  # which of the outcome it is
    propensity: F64 | None = None  # [K]; None: nothing was drawn


def is_ranking(question: ListQuestion, book: RuleBook | None) -> bool:
    """Whether the list is what the model ranks, place by place: nothing is wished of it."""
    own = question.boost or question.diversity or question.explore or (question.fatigue and question.shown)
    return book is None and not own


def depth_of(question: ListQuestion, book: RuleBook | None, k: int) -> int:
    """How many places of the ranking a list of k is built from."""
    if is_ranking(question, book):
        return k
    diversity, explore, _ = _strengths(question, book)
    own = Wishes([(np.zeros(0, np.uint8), one.factor) for one in question.boost], (), (), diversity, explore)
    tired = room(k) if question.shown else k  # by fatigue of the question, or of an arm
    return max(own.depth(k), tired, k if book is None else book.depth(k))


def book_of(known: Known, question: ListQuestion, surface: SurfaceLists) -> RuleBook | None:
    """The rules of the list: in an experiment those of the user's arm; nobody's are those of the surface."""
    return None if surface.book is None else surface.book.for_user(whose(question), known.state.catalogue.attributes_of)


def experiment_of(known: Known, question: ListQuestion, surface: SurfaceLists) -> dict[str, str] | None:
    """`name` of the experiment, `arm` and `group` of the list; None: it has no part in one."""
    return None if surface.book is None else surface.book.arm_of(whose(question), known.state.catalogue.attributes_of)


def whose(question: ListQuestion) -> str | None:
    """The user whose list it is; None: nothing of them counts."""
    return question.user_id if question.personalize else None


def _strengths(question: ListQuestion, book: RuleBook | None) -> tuple[float, float, float]:
    """Diversity, exploration and fatigue: the question's own, or those of the rules."""
    if book is None:
        return question.diversity, question.explore, question.fatigue
    rules = book.rules
    return (
        question.diversity or rules.diversity, question.explore or rules.explore, question.fatigue or rules.fatigue
    )  # fmt: skip


def built(
    known: Known,
    question: ListQuestion,
    surface: SurfaceLists,
    user: int | None,
    ring: I32,
    contexts: I16,
    list_id: str,
    now_ms: int,
    k: int,
    outcome: Outcome,
    n: int,
    allowed: Allowed | None,
) -> Built:
    """The list of a question, out of the ranking in row n of an outcome: see `choose`. Without a wish it is that.

    Args:
        known: the state that is asked.
        question: its `boost`, `diversity`, `explore` and `fatigue` are wishes beside those of the rules.
        surface: whose rules they are.
        user: whose attributes conditions read; None: nobody's.
        ring: [R] the items that whoever asks took, the last one first.
        contexts: rows of Contexts that they bring along.
        list_id: with the seed the key of what is drawn.
        now_ms: the stream's clock.
        k: how many places the list has.
        allowed: what may be listed; None: what the model lists by default.
    """
    size = int(outcome.published.size[n])
    ranking = Ranking(outcome.published.item[n, :size], outcome.published.score[n, :size])
    evidence = Evidence(outcome.evidence.source[n], outcome.evidence.cause[n])
    wishes = _wishes(known, question, surface, user, now_ms, allowed)
    alive = known.model.graph.items.alive if allowed is None else allowed.alive
    node, depth = NOBODY if user is None else user, outcome.published.item.shape[1]
    filled = surface.fallback(ranking, node, ring, contexts, now_ms, alive, wishes, depth)
    if filled is not None:
        ranking, evidence = filled.ranking, without_cause(filled)
    if not wishes.any():
        certain = np.ones(min(len(ranking.item), k))
        chosen = Chosen(ranking.item[:k], np.arange(len(certain)), ranking.score[:k], certain)
    else:
        chosen = choose(ranking, k, wishes, surface.facts, known.settings.seed, list_id)
    return Built(_row(outcome, evidence, chosen), 0, chosen.propensity)


def _wishes(
    known: Known, question: ListQuestion, surface: SurfaceLists, user: int | None, now_ms: int, allowed: Allowed | None
) -> Wishes:
    boosts = [
        (known.passing(one.condition, now_ms, user, question.context, f"boost.{n}.if"), one.factor)
        for n, one in enumerate(question.boost)
    ]
    book = book_of(known, question, surface)
    diversity, explore, fatigue = _strengths(question, book)
    nodes = known.model.items.get
    shown = {node: times for item, times in question.shown.items() if (node := nodes(item)) is not None}
    own = Wishes(boosts, diversity=diversity, explore=explore, fatigue=fatigue, shown=shown)
    if book is None:
        return own
    engine, taker = known.state.engine, user if surface.seen_for_ms == np.inf else None

    def pinnable(item_id: str) -> int | None:
        node = engine.listable(item_id, taker)
        return None if node is None or (allowed is not None and allowed.alive[node] != LISTED) else node

    asked = known.asked(now_ms, user, question.context)
    rules = book.wishes(known.masks, known.state.catalogue, pinnable, asked)
    return own._replace(boosts=[*rules.boosts, *boosts], pins=rules.pins, quotas=rules.quotas, debias=rules.debias)


def _row(outcome: Outcome, told: Evidence, chosen: Chosen) -> Outcome:
    """A list as the only row of an outcome; told: of the ranking that it was chosen from."""
    pinned = chosen.place < 0
    source, cause = told.source[chosen.place][None], told.cause[chosen.place][None]
    if pinned.any():
        source[0, pinned], cause[0, pinned] = PINNED, -1
    size = np.array([len(chosen.item)], np.int32)
    published = Lists(chosen.item[None], chosen.score[None].astype(np.float32), size)
    return outcome._replace(published=published, evidence=Evidence(source, cause))
