"""What the numbers depend on."""

import json
from collections.abc import Mapping
from typing import NamedTuple

from consumers.feedback.attribution import Attribution
from consumers.feedback.kept_rows import Kind

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
