"""A crash at every write of the commit protocol, in both homes, loses nothing and doubles nothing."""

from contextlib import closing
from pathlib import Path
from uuid import uuid4

import msgspec
import pytest

from consumers import crash_points
from consumers.records import NewRecord
from streamer.experiments.experiment_records import create, read_experiment, shadow, start
from streamer.experiments.report import newest_challengers
from streamer.runtime.topics import read_records, whole
from tests.faults.scene import Scene
from tests.worlds import checkerboard

EVENTS = 1_200
CHALLENGER = {"name": "challenger", "share": 0.5, "model": {"learning_rate": 0.01, "hidden": 8}}


def crash_at_every_effect(scene: Scene, points: tuple[str, ...], times: tuple[int, ...]) -> None:
    """One log, one crash after the other, with retractions and an erasure on the way; then to the end, and an audit."""
    events = checkerboard(events=EVENTS, users=30, items=40)
    records = scene.interactions(events)
    taken_back = [
        NewRecord(r.topic, r.key, (r.value or b"").replace(b'"event_type"', b'"retract": true, "event_type"'))
        for r in records[::50]
    ]
    scene.create()
    scene.send(records[: EVENTS // 2] + taken_back[:8])
    scene.send([NewRecord(scene.settings.users_topic, b"u7", None)])
    scene.send(records[EVENTS // 2 :])
    for n in times:
        for point in points:
            scene.crash(point, n)
    digest = scene.finish()
    found = scene.audit()
    assert found.interactions == EVENTS + 8
    assert found.outputs > EVENTS // 4
    assert (found.lost, found.doubled) == (0, 0)
    assert list(found.digests.values()) == [digest]


def crash_beside_a_challenger(scene: Scene, points: tuple[str, ...]) -> None:
    """A crash after the other while a challenger is in shadow, others while users of its arm get its lists."""
    experiment = read_experiment({"name": "newer", "arms": [{"name": "as-now", "share": 0.5}, CHALLENGER]})
    records = scene.interactions(checkerboard(events=EVENTS, users=30, items=40))
    scene.create()
    half = len(points) // 2
    for part, some, change in ((0, points[:half], shadow), (1, points[half:], start)):
        with closing(scene.open()) as log:
            if not part:
                create(log, scene.settings, experiment, 1_000)
            change(log, scene.settings, "newer", 2_000)
        scene.send(records[part * EVENTS // 2 : (part + 1) * EVENTS // 2])
        for point in some:
            scene.crash(point, 2)
    digest = scene.finish()
    found = scene.audit()
    assert (found.interactions, found.lost, found.doubled, found.differing) == (EVENTS, 0, 0, 0)
    assert list(found.digests.values()) == [digest]
    with closing(scene.open()) as log:
        told = newest_challengers(log, scene.settings)
        lists = [one.value for one in read_records(log, whole(log, scene.settings.recommendations_topic)) if one.value]
    assert {one.events for one in told} == {1_000}
    arms = {(msgspec.json.decode(one).get("experiment") or {}).get("arm") for one in lists}
    assert {"as-now", "challenger", None} == arms


def test_a_challenger_on_the_embedded_log(tmp_path: Path) -> None:
    crash_beside_a_challenger(Scene(tmp_path, "beside", checkpoint_interval_ms=1), crash_points.EMBEDDED * 2)


@pytest.mark.kafka
def test_a_challenger_on_kafka(tmp_path: Path, kafka_bootstrap: str) -> None:
    points = ("outputs", "committed", "checkpointed")
    crash_beside_a_challenger(Scene(tmp_path, f"c{uuid4().hex[:8]}", kafka_bootstrap), points * 2)


def test_the_embedded_log(tmp_path: Path) -> None:
    crash_at_every_effect(Scene(tmp_path, "crash", checkpoint_interval_ms=1), crash_points.EMBEDDED, (1, 3))


@pytest.mark.kafka
def test_kafka(tmp_path: Path, kafka_bootstrap: str) -> None:
    crash_at_every_effect(Scene(tmp_path, f"c{uuid4().hex[:8]}", kafka_bootstrap), crash_points.KAFKA, (1,))
