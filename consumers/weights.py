"""How much an interaction counts: a weight per event type, replaceable while the stream goes on."""

import math
from collections.abc import Mapping
from typing import Literal

Weight = float | Literal["value", "value-mean"]
Means = dict[str, list[float]]
"""Event type → how many values there were, and their mean."""


class EventWeights:
    """Weights by event type; a type that is not named weighs 1.

    `"value"` takes the record's own value. `"value-mean"` takes what the value is above the mean of all values of its
    type before it, so that a rating below the mean is a dislike; the first one counts as the mean.

    Args: means: the means so far, which go on with each interaction that is weighed.
    """

    def __init__(self, weights: Mapping[str, Weight], means: Means | None = None) -> None:
        self._weights = dict(weights)
        self._means: Means = {} if means is None else means
        self.reads_value = not {"value", "value-mean"}.isdisjoint(self._weights.values())

    def of(self, event_type: str, value: float | None) -> float:
        """The weight of the next interaction; ≤ 0 says that the user does not want the item."""
        weight = self._weights.get(event_type, 1.0)
        if not isinstance(weight, str):
            return float(weight)
        if value is None or not math.isfinite(value):
            return 1.0
        return float(value) if weight == "value" else value - self._mean_before(event_type, value)

    def _mean_before(self, event_type: str, value: float) -> float:
        known = self._means.setdefault(event_type, [0, value])
        mean = known[1]
        known[0] += 1
        known[1] += (value - mean) / known[0]
        return mean
