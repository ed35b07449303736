"""One contract, three ways to a log: embedded, embedded through its owner, Kafka. They behave the same."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

import consumers.kafka.committer
from consumers.embedded.log import EmbeddedLog
from consumers.embedded.owner import Owner
from consumers.embedded.remote_log import RemoteLog
from consumers.errors import Fenced, LogUnavailable, PositionGone, TopicConflict, UnknownTopic
from consumers.kafka.log import KafkaLog
from consumers.log import Log
from consumers.partitioner import partition_of
from consumers.records import NewRecord, Record, TopicPartition, TopicSpec
from tests.waiting import ends

Home = Callable[[], Log]


@pytest.fixture(params=["embedded", "owner", pytest.param("kafka", marks=pytest.mark.kafka)])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Home]:
    """Opens the log of this test, again and again as a restart would."""
    opened: list[Any] = []
    if request.param == "kafka":
        bootstrap = request.getfixturevalue("kafka_bootstrap")

        def open_() -> Log:
            opened.append(KafkaLog(bootstrap, tmp_path / f"state-{len(opened)}", {}))
            return opened[-1]

        yield open_
        for log in opened:
            log.close()
        return
    embedded = EmbeddedLog(tmp_path, compaction_lag_ms=0)
    owner = Owner(embedded, tmp_path)

    def remote() -> Log:
        opened.append(RemoteLog(tmp_path))
        return opened[-1]

    yield (lambda: embedded) if request.param == "embedded" else remote
    for log in opened:
        log.close()
    owner.close()
    embedded.close()


@pytest.fixture
def log(home: Home) -> Log:
    return home()


@pytest.fixture
def topic(log: Log) -> str:
    name = f"t-{uuid4().hex[:8]}"
    log.create([TopicSpec(name, 4)])
    return name


def read_all(log: Log, topic: str, at_least: int = 0) -> list[Record]:
    """Every committed record, by partition and offset."""
    positions = {TopicPartition(topic, p): start for p, start in log.starts(topic).items()}
    reader = log.reader(positions)
    records: list[Record] = []
    for _ in range(100):
        got = reader.read(10_000, 0.2)
        records += got
        if not got and reader.at_end() >= positions.keys() and len(records) >= at_least:
            break
    reader.close()
    return sorted(records, key=lambda r: (r.partition, r.offset))


def test_records_come_back_as_they_went_in(log: Log, topic: str) -> None:
    sent = [
        NewRecord(topic, b"k", b"v", (("a", b"1"), ("a", b"2"))),
        NewRecord(topic, b"k", None),
        NewRecord(topic, b"k", b""),
    ]
    log.append(sent)
    got = read_all(log, topic, 3)
    assert [(r.key, r.value, r.headers) for r in got] == [(r.key, r.value, r.headers) for r in sent]
    assert [r.offset for r in got] == [0, 1, 2]
    assert all(r.timestamp_ms > 1_600_000_000_000 for r in got)


def test_the_key_decides_the_partition_in_every_home_alike(log: Log, topic: str) -> None:
    keys = [str(n).encode() for n in range(200)] + ["ключ".encode(), b"\xff\x00"]
    log.append([NewRecord(topic, key, b"v") for key in keys])
    got = read_all(log, topic, len(keys))
    assert {r.key: r.partition for r in got} == {key: partition_of(key, 4) for key in keys}


def test_a_named_partition_is_kept_and_records_without_a_key_spread(log: Log, topic: str) -> None:
    log.append([NewRecord(topic, b"k", b"v", partition=3)])
    assert [r.partition for r in read_all(log, topic, 1)] == [3]


def test_order_within_a_partition_and_ends(log: Log, topic: str) -> None:
    for first in range(0, 1000, 100):
        log.append([NewRecord(topic, b"same", str(n).encode()) for n in range(first, first + 100)])
    got = read_all(log, topic, 1000)
    assert [int(r.value or b"") for r in got] == list(range(1000))
    assert sum(log.ends(topic).values()) == 1000
    assert sum(log.starts(topic).values()) == 0


def test_topics_are_told_by_their_names_or_all(log: Log, topic: str) -> None:
    log.create([TopicSpec(other := f"{topic}-other", 1, "compact")])
    asked = log.topics([topic, other, f"{topic}-nowhere"])
    assert {name: (spec.partitions, spec.cleanup) for name, spec in asked.items()} == {
        topic: (4, "delete"),
        other: (1, "compact"),
    }
    assert log.topics([]) == {}
    assert log.topics().items() >= asked.items()
    assert log.topic_names() >= asked.keys()


def test_create_is_idempotent_and_conflicts_are_refused(log: Log, topic: str) -> None:
    assert log.create([TopicSpec(topic, 4)]) == []
    assert log.topics([topic])[topic].partitions == 4
    with pytest.raises(TopicConflict, match="partitions"):
        log.create([TopicSpec(topic, 2)])


def test_a_shared_topic_keeps_its_partitions(log: Log, topic: str) -> None:
    assert log.create([TopicSpec(topic, 2, shared=True)]) == []
    assert log.topics([topic])[topic].partitions == 4
    with pytest.raises(TopicConflict, match="cleanup"):
        log.create([TopicSpec(topic, 4, "compact", shared=True)])


def test_an_unknown_topic_is_named(log: Log) -> None:
    with pytest.raises(UnknownTopic, match="nowhere"):
        log.ends("nowhere")
    with pytest.raises(UnknownTopic, match="nowhere"):
        log.append([NewRecord("nowhere", None, b"")])
    with pytest.raises(UnknownTopic, match="nowhere"):
        log.reader({TopicPartition("nowhere", 0): 0})


def test_a_reader_waits_for_what_is_appended_while_it_waits(log: Log, topic: str) -> None:
    tp = TopicPartition(topic, partition_of(b"k", 4))
    reader = log.reader({tp: 0})
    while not reader.at_end():
        assert reader.read(10, 0.2) == []
    log.append([NewRecord(topic, b"k", b"v")])
    assert [r.value for r in reader.read(10, 5.0)] == [b"v"]
    reader.close()


def test_a_paused_partition_waits(log: Log, topic: str) -> None:
    first, second = (TopicPartition(topic, p) for p in (0, 1))
    log.append([NewRecord(topic, b"", b"", partition=p) for p in (0, 1) for _ in range(5)])
    reader = log.reader({first: 0, second: 0})
    reader.pause([first])
    got: list[Record] = []
    while len(got) < 5 or reader.read(10, 0.2):
        got += reader.read(10, 0.2)
    assert {r.partition for r in got} == {1}
    reader.pause([])
    while len(got) < 10:
        got += reader.read(10, 0.2)
    assert [r.offset for r in got if r.partition == 0] == list(range(5))
    reader.close()


def test_a_position_outside_the_log_is_an_error(log: Log, topic: str) -> None:
    reader = log.reader({TopicPartition(topic, 0): 1_000_000})
    with pytest.raises(PositionGone):
        [reader.read(10, 0.2) for _ in range(50)]
    reader.close()


def test_a_lone_member_gets_every_partition_and_begins_where_it_says(log: Log, topic: str) -> None:
    log.append([NewRecord(topic, b"", b"", partition=p) for p in range(4) for _ in range(5)])
    positions = {TopicPartition(topic, p): p for p in range(4)}
    committer = log.committer(f"app-{uuid4().hex[:8]}")
    member = log.subscribe(committer, positions)
    member.join()
    gained: dict[TopicPartition, int] = {}
    while len(gained) < 4:
        assert member.read(10, 0.1) == [] or not isinstance(log, KafkaLog)
        new, lost = member.changes()
        gained |= new
        assert not lost
    assert gained == dict.fromkeys(positions, -1)
    member.close()
    committer.close()


def test_positions_outputs_and_state_survive_a_restart(log: Log, topic: str) -> None:
    application, tp = f"app-{uuid4().hex[:8]}", TopicPartition(topic, 0)
    committer = log.committer(application)
    assert committer.positions() == {}
    committer.commit([NewRecord(topic, b"k", b"list")], {tp: 7}, {b"a": b"1", b"b": b"2"})
    committer.commit([], {tp: 8})
    committer.commit([], {tp: 9}, {b"a": b"3", b"b": None})
    assert [r.value for r in read_all(log, topic, 1)] == [b"list"]
    committer.close()
    again = log.committer(application)
    assert again.positions()[tp] == 9
    assert dict(again.load_state()) == {b"a": b"3"}
    again.close()


def test_stored_state_is_read_and_replaced_without_the_seat(log: Log, topic: str) -> None:
    application, tp = f"app-{uuid4().hex[:8]}", TopicPartition(topic, 0)
    assert log.stored_state(application).positions() == {}
    assert list(log.stored_state(application).pages()) == []
    committer = log.committer(application)
    committer.commit([], {tp: 7}, {b"a/1": b"1", b"a/2": b"2", b"b/1": b"3"})
    stored = log.stored_state(application)
    assert dict(stored.pages(b"a/")) == {b"a/1": b"1", b"a/2": b"2"}
    assert stored.positions()[tp] == 7
    committer.commit([], {tp: 8}, {b"a/1": None})  # it has not been fenced
    assert [key for key, _ in stored.pages()] == [b"a/2", b"b/1"]
    assert stored.positions()[tp] == 8
    committer.close()
    stored.clear()
    assert list(stored.pages()) == []
    many = {f"c/{n:05}".encode(): bytes(50) for n in range(25_000)}
    stored.write(many)
    stored.write({b"c/00000": None})
    again = log.committer(application)
    assert dict(again.load_state(b"c/")) == dict(list(many.items())[1:])
    assert again.positions()[tp] == 8
    again.close()


def test_a_zombie_is_fenced_and_writes_nothing(home: Home, log: Log, topic: str, tmp_path: Path) -> None:
    application, tp = f"app-{uuid4().hex[:8]}", TopicPartition(topic, 0)
    zombie = log.committer(application)
    if isinstance(log, KafkaLog):  # the same seat from another machine: the id is in the state folder
        other = home()
        instance = (tmp_path / "state-0" / "instance").read_text()
        (tmp_path / "state-1").mkdir()
        (tmp_path / "state-1" / "instance").write_text(instance)
    else:
        other = log
    successor = other.committer(application)
    successor.commit([NewRecord(topic, b"k", b"mine")], {tp: 1})
    with pytest.raises(Fenced):
        zombie.commit([NewRecord(topic, b"k", b"zombie's")], {tp: 1})
    assert [r.value for r in read_all(log, topic, 1)] == [b"mine"]
    for committer in (zombie, successor):
        committer.close()


@pytest.mark.kafka
def test_at_least_once_a_zombie_that_wakes_amid_its_commit_writes_no_manifest(
    kafka_bootstrap: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its seat is taken while the lists are on their way; the last output of a commit is the manifest."""
    application, topic = f"app-{uuid4().hex[:8]}", f"t-{uuid4().hex[:8]}"
    with ExitStack() as opened:
        logs = [opened.enter_context(closing(KafkaLog(kafka_bootstrap, tmp_path / n, {}, False))) for n in "ab"]
        logs[0].create([TopicSpec(topic, 1)])
        zombie = opened.enter_context(closing(logs[0].committer(application)))
        (tmp_path / "b").mkdir()
        (tmp_path / "b" / "instance").write_text((tmp_path / "a" / "instance").read_text())
        produce = consumers.kafka.committer.produce

        def frozen_after(producer: Any, records: Sequence[NewRecord], delivered: Any) -> None:
            produce(producer, records, delivered)
            monkeypatch.setattr(consumers.kafka.committer, "produce", produce)
            opened.enter_context(closing(logs[1].committer(application)))
            monkeypatch.setattr("consumers.kafka.seat.GLANCE_EVERY_S", 0)  # it was away for longer than that

        monkeypatch.setattr(consumers.kafka.committer, "produce", frozen_after)
        with pytest.raises(Fenced):
            zombie.commit([NewRecord(topic, b"k", b"list"), NewRecord(topic, b"k", b"manifest")], {})
        assert [r.value for r in read_all(logs[0], topic, 1)] == [b"list"]


