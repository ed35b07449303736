"""Why an item stands where it stands for a user: paths through the graph, and what happens without an interaction.

A path is what the ranker is told, not why it ranked so, and neither is a weight. The answer to "why" is a
counterfactual: the graph is built again without the interaction (`tgn.repair`), and the item is ranked again.
"""

import copy
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import numpy as np

from tgn.graph import I32
from tgn.model import Model
from tgn.repair import History
from tgn.successors import to_now

Histories = Callable[[I32], History]
"""Users [N] → all of their interactions, in the order in which they counted."""


class Step(NamedTuple):
    """One interaction of the user that leads to the item."""

    source: str  # repeat, transition or co-interaction
    item: int  # what the user chose
    back: int  # how many interactions ago, 0: the last one
    t: int  # epoch ms
    share: float  # P(the explained item | item) under that relation, decayed to now; 1 for a repeat


class Carrier(NamedTuple):
    """An interaction in the user's ring, and how much the item's score falls where the ring does not have it."""

    item: int
    back: int  # interactions ago, 0: the last one
    t: int  # epoch ms
    fall: float


class Standing(NamedTuple):
    """Where an item stands among the candidates of a user."""

    place: int  # from 1; 0: it is no candidate
    score: float
    candidates: int


def standing(model: Model, user: int, item: int, now: int, exclude_seen: bool = False) -> Standing:
    """Where `item` stands for `user` at `now` (epoch ms)."""
    items, scores = model.ranking(user, now, len(model.items), exclude_seen)
    candidates = model.candidates()
    place = items.index(item) + 1 if item in items else 0
    return Standing(place if place <= candidates else 0, scores[place - 1] if place else -np.inf, candidates)


def paths(model: Model, user: int, item: int, now: int) -> list[Step]:
    """The user's last interactions that lead to the item, the strongest evidence first."""
    users, config = model.graph.users, model.config
    found = []
    for back, place in enumerate(model.ring_places(user)):
        via, t = int(users.ring_item[user, place]), int(users.ring_time[user, place])
        if users.ring_weight[user, place] <= 0:
            continue
        if via == item:
            found.append(Step("repeat", via, back, t, 1.0))
        elif back < config.co_sources:
            for source in ("transition", "co-interaction"):
                if source == "co-interaction" or back < config.transition_sources:
                    share = _share(model, source, via, item, now)
                    found += [Step(source, via, back, t, share)] if share > 0 else []
    return sorted(found, key=lambda step: (-step.share / (1 + step.back), step.back))


def without(model: Model, taken_back: Mapping[int, Collection[int]], histories: Histories) -> Model:
    """A model whose graph has never seen some interactions: user → which of theirs, as how many ago (0: the last).

    What was learned stays, and `model` is left as it is. Raises ValueError where a user has no such interaction.
    """
    other, config = _copy(model), model.config
    changed = np.array(sorted(taken_back), np.int32)
    wanted = np.zeros(len(model.graph.items.events), np.uint8)
    places: dict[int, list[int]] = {}
    mine = histories(changed)
    for user in changed.tolist():
        item = mine.item[mine.user == user]
        places[user] = _places(len(item), taken_back[user])
        for place in places[user]:
            reach = config.window + len(places[user])
            wanted[item[max(place - reach, 0) : place + reach]] = 1
        wanted[np.delete(item, places[user])[-config.ring :]] = 1
    history = histories(np.union1d(other.readers(wanted), changed).astype(np.int32))
    gone = np.concatenate([np.flatnonzero(history.user == user)[places[user]] for user in changed.tolist()])
    columns: Any = (np.delete(column, gone, axis=0) for column in history)
    left = History(*columns)
    other.repair(changed, (history.user[gone], history.item[gone]), wanted, left)
    return other


def taken_lately(model: Model, item: int, since: int, histories: Histories) -> dict[int, list[int]]:
    """The interactions with an item after `since` (epoch ms), as `without` takes them."""
    wanted = np.zeros(len(model.graph.items.events), np.uint8)
    wanted[item] = 1
    history = histories(model.readers(wanted))
    found: dict[int, list[int]] = {}
    for user in np.unique(history.user[(history.item == item) & (history.t > since)]).tolist():
        mine = history.user == user
        late = np.flatnonzero((history.item[mine] == item) & (history.t[mine] > since))
        found[user] = (int(mine.sum()) - 1 - late).tolist()
    return found


def _places(count: int, backs: Collection[int]) -> list[int]:
    places = sorted(count - 1 - back for back in backs)
    if not places or places[0] < 0 or places[-1] >= count:
        raise ValueError(f"the user has {count} interactions; asked for those {sorted(backs)} before the last")
    return places


def carried_by(model: Model, user: int, item: int, now: int, exclude_seen: bool = False) -> list[Carrier]:
    """Every interaction in the user's ring, the largest fall first.

    Only the user's own ring is another, so that all of it can be asked in a moment; `without` asks the whole graph.
    """
    users, before = model.graph.users, standing(model, user, item, now, exclude_seen).score
    kept = _copy_ring(model, user)
    found = []
    for back, place in enumerate(model.ring_places(user)):
        via, t = int(users.ring_item[user, place]), int(users.ring_time[user, place])
        _hide(model, user, back)
        found.append(Carrier(via, back, t, before - standing(model, user, item, now, exclude_seen).score))
        _restore(model, user, kept)
    return sorted(found, key=lambda carrier: (-carrier.fall, carrier.back))


def _share(model: Model, source: str, via: int, item: int, now: int) -> float:
    rows = model.graph.transitions if source == "transition" else model.graph.co
    places = np.flatnonzero(rows.item[via, : rows.size[via]] == item)
    if not len(places):
        return 0.0
    long = rows.weight.shape[1] - 1
    factor = to_now(rows.time, via, now, float(model.config.row_scales_ms[long]))
    return float(rows.weight[via, long, places[0]] * factor / (rows.total[via, long] * factor + 1))


def _copy(model: Model) -> Model:
    """Shares with `model` what a repair does not touch."""
    other = copy.copy(model)
    other.graph, other.memories, other.active = copy.deepcopy((model.graph, model.memories, model.active))
    return other


RING = ("ring_item", "ring_time", "ring_weight", "ring_count")


def _copy_ring(model: Model, user: int) -> list[np.ndarray]:
    return [np.copy(getattr(model.graph.users, name)[user]) for name in (*RING, "events")]


def _restore(model: Model, user: int, kept: list[np.ndarray]) -> None:
    for name, row in zip((*RING, "events"), kept, strict=True):
        getattr(model.graph.users, name)[user] = row


def _hide(model: Model, user: int, back: int) -> None:
    """Takes an entry out of a user's ring. Where it is full its oldest entry stands twice: none before it is known."""
    users, order = model.graph.users, model.ring_places(user)
    full = int(users.events[user]) > model.config.ring
    target = order[:-1] if full else [place - 1 for place in order[:back]]
    source = [*order[:back], *order[back + 1 :]] if full else order[:back]
    for name in RING:
        row = getattr(users, name)[user]
        row[target] = row[source].copy()
    users.events[user] -= not full
