"""A newsroom, where articles die: python -m tests.benchmarks.newsroom [--one-in N] writes NEWSROOM.md.

globo-news, one in so many of its users. Each article gets an `expires_at` two days after it was first seen; that is made
up. A worker on an embedded log takes records as their time comes, by a clock that a loop moves on TICK_S at a time, and does in
between what a worker does when nothing comes. Three workers: one that is told of no expiry, one that is told but does
not look when lists age (`ageing_share` 0), and the defaults. Every half hour it is looked at what is published then:
which share of the places is expired, how old lists are (since they were made), how long what is due has waited.

The clock does not move while the worker works, so ageing counts a look as a millisecond; what it cost is the CPU time.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from consumers.files.interactions import read_interactions
from consumers.open_log import OwnedLog
from consumers.records import NewRecord
from streamer.cli.producing import interaction_chunks
from streamer.runtime.topics import topic_specs
from streamer.settings import Settings
from streamer.worker import reading
from streamer.worker.worker import Worker
from tests.benchmarks.records import commit, machine
from tests.clocks import ManualClock
from tests.conftest import DATA

RESULTS = Path(__file__).parent / "NEWSROOM.md"
FILE = DATA / "globo-news" / "interactions.parquet"
TICK_S, SAMPLE_S, LIFE_MS = 20, 1_800, 2 * 86_400_000
WORKERS: dict[str, tuple[bool, dict[str, Any]]] = {
    "told of no expiry, no ageing": (False, {"ageing_share": 0.0}),
    "told of expiry, no ageing": (True, {"ageing_share": 0.0}),
    "the defaults": (True, {}),
}


class Sample(NamedTuple):
    """What is published at a moment."""

    hours: float
    lists: int
    expired: float  # share of the places
    age_p50_h: float
    age_p99_h: float
    waiting: int  # lists that are due
    oldest_s: float  # since the first of them is


class Newsroom:
    """One worker, its clock, and what has been looked at."""

    def __init__(self, folder: Path, table: pa.Table, is_told: bool, settings: dict[str, Any]) -> None:
        self._settings = Settings(log=folder / "log", state=folder / "state", keep_lists=False, **settings)
        self._log = OwnedLog(folder / "log")
        self._log.create(topic_specs(self._settings, partitions=1))
        self._times = table["timestamp"].to_numpy()
        self._records = [record for chunk, _ in interaction_chunks(table, "interactions") for record in chunk]
        items = table["item_id"].to_pylist()
        self._expires = {item: int(t) + LIFE_MS for item, t in reversed(list(zip(items, self._times, strict=True)))}
        self._items, self._is_told = items, is_told
        self._clock = ManualClock(int(self._times[0]))
        self.samples: list[Sample] = []
        self.cpu_s, self.aged = 0.0, 0

    def run(self) -> None:
        """Takes all of it."""
        reading.IDLE_S = 0.0  # nothing comes but by this loop
        started, sent, introduced = time.process_time(), 0, set[str]()
        made_ms = np.zeros(0, np.int64)  # [U] when the list of each user was made
        first, last = int(self._times[0]), int(self._times[-1])
        sample_at = first + SAMPLE_S * 1000
        with Worker.open(self._log, self._settings, clock=self._clock) as worker:
            worker.state.warm_up()
            started = time.process_time()
            while self._clock.now_ms() < last + 3_600_000:
                self._clock.advance(TICK_S)
                now = self._clock.now_ms()
                end = int(np.searchsorted(self._times, now, side="right"))
                if end > sent:
                    fresh = [item for item in dict.fromkeys(self._items[sent:end]) if item not in introduced]
                    introduced.update(fresh)
                    if self._is_told and fresh:
                        self._log.append([self._item(item) for item in fresh])
                    self._log.append(self._records[sent:end])
                    sent = end
                for _ in range(1_000):
                    output = worker.step()
                    if output is not None and len(output.listed):
                        room = int(output.listed.max()) + 1 - len(made_ms)
                        made_ms = np.pad(made_ms, (0, max(room, 0)))
                        made_ms[output.listed] = now
                    if output is None and worker.state.records >= sent:
                        break
                if now >= sample_at:
                    sample_at += SAMPLE_S * 1000
                    self.samples.append(self._sample(worker, made_ms, (now - first) / 3_600_000))
            self.cpu_s = time.process_time() - started
            ageing = worker._epochs.ageing
            self.aged = ageing.aged if ageing else 0
        self._log.close()

    def _item(self, item: str) -> NewRecord:
        value = {"item_id": item, "expires_at": self._expires[item]}
        return NewRecord("items", item.encode(), json.dumps(value).encode())

    def _sample(self, worker: Worker, made_ms: np.ndarray, hours: float) -> Sample:
        state, now = worker.state, self._clock.now_ms()
        users = np.array(sorted(state.listed.lists()), np.int32)
        rows = state.listed.rows(users)
        until = np.array([self._expires.get(item, now + 1) for item in state.engine.model.items.ids])
        places = rows[rows >= 0]
        age_h = (now - made_ms[users]) / 3_600_000
        ageing = worker._epochs.ageing
        waiting, oldest_ms = ageing.waiting() if ageing else (0, 0)
        return Sample(
            hours,
            len(users),
            float((until[places] <= now).mean()),
            float(np.quantile(age_h, 0.5)),
            float(np.quantile(age_h, 0.99)),
            waiting,
            oldest_ms / 1000,
        )


def measure(one_in: int) -> Iterator[str]:
    """The page, line by line."""
    table = read_interactions(FILE)
    users = table["user_id"].dictionary_encode().combine_chunks()
    table = table.filter(pa.array(users.indices.to_numpy() % one_in == 0))
    found: dict[str, Newsroom] = {}
    for name, (is_told, settings) in WORKERS.items():
        with tempfile.TemporaryDirectory() as folder:
            found[name] = Newsroom(Path(folder), table, is_told, settings)
            found[name].run()
            print(f"{name}: {found[name].cpu_s:.0f} s of CPU", flush=True)
    lists = found["the defaults"].samples[-1].lists
    yield f"{len(table):,} events, {lists:,} users with a list at the end.\n"
    yield "| worker | expired places after 60 h | 84 h | the end | most | age of lists at the end, p50, h | p99, h | oldest that was due, most, s | lists made anew by time | CPU, s |"
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for name, one in found.items():
        at = {hours: _nearest(one.samples, hours) for hours in (60, 84)}
        end = one.samples[-1]
        yield (
            f"| {name} | {at[60].expired:.1%} | {at[84].expired:.1%} | {end.expired:.1%} | "
            f"{max(s.expired for s in one.samples):.1%} | {end.age_p50_h:.1f} | {end.age_p99_h:.1f} | "
            f"{max(s.oldest_s for s in one.samples):.0f} | {one.aged:,} | {one.cpu_s:.0f} |"
        )
    yield "\nShare of expired places over time:\n"
    yield f"| hours | {' | '.join(found)} |"
    yield "|---" * (len(found) + 1) + "|"
    for hours in range(48, 113, 8):
        yield f"| {hours} | {' | '.join(f'{_nearest(one.samples, hours).expired:.1%}' for one in found.values())} |"


def _nearest(samples: list[Sample], hours: float) -> Sample:
    return min(samples, key=lambda sample: abs(sample.hours - hours))


def main() -> int:
    parser = argparse.ArgumentParser("python -m tests.benchmarks.newsroom")
    parser.add_argument("--one-in", type=int, default=50, help="users")
    given = parser.parse_args()
    head = ["# A newsroom", "", (__doc__ or "").split("\n\n", 1)[1].strip(), ""]
    lines = [
        *head,
        f"`python -m tests.benchmarks.newsroom --one-in {given.one_in}`, commit {commit()}, {machine()}.",
        "",
    ]
    for line in measure(given.one_in):
        lines.append(line)
        print(line, flush=True)
    RESULTS.write_text("\n".join([*lines, ""]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
