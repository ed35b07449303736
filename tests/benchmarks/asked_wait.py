"""What a question waits for on the worker's thread: python -m tests.benchmarks.asked_wait [--seconds S] [--rate R].

A whole worker on an embedded log, in this process, after a warm state of movietweetings. Its clock is the processor time
of its own thread: interactions and questions come at random times of that clock (Poisson), whatever the machine does
beside it. So a wait is what the worker itself was busy with, and not what the machine was. Waits are in ms of that clock.
"""

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np
import pyarrow.parquet as pq

from consumers.embedded.log import EmbeddedLog
from consumers.embedded.sole_member import SoleMember
from consumers.log import Committer, Positions, Reader
from consumers.records import NewRecord, Record
from streamer.asking.question_queue import QuestionQueue
from streamer.asking.questions import ListQuestion
from streamer.runtime.topics import topic_specs
from streamer.settings import Settings
from streamer.worker.worker import Worker
from tests.benchmarks.asked_rate import FILE, WARM_EVENTS
from tests.benchmarks.records import commit, machine

BEGAN_MS = 1_700_000_000_000


class ThreadClock:
    """Processor time of the thread that asks, without what this program takes, and with what it would have waited."""

    def __init__(self) -> None:
        self._aside_s = self.waited_s = 0.0

    def monotonic(self) -> float:
        return time.thread_time() + self._aside_s

    def now_ms(self) -> int:
        return BEGAN_MS + int(self.monotonic() * 1000)

    def skip(self, seconds: float) -> None:
        """Waits."""
        self._aside_s += seconds
        self.waited_s += seconds

    @contextmanager
    def stopped(self) -> Iterator[None]:
        started = time.thread_time()
        yield
        self._aside_s -= time.thread_time() - started


class Load:
    """Interactions and questions that are due, and how long they waited."""

    def __init__(self, clock: ThreadClock, log: "PacedLog", rows: list[bytes], users: list[str]) -> None:
        self._clock, self._log, self._users, self._rng = clock, log, users, random.Random(0)
        self._rows, self._topic = rows, Settings().interactions_topic
        self.asked_ms, self.taken_ms = list[float](), list[float]()
        self._appended, self._taken, self._due_s = 0, 0, list[float]()
        self._next_row_s = self._next_question_s = self.until_s = np.inf

    def begin(self, events: int, rate: int, seconds: float) -> None:
        """From now on: so many of each a second."""
        self._between = 1 / events, 1 / rate
        now = self._clock.monotonic()
        self._next_row_s, self._next_question_s, self.until_s = now, now, now + seconds

    def next_s(self) -> float:
        """When something is due."""
        return min(self._next_row_s, self._next_question_s)

    def append_due(self) -> None:
        """Sends the interactions that are due."""
        now, records = self._clock.monotonic(), list[NewRecord]()
        while self._next_row_s <= now and self._appended < len(self._rows):
            value = self._rows[self._appended]
            records.append(NewRecord(self._topic, msgspec.json.decode(value)["user_id"].encode(), value))
            self._due_s.append(self._next_row_s)
            self._appended += 1
            self._next_row_s += self._rng.expovariate(1 / self._between[0])
        if records:
            self._log.append(records)

    def ask_due(self, queue: QuestionQueue) -> None:
        """Asks the questions that are due."""
        now = self._clock.monotonic()
        while self._next_question_s <= now:
            due_s = self._next_question_s
            question = ListQuestion(user_id=self._rng.choice(self._users), k=20)
            queue.ask([question]).add_done_callback(
                lambda _, due_s=due_s: self.asked_ms.append((self._clock.monotonic() - due_s) * 1000)
            )
            self._next_question_s += self._rng.expovariate(1 / self._between[1])

    def note_taken(self, records: int) -> None:
        """So many interactions of the load are committed."""
        now = self._clock.monotonic()
        self.taken_ms += [(now - due_s) * 1000 for due_s in self._due_s[self._taken : records]]
        self._taken = max(self._taken, records)


class PacedLog(EmbeddedLog):
    """A log whose interactions come as they are due, and where waiting takes no time."""

    load: Load
    clock: ThreadClock

    def subscribe(self, committer: Committer, positions: Positions) -> SoleMember:
        return _PacedMember(self.reader(positions), positions, self)


class _PacedMember(SoleMember):
    def __init__(self, reader: Reader, positions: Positions, log: PacedLog) -> None:
        super().__init__(reader, positions)
        self._log = log

    def read(self, max_records: int, timeout_s: float) -> list[Record]:
        clock = self._log.clock
        with clock.stopped():
            self._log.load.append_due()
        records = super().read(max_records, 0.0)
        if not records and timeout_s:
            clock.skip(min(timeout_s, max(self._log.load.next_s() - clock.monotonic(), 0.0)))
        return records


