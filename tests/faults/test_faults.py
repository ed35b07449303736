"""What goes wrong around a worker, and how it goes on: a row of the runbook each."""

import signal
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import pytest
from confluent_kafka import TopicPartition as KafkaPartition
from confluent_kafka.admin import AdminClient

from tests.faults import victim
from tests.faults.forked import Forked
from tests.faults.scene import Scene
from tests.waiting import ended, ends, until
from tests.worlds import checkerboard


def command(scene: Scene, *flags: str, limit_bytes: int | None = None) -> Forked:
    """`freshet run` with the scene's settings; no file that it writes may grow over `limit_bytes`."""
    folder = scene.file.parent / "cwd"
    folder.mkdir(exist_ok=True)
    (folder / "freshet.toml").write_text(scene.file.read_text())
    return Forked(victim.run, flags, None, limit_bytes, cwd=folder, log=folder / f"{uuid4().hex}.log")


def line_with(process: Forked, words: str) -> str:
    """The first line of its log with these words, which are waited for."""
    until(lambda: words in process.said() or process.poll() is not None, said=process.said, every_s=0.005)
    for line in process.said().splitlines():
        if words in line:
            return line
    raise AssertionError(f"it ended without a word of {words!r}: {process.said()}")


def code_of(process: Forked) -> tuple[int, str]:
    """Waits for its end: exit code, and its log."""
    return ended(process, said=process.said), process.said()


def check(scene: Scene, interactions: int) -> None:
    digest = scene.finish()
    found = scene.audit()
    assert (found.interactions, found.lost, found.doubled) == (interactions, 0, 0)
    assert list(found.digests.values()) == [digest]


@pytest.fixture
def kafka_scene(tmp_path: Path, kafka_bootstrap: str) -> Scene:
    scene = Scene(tmp_path, f"f{uuid4().hex[:8]}", kafka_bootstrap)
    scene.create()
    return scene


def test_a_full_disk_is_said_and_waited_out(tmp_path: Path) -> None:
    scene = Scene(tmp_path, "full")
    scene.create()
    scene.send(scene.interactions(checkerboard(events=2_000, users=200, items=300)))
    with ends(command(scene, limit_bytes=1_500_000)) as worker:
        assert "free space on its disk" in line_with(worker, "cannot be written")
        line_with(worker, "trying again")
    check(scene, 2_000)


@pytest.mark.kafka
def test_a_damaged_checkpoint_is_set_aside_and_rebuilt(kafka_scene: Scene, tmp_path: Path) -> None:
    kafka_scene.send(kafka_scene.interactions(checkerboard(events=500)))
    digest = kafka_scene.finish()
    for file in (tmp_path / "state" / "checkpoint").glob("*.log"):
        data = bytearray(file.read_bytes())
        for place in range(len(data) // 3, len(data) // 2, 97):
            data[place] ^= 0xFF
        file.write_bytes(data)
    for file in (tmp_path / "state" / "checkpoint").glob("*.sst"):
        data = bytearray(file.read_bytes())
        for place in range(100, len(data) // 2, 97):
            data[place] ^= 0xFF
        file.write_bytes(data)
    assert kafka_scene.finish() == digest
    check(kafka_scene, 500)


@pytest.mark.kafka
def test_a_position_that_is_gone_ends_it_or_is_passed_over_as_the_setting_says(kafka_scene: Scene) -> None:
    records = kafka_scene.interactions(checkerboard(events=300))
    kafka_scene.send(records[:100])
    kafka_scene.finish()
    kafka_scene.send(records[100:])
    admin = AdminClient({"bootstrap.servers": str(kafka_scene.values["bootstrap"])})
    for future in admin.delete_records([KafkaPartition(kafka_scene.settings.interactions_topic, 0, 200)]).values():
        future.result()
    with ends(command(kafka_scene, "--exit-at-end")) as stopped:
        assert "holds offsets 200 to 300, the state goes on at 100" in line_with(stopped, "freshet:")
        assert code_of(stopped)[0] == 1
    with ends(command(kafka_scene, "--exit-at-end", "--on-position-gone", "earliest")) as goes_on:
        assert "100 records are lost" in line_with(goes_on, "lost")
        assert code_of(goes_on)[0] == 0


def starts(scene: Scene, worker: Forked) -> None:
    """It has begun to catch SIGTERM."""

    def catches() -> bool:
        status = Path(f"/proc/{worker.pid}/status").read_text()
        mask = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
        return bool(int(mask, 16) >> (signal.SIGTERM - 1) & 1)

    until(catches, every_s=0.005)


def recovers(scene: Scene, worker: Forked) -> None:
    """It has found what to take again."""
    line_with(worker, "to take again")


def works(scene: Scene, worker: Forked) -> None:
    """It takes epochs of its own."""
    line_with(worker, "to take again")
    with closing(scene.open()) as log:  # the worker's
        topic = scene.settings.epochs_topic
        before = log.ends(topic)[0]
        until(lambda: log.ends(topic)[0] > before, every_s=0.005)


@pytest.mark.parametrize("phase", [starts, recovers, works])
def test_sigterm_in_any_phase_ends_with_zero(tmp_path: Path, phase: Callable[[Scene, Forked], None]) -> None:
    scene = Scene(tmp_path, "term", max_epoch_events=10)
    scene.create()
    scene.send(scene.interactions(checkerboard(events=3_000)))
    scene.crash("written", 20)  # there is something to recover
    with ends(command(scene)) as worker:
        phase(scene, worker)
        worker.send_signal(signal.SIGTERM)
        code, said = code_of(worker)
    assert code == 0, said
    check(scene, 3_000)
