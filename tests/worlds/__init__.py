"""Small worlds whose right answer is known. Each is a list of (user, item, time in ms) in order."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa

Events = list[tuple[str, str, int]]
MINUTE_MS = 60_000


def checkerboard(users: int = 40, items: int = 40, events: int = 6_000, seed: int = 0) -> Events:
    """Even users take even items, odd users odd ones. The answer: half of the catalogue is right."""
    rng = np.random.default_rng(seed)
    chosen = rng.integers(0, users, events)
    drawn = rng.integers(0, items // 2, events) * 2 + chosen % 2
    return [(f"u{u}", f"i{i}", n * MINUTE_MS) for n, (u, i) in enumerate(zip(chosen, drawn, strict=True))]


def repeat_buyer(users: int = 200, events: int = 4_000, seed: int = 0) -> Events:
    """Everyone takes one item of their own, again and again. The answer: what they took last."""
    rng = np.random.default_rng(seed)
    return [(f"u{u}", f"i{u}", n * MINUTE_MS) for n, u in enumerate(rng.integers(0, users, events))]


def taste_shift(users: int = 30, events: int = 6_000, seed: int = 0) -> Events:
    """Everyone walks in circles over five items; halfway the circle changes. The answer: the next in the circle."""
    rng = np.random.default_rng(seed)
    step = np.zeros(users, int)
    world = []
    for n, u in enumerate(rng.integers(0, users, events)):
        circle = [0, 1, 2, 3, 4] if n < events // 2 else [0, 3, 1, 4, 2]
        world.append((f"u{u}", f"i{circle[step[u] % 5]}", n * MINUTE_MS))
        step[u] += 1
    return world


WORLDS: dict[str, Callable[[], Events]] = {
    "checkerboard": checkerboard,
    "repeat buyer": repeat_buyer,
    "taste shift": taste_shift,
}


def table_of(events: Events) -> pa.Table:
    """A world as a table of `consumers.files.interactions.read_interactions`."""
    users, items, times = zip(*events, strict=True)
    n = len(events)
    return pa.table(
        {
            "user_id": pa.array(users),
            "item_id": pa.array(items),
            "event_type": pa.array(["view"] * n),
            "timestamp": pa.array([int(t) for t in times], pa.int64()),
            "reason": pa.nulls(n, pa.string()),
        }
    )
