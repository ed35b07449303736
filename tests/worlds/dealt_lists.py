"""Lists that exploration draws, and clicks whose chances are known: the truth of every way of making lists.

Users are of a few kinds, with a liveliness of their own. A click at a place has the chance liveliness × how far down
the place is × how much the kind likes the item. The ranking of a kind is its likes, with errors. Lists are drawn by
`streamer.lists.building.exploration`, as live ones are.
"""

from typing import NamedTuple

import numpy as np

from streamer.evaluation.off_policy import ShownLists
from streamer.lists.building.exploration import explored

KINDS, ITEMS, PLACES, A_USER = 3, 12, 4, 3
DEALS = ITEMS // PLACES


class Policy(NamedTuple):
    """Of each kind and place, how likely each of the items that are dealt to it is shown."""

    name: str
    chance: np.ndarray  # [KINDS, DEALS, PLACES]


class DealtWorld:
    """One world; every log of it is drawn anew."""

    def __init__(self, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        self.likes = random.beta(2, 5, (KINDS, ITEMS)) * 0.6
        self.looked_at = 1 / np.log2(2 + np.arange(PLACES))
        scores = 4 * self.likes + random.normal(0, 0.6, (KINDS, ITEMS))
        self.ranking = np.argsort(-scores, axis=1)  # [KINDS, ITEMS] item by rank
        self.score = -np.sort(-scores, axis=1)

    def dealt(self) -> np.ndarray:
        """[KINDS, DEALS, PLACES] the items that a place draws from."""
        return self.ranking.reshape(KINDS, DEALS, PLACES)

    def truth(self, policy: Policy) -> float:
        """Clicks a list, exactly: kinds and liveliness are as likely as one another, and have the mean 1."""
        likes = np.take_along_axis(self.likes, self.ranking, axis=1).reshape(KINDS, DEALS, PLACES)
        return float((policy.chance * likes * self.looked_at).sum() / KINDS)

    def log(self, random: np.random.Generator, lists: int, explore: float) -> tuple[ShownLists, np.ndarray]:
        """Shown lists with their clicks, and the kind of each one's user."""
        user = np.arange(lists) // A_USER
        users = int(user.max()) + 1
        kind, lively = random.integers(0, KINDS, users)[user], random.uniform(0.5, 1.5, users)[user]
        seed = int(random.integers(1 << 40))
        drawn = [explored(self.score[k], explore, PLACES, seed, f"0-{n}") for n, k in enumerate(kind.tolist())]
        place = np.stack([one.place for one in drawn])
        item = self.ranking[kind[:, None], place]
        chance = lively[:, None] * self.looked_at * self.likes[kind[:, None], item]
        clicks = (random.random(item.shape) < chance).astype(float)
        return ShownLists(user, item, np.stack([one.propensity for one in drawn]), clicks), kind

    def lists_of(self, policy: Policy, kind: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """[N, PLACES] the items that a policy would show to users of these kinds."""
        up_to = policy.chance.cumsum(axis=1)[kind]  # [N, DEALS, PLACES]
        deal = (up_to <= random.random((len(kind), 1, PLACES)) * up_to[:, -1:]).sum(axis=1)
        return np.take_along_axis(self.dealt()[kind], deal[:, None], axis=1)[:, 0]

    def policies(self, seed: int = 1) -> list[Policy]:
        """Twenty: the ranking itself, the best and the worst there is, such as choose anew, such as draw."""
        random, shape = np.random.default_rng(seed), (KINDS, DEALS, PLACES)
        likes = np.take_along_axis(self.likes, self.ranking, axis=1).reshape(shape)

        def fixed(deal: np.ndarray) -> np.ndarray:
            return np.asarray((np.arange(DEALS)[:, None] == deal[:, None]).astype(float))

        found = [
            Policy("the ranking", fixed(np.zeros((KINDS, PLACES), int))),
            Policy("the best", fixed(likes.argmax(1))),
            Policy("the worst", fixed(likes.argmin(1))),
            Policy("all alike", np.full(shape, 1 / DEALS)),
        ]
        for n in range(10):  # one that differs from the ranking at more and more places
            anew = random.random((KINDS, PLACES)) < (n + 1) / 10
            found.append(Policy(f"other {n + 1}", fixed(np.where(anew, random.integers(1, DEALS, anew.shape), 0))))
        for n, heat in enumerate((0.2, 0.5, 1.0, 2.0, 4.0, 8.0)):
            odds = np.exp((self.score.reshape(shape) - self.score.reshape(shape).max(1, keepdims=True)) / heat)
            found.append(Policy(f"drawn {n + 1}", odds / odds.sum(1, keepdims=True)))
        return found
