"""Users who visit a shop, are shown lists, and click by chances that are known: what lists bring is known exactly.

A click at a place has the chance how far down it is looked × how much the user likes the item × how good the item is.
Tastes drift: now and then a user turns to other genres. Items live and die: each round some are new, known by their
record alone, and some are hidden. Nobody takes an item twice. In the time before the first round users find items by
what others took, and only among the first half of the catalogue: the other half has never been shown to anybody.
"""

from typing import Any

import numpy as np

GENRES, PLACES = 12, 10
ROUND_MS, BEGAN_MS = 3_600_000, 1_700_000_000_000
LOOKED_AT = 1 / np.log2(2 + np.arange(PLACES))
"""[PLACES] the chance that a place is looked at, the first one's is 1."""


class VisitWorld:
    """One world; `round` moves it on.

    Args:
        users, items: how many there are in the first round.
        visits: share of the users who come in a round.
        born: items that are new in a round; as many of the oldest are hidden.
        drift: share of the users who turn to other genres in a round.
    """

    def __init__(
        self, seed: int, users: int = 200, items: int = 400, visits: float = 0.3, born: int = 2, drift: float = 0.01
    ) -> None:
        self.random = random = np.random.default_rng(seed)
        self.users, self._visits, self._born, self._drift = users, visits, born, drift
        self._taste = self._tastes(users)  # [U, GENRES]
        self._genre, self._quality = random.integers(0, GENRES, items), random.beta(2, 3, items)  # [I]
        self._alive = np.ones(items, bool)  # [I]
        self._taken = np.zeros((users, items), bool)  # [U, I]
        self.now_ms = BEGAN_MS

    def _tastes(self, users: int) -> np.ndarray:
        """[users, GENRES] the genre that is liked most has 1."""
        taste = self.random.dirichlet(np.full(GENRES, 0.25), users)
        return np.asarray(taste / taste.max(axis=1, keepdims=True))

    @property
    def items(self) -> int:
        """How many there have been."""
        return len(self._genre)

    def likes(self, user: int) -> np.ndarray:
        """[I] the chance of a click on each item in a place that is looked at; 0 of what was taken, or is hidden."""
        likes = 0.6 * self._taste[user, self._genre] * self._quality
        return np.where(self._alive & ~self._taken[user], likes, 0.0)

    def before(self, events: int) -> list[tuple[int, int, int]]:
        """User, item and time of what users found by themselves before the first round."""
        shown, count, found = self.items // 2, np.ones(self.items // 2), list[tuple[int, int, int]]()
        while len(found) < events:
            user = int(self.random.integers(self.users))
            item = int(self.random.choice(shown, p=count / count.sum()))
            if self.random.random() < self.likes(user)[item]:
                count[item] += 1
                self._taken[user, item] = True
                found.append((user, item, self.now_ms + len(found) * 1_000))
        self.now_ms += events * 1_000
        return found

    def records(self, first: int = 0) -> list[dict[str, Any]]:
        """Records of the items from `first` on."""
        rows = [{"item_id": f"i{n}", "categories": [f"g{g}"]} for n, g in enumerate(self._genre.tolist())]
        return rows[first:]

    def round(self) -> list[dict[str, Any]]:
        """Goes on to the next round. Returns the records of items that are new, and of those that are hidden."""
        random = self.random
        self.now_ms += ROUND_MS
        first, oldest = self.items, np.flatnonzero(self._alive)[: self._born]
        self._alive[oldest] = False
        self._genre = np.concatenate([self._genre, random.integers(0, GENRES, self._born)])
        self._quality = np.concatenate([self._quality, random.beta(2, 3, self._born)])
        self._alive = np.concatenate([self._alive, np.ones(self._born, bool)])
        self._taken = np.concatenate([self._taken, np.zeros((self.users, self._born), bool)], axis=1)
        turned = np.flatnonzero(random.random(self.users) < self._drift)
        self._taste[turned] = self._tastes(len(turned))
        every = self.records()
        return [every[n] | {"hidden": True} for n in oldest.tolist()] + every[first:]

    def visitors(self) -> list[int]:
        """Who comes in this round."""
        return [int(user) for user in np.flatnonzero(self.random.random(self.users) < self._visits)]

    def worth(self, user: int, items: list[int]) -> float:
        """Clicks that a list brings on average."""
        return float(self.likes(user)[items] @ LOOKED_AT[: len(items)])

    def best(self, user: int) -> float:
        """The same of the best list there is."""
        return float(-np.sort(-self.likes(user))[:PLACES] @ LOOKED_AT)

    def look(self, user: int, items: list[int]) -> list[int]:
        """The places, from 0, that a user clicks in a list: the items are taken then."""
        chance = self.likes(user)[items] * LOOKED_AT[: len(items)]
        clicked = [int(place) for place in np.flatnonzero(self.random.random(len(items)) < chance)]
        self._taken[user, [items[place] for place in clicked]] = True
        return clicked