class AskingQueue(QuestionQueue):
    """Questions are there when the worker looks; how long it was away is kept, and where it was."""

    def __init__(self, clock: ThreadClock, load: Load) -> None:
        super().__init__()
        self._clock, self._load = clock, load
        self.begin()

    def begin(self) -> None:
        """Forgets what was measured."""
        self.away_ms, self.long = list[float](), dict[str, list[float]]()
        self.answered, self.answering_s = 0, 0.0
        self._looked, self._from = self._clock.monotonic(), ""

    def serve(self) -> None:
        here = _place()
        away_ms = (self._clock.monotonic() - self._looked) * 1000
        self.away_ms.append(away_ms)
        if away_ms > 2:
            self.long.setdefault(f"{self._from} … {here}", []).append(away_ms)
        with self._clock.stopped():
            self._load.ask_due(self)
        started, waiting = self._clock.monotonic(), self.waiting
        super().serve()
        self._looked, self._from = self._clock.monotonic(), here
        self.answered += waiting - self.waiting
        self.answering_s += self._looked - started


def _place() -> str:
    """Who looks: file and line, past the functions that only hand on."""
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_code.co_name in ("_pause", "serve_during", "between"):
        frame = frame.f_back
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"


def measure(rate: int, events: int, seconds: float) -> list[str]:
    """The lines of the result."""
    table = pq.read_table(FILE).slice(0, WARM_EVENTS + int(seconds * events * 1.1) + 1_000)
    rows = table.select(["user_id", "item_id", "event_type", "timestamp"]).to_pylist()
    for row in rows:
        row["user_id"], row["item_id"] = str(row["user_id"]), str(row["item_id"])
    users = sorted({row["user_id"] for row in rows[:WARM_EVENTS]})
    values = [msgspec.json.encode(row) for row in rows]
    clock, settings = ThreadClock(), Settings()
    with tempfile.TemporaryDirectory() as folder, PacedLog(Path(folder)) as log:
        log.create(topic_specs(settings, 1))
        log.clock, log.load = clock, Load(clock, log, values[WARM_EVENTS:], users)
        queue = AskingQueue(clock, log.load)
        for first in range(0, WARM_EVENTS, 500):
            some = rows[first : first + 500], values[first : first + 500]
            log.append(
                [
                    NewRecord(settings.interactions_topic, row["user_id"].encode(), value)
                    for row, value in zip(*some, strict=True)
                ]
            )
        begun = waited_s = 0.0

        def stop() -> bool:
            """Asked between two epochs."""
            nonlocal begun, waited_s
            load, taken = log.load, worker.state.records - WARM_EVENTS
            if not begun and taken >= 0:
                queue.ask([ListQuestion(user_id=users[0], k=20)])  # the first one loads its kernel
                queue.serve()
                begun, waited_s = clock.monotonic(), clock.waited_s
                load.begin(events, rate, seconds)
                queue.begin()
            load.note_taken(taken)
            return clock.monotonic() >= load.until_s

        with Worker.open(log, settings, stop=lambda: stop(), clock=clock, queue=queue) as worker:
            worker.run()
        took_s, idle_s = clock.monotonic() - begun, clock.waited_s - waited_s
        load = log.load
        asked, taken, away = (np.array(waits) for waits in (load.asked_ms, load.taken_ms, queue.away_ms))
        lines = [
            f"{took_s:.1f} s of the worker's thread: {len(asked):,} questions, {len(taken):,} interactions.",
            "",
            "| ms of the worker's thread | p50 | p90 | p99 | p99.9 | longest |",
            "|---|---|---|---|---|---|",
            _row("a question, until it is answered", asked),
            _row("between two looks at what is asked", away),
            _row("an interaction, until its list is committed", taken),
            "",
            f"A question took {queue.answering_s / max(queue.answered, 1) * 1e6:.0f} us, an interaction "
            f"{(took_s - idle_s - queue.answering_s) / max(len(taken), 1) * 1e6:.0f} us with all that belongs to it; "
            f"{idle_s / took_s:.0%} of the time was idle. Away for more than 2 ms:",
            "",
        ]
        far = sorted(queue.long.items(), key=lambda one: -max(one[1]))[:12]
        lines += [f"- {where}: {len(found)} times, {max(found):.1f} ms at most" for where, found in far]
        return lines


def _row(what: str, waits: np.ndarray) -> str:
    found = " | ".join(f"{wait:.2f}" for wait in np.percentile(waits, [50, 90, 99, 99.9, 100]))
    return f"| {what} | {found} |"


def main() -> None:
    parser = argparse.ArgumentParser("python -m tests.benchmarks.asked_wait", description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="of the worker's thread")
    parser.add_argument("--rate", type=int, default=500, help="questions a second")
    parser.add_argument("--events", type=int, default=1_000, help="interactions a second")
    arguments = parser.parse_args()
    print(f"commit {commit()}, {machine()}, {arguments.rate} questions and {arguments.events:,} interactions a second.")
    print("\n".join(measure(arguments.rate, arguments.events, arguments.seconds)))


if __name__ == "__main__":
    main()
