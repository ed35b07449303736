"""How much an interaction counts: a weight per event type, replaceable while the stream goes on."""

import math
import struct
from collections.abc import Mapping
from typing import Literal

MAX_WEIGHT = 100_000.0  # see DECISIONS: what one record of such a weight does to everybody's lists
REFUSED = math.nan


class EventWeights:
    """Weights by event type. `"value"` takes the record's own value; a type that is not named weighs 1.

    Args: max_weight: the largest amount of a weight that is taken.
    """

    def __init__(self, weights: Mapping[str, float | Literal["value"]], max_weight: float = MAX_WEIGHT) -> None:
        self._weights = dict(weights)
        self.max_weight = max_weight
        self.reads_value = "value" in self._weights.values()

    def of(self, event_type: str, value: float | None) -> float:
        """The weight of one interaction as the model keeps it, in 32 bits; ≤ 0 says that the user does not want it.

        REFUSED, which is not a number, where its amount is over `max_weight`, or too small to be another than 0.
        """
        weight = self._weights.get(event_type, 1.0)
        if weight == "value":
            return 1.0 if value is None or not math.isfinite(value) else self._cast(value)
        return float(weight)

    def _cast(self, value: float) -> float:
        if abs(value) > self.max_weight:
            return REFUSED
        (cast,) = struct.unpack("f", struct.pack("f", value))
        return float(cast) if bool(cast) == bool(value) else REFUSED
