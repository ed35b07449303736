"""`freshet doctor` on the embedded log and on real brokers: each thing that can be wrong, and what it says to do."""

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka import TopicPartition as KafkaPartition
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from consumers.open_log import OwnedLog
from consumers.records import NewRecord, TopicPartition
from streamer.cli.main import main
from streamer.ops.doctor import examine
from streamer.runtime.state_lock import StateLock
from streamer.runtime.topics import open_log_of, topic_specs
from streamer.settings import Settings
from streamer.worker.prometheus import RunMetrics
from streamer.worker.worker import Worker
from tests import kafka_broker
from tests.clocks import ManualClock
from tests.conftest import missing, own_topics
from tests.scenarios.test_worker import run, send
from tests.streamer.worker.test_prometheus import told
from tests.waiting import until
from tests.worlds import checkerboard

Doctor = Callable[..., dict[str, str]]


@pytest.fixture
def doctor(settings: Settings, capsys: pytest.CaptureFixture[str]) -> Doctor:
    """Runs it and gives what is to be mended, by check; the exit code says the same."""

    def call(*flags: str) -> dict[str, str]:
        capsys.readouterr()
        code = main(["doctor", "--json", "--state", str(settings.state), *(flags or ("--log", str(settings.log)))])
        findings = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert {"state folder", "log"} <= {finding["check"] for finding in findings}
        wrong = {
            finding["check"]: f"{finding['found']} → {finding['mend']}" for finding in findings if not finding["fine"]
        }
        assert code == (1 if wrong else 0)
        assert all(finding["fine"] != bool(finding["mend"]) for finding in findings)
        return wrong

    return call


def test_a_log_that_is_not_there_is_said_and_not_made(doctor: Doctor, settings: Settings, tmp_path: Path) -> None:
    there_is_none = tmp_path / "typo"
    assert doctor("--log", str(there_is_none))["log"].startswith(f"there is no log in {there_is_none} → name a folder")
    assert not there_is_none.exists()


def test_a_log_without_topics(settings: Settings, doctor: Doctor) -> None:
    assert settings.log
    OwnedLog(settings.log).close()
    wrong = doctor()
    assert set(wrong) == {f"topic {spec.name}" for spec in topic_specs(settings)}
    assert wrong["topic interactions"] == f"is missing → run `freshet topics create --log {settings.log}`"


def test_all_is_well_before_and_beside_a_worker(log: OwnedLog, settings: Settings, doctor: Doctor) -> None:
    assert doctor() == {}
    send(log, checkerboard(events=200))
    run(log, settings)
    assert settings.state
    with StateLock(settings.state):
        assert doctor() == {}


def test_a_log_that_another_process_holds_and_does_not_serve(settings: Settings, doctor: Doctor) -> None:
    assert settings.log
    log = OwnedLog(settings.log)
    (settings.log / "owner.json").unlink()
    assert "does not answer" in doctor()["log"]
    log.close()


