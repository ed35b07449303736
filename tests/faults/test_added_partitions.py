"""Partitions that are added to topics while a worker runs, on a real Kafka."""

from contextlib import closing
from pathlib import Path
from uuid import uuid4

import msgspec
import pytest
from confluent_kafka.admin import AdminClient, NewPartitions  # type: ignore[attr-defined]

from consumers.partitioner import partition_of
from consumers.records import NewRecord
from consumers.schemas import EpochManifest
from streamer.runtime.topics import read_records, whole
from tests.faults.scene import Scene
from tests.faults.test_faults import check
from tests.waiting import scaled, until
from tests.worlds import checkerboard

pytestmark = pytest.mark.kafka


def add_partitions(scene: Scene, *topics: str) -> None:
    """Makes it three each."""
    with AdminClient({"bootstrap.servers": str(scene.values["bootstrap"])}) as admin:
        for topic, future in admin.create_partitions([NewPartitions(topic, 3) for topic in topics]).items():
            future.result(30)
            until(lambda topic=topic: len(admin.list_topics(topic, timeout=scaled(30)).topics[topic].partitions) == 3)  # type: ignore[misc]


def values(scene: Scene, topic: str) -> list[tuple[bytes | None, bytes | None]]:
    with closing(scene.open()) as log:
        return [(record.key, record.value) for record in read_records(log, whole(log, topic))]


def taken(scene: Scene) -> set[tuple[str, str]]:
    """Topics and partitions of which committed epochs took something."""
    epochs = [msgspec.json.decode(v or b"", type=EpochManifest) for _, v in values(scene, scene.settings.epochs_topic)]
    return {(topic, partition) for epoch in epochs for topic, ends in epoch.ends.items() for partition in ends}


@pytest.mark.parametrize("checkpoint_interval_ms", [30, 10**8])
def test_a_worker_reads_partitions_that_are_added(
    tmp_path: Path, kafka_bootstrap: str, checkpoint_interval_ms: int
) -> None:
    """What comes on them is in the state and in lists without a restart; recovery and audit take it as it was taken."""
    scene = Scene(
        tmp_path, f"p{uuid4().hex[:8]}", kafka_bootstrap, checkpoint_interval_ms=checkpoint_interval_ms,
    )  # fmt: skip
    scene.create(2)
    own = scene.settings
    scene.send(scene.interactions(checkerboard(events=60)))
    worker = scene.start("-")
    try:
        until(lambda: (own.interactions_topic, "0") in taken(scene))
        until(lambda: any(key == b"u1" and value for key, value in values(scene, own.recommendations_topic)))
        add_partitions(scene, own.items_topic, own.users_topic)
        record = NewRecord(own.items_topic, b"i0", b'{"item_id": "i0", "hidden": true}', partition=2)
        scene.send([record, NewRecord(own.users_topic, b"u1", None, partition=2)])
        until(lambda: {(own.items_topic, "2"), (own.users_topic, "2")} <= taken(scene), said=worker.poll)
        until(lambda: (b"u1", None) in values(scene, own.recommendations_topic))
        scene.send(scene.interactions([("u2", "i2", 10**9)], first=1_000))
        until(
            lambda: any(
                b'"as_of":{"timestamp":1000000000' in (value or b"")
                for _, value in values(scene, own.recommendations_topic)
            )
        )
        newest = values(scene, own.recommendations_topic)[-1][1] or b""
        assert b'"i0"' not in newest
    finally:
        scene.close()  # by SIGKILL
    check(scene, 61)


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_worker_reads_partitions_that_are_added_to_interactions(
    tmp_path: Path, kafka_bootstrap: str, protocol: str
) -> None:
    """The group gives them out within seconds, from their first record on; recovery and audit take them too."""
    scene = Scene(tmp_path, f"p{uuid4().hex[:8]}", kafka_bootstrap, group_protocol=protocol)
    scene.create(2)
    own = scene.settings
    scene.send(scene.interactions(checkerboard(events=60)))
    worker = scene.start("-")
    try:
        until(lambda: (own.interactions_topic, "0") in taken(scene), said=worker.poll)
        add_partitions(scene, own.interactions_topic)
        scene.send(scene.interactions([(user_of(2, 3), "i1", 10**9)], first=1_000))
        until(lambda: (own.interactions_topic, "2") in taken(scene), said=worker.poll)
    finally:
        scene.close()  # by SIGKILL
    check(scene, 61)


def test_the_others_observe_partitions_that_are_added(tmp_path: Path, kafka_bootstrap: str) -> None:
    """Whoever gets the partition writes its blocks, the other one takes them: without a restart of either."""
    name, scenes = f"p{uuid4().hex[:8]}", []
    for seat in ("one", "two"):
        (tmp_path / seat).mkdir()
        scenes.append(Scene(tmp_path / seat, name, kafka_bootstrap))
    scenes[0].create(2)
    own, sent = scenes[0].settings, 0

    def send(users: list[str]) -> None:
        nonlocal sent
        scenes[0].send(scenes[0].interactions([(user, "i1", 10**9 + sent) for user in users], first=sent))
        sent += len(users)

    try:
        for scene in scenes:
            scene.start("-")
        users = [user_of(partition, 2) for partition in (0, 1)]
        until(lambda: send(users) or (observers(scenes[0], "0") and observers(scenes[0], "1")), every_s=0.5)
        add_partitions(scenes[0], own.observed_topic, own.interactions_topic)
        until(lambda: send([user_of(2, 3)]) or observers(scenes[0], "2"), every_s=0.5)
    finally:
        for scene in scenes:
            scene.close()  # by SIGKILL
    digests = [scene.finish() for scene in scenes]
    found = scenes[0].audit()
    assert (found.interactions, found.lost, found.doubled) == (sent, 0, 0)
    assert sorted(found.digests.values()) == sorted(digests)


def user_of(partition: int, count: int) -> str:
    """A user of a partition of so many."""
    return next(f"v{n}" for n in range(100) if partition_of(f"v{n}".encode(), count) == partition)


def observers(scene: Scene, *partitions: str) -> set[str]:
    """Workers whose committed epochs took blocks of one of these partitions."""
    epochs = [msgspec.json.decode(v or b"", type=EpochManifest) for _, v in values(scene, scene.settings.epochs_topic)]
    return {epoch.worker for epoch in epochs if not epoch.observed.keys().isdisjoint(partitions)}
