"""Users who take items in circles, and move one another: the truth of an experiment is what happens if all are in an arm.

Each user belongs to a circle, whose items they take but for a share of strays. Whoever is shown the new lists takes
more by `direct`, and so does everybody by `moved` × the share of those who took the same items that are shown them: what
one half of a shop learns from new lists is in the lists of the other half.
"""

from typing import NamedTuple

import numpy as np

from consumers.schemas import Business
from tests.worlds.outcomes import results

MEAN_TASTE, SHOWN = 0.1, 40


class Circles(NamedTuple):
    """Who took what before the experiment, and what users would click without it."""

    user: np.ndarray  # [N]
    item: np.ndarray  # [N]
    users: int
    items: int
    taste: np.ndarray  # [U] the chance of a click
    tier: np.ndarray  # [U] 0, 1, 2 by taste, with errors: what a shop knows of users before
    seen: np.ndarray  # [U, U] how much of what moves a user comes from each other one; rows sum to 1

    def clicks(self, random: np.random.Generator, treated: np.ndarray, direct: float, moved: float) -> np.ndarray:
        """[U] clicks of SHOWN items each. treated: [U] 1.0 where a user is shown the new lists."""
        lift = 1 + direct * treated + moved * (self.seen @ treated)
        return random.binomial(SHOWN, np.clip(self.taste * lift, 0, 1))


def circles(random: np.random.Generator, users: int = 2_000, count: int = 100, strays: float = 0.15) -> Circles:
    """A world. Circles are of unlike sizes, and unlike in taste: people of one resemble each other."""
    size = random.gamma(4.0, 1.0, count)
    circle = random.choice(count, users, p=size / size.sum())
    mine, n = 8, 12  # items of a circle, and how many times a user took one
    user = np.repeat(np.arange(users), n)
    strayed = random.random(len(user)) < strays
    item = np.where(strayed, random.integers(0, count, len(user)), circle[user]) * mine
    item = item + random.integers(0, mine, len(user))
    takes = np.zeros((users, count * mine))
    np.add.at(takes, (user, item), 1)
    along = takes @ takes.T
    np.fill_diagonal(along, 0)
    taste = random.beta(4, 36, count)[circle] * random.uniform(0.7, 1.3, users)
    guessed = taste * random.uniform(0.7, 1.3, users)
    tier = np.searchsorted(np.quantile(guessed, [1 / 3, 2 / 3]), guessed)
    return Circles(user, item, users, count * mine, taste, tier, along / along.sum(axis=1, keepdims=True))


def ctr_of_units(name: str, unit: np.ndarray, clicks: np.ndarray) -> Business:
    """What the join says of an arm of these users [U] with their units [U]: squares are those of units."""
    _, of = np.unique(unit, return_inverse=True)
    x = np.bincount(of, clicks)
    y = np.bincount(of) * float(SHOWN)
    nothing = np.zeros(len(x))
    return results(name, x, y, nothing, nothing)
