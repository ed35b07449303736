"""Growth: what an event costs as the stream grows. python -m tests.benchmarks.growth FILE COPIES prints JSON.

The stream is the first TILE events of FILE in COPIES disjoint copies: copy c of user u and of item z are nodes of their
own, and event n happens in all copies at its own time, one copy after the other, before event n + 1 does. So nothing
changes with the number of copies but the size: rings and rows are as full, and users return as often. What is
measured are the next MEASURED events of FILE, each user living on in one copy, drawn by a hash.
"""

import json
import resource
import sys
import time
from pathlib import Path

import numpy as np

from consumers.files import read_interactions
from streamer.engine import Columns, Engine
from streamer.settings import Settings
from tests.benchmarks.sizes import state_bytes

TILE, MEASURED = 20_000, 20_000
COPIES = (5, 50, 500)
CHUNK = 500  # events of the tile taken at once, in all copies
STEP = 2_000  # measured events taken at once
COLUMNS = ("user_id", "item_id", "timestamp")


class Tile:
    """The events as indices within one copy: those before `TILE` and those after, and how many nodes they name."""

    def __init__(self, file: Path) -> None:
        table = read_interactions(file).select(COLUMNS).slice(0, TILE + MEASURED)
        self.user, self.users = _indices(table["user_id"].to_numpy())
        self.item, self.items = _indices(table["item_id"].to_numpy())
        self.t = table["timestamp"].to_numpy()
        self.first_items = len(np.unique(self.item[:TILE]))

    def bulk(self, first: int, copies: int) -> Columns:
        """Events first … first + CHUNK of the tile, each in every copy."""
        part = slice(first, min(first + CHUNK, TILE))
        copy = np.tile(np.arange(copies), part.stop - part.start)
        user, item, t = (np.repeat(column[part], copies) for column in (self.user, self.item, self.t))
        return self._columns(user, item, t, copy)

    def measured(self, copies: int) -> Columns:
        """The events after the tile; a user is in one copy throughout."""
        copy = (self.user[TILE:].astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(33)) % np.uint64(copies)
        return self._columns(self.user[TILE:], self.item[TILE:], self.t[TILE:], copy.astype(np.int64))

    def _columns(self, user: np.ndarray, item: np.ndarray, t: np.ndarray, copy: np.ndarray) -> Columns:
        users, items = copy * self.users + user, copy * self.items + item
        return Columns(users.astype(np.int32), items.astype(np.int32), t, np.ones(len(t), np.float32))


def measure(file: Path, copies: int) -> dict[str, float]:
    """Observes the grown stream, then takes the measured events with everything that `replay` does for them."""
    tile, engine = Tile(file), Engine(Settings())
    # indices of all copies up front: arrays of their final size, no growth in what is measured
    engine.model.users.encode([str(n) for n in range(copies * tile.users)])
    engine.model.items.encode([str(n) for n in range(copies * tile.items)])
    started = time.perf_counter()
    for first in range(0, TILE, CHUNK):
        engine.take(tile.bulk(first, copies), learn=False, score=False, publish=False)
    observed = time.perf_counter() - started
    return {
        "items": copies * tile.first_items,
        "interactions": copies * TILE,
        "users": copies * len(np.unique(tile.user[:TILE])),
        "observe_us": observed / (copies * TILE) * 1e6,
        "event_us": _event_us(engine, tile.measured(copies)),
        "state_mib": state_bytes(engine.model) / 2**20,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _event_us(engine: Engine, columns: Columns) -> float:
    """µs an event: the median over steps, so that another process's moment does not count."""
    seconds = []
    for first in range(0, MEASURED, STEP):
        part = Columns(*(column[first : first + STEP] for column in columns))
        started = time.perf_counter()
        engine.take(part, publish=False)
        seconds.append(time.perf_counter() - started)
    return float(np.median(seconds)) / STEP * 1e6


def _indices(ids: np.ndarray) -> tuple[np.ndarray, int]:
    """[N] index of each id in order of first sight, and how many there are."""
    names, first, code = np.unique(ids, return_index=True, return_inverse=True)
    place = np.empty(len(names), np.int64)
    place[np.argsort(first)] = np.arange(len(names))
    return place[code], len(names)


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), int(sys.argv[2]))))
