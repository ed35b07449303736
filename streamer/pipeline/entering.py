"""Interactions enter the ledger."""

import numpy as np

from streamer.engine.engine import Columns
from streamer.state.ledger import ENTRY
from streamer.state.stream_state import StreamState


def enter(
    state: StreamState,
    columns: Columns,
    order_ms: np.ndarray,
    order: np.ndarray,
    event: np.ndarray,
    late: np.ndarray,
) -> None:
    """Writes interactions [N] into the ledger, and notes those that belong before others which have been observed.

    Args:
        order_ms, order: [N] their places, see `streamer.state.ledger.ENTRY`.
        event: [N] uint64, likewise.
        late: [L] which of them came late.
    """
    entries = np.zeros(len(order), ENTRY)
    entries["order_ms"], entries["order"], entries["event"] = order_ms, order, event
    entries["t"], entries["item"], entries["weight"] = columns.t, columns.item, columns.weight
    entries["context"] = columns.context
    state.ledger.add(columns.user, entries)
    state.repairs.spare(columns.user, entries)
    for n in late.tolist():
        state.repairs.late(int(columns.user[n]), int(order_ms[n]), int(order[n]))
