"""Why an item is listed for a user, and which of a user's interactions nobody would have expected."""

from typing import Any

import numpy as np

from consumers.schemas import ListedItem
from streamer.asking.answer_models import ItemExplanation, Surprises
from streamer.asking.known import Known
from streamer.asking.questions import Answer, ExplanationQuestion, SurpriseQuestion
from streamer.engine.engine import Selection
from streamer.lists.explanation import MOST, Check, Explanation, in_words, sentence
from streamer.lists.listed_items import listed_items
from tgn.asking.asked_lists import AskedLists, Odds
from tgn.asking.counterfactual import Carrier, Standing, Step, paths
from tgn.graph import I32
from tgn.prequential import CHANCE, Outcome
from tgn.reasons import BY_REPEAT, SOURCES

REPEAT = SOURCES[BY_REPEAT]

LATELY = 16
"""Interactions, the last ones, of which it is asked whether the item stands on them, beside those that lead there."""


class ReasonAnswers:
    """Answers from the user's own interactions: what would be without some of them in the ring.

    The rest of the graph is as it is, so that it can be asked in milliseconds; `freshet explain` builds all of the
    graph again without them.
    """

    def __init__(self, known: Known, asked: AskedLists) -> None:
        self._known, self._asked = known, asked

    def explanation(self, question: ExplanationQuestion) -> Answer:
        """The interactions that the item stands on, in words, and whether it falls without them.

        They are taken out together, one more each time, in the order in which the score falls without each; the one
        that lists name as the reason comes first.
        """
        known, model = self._known, self._known.model
        user, item = known.known_user(question.user_id), known.item(question.item_id)
        now_ms, exclude_seen = known.clock.now_ms(), known.surface("default").seen_for_ms == np.inf
        place = _standing(self._asked.odds(user, item, now_ms, exclude_seen))
        listed, cause = self._listed(user, item, now_ms, exclude_seen, place)
        steps = paths(model, user, item, now_ms)
        if listed is not None:
            steps = sorted(
                steps, key=lambda step: (step.item, step.source) != (cause, listed.source)
            )  # the others stay
        carriers = self._carriers(user, item, now_ms, steps, place)
        named_first = min((one.back for one in carriers if one.item == cause), default=None)
        carriers.sort(key=lambda carrier: carrier.back != named_first)
        check = self._check(user, item, now_ms, carriers, place)
        explained = Explanation(item, now_ms, place, steps, carriers, check)
        strongest = {step.back: step for step in reversed(steps)}
        named = [carrier for carrier in carriers if carrier.fall > 0 or carrier.back == named_first][:MOST]
        told: dict[str, Any] = {
            "user_id": question.user_id,
            "item_id": question.item_id,
            "title": known.state.catalogue.title_of(item),
            "place": place.place or None,
            "candidates": place.candidates,
            "score": round(place.score, 6) if place.place else None,
            "source": None if listed is None else listed.source,
            "reason": None if listed is None else listed.reason,
            "sentence": in_words(explained, self._title, history_alone=True).partition("\n\n")[0],
            "because": [
                {
                    "item_id": known.id_of(carrier.item),
                    "title": known.state.catalogue.title_of(carrier.item),
                    "timestamp": carrier.t,
                    "fall": round(carrier.fall, 6),
                    "sentence": sentence(carrier, strongest.get(carrier.back), now_ms, self._title),
                }
                for carrier in named
            ],
            "counterfactual": None if check is None else self._counterfactual(check),
        }
        return known.told(now_ms, ItemExplanation, **told)

    def _listed(
        self, user: int, item: int, now_ms: int, exclude_seen: bool, place: Standing
    ) -> tuple[ListedItem | None, int]:
        """The item as the user's list would name it now, or a longer one; and the item that led to it, −1: none did."""
        users = np.array([user], np.int32)

        def ranked(users: I32, at_ms: int, under: Selection) -> Outcome:
            return self._asked.of_users([(user, None) for user in users.tolist()], at_ms, *under)

        outcome = self._known.surface("default").relist(users, now_ms, by=ranked).outcome
        at = np.flatnonzero(outcome.published.item[0, : outcome.published.size[0]] == item)
        if not len(at) and place.place:
            outcome = self._asked.of_users([(user, None)], now_ms, place.place, exclude_seen)
            at = np.flatnonzero(outcome.published.item[0] == item)
        if not len(at):
            return None, -1
        found = listed_items(outcome, 0, self._known.model.items.ids)[at[0]]
        return found, item if found.source == REPEAT else int(outcome.evidence.cause[0, at[0]])

    def surprise(self, question: SurpriseQuestion) -> Answer:
        """The user's last interactions, the most surprising first.

        The surprise is −ln P(item), in nats, of the list that the user would get now if nothing in the ring named the
        item: what monitoring measures of each event, asked again with all that is known by now.
        """
        known, model = self._known, self._known.model
        user, now_ms = known.known_user(question.user_id), known.clock.now_ms()
        ring = [int(model.graph.users.ring_item[user, place]) for place in model.ring_places(user)]
        times = [int(model.graph.users.ring_time[user, place]) for place in model.ring_places(user)]
        catalogue = float(model.graph.newest.total[0] + 1)
        found = []
        for item in dict.fromkeys(ring[: question.k or known.settings.k]):
            backs = [back for back, other in enumerate(ring) if other == item]
            [odds] = self._asked.odds_without(user, item, now_ms, [backs], exclude_seen=False)
            surprise = float(-np.log((1 - CHANCE) * odds.chance + CHANCE / catalogue))
            found.append((surprise, item, times[backs[0]]))
        last = [
            {
                "item_id": known.id_of(item),
                "title": known.state.catalogue.title_of(item),
                "timestamp": t,
                "surprise": round(surprise, 6),
            }
            for surprise, item, t in sorted(found, key=lambda one: (-one[0], known.id_of(one[1]).encode()))
        ]
        return known.told(now_ms, Surprises, user_id=question.user_id, interactions=last)

    def _carriers(self, user: int, item: int, now_ms: int, steps: list[Step], place: Standing) -> list[Carrier]:
        """The last interactions, and those that lead to the item; the largest fall first."""
        if not place.place:
            return []
        users = self._known.model.graph.users
        places = self._known.model.ring_places(user)
        backs = sorted({*range(min(LATELY, len(places))), *(step.back for step in steps)})
        exclude_seen = self._known.surface("default").seen_for_ms == np.inf
        without = self._asked.odds_without(user, item, now_ms, ([back] for back in backs), exclude_seen)
        least = min((odds.score for odds in without if odds.place), default=place.score)
        found = [
            Carrier(
                int(users.ring_item[user, places[back]]),
                back,
                int(users.ring_time[user, places[back]]),
                place.score - (odds.score if odds.place else min(least, place.score)),
            )
            for back, odds in zip(backs, without, strict=True)
        ]
        return sorted(found, key=lambda carrier: (-carrier.fall, carrier.back))

    def _check(self, user: int, item: int, now_ms: int, carriers: list[Carrier], before: Standing) -> Check | None:
        check = None
        exclude_seen = self._known.surface("default").seen_for_ms == np.inf
        for size in range(1, min(MOST, sum(carrier.fall > 0 for carrier in carriers)) + 1):
            removed = carriers[:size]
            backs = [carrier.back for carrier in removed]
            [odds] = self._asked.odds_without(user, item, now_ms, [backs], exclude_seen)
            check = Check(removed=removed, others=0, window_ms=0, before=before, after=_standing(odds))
            if check.holds:
                break
        return check

    def _counterfactual(self, check: Check) -> dict[str, Any]:
        known = self._known
        return {
            "without": [{"item_id": known.id_of(one.item), "timestamp": one.t} for one in check.removed],
            "place": check.after.place or None,
            "score": round(check.after.score, 6) if check.after.place else None,
            "falls": check.holds,
        }

    def _title(self, item: int) -> str:
        return self._known.state.catalogue.title_of(item) or self._known.id_of(item)


def _standing(odds: Odds) -> Standing:
    return Standing(odds.place, odds.score, odds.candidates)
