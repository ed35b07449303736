"""Which places are credited with a conversion. Pure: a function of what a user did with an item, in any order."""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from consumers.feedback.kept_rows import MICRO, Gain, KeptPlace, Touch

How = Literal["quoted", "last-touch", "position"]


class Attribution(NamedTuple):
    """The rule. A list or a click counts for `window_ms` after it.

    `quoted`: the list that the conversion quotes has all of the credit. `last-touch`: the list on which the user
    clicked the item last before it, the quoted one where there is none. `position`: every such list and the quoted one
    share it, by 1 / log2(1 + place).
    """

    how: How = "last-touch"
    window_ms: int = 30 * 86_400_000


def credits(gain: Gain, touches: Sequence[Touch], rule: Attribution) -> list[tuple[KeptPlace, int]]:
    """Who has how much of a conversion, in millionths that sum up to one; nobody where all is too long ago.

    >>> seen = KeptPlace("home", "a", 1), KeptPlace("home", "b", 3)
    >>> early, late = Touch(1_000, "0-1", seen[0]), Touch(2_000, "0-2", seen[1])
    >>> bought = Gain(3_000, 5_000_000, early)
    >>> [(place.arm, share) for place, share in credits(bought, [early, late], Attribution("last-touch"))]
    [('b', 1000000)]
    >>> [(place.arm, share) for place, share in credits(bought, [early, late], Attribution("position"))]
    [('a', 666667), ('b', 333333)]
    """
    quoted = [gain.quoted] if gain.at_ms - gain.quoted.at_ms <= rule.window_ms else []
    if rule.how == "quoted":
        return [(touch.place, MICRO) for touch in quoted]
    counting = [touch for touch in touches if 0 <= gain.at_ms - touch.at_ms <= rule.window_ms] + quoted
    if not counting:
        return []
    counting.sort(key=lambda touch: (touch.at_ms, touch.list_id, touch.place.place))
    if rule.how == "last-touch":
        return [(counting[-1].place, MICRO)]
    places = {(touch.list_id, touch.place.place): touch.place for touch in counting}
    weights = [1 / math.log2(1 + max(place.place, 1)) for place in places.values()]
    shares = [int(MICRO * weight / sum(weights)) for weight in weights]
    shares[0] += MICRO - sum(shares)
    return list(zip(places.values(), shares, strict=True))
