"""Items of a replay come into lists and leave them as their records say, by the time of the events."""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from consumers.schemas import Item, User
from streamer.engine.engine import Engine
from streamer.state.catalogue import Catalogue


class Availability:
    """Items that are known from the start, before the stream has a time.

    Args:
        engine: that takes the stream.
        items: their records.
        users: those of users, as filters of rules read them.
    """

    def __init__(self, engine: Engine, items: Iterable[Item], users: Iterable[User] = ()) -> None:
        self._engine, self.catalogue = engine, Catalogue(engine.model)
        for user in users:
            self.catalogue.take_user(engine.describe(user), user)
        self._times: set[int] = set()
        for item in items:
            engine.introduce(item, 0)
            self.catalogue.take_item(engine.model.items.encode([item.item_id])[0], item)
            self._times.update(time for time in (item.available_from, item.expires_at) if time is not None)

    def rows(self, clock: np.ndarray) -> np.ndarray:
        """[M] the rows at which an item comes or goes.

        clock: [N] the stream's clock at each row, epoch ms.
        """
        return np.searchsorted(clock, sorted(self._times))

    def reach(self, clock: np.ndarray) -> None:
        """Lists what is available at the first of the next events, and no longer what expires by the last.

        clock: [N] the stream's clock at each of them, epoch ms.
        """
        if self._times and len(clock):
            start_ms, end_ms = int(clock[0]), int(clock[-1])
            flipped = self.catalogue.flips(start_ms, end_ms)
            for item in filter(None, map(self.catalogue.item, flipped)):
                self._engine.introduce(item, start_ms, end_ms)


def clock_of(table: pa.Table) -> np.ndarray:
    """[N] the latest event time up to each row."""
    return np.maximum.accumulate(table["timestamp"].fill_null(0).to_numpy())
