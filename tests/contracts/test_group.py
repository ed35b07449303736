"""Members of one group on Kafka: partitions that move, seats that are taken, silence. Both protocols."""

import os
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from uuid import uuid4

import msgspec
import pytest
from confluent_kafka import Producer

from consumers import crash_points
from consumers.errors import Fenced, LogUnavailable
from consumers.kafka import committer
from consumers.kafka import seat as seats
from consumers.kafka.committer import KafkaCommitter
from consumers.kafka.group import GroupReader
from consumers.kafka.log import KafkaLog
from consumers.records import NewRecord, Record, TopicPartition, TopicSpec
from consumers.schemas import EpochManifest, SeatClaim
from streamer.runtime.topics import read_records, whole
from streamer.settings import Settings
from streamer.state.stream_state import StreamState
from streamer.worker.recovery import manifests
from tests import waiting

pytestmark = pytest.mark.kafka
SESSION_S = 6.0


class Seat:
    """A member and its committer, which begins what it gains only where it is told to."""

    def __init__(self, log: KafkaLog, application: str, topic: str) -> None:
        self.committer: KafkaCommitter = log.committer(application)
        self.member: GroupReader = log.subscribe(self.committer, {TopicPartition(topic, p): 0 for p in range(4)})
        self.member.join()
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

    def __init__(self, bootstrap: str, folder: Path, protocol: str, delivery: str = "exactly-once") -> None:
        self.bootstrap, self._folder, self._protocol, self._delivery = bootstrap, folder, protocol, delivery
        self.topic = f"t-{uuid4().hex[:8]}"
        self._opened: list[Seat | KafkaLog] = []
        log = self.log("first")
        log.create([TopicSpec(self.topic, 4)])
        log.append([NewRecord(self.topic, b"", str(n).encode(), partition=n % 4) for n in range(40)])

    def log(self, name: str, **config: object) -> KafkaLog:
        own = {"session.timeout.ms": int(SESSION_S * 1000)} if self._protocol == "classic" else {}
        exactly_once = self._delivery == "exactly-once"
        log = KafkaLog(self.bootstrap, self._folder / name, own | config, exactly_once, self._protocol)
        self._opened.append(log)
        return log

    def seat(self, name: str, like: str | None = None, **config: object) -> Seat:
        """A seat with a state folder of that name; `like`: with the identity of another one, as a copied folder has."""
        if like is not None:
            (self._folder / name).mkdir()
            (self._folder / name / "instance").write_text((self._folder / like / "instance").read_text())
        seat = Seat(self.log(name, **config), self.application, self.topic)
        self._opened.append(seat)
        return seat

    @property
    def application(self) -> str:
        return f"app-{self.topic}"

    def leave(self, seat: Seat) -> None:
        """Closes a seat, as a process does that ends or opens its log again."""
        seat.close()
        self._opened.remove(seat)

    def values(self) -> set[bytes | None]:
        """Every value in the topic, as a read_committed reader sees it."""
        log = self.log("reader")
        return {record.value for record in read_records(log, whole(log, self.topic))}

    def manifests_topic(self) -> str:
        """A topic for manifests of epochs."""
        topic = f"{self.topic}.epochs"
        self.log("epochs").create([TopicSpec(topic, 1)])
        return topic

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
def delivery() -> str:
    return "exactly-once"


@pytest.fixture
def table(kafka_bootstrap: str, tmp_path: Path, protocol: str, delivery: str) -> Iterator[Table]:
    opened = Table(kafka_bootstrap, tmp_path, protocol, delivery)
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
    table.leave(second)
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
    table.leave(older)
    until(lambda: len(newer.held) == 4, newer)


# two processes on one seat: who started last has it, whatever the other one does, and however late

deliveries = pytest.mark.parametrize("delivery", ["exactly-once", "at-least-once"])


@deliveries
def test_an_older_process_that_opens_the_log_again_is_fenced_and_fences_nobody(table: Table) -> None:
    older = table.seat("one")
    newer = table.seat("two", like="one")
    table.leave(older)
    for _ in range(2):  # as a supervisor does
        with pytest.raises(Fenced, match="took this worker's seat"):
            table.seat("one")
    until(lambda: len(newer.held) == 4, newer)
    newer.committer.commit([NewRecord(table.topic, b"", b"newer's")], {TopicPartition(table.topic, 0): 1})
    assert b"newer's" in table.values()


@deliveries
def test_the_newer_process_opens_the_log_again_and_keeps_its_seat(table: Table) -> None:
    older = table.seat("one")
    newer = table.seat("two", like="one")
    table.leave(older)
    table.leave(newer)
    again = table.seat("two")
    until(lambda: len(again.held) == 4, again)
    again.committer.commit([NewRecord(table.topic, b"", b"newer's")], {TopicPartition(table.topic, 0): 1})
    assert b"newer's" in table.values()


