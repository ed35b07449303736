"""Stratified assignment: of many salts the one that deals the users who are known most evenly.

A hash deals each user alone, so that of a few large groups, or of few users of a kind, an arm may get many by chance.
Dealing again until the arms are alike is rerandomization (Morgan and Rubin 2012): here every try is a salt, and what
is compared is how many users of each stratum are in each arm. Who comes later is dealt by the same salt. Intervals that
do not know of it are wider than they need be, never too narrow.
"""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from consumers.dead_letter import DeadLetter
from consumers.log import Log
from consumers.schemas import User
from streamer.lists.assignment import arm_of, group_of
from streamer.lists.rules import HOLDBACK, SurfaceExperiment
from streamer.runtime.decoders import node_decoder
from streamer.runtime.topics import read_records, whole
from streamer.settings import Settings

TRIES = 200
MOST_USERS = 10_000
"""Who are looked at, the first by id; a salt that is even for so many is even for the rest."""


def balanced_salt(experiment: SurfaceExperiment, strata: str | None, users: Iterable[User]) -> str:
    """The salt, of `<salt>-0`, `<salt>-1`, …, by which arms have the most even shares of each stratum.

    Args:
        experiment: with the salt that these begin with.
        strata: the field of users, such as user.country; those without it are a stratum too. None: all are one.
        users: who are known. The same ones give the same salt, in whatever order.
    """
    some = sorted(users, key=lambda user: user.user_id)[:MOST_USERS]
    size, shares = Counter[str | None](), {arm.name: arm.share for arm in experiment.arms}
    if experiment.holdback:
        shares[HOLDBACK] = experiment.holdback
    people = Counter[tuple[str, str | None, str | None]]()
    for user in some:
        told = user.attributes or {}
        stratum, group = group_of(strata, told), group_of(experiment.unit, told)
        size[stratum] += 1
        people["" if group is not None else user.user_id, group, stratum] += 1

    def unevenness(salt: str) -> float:
        tried, found = experiment.model_copy(update={"salt": salt}), Counter[tuple[str | None, str | None]]()
        for (user_id, group, stratum), n in people.items():
            found[stratum, arm_of(tried, user_id, group)] += n
        return sum(
            (found[stratum, arm] - share * n) ** 2 / (share * n)
            for stratum, n in size.items()
            for arm, share in shares.items()
        )

    room = 64 - len(f"-{TRIES}")
    return min((f"{experiment.salt[:room]}-{n}" for n in range(TRIES)), key=unevenness)


class UsersOfTopic(NamedTuple):
    """What the topic of users says of them now."""

    known: list[User]
    erased: set[str]  # as long as the topic has their tombstones


def users_of_topic(log: Log, settings: Settings) -> UsersOfTopic:
    """Reads the topic of users; without one nothing is known of anybody."""
    found, decoder = dict[str, User | None](), node_decoder(settings)
    there = settings.users_topic in log.topics()
    for record in read_records(log, whole(log, settings.users_topic)) if there else ():
        key = (record.key or b"").decode("utf-8", "replace")
        told = None if record.value is None else decoder.user(record)
        if not isinstance(told, DeadLetter):
            found[key] = None if told is None else told.node
    known = [user for user in found.values() if user is not None]
    return UsersOfTopic(known, {key for key, user in found.items() if user is None})
