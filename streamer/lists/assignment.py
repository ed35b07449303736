"""Who is in which arm of an experiment: a salted hash, the same wherever and whenever it is asked.

It is of the user, or, where what is shown to one of them changes what others do, of the group that they are dealt with:
the value of a field of theirs.
"""

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

from streamer.lists.rules import HOLDBACK, SurfaceExperiment


def arm_of(experiment: SurfaceExperiment, user_id: str, group: str | None = None) -> str | None:
    """The user's arm, HOLDBACK, or None: no part of it, an arm that is over, or nobody is dealt yet.

    Another salt deals users anew, whatever they were in before. group: see `group_of`; None: the user alone is dealt.

    >>> arms = [{"name": "as-now", "share": 0.5}, {"name": "diverse", "share": 0.4, "diversity": 0.5}]
    >>> price = SurfaceExperiment(name="price", salt="price", holdback=0.1, arms=arms)
    >>> [arm_of(price, user) for user in ("ann", "bob", "cat")]
    ['as-now', 'diverse', 'as-now']
    >>> {arm_of(price, user, "Oslo") for user in ("ann", "bob", "cat")}
    {'as-now'}
    """
    if experiment.shadow:
        return None
    dealt = user_id if group is None else f"/{group}"
    drawn = int.from_bytes(blake2b(f"{experiment.salt}/{dealt}".encode(), digest_size=8).digest(), "big") / 2**64
    reached = experiment.holdback
    if drawn < reached:
        return HOLDBACK
    for arm in experiment.arms:
        reached += arm.share
        if drawn < reached:
            return None if arm.name in experiment.stopped else arm.name
    return None


def group_of(unit: str | None, attributes: Mapping[str, Any]) -> str | None:
    """The value of a field of users, such as user.city, as text; None: there is none, and the user is dealt alone."""
    if unit is None:
        return None
    value: Any = attributes
    for name in unit.split(".")[1:]:
        value = value.get(name) if isinstance(value, Mapping) else None
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # 7.0 and 7 are one number in JSON
    return str(value) if isinstance(value, str | int | float) else None
