"""Feedback on a real Kafka: counted while it comes, killed, sent again, late by hours; the numbers are those of the log."""

import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

import msgspec
import pytest

from consumers.log import Log as AnyLog
from consumers.records import NewRecord, Record, TopicPartition
from consumers.schemas import BUSINESS_KEYS, Business
from streamer.runtime.topics import open_log_of, read_records, topic_specs, whole
from streamer.settings import Settings
from tests.conftest import missing
from tests.consumers.feedback.feedback_world import FEEDBACK, LISTS, Cells, Log, counted, make_log
from tests.docs.test_blocks import free_port
from tests.waiting import ended, ends, scaled, until

pytestmark = pytest.mark.kafka
ROOT = Path(__file__).parents[2]
HOUR_MS = 3_600_000
RULES = {
    "feedback_lateness_s": "21600", "attribution_window_s": "43200", "feedback_window_s": "3600",
    "attribution": "last-touch",
}  # fmt: skip
COUNT_OF = {"impressions": "impressions", "ctr": "clicks", "cvr": "conversions", "revenue_per_user": "revenue",
            "engagement_per_user": "engagement", "return_rate": "returns"}  # fmt: skip


class Counting:
    """A `freshet run feedback` of its own, and what its /metrics say."""

    def __init__(self, folder: Path, opened: ExitStack, *flags: str, state: str = "state") -> None:
        self._port, self._said = free_port(), folder / "feedback.log"
        line = [
            sys.executable,
            "-m",
            "streamer",
            "run",
            "feedback",
            "--state",
            state,
            "--metrics-port",
            str(self._port),
        ]
        own = {f"FRESHET_{name.upper()}": value for name, value in RULES.items()}
        with self._said.open("a") as said:
            self.process = subprocess.Popen(
                [*line, *flags], cwd=folder, env=os.environ | own | {"PYTHONPATH": str(ROOT)}, stdout=said, stderr=said
            )
        opened.enter_context(ends(self.process))

    def said(self) -> str:
        return self._said.read_text()[-2_000:]

    def taken(self) -> int:
        """Feedback records that are counted."""
        assert self.process.poll() is None, self.said()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/metrics", timeout=scaled(5)) as answer:
                lines = answer.read().decode().splitlines()
        except OSError:
            return 0
        return int(float(next((line.split()[1] for line in lines if line.startswith("freshet_feedback_total ")), "0")))

    def ready(self) -> bool:
        """Whether it says so."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/readyz", timeout=scaled(5)) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def renamed(log: Log, settings: Settings) -> list[NewRecord]:
    """The records of a world, those of each user in their order."""
    names = {LISTS: settings.lists_topic, FEEDBACK: settings.feedback_topic}
    order = sorted((record for records in log.values() for record in records), key=lambda one: (one.offset, one.topic))
    return [NewRecord(names[one.topic], one.key, one.value) for one in order]


def whole_log(log: AnyLog, settings: Settings) -> Log:
    """What the topics hold, as a plain computation reads it."""
    names = {settings.lists_topic: LISTS, settings.feedback_topic: FEEDBACK}
    found: dict[TopicPartition, list[Record]] = {}
    for record in read_records(log, whole(log, *names)):
        at = TopicPartition(names[record.topic], record.partition)
        found.setdefault(at, []).append(record)
    return found


def said(log: AnyLog, settings: Settings) -> dict[tuple[str, str, str], Business]:
    """The newest result of each key."""
    newest: dict[bytes, Business] = {}
    for record in read_records(log, whole(log, settings.quality_topic)):
        if record.key is not None and record.key.startswith(BUSINESS_KEYS):
            newest[record.key] = msgspec.json.decode(record.value or b"", type=Business)
    return {(one.surface, one.arm, one.metric): one for one in newest.values()}


def check(told: dict[tuple[str, str, str], Business], expected: Cells) -> None:
    arms = {cell[:2] for cell in expected}
    assert {key[:2] for key in told} == arms
    for surface, arm in sorted(arms):
        for metric, count in COUNT_OF.items():
            one = told[surface, arm, metric]
            assert one.numerator == pytest.approx(expected.get((surface, arm, count, "", ""), 0), abs=1e-3)
            assert one.users == expected.get((surface, arm, "users", "", ""), 0)
        ctr = told[surface, arm, "ctr"].by
        for dimension in ("position", "source", "reason"):
            for label, (clicks, shown) in ctr[dimension].items():
                assert clicks == pytest.approx(expected.get((surface, arm, "clicks", dimension, label), 0))
                assert shown == pytest.approx(expected.get((surface, arm, "impressions", dimension, label), 0))


def needs_faust() -> None:
    if find_spec("faust") is None or find_spec("cramjam") is None:
        missing("feedback on Kafka needs faust-streaming and cramjam (the extra feedback)")


def send_slowly(log: AnyLog, records: list[NewRecord], go_on: Callable[[int], None]) -> None:
    for at in range(0, len(records), 100):
        log.append(records[at : at + 100])
        go_on(at)


def test_killed_twice_under_load_and_sent_again_the_numbers_are_those_of_the_log(
    on_kafka: Settings, tmp_path: Path
) -> None:
    needs_faust()
    world = make_log(11, lists=600, events=4_000, partitions=4, late_ms=5 * HOUR_MS, step_ms=20_000)
    with open_log_of(on_kafka) as log, ExitStack() as opened:
        log.create(topic_specs(on_kafka, partitions=4))
        records = renamed(world, on_kafka)
        sent = threading.Event()
        held = [threading.Event(), threading.Event()]

        def go_on(at: int) -> None:
            """A third is there before each kill, and the kill is not waited for: it comes in the middle of the load."""
            for n, event in enumerate(held):
                if at >= (n + 1) * len(records) // 3 and not event.is_set():
                    event.wait(120)

        def send() -> None:
            send_slowly(log, records, go_on)
            sent.set()

        sender = threading.Thread(target=send, daemon=True)
        sender.start()
        for n in range(2):
            counting = Counting(tmp_path, opened)
            until(lambda counting=counting, n=n: counting.taken() > (n + 1) * 500, 90, counting.said)  # type: ignore[misc]
            held[n].set()
            counting.kill()
        until(sent.is_set, 60)
        log.append(records[len(records) // 2 :][-1_500:])  # a producer that had no answer sends it all again
        last = Counting(tmp_path, opened, "--exit-at-end")
        assert ended(last.process, 120, last.said) == 0, last.said()
        expected = counted(whole_log(log, on_kafka), "last-touch", 12 * HOUR_MS, HOUR_MS)
        assert len(expected) > 100
        check(said(log, on_kafka), expected)


def test_of_two_processes_one_counts_and_the_other_takes_over(on_kafka: Settings, tmp_path: Path) -> None:
    """Each has a state of its own: who takes over counts the whole log, and says nothing before it has."""
    needs_faust()
    world = make_log(12, lists=100, events=500, partitions=2, late_ms=HOUR_MS, step_ms=20_000)
    with open_log_of(on_kafka) as log, ExitStack() as opened:
        log.create(topic_specs(on_kafka, partitions=2))
        records = renamed(world, on_kafka)
        log.append(records[:300])
        both = [Counting(tmp_path, opened, state=f"state-{n}") for n in range(2)]
        counts = until(lambda: [one for one in both if one.taken() > 50], 90, both[0].said)
        counts[0].kill()
        [other] = [one for one in both if one is not counts[0]]
        log.append(records[300:])
        expected = counted(whole_log(log, on_kafka), "last-touch", 12 * HOUR_MS, HOUR_MS)
        shown = sum(n for cell, n in expected.items() if cell[2:] == ("impressions", "", ""))

        def said_all() -> bool:
            told = said(log, on_kafka)
            return sum(one.numerator for key, one in told.items() if key[2] == "impressions") == shown

        until(said_all, 90, other.said, every_s=0.5)
        check(said(log, on_kafka), expected)
