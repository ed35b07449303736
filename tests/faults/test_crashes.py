"""A crash at every write of the commit protocol, in both homes, loses nothing and doubles nothing."""

from pathlib import Path
from uuid import uuid4

import pytest

from consumers import crash_points
from consumers.records import NewRecord
from tests.faults.scene import Scene
from tests.worlds import checkerboard

EVENTS = 1_200


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


def test_the_embedded_log(tmp_path: Path) -> None:
    crash_at_every_effect(Scene(tmp_path, "crash"), crash_points.EMBEDDED, (1, 3))


@pytest.mark.kafka
def test_kafka(tmp_path: Path, kafka_bootstrap: str) -> None:
    crash_at_every_effect(Scene(tmp_path, f"c{uuid4().hex[:8]}", kafka_bootstrap), crash_points.KAFKA, (1,))
