"""Positions that belong to something else now: a topic made anew, a group's offsets set back, another application."""

from collections import Counter
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import msgspec
import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException
from confluent_kafka import TopicPartition as KafkaPartition
from confluent_kafka.admin import AdminClient

from consumers.errors import LogUnavailable, PositionGone, TopicConflict
from consumers.records import NewRecord, TopicPartition
from consumers.schemas import EpochManifest
from streamer.ops.doctor import examine
from streamer.runtime.topics import open_log_of, read_records, topic_specs, whole
from streamer.settings import Settings
from streamer.worker.rebuild import rebuild
from streamer.worker.worker import Worker
from tests.faults.scene import Scene
from tests.faults.test_faults import command, line_with
from tests.waiting import ended, scaled, until
from tests.worlds import checkerboard

pytestmark = pytest.mark.kafka


@pytest.fixture
def scene(tmp_path: Path, kafka_bootstrap: str) -> Scene:
    """Forty interactions taken, of each topic of records something."""
    scene = Scene(tmp_path, f"a{uuid4().hex[:8]}", kafka_bootstrap)
    scene.create(2)
    own = scene.settings
    scene.send(
        [
            *scene.interactions(checkerboard(events=40)),
            *[NewRecord(own.items_topic, b"i%d" % n, b'{"item_id": "i%d", "title": "t"}' % n) for n in range(5)],
            *[NewRecord(own.users_topic, b"u%d" % n, b'{"user_id": "u%d"}' % n) for n in range(5)],
        ]
    )
    scene.finish()
    return scene


def make_anew(scene: Scene, name: str, partitions: int = 2) -> None:
    """Deletes a topic, and creates it under the same name."""
    admin = AdminClient({"bootstrap.servers": str(scene.values["bootstrap"])})
    (deleted,) = admin.delete_topics([name], operation_timeout=30).values()
    deleted.result()
    specs = {spec.name: spec for spec in topic_specs(scene.settings, partitions)}
    with closing(scene.open()) as log:

        def is_made() -> bool:
            try:
                return log.create([specs[name]]) == [name]  # nothing, where the broker still shows the former one
            except (TopicConflict, LogUnavailable):
                return False

        until(is_made)


def wrong(settings: Settings) -> dict[str, str]:
    """What doctor finds to be mended."""
    return {finding.check: finding.found for finding in examine(settings) if not finding.fine}


def lists_of(scene: Scene) -> Counter[bytes]:
    """How often each list was published, by the interaction that caused it."""
    log = scene.open()
    values = [r.value for r in read_records(log, whole(log, scene.settings.recommendations_topic)) if r.value]
    log.close()
    return Counter(values)


def ends_with(scene: Scene, words: str) -> None:
    stopped = command(scene, "--exit-at-end")
    assert words in line_with(stopped, "freshet:")
    assert ended(stopped, said=stopped.said) == 1


def test_a_topic_made_anew_is_not_passed_over(scene: Scene) -> None:
    topic = scene.settings.interactions_topic
    make_anew(scene, topic)
    scene.send(scene.interactions(checkerboard(events=80, seed=1), first=1_000))
    ends_with(scene, f"the topic {topic} was deleted and made anew")
    assert topic in wrong(scene.settings)["state and topics"]
    goes_on = command(scene, "--exit-at-end", "--on-position-gone", "earliest")
    said = line_with(goes_on, "made anew")
    assert "80 records are to be taken" in said
    assert "is lost, and how much that was is not known" in said
    assert ended(goes_on, said=goes_on.said) == 0
    log = open_log_of(scene.settings)
    worker = Worker.open(log, scene.settings)  # and the setting is needed once
    assert worker.state.records == 120
    taken = {p for tp, p in worker.state.positions.items() if tp.topic == topic}
    assert sum(taken) >= 80
    worker.close()
    with pytest.raises(PositionGone, match="cannot be taken again"):  # not from the records of another topic
        rebuild(log, scene.settings)
    log.close()
    assert "state and topics" not in wrong(scene.settings)


