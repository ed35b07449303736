"""Who is in which arm of an experiment: a salted hash of the user, the same wherever and whenever it is asked."""

from hashlib import blake2b

from streamer.lists.rules import HOLDBACK, SurfaceExperiment


def arm_of(experiment: SurfaceExperiment, user_id: str) -> str | None:
    """The user's arm, HOLDBACK, or None: no part of it, or an arm that is over.

    Another salt deals users anew, whatever they were in before.

    >>> arms = [{"name": "as-now", "share": 0.5}, {"name": "diverse", "share": 0.4, "diversity": 0.5}]
    >>> price = SurfaceExperiment(name="price", salt="price", holdback=0.1, arms=arms)
    >>> [arm_of(price, user) for user in ("ann", "bob", "cat")]
    ['as-now', 'diverse', 'as-now']
    """
    drawn = int.from_bytes(blake2b(f"{experiment.salt}/{user_id}".encode(), digest_size=8).digest(), "big") / 2**64
    reached = experiment.holdback
    if drawn < reached:
        return HOLDBACK
    for arm in experiment.arms:
        reached += arm.share
        if drawn < reached:
            return None if arm.name in experiment.stopped else arm.name
    return None
