"""Who is in which arm."""

from collections import Counter

import pytest

from streamer.lists.assignment import arm_of, group_of
from streamer.lists.rules import SurfaceExperiment

SHARES = {"holdback": 0.1, "a": 0.4, "b": 0.3, None: 0.2}


def experiment(salt: str) -> SurfaceExperiment:
    arms = [{"name": "a", "share": 0.4}, {"name": "b", "share": 0.3}]
    return SurfaceExperiment.model_validate({"name": "x", "salt": salt, "holdback": 0.1, "arms": arms})


def test_shares_are_those_that_were_asked_for() -> None:
    found = Counter(arm_of(experiment("s"), f"u{n}") for n in range(20_000))
    assert {arm: n / 20_000 for arm, n in found.items()} == pytest.approx(SHARES, abs=0.012)


def test_another_salt_deals_anew_whatever_users_were_in_before() -> None:
    pairs = Counter((arm_of(experiment("s"), f"u{n}"), arm_of(experiment("t"), f"u{n}")) for n in range(40_000))
    for (one, other), n in pairs.items():
        assert n / 40_000 == pytest.approx(SHARES[one] * SHARES[other], abs=0.01)


def test_a_user_stays_in_an_arm_for_ever() -> None:
    """What was assigned by an older version: another hash would deal everybody anew in the middle of an experiment."""
    found = {user: arm_of(experiment("price"), user) for user in ("ann", "bob", "cat", "dan", "eve", "Ünal")}
    assert found == {"ann": "a", "bob": "b", "cat": "a", "dan": "b", "eve": "b", "Ünal": "a"}


def test_a_group_is_dealt_as_one_and_groups_by_the_shares() -> None:
    found = Counter(arm_of(experiment("s"), "", f"g{n}") for n in range(20_000))
    assert {arm: n / 20_000 for arm, n in found.items()} == pytest.approx(SHARES, abs=0.012)
    for group in ("Oslo", "7"):
        assert len({arm_of(experiment("s"), f"u{n}", group) for n in range(100)}) == 1
    fixed = {group: arm_of(experiment("price"), "ann", group) for group in ("1", "2", "3", "Oslo")}
    assert fixed == {"1": "a", "2": "a", "3": "a", "Oslo": "b"}  # for ever, as of users


def test_a_group_is_the_value_of_a_field_of_the_user() -> None:
    told = {"city": "Oslo", "home": {"size": 3.0, "own": True}, "tags": ["a"]}
    assert group_of("user.city", told) == "Oslo"
    assert group_of("user.home.size", told) == group_of("user.home.size", {"home": {"size": 3}}) == "3"
    assert group_of("user.home.own", told) == "True"
    for nothing in ("user.tags", "user.home", "user.street", "user.city.part", None):
        assert group_of(nothing, told) is None
