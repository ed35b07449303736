"""TGN's event-wise speed on a sample: python -m tests.benchmarks.tgn_speed STREAM FIRST COUNT prints JSON.

Nothing is trained: weights do not change the time. Events before FIRST go into the state in batches; then, for each of
COUNT events, a list of 20 over the whole catalogue and the update by that event. The time is that of these alone,
without start-up, and every item's embedding is kept and only renewed where it changed (`peers.tgn`), which is exact
and faster than embedding all of them for each event.
"""

import json
import sys
import time
from pathlib import Path

import torch

from tests.benchmarks.peers.tgn import TGN
from tests.benchmarks.protocol import plan_of, read_events, world_of
from tests.benchmarks.streams import STREAMS

WARM = 50  # events before the clock starts


def measure(stream_name: str, first: int, count: int) -> dict[str, float]:
    """Events a second of wall time and of processor time."""
    stream = STREAMS[stream_name]
    events = read_events(stream.file(Path()))
    peer = TGN(world_of(events, plan_of(stream, events)), passes=0)
    rows = list(zip(events.user.tolist(), events.item.tolist(), events.t.tolist(), strict=True))[: first + count]
    for row in rows[:1]:
        peer.observe(*row)
        peer.refit(row[2])  # evaluation mode
    for n, (user, item, t) in enumerate(rows[1:], 1):
        if n >= first - WARM:
            peer.recommend(user, t, 20)
        if n == first:
            started, worked = time.perf_counter(), time.process_time()
        peer.observe(user, item, t)
    return {
        "events_per_second": count / (time.perf_counter() - started),
        "per_cpu_second": count / (time.process_time() - worked),
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(measure(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
