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

from consumers.files.interactions import read_interactions
from streamer.engine.engine import Columns, Engine
from streamer.settings import Settings
from tests.benchmarks.sizes import state_bytes
from tgn.graph import no_contexts

TILE, MEASURED = 5_000, 20_000
COPIES = (20, 200, 2_000)
CHUNK = 100  # events of the tile taken at once, in all copies
STEP = 2_000  # measured events taken at once
COLUMNS = ("user_id", "item_id", "timestamp")


class Tile:
    """The events as indices in order of first sight: those before `TILE`, which are copied, and those after."""

    def __init__(self, file: Path) -> None:
        table = read_interactions(file).select(COLUMNS).slice(0, TILE + MEASURED)
        self.user, self.item = (_indices(table[name].to_numpy()) for name in COLUMNS[:2])
        self.t = table["timestamp"].to_numpy()
        self.users, self.items = (int(column[:TILE].max()) + 1 for column in (self.user, self.item))

    def bulk(self, first: int, copies: int) -> Columns:
        """Events first … first + CHUNK of the tile, each in every copy."""
        part = slice(first, min(first + CHUNK, TILE))
        copy = np.tile(np.arange(copies), part.stop - part.start)
        user, item, t = (np.repeat(column[part], copies) for column in (self.user, self.item, self.t))
        return _columns(copy * self.users + user, copy * self.items + item, t)

    def measured(self, copies: int) -> Columns:
        """The events after the tile; a user is in one copy throughout."""
        hashed = self.user[TILE:].astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(33)
        copy = (hashed % np.uint64(copies)).astype(np.int64)
        user = _in_copy(self.user[TILE:], copy, self.users, copies)
        return _columns(user, _in_copy(self.item[TILE:], copy, self.items, copies), self.t[TILE:])


def measure(file: Path, copies: int) -> dict[str, float]:
    """Observes the grown stream, then takes the measured events with everything that `replay` does for them."""
    tile, engine = Tile(file), Engine(Settings())
    measured = tile.measured(copies)
    # ids of all nodes up front: arrays of their final size, no growth in what is measured
    for index, column, known in (
        (engine.model.users, measured.user, copies * tile.users),
        (engine.model.items, measured.item, copies * tile.items),
    ):
        index.encode([str(n) for n in range(max(known, int(column.max()) + 1))])
    engine.take(tile.bulk(TILE, copies), learn=False, score=False, publish=False)  # no event: the kernels load
    started = time.perf_counter()
    for first in range(0, TILE, CHUNK):
        engine.take(tile.bulk(first, copies), learn=False, score=False, publish=False)
    observed = time.perf_counter() - started
    return {
        "items": copies * tile.items,
        "interactions": copies * TILE,
        "users": copies * tile.users,
        "observe_us": observed / (copies * TILE) * 1e6,
        **_event_us(engine, measured),
        "state_mib": state_bytes(engine.model) / 2**20,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _event_us(engine: Engine, columns: Columns) -> dict[str, float]:
    """µs an event by wall and by processor: medians over steps, so that another process's moment does not count."""
    wall, processor = [], []
    for first in range(0, MEASURED, STEP):
        part = Columns(*(column[first : first + STEP] for column in columns))
        started, worked = time.perf_counter(), time.process_time()
        engine.take(part, publish=False)
        wall.append(time.perf_counter() - started)
        processor.append(time.process_time() - worked)
    each = 1e6 / STEP
    return {"event_us": float(np.median(wall)) * each, "event_cpu_us": float(np.median(processor)) * each}


def _columns(user: np.ndarray, item: np.ndarray, t: np.ndarray) -> Columns:
    return Columns(user.astype(np.int32), item.astype(np.int32), t, np.ones(len(t), np.float32), no_contexts(len(t)))


def _in_copy(node: np.ndarray, copy: np.ndarray, known: int, copies: int) -> np.ndarray:
    """[N] indices in the grown stream; (copy, node) that the tile does not have come after all that it has."""
    new = node >= known
    index = copy * known + node
    _, place = np.unique(np.stack([copy, node], 1)[new], axis=0, return_inverse=True)
    index[new] = copies * known + place.ravel()
    return index


def _indices(ids: np.ndarray) -> np.ndarray:
    """[N] index of each id in order of first sight."""
    _, first, code = np.unique(ids, return_index=True, return_inverse=True)
    place = np.empty(len(first), np.int64)
    place[np.argsort(first)] = np.arange(len(first))
    return place[code]


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), int(sys.argv[2]))))
