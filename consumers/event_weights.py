"""How much an interaction counts: a weight per event type, replaceable while the stream goes on."""

import math
import struct
from collections.abc import Mapping
from typing import Literal

MAX_WEIGHT = 100_000.0  # see DECISIONS: what one record of such a weight does to everybody's lists
REFUSED = math.nan
Weight = float | Literal["value", "value-mean"]
Means = dict[str, list[float]]
"""Event type → how many values there were, and their mean."""


class EventWeights:
    """Weights by event type, without regard to case; a type that is not named weighs 1.

    `"value"` takes the record's own value. `"value-mean"` takes what the value is above the mean of all values of its
    type before it, so that a rating below the mean is a dislike; the first one counts as the mean.

    Args:
        max_weight: the largest amount of a value that is taken as a weight.
        means: the means so far, which go on with each interaction that is weighed.

    >>> weights = EventWeights({"purchase": 5, "rating": "value-mean"})
    >>> weights.weigh("Purchase", None), weights.weigh("view", None)
    (5.0, 1.0)
    >>> [weights.weigh("rating", stars) for stars in (3.0, 5.0, 1.0)]
    [0.0, 2.0, -3.0]
    """

    def __init__(
        self, weights: Mapping[str, Weight], max_weight: float = MAX_WEIGHT, means: Means | None = None
    ) -> None:
        self._weights = dict(weights)
        self._names = {name.casefold(): name for name in weights}
        self.max_weight = max_weight
        self._means: Means = {} if means is None else means
        self.reads_value = not {"value", "value-mean"}.isdisjoint(self._weights.values())

    def named(self, event_type: str) -> Weight:
        """The weight as it was given."""
        found = self._weights.get(event_type)
        return self._weights.get(self._name(event_type), 1.0) if found is None else found

    def names(self, event_type: str) -> bool:
        """Whether a weight was given for the type."""
        return self._name(event_type) in self._weights

    def _name(self, event_type: str) -> str:
        """The type as it was named with its weight."""
        return event_type if event_type in self._weights else self._names.get(event_type.casefold(), event_type)

    def takes(self, event_type: str, value: float | None) -> bool:
        """Whether the value may be a weight: within `max_weight`, and not lost in the 32 bits of the model."""
        if not isinstance(self.named(event_type), str) or value is None or not math.isfinite(value):
            return True
        return abs(value) <= self.max_weight and bool(_cast(value)) == bool(value)

    def weigh(self, event_type: str, value: float | None) -> float:
        """The weight of the next interaction as the model keeps it, in 32 bits; ≤ 0: the user does not want the item.

        REFUSED, which is not a number, where the value may not be a weight.
        """
        weight = self.named(event_type)
        if not isinstance(weight, str):
            return float(weight)
        if value is None or not math.isfinite(value):
            return 1.0
        if not self.takes(event_type, value):
            return REFUSED
        return _cast(value if weight == "value" else value - self._mean_before(self._name(event_type), value))

    def _mean_before(self, event_type: str, value: float) -> float:
        known = self._means.setdefault(event_type, [0, value])
        mean = known[1]
        known[0] += 1
        known[1] += (value - mean) / known[0]
        return mean


def _cast(value: float) -> float:
    (cast,) = struct.unpack("f", struct.pack("f", value))
    return float(cast)
