"""The place of each interaction in the order of all: by event time where lateness is allowed, else by arrival."""

from typing import NamedTuple

from consumers.schemas import Interaction
from streamer.pipeline.arrivals import Arrival

OFFSET_BITS = 44


class Placed(NamedTuple):
    """An interaction and its place; the pair (order_ms, order) orders all of them."""

    arrival: Arrival
    interaction: Interaction  # its payload
    order_ms: int
    order: int
    late: bool  # it was observed after others that it belongs before
    event: int  # see `streamer.state.ledger.event_number`
    digest: bytes = b""  # of its user and its event id; empty: it has none


class Ordering:
    """Gives places.

    Args:
        lateness_ms: how far behind the watermark an interaction may be and still take its place in event time.
        clock_ms: the watermark, the latest event time taken.
        newest: the last place in order.
    """

    def __init__(self, lateness_ms: int, clock_ms: int, newest: tuple[int, int]) -> None:
        self._lateness_ms = lateness_ms
        self.clock_ms, self.newest = clock_ms, newest

    def too_late(self, interaction: Interaction) -> bool:
        """Whether its place in event time is closed."""
        return interaction.timestamp < self.clock_ms - self._lateness_ms

    def place(self, arrival: Arrival, interaction: Interaction, number: int, event: int, digest: bytes = b"") -> Placed:
        """The place of the next interaction that is taken, the `number`th of all; `arrival`: as it came."""
        t = interaction.timestamp
        order_ms = self.clock_ms if self.too_late(interaction) else t
        order = arrival.partition << OFFSET_BITS | arrival.offset if self._lateness_ms else number
        self.clock_ms = max(self.clock_ms, t)
        late = (order_ms, order) < self.newest
        self.newest = max(self.newest, (order_ms, order))
        return Placed(arrival, interaction, order_ms, order, late, event, digest)