def test_records_that_wait(log: OwnedLog, doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamer.ops.doctor.MANY", 50)
    send(log, checkerboard(events=60))
    assert "60 records of interactions wait → start a worker" in doctor()["lag"]


def test_a_damaged_checkpoint(log: OwnedLog, settings: Settings, doctor: Doctor) -> None:
    send(log, checkerboard(events=100))
    run(log, settings)
    key = b"s/freshet/model/users/" + bytes(8)
    log._tables.db[key] = log._tables.db[key][:-1] + b"?"
    assert "damaged" in doctor()["checkpoint"]


def test_a_position_that_the_log_does_not_have(log: OwnedLog, settings: Settings, doctor: Doctor) -> None:
    send(log, checkerboard(events=100))
    run(log, settings)
    log.committer("freshet").commit([], {TopicPartition("interactions", 0): 500})
    assert "interactions[0] 500 of 0 to 100 → raise the topic's retention" in doctor()["positions"]


def test_a_clock_that_is_behind(log: OwnedLog, settings: Settings) -> None:
    send(log, checkerboard(events=10))
    (clock,) = (finding for finding in examine(settings, ManualClock()) if finding.check == "clock")
    assert not clock.fine
    assert "s in the future" in clock.found
    assert "set the clocks" in clock.mend


def test_epochs_with_a_gap(log: OwnedLog, settings: Settings, doctor: Doctor) -> None:
    small = settings.model_copy(update={"max_epoch_events": 10})
    send(log, checkerboard(events=100))
    run(log, small)
    del log._tables.db[b"r/freshet.epochs/" + bytes(4) + (4).to_bytes(8, "big")]
    assert "have 1 gaps" in doctor()["epochs"]


def test_topics_of_another_kind(settings: Settings, doctor: Doctor) -> None:
    assert settings.log
    log = OwnedLog(settings.log)
    from msgspec.structs import replace

    other = {
        "recommendations": {"cleanup": "delete"},
        "freshet.epochs": {"partitions": 3},
        "interactions": {"retention_ms": 60_000},
    }
    log.create(replace(spec, **other.get(spec.name, {})) for spec in topic_specs(settings, 2))
    log.close()
    wrong = doctor()
    assert wrong["topic recommendations"].endswith("→ set its cleanup.policy to compact")
    assert wrong["topic freshet.epochs"].startswith("has 3 partitions")
    assert wrong["topic interactions"].endswith("→ set its retention.ms to -1, or to days at least")


@pytest.mark.kafka
def test_on_kafka(on_kafka: Settings, doctor: Doctor) -> None:
    flags = ("--bootstrap", str(on_kafka.bootstrap))
    mend = f"run `freshet topics create --bootstrap {on_kafka.bootstrap}`"
    assert doctor(*flags)[f"topic {on_kafka.interactions_topic}"] == f"is missing → {mend}"
    log = open_log_of(on_kafka)
    log.create(topic_specs(on_kafka, 2))
    assert doctor(*flags) == {}
    log.append(
        [
            NewRecord(
                on_kafka.interactions_topic, b"u", b'{"user_id":"u","item_id":"i","event_type":"view","timestamp":5}'
            )
        ]
        * 9
    )
    worker = run(log, on_kafka)
    assert doctor(*flags) == {}
    (partition,) = (tp.partition for tp, position in worker.state.positions.items() if position)
    log.append([NewRecord(on_kafka.interactions_topic, None, b"{}", partition=partition)] * 9)
    admin = AdminClient({"bootstrap.servers": str(on_kafka.bootstrap)})
    for future in admin.delete_records([KafkaPartition(on_kafka.interactions_topic, partition, 15)]).values():
        future.result()
    wrong = doctor(*flags)
    assert f"{on_kafka.interactions_topic}[{partition}] 9 of 15 to 18" in wrong["positions"]
    assert "the log holds 15 to 18" in wrong["checkpoint"]
    log.close()


@pytest.mark.kafka
def test_transactions_of_producers(on_kafka: Settings, doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their markers are no records that wait; one that is left open, and holds back what follows it, is shown."""
    monkeypatch.setattr("streamer.ops.doctor.MANY", 0)
    monkeypatch.setattr("streamer.ops.doctor.LONG_OPEN_MS", -60_000)
    flags, topic = ("--bootstrap", str(on_kafka.bootstrap)), on_kafka.interactions_topic
    log = open_log_of(on_kafka)
    log.create(topic_specs(on_kafka, 1))
    producer = Producer({"bootstrap.servers": str(on_kafka.bootstrap), "transactional.id": f"{topic}-test"})
    producer.init_transactions(30)
    row = b'{"user_id":"u","item_id":"i","event_type":"view","timestamp":5}'
    for end in (producer.commit_transaction, producer.abort_transaction, producer.commit_transaction):
        producer.begin_transaction()
        producer.produce(topic, row, b"u")
        producer.flush(30)
        end(30)
    assert "2 records of" in doctor(*flags)["lag"]
    metrics = RunMetrics(on_kafka)
    worker = Worker.open(log, on_kafka, metrics=metrics)
    worker.run(exit_at_end=True)
    found = told(metrics)
    worker.close()
    assert found["freshet_interactions_total"] == 2
    assert found["freshet_lag[0]"] == 0
    assert doctor(*flags) == {}
    producer.begin_transaction()
    producer.produce(topic, row, b"u")
    producer.flush(30)
    log.append([NewRecord(topic, b"u", row)] * 3)
    assert f"{topic}[0] from offset 6 on" in doctor(*flags)["open transactions"]
    producer.abort_transaction(30)
    assert set(doctor(*flags)) == {"lag"}
    log.close()


@pytest.mark.kafka
def test_beside_a_worker_on_kafka(on_kafka: Settings, doctor: Doctor) -> None:
    """The worker's checkpoint is read while it has it open, and it is not fenced."""
    log = open_log_of(on_kafka)
    log.create(topic_specs(on_kafka, 1))
    worker = Worker.open(log, on_kafka)
    row = b'{"user_id":"u","item_id":"i","event_type":"view","timestamp":5}'
    for n in range(1, 3):
        log.append([NewRecord(on_kafka.interactions_topic, b"u", row)])
        until(worker.step)
        assert doctor("--bootstrap", str(on_kafka.bootstrap)) == {}
        assert worker.state.records == n
    worker.close()
    log.close()


@pytest.mark.kafka
def test_a_partition_that_no_worker_has(on_kafka: Settings, doctor: Doctor) -> None:
    """Somebody is in the group, and reads another topic."""
    with open_log_of(on_kafka) as log:
        log.create(topic_specs(on_kafka, 2))
    config = {"bootstrap.servers": str(on_kafka.bootstrap), "group.id": on_kafka.application}
    with closing(Consumer(config)) as member:
        member.subscribe([on_kafka.items_topic])
        until(lambda: member.poll(0.1) or member.assignment())
        wrong = doctor("--bootstrap", str(on_kafka.bootstrap))
    assert list(wrong) == ["workers"]
    topic = on_kafka.interactions_topic
    assert wrong["workers"].startswith(f"1 in the group {on_kafka.application}, and none has {topic}[0], {topic}[1] → ")


@pytest.mark.kafka
def test_partitions_that_others_cannot_observe(on_kafka: Settings, doctor: Doctor) -> None:
    specs = topic_specs(on_kafka, 3)
    with open_log_of(on_kafka) as log:
        log.create(
            [msgspec.structs.replace(s, partitions=2) if s.name == on_kafka.observed_topic else s for s in specs]
        )
    wrong = doctor("--bootstrap", str(on_kafka.bootstrap))
    assert list(wrong) == [f"topic {on_kafka.observed_topic}"]
    assert "add the partitions" in wrong[f"topic {on_kafka.observed_topic}"]


@pytest.fixture
def strict_bootstrap(tmp_path: Path) -> Iterator[str]:
    """A broker that asks who may do what."""
    if reason := kafka_broker.missing():
        missing(reason)
    folder = tmp_path / "broker"
    folder.mkdir()
    broker = kafka_broker.Broker(
        folder,
        **{
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "allow.everyone.if.no.acl.found": "true",
        },
    )
    yield broker.bootstrap
    broker.stop()


@pytest.mark.kafka
def test_rights_that_are_lacking(
    strict_bootstrap: str, settings: Settings, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = own_topics(strict_bootstrap, settings, monkeypatch)
    log = open_log_of(mine)
    log.create(topic_specs(mine, 1))
    until(lambda: doctor("--bootstrap", strict_bootstrap) == {})  # a broker that has just come up takes its time
    admin = AdminClient({"bootstrap.servers": strict_bootstrap})
    for kind, name, operation in (
        (ResourceType.TOPIC, mine.recommendations_topic, AclOperation.WRITE),
        (ResourceType.GROUP, mine.application, AclOperation.READ),
        (ResourceType.TRANSACTIONAL_ID, f"{mine.application}-doctor", AclOperation.WRITE),
    ):
        acl = AclBinding(
            kind, name, ResourcePatternType.LITERAL, "User:ANONYMOUS", "*", operation, AclPermissionType.DENY
        )
        for future in admin.create_acls([acl]).values():
            future.result()

    def wrong_once_in_force() -> dict[
        str, str
    ]:  # the controller has taken them; the broker learns of them a moment later
        found = doctor("--bootstrap", strict_bootstrap)
        return found if "transactions" in found else {}

    wrong = until(wrong_once_in_force)
    assert f"WRITE {mine.recommendations_topic}" in wrong["rights"]
    assert f"READ group {mine.application}" in wrong["rights"]
    assert f"READ {mine.interactions_topic}" not in wrong["rights"]
    assert "with the prefix" in wrong["transactions"]
    log.close()


def test_no_broker(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consumers.kafka.log.START_TIMEOUT_S", 1.0)
    assert "no broker answers" in doctor("--bootstrap", "127.0.0.1:1")["log"]
