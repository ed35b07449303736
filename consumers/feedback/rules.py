"""What the numbers depend on."""

import json
from collections.abc import Mapping
from typing import NamedTuple

from consumers.feedback.attribution import Attribution
from consumers.feedback.kept_rows import Kind


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

    def name(self) -> str:
        """Tells rules apart."""
        return json.dumps([sorted(self.kinds.items()), *self.attribution, self.lateness_ms, self.window_ms])
