"""Salts that deal evenly."""

from collections import Counter

import numpy as np

from consumers.schemas import User
from streamer.experiments.strata import balanced_salt
from streamer.lists.assignment import arm_of, group_of
from streamer.lists.rules import SurfaceExperiment

ARMS = [{"name": "a", "share": 0.5}, {"name": "b", "share": 0.4}]


def experiment(unit: str | None = None) -> SurfaceExperiment:
    return SurfaceExperiment.model_validate({"name": "x", "salt": "s", "unit": unit, "holdback": 0.1, "arms": ARMS})


def people(count: int) -> list[User]:
    random = np.random.default_rng(3)
    circle, country = random.zipf(1.5, count) % 40, random.choice(["no", "se", "dk"], count, p=[0.7, 0.25, 0.05])
    return [User(f"u{n}", None, {"circle": int(circle[n]), "country": str(country[n])}) for n in range(count)]


def unevenness(one: SurfaceExperiment, users: list[User], strata: str | None) -> float:
    """How far shares of strata are from those that were asked for, at most."""
    dealt, size = Counter[tuple[str | None, str | None]](), Counter[str | None]()
    for user in users:
        told = user.attributes or {}
        size[group_of(strata, told)] += 1
        dealt[group_of(strata, told), arm_of(one, user.user_id, group_of(one.unit, told))] += 1
    shares = {"holdback": 0.1, "a": 0.5, "b": 0.4}
    return max(abs(dealt[stratum, arm] / n - share) for stratum, n in size.items() for arm, share in shares.items())


def test_a_chosen_salt_deals_strata_more_evenly_than_nine_of_ten_others() -> None:
    for unit, strata in ((None, "user.country"), ("user.circle", "user.country"), ("user.circle", None)):
        one, users = experiment(unit), people(600)
        chosen = one.model_copy(update={"salt": balanced_salt(one, strata, users)})
        others = [
            unevenness(one.model_copy(update={"salt": f"other {n}"}), users, strata) for n in range(100)
        ]  # fmt: skip
        assert unevenness(chosen, users, strata) < np.quantile(others, 0.1)


def test_the_same_users_give_the_same_salt_in_whatever_order() -> None:
    users = people(200)
    salts = {balanced_salt(experiment(), "user.country", some) for some in (users, users[::-1])}
    [salt] = salts
    assert salt.startswith("s-")
    assert balanced_salt(experiment(), "user.country", []) == "s-0"


def test_a_salt_stays_within_its_length() -> None:
    long = experiment().model_copy(update={"salt": "x" * 64})
    assert len(balanced_salt(long, None, people(30))) <= 64