@deliveries
def test_no_list_of_an_older_process_comes_out_when_it_wakes(table: Table) -> None:
    """It was silent, with work in its hands, when the other one started."""
    older = table.seat("one")
    until(lambda: len(older.held) == 4, older)
    newer = table.seat("two", like="one")
    waiting.until(older.committer.claim.is_due)
    with pytest.raises(Fenced, match="took this worker's seat"):
        older.committer.commit([NewRecord(table.topic, b"", b"older's")], {TopicPartition(table.topic, 0): 1})
    table.leave(older)
    until(lambda: len(newer.held) == 4, newer)
    assert b"older's" not in table.values()


def test_no_partition_is_taken_by_an_older_process_that_joins_again(table: Table, protocol: str) -> None:
    """As a client does by itself after a silence: the group gives it the partitions, and it gives out none."""
    older = table.seat("one")
    until(lambda: len(older.held) == 4, older)
    newer = table.seat("two", like="one")
    older.held.clear()
    older.committer.new_consumer()
    older.member = GroupReader(older.committer, table.topic)
    older.member.join()
    with pytest.raises(Fenced, match="took this worker's seat"):
        until(lambda: older.held, older)
    assert not older.held
    table.leave(older)
    with suppress(LogUnavailable):  # classic: the group gave the newer one's place away for a moment
        until(lambda: len(newer.held) == 4, newer)
        return
    assert protocol == "classic"
    table.leave(newer)
    again = table.seat("two")
    until(lambda: len(again.held) == 4, again)


def test_the_newer_process_survives_what_an_older_one_did_before_it_looked(table: Table) -> None:
    """It had asked who has the seat, was frozen, and then fenced the transactions of the newer one."""
    older = table.seat("one")
    newer = table.seat("two", like="one")
    newer.committer.commit([NewRecord(table.topic, b"", b"before")], {})
    config = {"bootstrap.servers": table.bootstrap, "transactional.id": f"{table.application}-{older.committer.seat}"}
    Producer(config).init_transactions(15)
    with pytest.raises(LogUnavailable):  # not Fenced: the supervisor opens the log again
        newer.committer.commit([NewRecord(table.topic, b"", b"lost")], {})
    table.leave(newer)
    table.leave(older)
    again = table.seat("two")
    again.committer.commit([NewRecord(table.topic, b"", b"newer's")], {})
    assert {b"newer's"} == table.values() & {b"newer's", b"lost"}


# a worker died: who gets its partitions ends what it left open


@pytest.mark.parametrize("effect", ["outputs", "offsets"])
def test_what_a_dead_worker_left_open_is_ended_by_who_gets_its_partitions(table: Table, effect: str) -> None:
    """The broker would end it after a quarter of an hour. Nothing of it comes out; what is written next can be read.

    Where it wakes, nothing of its hands comes out either, and it is told to open its seat again.
    """
    tp = TopicPartition(table.topic, 0)
    silent = {"transaction.timeout.ms": 900_000, "max.poll.interval.ms": int(SESSION_S * 1000)}
    dead = table.seat("one", **silent)  # it is not read from here on: as good as dead
    until(lambda: len(dead.held) == 4, dead)
    dead.committer.commit([NewRecord(table.topic, b"", b"whole", partition=0)], dict.fromkeys(dead.held, 3))
    die_at(effect)
    with suppress(Died):
        dead.committer.commit([NewRecord(table.topic, b"", b"half", partition=0)], dict.fromkeys(dead.held, 7))
    crash_points.listen(None)
    taker = table.seat("two")
    until(lambda: len(taker.held) == 4, taker)
    assert set(taker.held.values()) == {3}
    taker.committer.commit([NewRecord(table.topic, b"", b"next", partition=0)], {tp: 5})
    reader = table.log("reader").reader({tp: 0})
    values = set[bytes | None]()

    def has_next() -> bool:
        values.update(record.value for record in reader.read(100, 0.1))
        return b"next" in values

    with closing(reader):
        waiting.until(has_next)
    assert values & {b"whole", b"half"} == {b"whole"}
    with pytest.raises(LogUnavailable):
        dead.committer.commit([NewRecord(table.topic, b"", b"late", partition=0)], {tp: 9})
    assert taker.committer.positions()[tp] == 5


def test_a_worker_that_is_taken_for_dead_while_it_recovers_goes_on(table: Table) -> None:
    """Its group ended what it might have left open, and it had nothing open."""
    seat = table.seat("one")
    config = {"bootstrap.servers": table.bootstrap, "transactional.id": f"{table.application}-{seat.committer.seat}"}
    Producer(config).init_transactions(15)
    seat.committer.commit([NewRecord(table.topic, b"", b"first")], {})
    assert b"first" in table.values()


