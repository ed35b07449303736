"""No record is too large to be dealt with: what a worker writes fits its topic, and what is refused ends in one line."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from random import Random
from typing import Any

import msgspec
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from consumers.errors import RecordRefused
from consumers.log import Log
from consumers.records import Headers, NewRecord, Record
from consumers.schemas import RecommendationList
from streamer.ops.audit import audit
from streamer.runtime.signals import StopRequest
from streamer.runtime.supervisor import supervise
from streamer.runtime.topics import open_log_of, read_records, topic_specs, whole
from streamer.settings import Settings
from streamer.worker.worker import Worker
from tests.waiting import until

GOOD = {"user_id": "u", "item_id": "i", "event_type": "view", "timestamp": 5}
BASE = json.dumps(GOOD).encode()


def padded(size: int) -> bytes:
    return BASE[:-1] + b', "x": "' + b"y" * (size - len(BASE) - 10) + b'"}'


@pytest.fixture(params=["embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
def home(request: pytest.FixtureRequest) -> Settings:
    settings: Settings = request.getfixturevalue("on_kafka" if request.param == "kafka" else "settings")
    return settings


@pytest.fixture
def log(home: Settings) -> Iterator[Log]:
    with closing(open_log_of(home)) as opened:
        opened.create(topic_specs(home, partitions=1))
        yield opened


def send(log: Log, settings: Settings, key: bytes, value: bytes, headers: Headers = ()) -> None:
    """As any producer may: on Kafka compressed, so that the broker takes what is much larger."""
    record = NewRecord(settings.interactions_topic, key, value, headers)
    if settings.bootstrap is None:
        log.append([record])
        return
    large: Any = {
        "bootstrap.servers": settings.bootstrap,
        "message.max.bytes": 50_000_000,
        "compression.type": "lz4",
    }
    producer: Any = Producer(large)
    failed: list[Any] = []
    told = lambda error, _: failed.append(error) if error else None  # noqa: E731
    producer.produce(record.topic, value, key, headers=list(headers), on_delivery=told)
    assert producer.flush(30) == 0
    assert not failed


def run(log: Log, settings: Settings) -> Worker:
    worker = Worker.open(log, settings)
    worker.run(exit_at_end=True)
    worker.close()
    return worker


def read(log: Log, topic: str) -> list[Record]:
    return list(read_records(log, whole(log, topic)))


@pytest.mark.parametrize(
    ("key", "value", "headers"),
    [
        (b"u", padded(1_048_300), ()),
        (b"u", padded(9_900_000), ()),
        (b"u", b"[" * 1_048_300, ()),
        (b"u", b"{oops", (("h", b"x" * 1_000_000),)),
        (b"k" * 1_000_000, b"{oops", ()),
        (b"u", BASE, (("tracestate", b"x" * 1_047_800),)),
        (b"u", BASE, tuple(("tracestate", b"a=" + b"x" * 500) for _ in range(2_000))),
        (b"u", BASE, (("traceparent", b"x" * 1_047_800),)),
    ],
    ids=["bad", "compressible", "nested", "header", "key", "tracestate", "tracestates", "traceparent"],
)
def test_a_record_of_any_size_is_taken_or_a_dead_letter(
    log: Log, home: Settings, key: bytes, value: bytes, headers: Headers
) -> None:
    send(log, home, key, value, headers)
    send(log, home, b"v", json.dumps(GOOD | {"user_id": "v"}).encode())
    run(log, home)
    dead, lists = read(log, home.dead_topic), read(log, home.recommendations_topic)
    assert {b"v"} <= {record.key for record in lists} <= {b"u", b"v"}
    assert len(dead) + len(lists) == 2
    for record in lists:
        assert sum(len(name) + len(text) for name, text in record.headers) < 1_000
    for record in dead:
        said = dict(record.headers)
        if record.value != value:
            assert said["freshet.original-bytes"] == str(len(value)).encode()
            assert said["freshet.original-digest"] == b"sha256:" + hashlib.sha256(value).hexdigest().encode()
        assert value.startswith(record.value or b"-")
    found = audit(log, home)
    assert (found.lost, found.doubled) == (0, 0)


@pytest.mark.kafka
def test_twelve_megabytes_of_compressible_text_become_a_dead_letter(on_kafka: Settings) -> None:
    with closing(open_log_of(on_kafka)) as log:
        log.create(topic_specs(on_kafka, partitions=1))
        value = padded(12_000_000)
        send(log, on_kafka, b"u", value)
        run(log, on_kafka)
        (letter,) = read(log, on_kafka.dead_topic)
        assert dict(letter.headers)["freshet.original-bytes"] == str(len(value)).encode()
        assert 1_000_000 < len(letter.value or b"") < 1_048_588


def test_a_list_that_is_too_large_is_cut_to_what_fits(log: Log, home: Settings) -> None:
    limit = log.record_limits([home.recommendations_topic])[home.recommendations_topic]
    filler = "x" if home.bootstrap else "\x01"  # which JSON writes in six characters
    ids = [f"{n:04}".ljust(1_000, filler) for n in range(2_000)]
    rows = [GOOD | {"item_id": id_, "timestamp": n} for n, id_ in enumerate(ids)]
    topic = home.interactions_topic
    log.append([NewRecord(topic, b"u", json.dumps(row).encode()) for row in rows])
    run(log, home.model_copy(update={"k": len(ids)}))
    newest = read(log, home.recommendations_topic)[-1]
    value = msgspec.json.decode(newest.value or b"", type=RecommendationList)
    assert value.cut > 0
    assert len(value.items) + value.cut == len(ids)
    size = len(msgspec.json.encode(value.items[0]))
    assert limit - 3 * size < len(newest.value or b"") <= limit
    found = audit(log, home.model_copy(update={"k": len(ids)}))
    assert (found.lost, found.doubled) == (0, 0)


def test_a_list_that_fits_does_not_speak_of_it(log: Log, home: Settings) -> None:
    send(log, home, b"u", BASE)
    run(log, home)
    (record,) = read(log, home.recommendations_topic)
    fields = json.loads(record.value or b"")
    assert list(fields) == [
        "list_id", "user_id", "surface", "items", "as_of", "model_version", "fallback",
    ]  # fmt: skip


def test_the_log_takes_no_record_over_its_limit(log: Log, home: Settings) -> None:
    limit = log.record_limits([home.items_topic])[home.items_topic]
    log.append([NewRecord(home.items_topic, b"i", b"x" * (limit - 1_000))])
    chance = Random(0)
    with pytest.raises(RecordRefused, match=home.items_topic):
        log.append([NewRecord(home.items_topic, b"i", chance.randbytes(limit + 1))])


def test_many_erasures_at_once_fit_their_manifests(log: Log, home: Settings) -> None:
    small = home.model_copy(update={"commit_interval_ms": 2_000})
    users = [f"u{n}" for n in range(40 if home.bootstrap is None else 20_000)]
    send(log, home, b"u", BASE)
    log.append([NewRecord(home.users_topic, user.encode(), None) for user in users])
    worker = run(log, small)
    assert len(worker.state.erased) == len(users)
    assert max(len(record.value or b"") for record in read(log, home.epochs_topic)) < 1_048_588


def alter(settings: Settings, topic: str, **config: str) -> None:
    admin = AdminClient({"bootstrap.servers": settings.bootstrap or ""})
    entries = [
        ConfigEntry(name.replace("_", "."), value, incremental_operation=AlterConfigOpType.SET)
        for name, value in config.items()
    ]
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
    for future in admin.incremental_alter_configs([resource]).values():
        future.result(10)

    def is_known() -> bool:
        """The controller answers before the broker goes by it."""
        (found,) = admin.describe_configs([ConfigResource(ResourceType.TOPIC, topic)]).values()
        return all(found.result(10)[one.name].value == one.value for one in entries)

    until(is_known)


class Waits(StopRequest):
    """Does not wait, and counts how often it was asked to."""

    def __init__(self) -> None:
        self.asked: list[float] = []

    def __bool__(self) -> bool:
        return False

    def wait(self, seconds: float) -> bool:
        self.asked.append(seconds)
        return False


def follow(settings: Settings, waits: Waits) -> None:
    @contextmanager
    def opening() -> Iterator[Worker]:
        with closing(open_log_of(settings)) as log, closing(Worker.open(log, settings)) as worker:
            yield worker

    supervise(opening, lambda worker: worker.run(exit_at_end=True), waits)


@pytest.mark.kafka
def test_a_refusal_that_repeats_is_not_tried_for_ever(on_kafka: Settings) -> None:
    """A dead letter without a key on a topic that somebody made a compacted one: INVALID_RECORD."""
    with closing(open_log_of(on_kafka)) as log:
        log.create(topic_specs(on_kafka, partitions=1))
        alter(on_kafka, on_kafka.dead_topic, cleanup_policy="compact")
        log.append([NewRecord(on_kafka.interactions_topic, None, b"{oops")])
    waits = Waits()
    with pytest.raises(RecordRefused, match=on_kafka.dead_topic):
        follow(on_kafka, waits)
    assert len(waits.asked) == 1
    alter(on_kafka, on_kafka.dead_topic, cleanup_policy="delete")
    follow(on_kafka, Waits())
    with closing(open_log_of(on_kafka)) as log:
        assert len(read(log, on_kafka.dead_topic)) == 1


@pytest.mark.kafka
@pytest.mark.parametrize("delivery", ["exactly-once", "at-least-once"])
def test_a_limit_that_was_lowered_meanwhile_is_asked_for_again(on_kafka: Settings, delivery: str) -> None:
    settings = on_kafka.model_copy(update={"delivery": delivery})
    with closing(open_log_of(settings)) as log:
        log.create(topic_specs(settings, partitions=1))
        log.append([NewRecord(settings.interactions_topic, b"u", BASE)])
        worker = Worker.open(log, settings)
        while worker.step() is None:
            pass
        alter(settings, settings.dead_topic, max_message_bytes="200000")
        bad = Random(0).randbytes(500_000)  # no compression makes it smaller
        log.append([NewRecord(settings.interactions_topic, b"u", bad)])
        with pytest.raises(RecordRefused, match=r"max\.message\.bytes"):
            worker.run()
        worker.close()
        run(log, settings)
        (letter,) = read(log, settings.dead_topic)
        assert 190_000 < len(letter.value or b"") < 200_000


@pytest.mark.kafka
def test_small_records_fit_a_topic_of_small_records_together(on_kafka: Settings) -> None:
    """A batch of records that fit one by one is no larger than the topic takes."""
    with closing(open_log_of(on_kafka)) as log:
        log.create(topic_specs(on_kafka, partitions=1))
        alter(on_kafka, on_kafka.dead_topic, max_message_bytes="120000")
        chance = Random(0)
        bad = [NewRecord(on_kafka.interactions_topic, b"u", chance.randbytes(50_000)) for _ in range(40)]
        log.append(bad)
        run(log, on_kafka)
        assert [letter.value for letter in read(log, on_kafka.dead_topic)] == [record.value for record in bad]
