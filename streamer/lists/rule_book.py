"""Rules with their conditions compiled, and what they make of a ranking: the same for published and asked lists."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, cast

import numpy as np

from streamer.features.item_columns import Values
from streamer.lists.assignment import arm_of, group_of
from streamer.lists.building.debiasing import debiased
from streamer.lists.building.diversity import diversified
from streamer.lists.building.exploration import explored
from streamer.lists.building.fatigue import fatigued
from streamer.lists.building.filling import Ranking, boosted, filled, places_in, rescored
from streamer.lists.filters.compiled import Filter, HasColumns, compile_filter
from streamer.lists.filters.masks import Asked, FilterMasks
from streamer.lists.rules import MAX_K, ArmModel, Rules
from tgn.graph import F32, F64, I32, I64, U8

TIMES_AS_LONG = 5  # the ranking that a list is chosen from
AttributesOf = Callable[[str], Mapping[str, Any]]
"""What the record of a user says, by id."""
UNLIKE = 100  # places at most that diversity chooses, one after the other: some 5 ms


class Wishes(NamedTuple):
    """What is wished of one list, beside which items may be in it."""

    boosts: Sequence[tuple[U8, float]] = ()  # mask [I], factor on the odds
    pins: Sequence[tuple[int, int]] = ()  # item, place from 1
    quotas: Sequence[tuple[Values, int]] = ()  # what counts of each item, and how many may have the same
    diversity: float = 0.0
    explore: float = 0.0
    debias: float = 0.0
    fatigue: float = 0.0
    shown: Mapping[int, int] = MappingProxyType({})  # item → how often the user was shown it

    def any(self) -> bool:
        """Whether a list is something else than the first places of the ranking."""
        steps = self.diversity, self.explore, self.debias, self.fatigue and self.shown
        return any(map(len, (self.boosts, self.pins, self.quotas))) or any(steps)

    def depth(self, k: int) -> int:
        """How many places of the ranking a list of k is built from."""
        if not self.any():
            return k
        return max(MAX_K, k) if len(self.boosts) or self.debias else room(k)  # it may come from far below


def room(k: int) -> int:
    """How many places k are chosen from."""
    return max(min(TIMES_AS_LONG * k, MAX_K), k)


class Chosen(NamedTuple):
    """A list of at most k places."""

    item: I32  # [K]
    place: I64  # [K] in the ranking that it was chosen from; −1: it is pinned
    score: F32  # [K]
    propensity: F64  # [K]


class ItemFacts(NamedTuple):
    """What steps need to know of items."""

    ids: Sequence[str]  # of all items, by node
    features: Callable[[I32], F64]  # rows of items [N] whose products say how alike they are
    interactions: Callable[[I32], np.ndarray]  # [N] how often each was chosen


def choose(ranking: Ranking, k: int, wishes: Wishes, known: ItemFacts, seed: int, list_id: str) -> Chosen:
    """The list that is wished for, out of a ranking.

    (1) Popularity that is taken out, boosts and fatigue change scores and the order with them. (2) Diversity chooses
    who stands in the first places. (3) Exploration draws some of them from what follows. (4) Pins get their places, and
    quotas leave out what is too much; what they move keeps the propensity of its draw.

    Args:
        ranking: of `Wishes.depth` places, where there are as many.
        k: how many places the list has.
        seed, list_id: the key of what is drawn.
    """
    best = ranking
    if wishes.debias:
        score = debiased(best.score.astype(np.float64), known.interactions(best.item), wishes.debias)
        best = rescored(best, score, known.ids)
    best = boosted(best, wishes.boosts, known.ids)
    if wishes.fatigue and wishes.shown:
        times = np.array([wishes.shown.get(item, 0) for item in best.item.tolist()])
        score = fatigued(best.score.astype(np.float64), times, wishes.fatigue)
        best = rescored(best, score, known.ids)
    best = Ranking(best.item[: room(k)], best.score[: room(k)])
    order = np.arange(len(best.item))
    if wishes.diversity:
        rows = known.features(best.item)
        order = diversified(best.score.astype(np.float64), rows, wishes.diversity, min(k, UNLIKE))
    drawn = explored(best.score[order].astype(np.float64), wishes.explore, k, seed, list_id)
    first, propensity = order[drawn.place], np.ones(len(order))
    propensity[first] = drawn.propensity
    if wishes.pins or wishes.quotas:
        left = np.ones(len(order), bool)
        left[first] = False
        order = np.concatenate([first, order[left[order]]])
        ordered = Ranking(best.item[order], best.score[order])
        chosen = filled(ordered, k, wishes.pins, wishes.quotas)
        at = places_in(ordered.item, chosen.item)
        drawn_at = np.where(at >= 0, propensity[order[at]], 1.0) if len(order) else np.ones(len(at))
        place = places_in(ranking.item, chosen.item)
        place[np.isin(chosen.item, [item for item, _ in wishes.pins])] = -1
        return Chosen(chosen.item, place, chosen.score, drawn_at)
    items = best.item[first]
    return Chosen(items, places_in(ranking.item, items), best.score[first], propensity[first])


class RuleBook:
    """Rules with their conditions compiled."""

    def __init__(self, rules: Rules) -> None:
        self.rules, self.version = rules, rules.version()
        self._filter = None if rules.filter is None else compile_filter(rules.filter)
        self._boosts = [(compile_filter(boost.condition), boost.factor) for boost in rules.boosts]
        self._pins = [(pin, None if pin.condition is None else compile_filter(pin.condition)) for pin in rules.pins]
        arms = () if rules.experiment is None else rules.experiment.arms
        self._arms = {arm.name: RuleBook(rules.of_arm(arm)) for arm in arms}
        running = None if rules.experiment is None or rules.experiment.shadow else rules.experiment
        self.challengers: Mapping[str, ArmModel] = {} if running is None else running.challengers()
        conditions = [self._filter, *(one for one, _ in self._boosts), *(one for _, one in self._pins)]
        fields = [field for one in conditions if one is not None for field in one.fields()]
        own = frozenset(names[0] for root, names in fields if root == "context")
        self.reads_of_context: frozenset[str] = own.union(*(book.reads_of_context for book in self._arms.values()))

    def for_user(self, user_id: str | None, attributes: AttributesOf) -> "RuleBook":
        """The rules of whoever it is: where an experiment runs, those of the user's arm."""
        arm = self.arm_of(user_id, attributes)
        return self if arm is None else self._arms.get(arm["arm"], self)

    def arm_of(self, user_id: str | None, attributes: AttributesOf) -> dict[str, str] | None:
        """`name` of the experiment, `arm` of a user, and the `group` they are dealt with; None: they have no part."""
        experiment = self.rules.experiment
        if experiment is None or user_id is None:
            return None
        group = None if experiment.unit is None else group_of(experiment.unit, attributes(user_id))
        arm = arm_of(experiment, user_id, group)
        if arm is None:
            return None
        return {"name": experiment.name, "arm": arm} | ({} if group is None else {"group": group})

    def challenger_of(self, user_id: str | None, attributes: AttributesOf) -> str | None:
        """Which of `challengers` makes the lists of a user; None: the live model does."""
        arm = self.arm_of(user_id, attributes) if self.challengers else None
        key = "" if arm is None else f"{arm['name']}/{arm['arm']}"
        return key if key in self.challengers else None

    @property
    def filter(self) -> Filter | None:
        """Which items may be listed; None: every one."""
        return self._filter

    def allowed(self, masks: FilterMasks, asked: Asked) -> U8 | None:
        """[I] 1: the item may be listed; None: every item."""
        return None if self._filter is None else masks.mask(self._filter, asked)

    def depth(self, k: int) -> int:
        """See `Wishes.depth`: of the rules and of every arm, whatever the list."""
        rules = self.rules
        boosts, pins, quotas = cast(Any, (rules.boosts, rules.pins, rules.quotas))  # how many there are is what counts
        own = Wishes(boosts, pins, quotas, rules.diversity, rules.explore, rules.debias).depth(k)
        return max([own, *(book.depth(k) for book in self._arms.values())])

    def has_wishes(self) -> bool:
        """Whether a list is something else than the first places of the ranking of what may be listed."""
        return self.depth(1) > 1 or bool(self.rules.fallback)

    def wishes(
        self, masks: FilterMasks, catalogue: HasColumns, pinnable: Callable[[str], int | None], asked: Asked
    ) -> Wishes:
        """What the rules wish of one list.

        Args:
            pinnable: the node of an item by its id; None: it may not be listed.
            asked: when, and for whom.
        """
        rules = self.rules
        boosts = [(masks.mask(condition, asked), factor) for condition, factor in self._boosts]
        pins = list[tuple[int, int]]()
        for pin, condition in self._pins:
            node = pinnable(pin.item_id)
            if node is not None and (condition is None or masks.mask(condition, asked)[node]):
                pins.append((node, pin.place))
        quotas = [(catalogue.columns.values(quota.path()), quota.max) for quota in rules.quotas]
        return Wishes(boosts, pins, quotas, rules.diversity, rules.explore, rules.debias, rules.fatigue)