def test_a_worker_that_started_again_is_left_in_peace(table: Table, caplog: pytest.LogCaptureFixture) -> None:
    """While it recovers the group gives its partitions away; what the start before left open it has ended itself."""
    caplog.set_level("INFO")
    before = table.seat("one")
    until(lambda: len(before.held) == 4, before)
    before.committer.commit([], dict.fromkeys(before.held, 3))
    table.leave(before)
    seats._claimed.clear()  # another process
    again = table.log("one").committer(table.application)
    taker = table.seat("two")
    until(lambda: len(taker.held) == 4, taker)
    assert set(taker.held.values()) == {3}
    assert "what it left open is ended" not in caplog.text
    again.commit([NewRecord(table.topic, b"", b"again")], {})
    again.close()


class Died(Exception):
    """The worker ended here."""


def die_at(effect: str) -> None:
    """Ends the next commit at an effect."""

    def listener(happened: str) -> None:
        if happened == effect:
            raise Died

    crash_points.listen(listener)


def test_the_topic_of_the_claims_is_made_where_it_is_missing_and_holds_what_it_says(
    kafka_bootstrap: str, tmp_path: Path
) -> None:
    topic, application = f"workers-{uuid4().hex[:8]}", f"app-{uuid4().hex[:8]}"
    for n in (1, 2, 3):
        folder = tmp_path / str(n)
        folder.mkdir()
        (folder / "instance").write_text("seat")
        log = KafkaLog(kafka_bootstrap, folder, {}, workers_topic=topic)
        for _ in range(2):  # opened again, it claims nothing anew
            log.committer(application).close()
        if n == 2:  # a foreign record is passed over
            log.append([NewRecord(topic, f"{application}-seat".encode(), b"hello"), NewRecord(topic, b"x", None)])
    assert log.topics([topic])[topic].cleanup == "compact"
    values = [record.value for record in read_records(log, whole(log, topic))]
    claims = [msgspec.json.decode(value, type=SeatClaim) for value in values if value not in (b"hello", None)]
    assert [(claim.seat, claim.incarnation, claim.pid) for claim in claims] == [
        (f"{application}-seat", n, os.getpid()) for n in (1, 2, 3)
    ]
    log.close()


def test_of_two_manifests_of_an_epoch_that_of_the_later_start_counts(
    kafka_bootstrap: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At least once: the older process had just asked for its seat, and what it had handed over is sent later."""
    monkeypatch.setattr("consumers.kafka.seat.GLANCE_EVERY_S", 1e9)
    table = Table(kafka_bootstrap, tmp_path, "classic", "at-least-once")
    with closing(table):
        older = table.seat("one")
        newer = table.seat("two", like="one")
        seat = older.committer.seat
        settings = Settings(epochs_topic=table.manifests_topic(), application=table.application)

        def commit(by: Seat, epoch: int, events: int) -> None:
            manifest = EpochManifest(epoch=epoch, ends={}, events=events, worker=seat)
            record = NewRecord(settings.epochs_topic, None, msgspec.json.encode(manifest), partition=0)
            by.committer.commit([record], {})

        commit(older, 1, 10)  # before the newer one began
        for epoch, order in ((2, (older, newer)), (3, (newer, older))):
            for by in order:
                commit(by, epoch, 20 if by is newer else 10)
        with closing(table.log("reader")) as log:
            log.append([NewRecord(settings.epochs_topic, None, b'{"epoch": 4, "ends": {}, "events": 5}', partition=0)])
            log.append([NewRecord(settings.epochs_topic, None, b'{"epoch": 4, "ends": {}, "events": 6}', partition=0)])
            found = {(m.worker, m.epoch): m.events for m in manifests(log, settings, StreamState(settings), None)}
    assert found == {(seat, 1): 10, (seat, 2): 20, (seat, 3): 20, ("", 4): 5}


@pytest.mark.parametrize("protocol", ["classic"])
def test_a_commit_that_lost_outputs_on_their_way_is_made_again(
    table: Table, protocol: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As after an abort the broker may miss some: the transaction is over, and neither the worker nor what it took."""
    out = f"{table.topic}.out"
    table.log("outputs").create([TopicSpec(out, 4)])
    one = table.seat("one")
    until(lambda: len(one.held) == 4, one)
    tp, lost = next(iter(one.held)), list[int]()

    def lose(effect: str) -> None:
        if effect == "outputs" and len(lost) < 1 and n:
            lost.append(n)
            one.committer._producer.purge(in_queue=True, in_flight=True)

    monkeypatch.setattr(committer, "happened", lose)
    for n in range(4):
        lists = [NewRecord(out, b"", f"{n}-{k}".encode() + b" " * 1_000, partition=k % 4) for k in range(400)]
        one.committer.commit(lists, {tp: n + 1})
        one.read()
    assert lost
    assert one.committer.positions()[tp] == 4
    log = table.log("outputs read")
    read = [(record.value or b"").split()[0] for record in read_records(log, whole(log, out))]
    assert sorted(read) == sorted(f"{n}-{k}".encode() for n in range(4) for k in range(400))
