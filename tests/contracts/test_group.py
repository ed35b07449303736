"""Members of one group on Kafka: partitions that move, seats that are taken, silence. Both protocols."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import pytest

from consumers.errors import Fenced, LogUnavailable
from consumers.kafka import KafkaLog
from consumers.kafka_commit import KafkaCommitter
from consumers.kafka_group import GroupReader
from consumers.records import NewRecord, Record, TopicPartition, TopicSpec
from tests import waiting

pytestmark = pytest.mark.kafka
SESSION_S = 6.0


class Seat:
    """A member and its committer, which begins what it gains only where it is told to."""

    def __init__(self, log: KafkaLog, application: str, topic: str) -> None:
        self.committer: KafkaCommitter = log.committer(application)
        self.member: GroupReader = log.subscribe(self.committer, {TopicPartition(topic, p): 0 for p in range(4)})
        self.held: dict[TopicPartition, int] = {}
        self.moved_away: set[TopicPartition] = set()

    def read(self) -> list[Record]:
        """What came, with the moves followed."""
        records = self.member.read(100, 0.05)
        gained, lost = self.member.changes()
        self.held = {tp: p for tp, p in self.held.items() if tp not in lost} | gained
        self.moved_away |= lost
        return records

    def close(self) -> None:
        self.member.close()
        self.committer.close()


class Table:
    """Seats of one application on a topic of four partitions with ten records each."""

    def __init__(self, bootstrap: str, folder: Path, protocol: str) -> None:
        self._bootstrap, self._folder, self._protocol = bootstrap, folder, protocol
        self.topic = f"t-{uuid4().hex[:8]}"
        self._opened: list[Seat | KafkaLog] = []
        log = self._log("first")
        log.create([TopicSpec(self.topic, 4)])
        log.append([NewRecord(self.topic, b"", str(n).encode(), partition=n % 4) for n in range(40)])

    def _log(self, name: str, **config: object) -> KafkaLog:
        own = {"session.timeout.ms": int(SESSION_S * 1000)} if self._protocol == "classic" else {}
        log = KafkaLog(self._bootstrap, self._folder / name, own | config, group_protocol=self._protocol)
        self._opened.append(log)
        return log

    def seat(self, name: str, like: str | None = None, **config: object) -> Seat:
        """A seat with a state folder of that name; `like`: with the identity of another one, as a copied folder has."""
        if like is not None:
            (self._folder / name).mkdir()
            (self._folder / name / "instance").write_text((self._folder / like / "instance").read_text())
        seat = Seat(self._log(name, **config), f"app-{self.topic}", self.topic)
        self._opened.append(seat)
        return seat

    def close(self) -> None:
        for opened in reversed(self._opened):
            opened.close()


def until(condition: Callable[[], object], *seats: Seat) -> list[Record]:
    """Reads at every seat until it holds; what was read."""
    records: list[Record] = []

    def holds() -> bool:
        if condition():
            return True
        for seat in seats:
            records.extend(seat.read())
        return False

    waiting.until(holds, said=lambda: [(seat.held, seat.moved_away) for seat in seats], every_s=0)
    return records


@pytest.fixture(params=["classic", "consumer"])
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def table(kafka_bootstrap: str, tmp_path: Path, protocol: str) -> Iterator[Table]:
    opened = Table(kafka_bootstrap, tmp_path, protocol)
    try:
        yield opened
    finally:
        opened.close()


def test_a_partition_that_moved_before_it_began_is_not_read(table: Table) -> None:
    first = table.seat("one")
    until(lambda: len(first.held) == 4, first)
    second = table.seat("two")
    until(lambda: len(second.held) == 2 and len(first.held) == 2, first, second)
    assert first.moved_away == second.held.keys()
    for tp in first.moved_away | first.held.keys():  # the moved ones too: a worker may not have heard of it yet
        first.member.begin(tp, 0)
    records: list[Record] = []
    until(lambda: records.extend(first.read()) or first.member.at_end() >= first.held.keys(), second)
    assert {record.topic_partition for record in records} == first.held.keys()
    assert len(records) == 20


def test_a_partition_that_comes_back_begins_where_the_other_one_got_to(table: Table) -> None:
    first = table.seat("one")
    until(lambda: len(first.held) == 4, first)
    second = table.seat("two")
    until(lambda: len(second.held) == 2, first, second)
    moved = next(iter(second.held))
    second.member.begin(moved, 0)
    until(lambda: moved in second.member.at_end(), first, second)
    second.committer.commit([], {moved: 10})
    second.close()
    table._opened.remove(second)
    until(lambda: len(first.held) == 4, first)  # the seat of one that left is kept for a session
    assert first.held[moved] == 10
    assert set(first.held.values()) == {-1, 10}


def test_silence_costs_the_partitions_and_not_the_seat(kafka_bootstrap: str, tmp_path: Path) -> None:
    """Longer than max.poll.interval.ms without a read: nobody took the seat, so nothing is Fenced."""
    with closing(Table(kafka_bootstrap, tmp_path, "classic")) as table:
        silence(table)


def silence(table: Table) -> None:
    seat = table.seat("one", **{"max.poll.interval.ms": int(SESSION_S * 1000)})
    until(lambda: len(seat.held) == 4, seat)
    waiting.until(lambda: not seat.committer.group.memberid())  # and nothing is read meanwhile
    with pytest.raises(LogUnavailable, match="given this worker's partitions away"):
        seat.committer.commit([NewRecord(table.topic, b"", b"stale")], {TopicPartition(table.topic, 0): 1})
    until(lambda: len(seat.moved_away) == 4 and len(seat.held) == 4, seat)  # lost, and told so, and given back


def test_one_who_is_idle_hears_that_its_seat_was_taken(table: Table) -> None:
    """With nothing to commit it asks now and then. KIP-848's group keeps the place of the older one until it ends."""
    older = table.seat("one")
    until(lambda: len(older.held) == 4, older)
    newer = table.seat("two", like="one")
    with pytest.raises(Fenced, match="took this worker's seat"):
        until(lambda: False, older, newer)
    older.close()
    table._opened.remove(older)
    until(lambda: len(newer.held) == 4, newer)