LATER = """
import sys
from pathlib import Path
from consumers.embedded.remote_log import RemoteLog
log = RemoteLog(Path(sys.argv[1]))
committer = log.committer(sys.argv[2])
print("has the seat", flush=True)
sys.stdin.readline()
committer.commit([], {})
print("has it still", flush=True)
"""


@pytest.mark.parametrize("home", ["embedded", "owner"], indirect=True)
def test_an_older_process_that_opens_the_log_again_is_fenced_and_fences_nobody(log: Log, tmp_path: Path) -> None:
    log.committer("app").close()
    log.committer("app").close()  # nobody else has it
    line = [sys.executable, "-c", LATER, str(tmp_path), "app"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    with ends(
        subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    ) as later:
        assert later.stdin
        assert later.stdout
        assert later.stdout.readline() == "has the seat\n"
        for _ in range(2):  # as a supervisor does
            with pytest.raises(Fenced):
                log.committer("app")
        later.stdin.write("\n")
        later.stdin.flush()
        assert later.stdout.readline() == "has it still\n"


def test_compaction_keeps_the_newest_of_each_key_and_the_offsets(log: Log) -> None:
    topic, fast = (
        f"c-{uuid4().hex[:8]}",
        {"segment.ms": "100", "min.cleanable.dirty.ratio": "0.01", "max.compaction.lag.ms": "100"},
    )
    log.create([TopicSpec(topic, 1, "compact", config=fast)])
    keys = [b"a", b"b", b"a", b"c", b"b", b"a"]
    log.append([NewRecord(topic, key, str(n).encode()) for n, key in enumerate(keys)])
    newest = [(b"c", 3), (b"b", 4), (b"a", 5)]
    for _ in range(100):  # compaction runs in its own time, and never on the newest segment
        log.append([NewRecord(topic, b"tick", b"")])
        got = [(r.key, r.offset) for r in read_all(log, topic) if r.key != b"tick"]
        if got == newest:
            break
    assert got == newest


def test_append_of_many_at_once(log: Log, topic: str) -> None:
    log.append([NewRecord(topic, str(n % 50).encode(), b"x" * 200) for n in range(20_000)])
    assert len(read_all(log, topic, 20_000)) == 20_000


def test_a_topic_keeps_its_id_and_no_other_has_it(home: Home, log: Log, topic: str) -> None:
    other = f"t-{uuid4().hex[:8]}"
    log.create([TopicSpec(other, 1)])
    ids = log.topic_ids([topic, other, "nowhere"])
    assert ids.keys() == {topic, other}
    assert ids[topic] != ids[other]
    assert home().topic_ids([topic, other]) == ids


def test_a_reader_says_where_it_is(log: Log, topic: str) -> None:
    """At the end its positions are the ends, whatever of transactions and compaction lies before them."""
    log.append([NewRecord(topic, b"k", b"v", (), 0), NewRecord(topic, b"k", b"v", (), 1)])
    committer = log.committer(f"app-{topic}")
    committer.commit([NewRecord(topic, b"k", b"v", (), 1)], {TopicPartition(topic, 0): 1})
    reader = log.reader({TopicPartition(topic, p): start for p, start in log.starts(topic).items()})
    for _ in range(100):
        reader.read(1, 0.2)
        if reader.at_end() >= reader.positions().keys():
            break
    assert reader.positions() == {TopicPartition(topic, p): end for p, end in log.ends(topic).items()}
    reader.close()
    committer.close()


def test_a_log_is_closed_where_its_block_ends(home: Home, topic: str) -> None:
    with home() as opened:
        assert opened.ends(topic) == dict.fromkeys(range(4), 0)
        with opened.reader({TopicPartition(topic, 0): 0}) as reader:
            assert reader.read(1, 0.0) == []
        with opened.committer(f"app-{topic}") as committer:
            assert committer.positions() == {}
    with pytest.raises(LogUnavailable):
        opened.append([NewRecord(topic, b"k", b"v")])
