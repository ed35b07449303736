"""Memory and speed of counting feedback: python -m tests.benchmarks.feedback_memory [--events N] writes FEEDBACK_MEMORY.md.

One process takes lists and their feedback from memory into the state of the join, 2,000 records at a time, each a commit,
and forgets what is over as `freshet run feedback` does; settings are the defaults. 50,000 users, of whom half are in an experiment of two arms;
each list has three impressions and a click, and two of three a purchase; 500,000 records of feedback are a week of event time, so that windows, lists and outcomes run out meanwhile.
`records a second`: of CPU (user and system, RocksDB's threads too), lists among them; `memory`: resident, of the process; `at most`: the most after any
commit since the line before. It goes up and down by RocksDB's memtables: up to 8 MB, and as much again while they are written.
"""

import argparse
import json
import os
import random
import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path

from consumers.decode_feedback import FeedbackDecoder
from consumers.feedback.join import FeedbackJoin, JoinTopics
from consumers.feedback.join_state import JoinState
from consumers.records import Record, TopicPartition
from streamer.feedback.counting import join_rules
from streamer.settings import Settings
from tests.benchmarks.records import commit, machine

RESULTS = Path(__file__).parent / "FEEDBACK_MEMORY.md"
LISTS, FEEDBACK, USERS = "freshet.lists", "feedback", "users"
PEOPLE, A_WEEK, BEGAN_MS, WEEK_MS = 50_000, 500_000, 1_700_000_000_000, 7 * 86_400_000
AT_ONCE = 2_000


def records(events: int) -> Iterator[Record]:
    """Lists, each followed by its feedback, `events` of that."""
    draw, lists, sent = random.Random(0), 0, 0
    while sent < events:
        user, now = draw.randrange(PEOPLE), BEGAN_MS + sent * WEEK_MS // A_WEEK
        key, list_id = f"u{user}".encode(), f"0-{lists}"
        items = [
            {"item_id": f"i{n}", "score": 1.0, "source": "taste", "reason": "r"} for n in draw.sample(range(5_000), 10)
        ]
        told = {"list_id": list_id, "user_id": f"u{user}", "surface": "default", "items": items,
                "as_of": {"timestamp": now, "positions": {}}}  # fmt: skip
        if user % 2:
            told["experiment"] = {"name": "x", "arm": "a" if user % 4 == 1 else "b"}
        yield Record(LISTS, 0, lists, key, json.dumps(told).encode(), (), now)
        lists += 1
        for event, chance in (
            ("impression", 1),
            ("impression", 1),
            ("impression", 1),
            ("click", 1),
            ("purchase", 2 / 3),
        ):
            if draw.random() >= chance:
                continue
            one = {"list_id": list_id, "item_id": items[draw.randrange(4)]["item_id"], "event": event,
                   "timestamp": now + draw.randrange(60_000), "event_id": f"e{sent}", "value": 5.0}  # fmt: skip
            yield Record(FEEDBACK, 0, sent, key, json.dumps(one).encode(), (), now)
            sent += 1


def resident_mb() -> float:
    """Of this process now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def used_s() -> float:
    """CPU of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def rows(events: int, folder: Path) -> Iterator[str]:
    """A line for each million of records of feedback, and one for the first half."""
    rules = join_rules(Settings())
    state = JoinState(folder, rules.name(), rules.window_ms)
    join = FeedbackJoin(state, rules, JoinTopics(LISTS, FEEDBACK, USERS), FeedbackDecoder())
    yield "| feedback | weeks | records a second | memory | at most | on disk |"
    yield "|---|---|---|---|---|---|"
    batch, taken, making, before, told, most = list[Record](), 0, 0.0, used_s(), 0, 0.0
    source, at = records(events), {TopicPartition(topic, 0): 0 for topic in (LISTS, FEEDBACK)}
    while True:
        began = used_s()
        batch = [one for _, one in zip(range(AT_ONCE), source, strict=False)]
        making += used_s() - began
        if batch:
            join.take(batch)
            at |= {one.topic_partition: one.offset + 1 for one in batch}
            state.commit()
            join.expire(at, at)
            state.commit()
        taken += len(batch)
        most = max(most, resident_mb())
        sent = at[TopicPartition(FEEDBACK, 0)]
        if taken and (sent >= told or not batch):
            spent = used_s() - before - making
            disk = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 2**20
            yield (
                f"| {sent:,} | {sent / A_WEEK:.1f} | {taken / spent:,.0f} | {resident_mb():,.0f} MB "
                f"| {most:,.0f} MB | {disk:,.0f} MB |"
            )
            taken, making, before, most = 0, 0.0, used_s(), 0.0
            told = 500_000 if not told else told + (500_000 if told < 1_000_000 else 1_000_000)
        if not batch:
            break
    state.close()


def main() -> int:
    parser = argparse.ArgumentParser("python -m tests.benchmarks.feedback_memory")
    parser.add_argument("--events", type=int, default=10_000_000, help="records of feedback")
    given = parser.parse_args()
    lines = ["# Memory and speed of counting feedback", "", (__doc__ or "").split("\n\n", 1)[1].strip(), ""]
    lines += [
        f"`python -m tests.benchmarks.feedback_memory --events {given.events}`, commit {commit()}, {machine()}.",
        "",
    ]
    with tempfile.TemporaryDirectory() as folder:
        for line in rows(given.events, Path(folder) / "rows"):
            lines.append(line)
            print(line, flush=True)
            RESULTS.write_text("\n".join([*lines, ""]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