@pytest.mark.parametrize("crash", ["committed", "checkpointed"])
def test_epochs_of_the_former_topic_are_not_taken_from_the_new_one(scene: Scene, crash: str) -> None:
    """The worker dies before its checkpoint; then the records of its epochs go; then it dies as it begins anew."""
    rare = Scene(
        scene.file.parent, scene.settings.application, str(scene.values["bootstrap"]), checkpoint_interval_ms=10**8
    )
    rare.send(rare.interactions(checkerboard(events=100, seed=2), first=500))
    rare.crash("committed", 3)
    make_anew(rare, rare.settings.interactions_topic)
    rare.send(rare.interactions(checkerboard(events=60, seed=1), first=1_000))
    again = Scene(scene.file.parent, scene.settings.application, str(scene.values["bootstrap"]),
                  checkpoint_interval_ms=10**8, on_position_gone="earliest")  # fmt: skip
    again.crash(crash, 1)
    again.finish()
    log = again.open()
    epochs = list(read_records(log, whole(log, again.settings.epochs_topic)))
    log.close()
    (first,) = (n for n, record in enumerate(epochs) if "freshet-made-anew" in dict(record.headers))
    events = [msgspec.json.decode(r.value or b"", type=EpochManifest).events for r in epochs[first:]]
    assert sum(events) == 60  # each record of the new topic in one epoch
    assert max(lists_of(again).values()) == 1


@pytest.mark.parametrize("kind", ["items", "users", "epochs"])
def test_so_are_items_users_and_epochs(scene: Scene, kind: str) -> None:
    topic = f"{scene.settings.application}.{kind}"
    make_anew(scene, topic)
    scene.send(scene.interactions(checkerboard(events=20, seed=1), first=1_000))
    ends_with(scene, f"the topic {topic} was deleted and made anew")
    assert topic in wrong(scene.settings)["state and topics"]
    again = Scene(
        scene.file.parent, scene.settings.application, str(scene.values["bootstrap"]), on_position_gone="earliest"
    )
    again.finish()
    again.finish()
    log = open_log_of(again.settings)
    worker = Worker.open(log, again.settings)
    assert worker.state.records == 60
    worker.close()
    log.close()
    assert max(lists_of(again).values()) == 1


def test_a_topic_with_fewer_partitions_than_before(scene: Scene) -> None:
    make_anew(scene, scene.settings.interactions_topic, partitions=1)
    scene.send(scene.interactions(checkerboard(events=50, seed=1), first=1_000))
    ends_with(scene, "was deleted and made anew")
    again = Scene(
        scene.file.parent, scene.settings.application, str(scene.values["bootstrap"]), on_position_gone="earliest"
    )
    again.finish()
    log = open_log_of(again.settings)
    worker = Worker.open(log, again.settings)
    assert worker.state.records == 90
    assert TopicPartition(again.settings.interactions_topic, 1) not in worker.state.positions
    worker.close()
    log.close()


def test_it_is_noticed_while_a_worker_runs(scene: Scene) -> None:
    running = command(scene)
    line_with(running, "state of epoch")
    make_anew(scene, scene.settings.interactions_topic)
    scene.send(scene.interactions(checkerboard(events=80, seed=1), first=1_000))
    assert "freshet:" in line_with(running, "freshet:")
    assert ended(running, said=running.said) == 1


def _set_to(group: Consumer, topic: str, offset: int) -> bool:
    try:
        group.commit(offsets=[KafkaPartition(topic, p, offset) for p in (0, 1)], asynchronous=False)
    except KafkaException as error:
        if error.args[0].code() != KafkaError.UNKNOWN_MEMBER_ID:
            raise
        return False
    return True


def test_offsets_that_were_set_back_are_said_and_nothing_is_doubled(scene: Scene) -> None:
    own = scene.settings
    group = Consumer({"bootstrap.servers": own.bootstrap, "group.id": own.application, "enable.auto.commit": False})
    at = {
        tp.offset
        for tp in group.committed([KafkaPartition(own.interactions_topic, p) for p in (0, 1)], timeout=scaled(30))
    }
    until(lambda: _set_to(group, own.interactions_topic, 3))  # the seat of the worker before is kept for a session
    group.close()
    assert min(at) > 3
    assert f"{own.interactions_topic}[0] 3, the state" in wrong(own)["group's offsets"]
    scene.send(scene.interactions(checkerboard(events=20, seed=1), first=1_000))
    running = command(scene, "--exit-at-end")
    assert "was set back to 3; the state goes on at" in line_with(running, "set back")
    assert ended(running, said=running.said) == 0
    assert max(lists_of(scene).values()) == 1
    found = scene.audit()
    assert (found.interactions, found.lost, found.doubled) == (60, 0, 0)
    assert "group's offsets" not in wrong(own)


def test_a_second_application_on_the_same_topics_is_refused(scene: Scene) -> None:
    shared = {name: value for name, value in scene.values.items() if name.endswith("_topic")}
    bootstrap, state = str(scene.values["bootstrap"]), str(scene.file.parent / "other")
    other = Scene(scene.file.parent, "b" + uuid4().hex[:8], bootstrap, state=state, **shared)
    ends_with(other, f"are those of the application {scene.settings.application}")
    assert max(lists_of(scene).values()) == 1
