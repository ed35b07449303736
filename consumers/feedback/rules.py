"""What the numbers depend on, and what feedback has to say to be counted."""

import json
from collections.abc import Mapping
from typing import NamedTuple

from consumers.dead_letter import Reason
from consumers.feedback.attribution import Attribution
from consumers.feedback.kept_rows import Kind
from consumers.schemas import Feedback

MAX_VALUE = 1e9
"""The largest value of an outcome; its square, in millionths, is summed."""
FORMAT = 2
"""Of the rows; what was kept in another one is counted anew."""


class JoinRules(NamedTuple):
    """What the numbers depend on. Another rule makes other numbers, so the state begins anew with it.

    `kinds`: word of an event → what it is; other words are counted, and change nothing. `lateness_ms`: how much older
    than the watermark feedback may be. `window_ms`: the width of a window, event time.
    """

    kinds: Mapping[str, Kind]
    attribution: Attribution = Attribution()
    lateness_ms: int = 7 * 86_400_000
    window_ms: int = 86_400_000

    @property
    def kept_ms(self) -> int:
        """How long a list is kept after it was made."""
        return self.attribution.window_ms + self.lateness_ms

    @property
    def past_ms(self) -> int:
        """How far before a user's first list of an arm their outcomes are what the arm's are compared with."""
        return self.attribution.window_ms

    def window_of(self, at_ms: int) -> int:
        """The start of the window of a time."""
        return at_ms - at_ms % self.window_ms

    def name(self) -> str:
        """Tells rules apart, and what is kept."""
        return json.dumps([FORMAT, sorted(self.kinds.items()), *self.attribution, self.lateness_ms, self.window_ms])


def what_is_missing(feedback: Feedback, kinds: Mapping[str, Kind]) -> tuple[Reason, str] | None:
    """What keeps feedback from being counted as what its event is; None: nothing."""
    kind = kinds.get(feedback.event)
    if kind == "click" and feedback.item_id is None:
        return Reason.MISSING_FIELD, "a click names its item_id"
    if kind == "engagement" and feedback.value is None:
        return Reason.MISSING_FIELD, "engagement has a value in s"
    if kind is not None and not 0 <= (feedback.value or 0.0) <= MAX_VALUE:
        return Reason.BAD_VALUE, f"value is from 0 to {MAX_VALUE:g}"
    return None
