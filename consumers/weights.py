"""How much an interaction counts: a weight per event type, replaceable while the stream goes on."""

import math
from collections.abc import Mapping
from typing import Literal


class EventWeights:
    """Weights by event type. `"value"` takes the record's own value; a type that is not named weighs 1."""

    def __init__(self, weights: Mapping[str, float | Literal["value"]]) -> None:
        self._weights = dict(weights)
        self.reads_value = "value" in self._weights.values()

    def of(self, event_type: str, value: float | None) -> float:
        """The weight of one interaction; ≤ 0 says that the user does not want the item."""
        weight = self._weights.get(event_type, 1.0)
        if weight == "value":
            weight = 1.0 if value is None or not math.isfinite(value) else value
        return float(weight)
