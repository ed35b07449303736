"""Whatever page of a checkpoint is missing or damaged, and whenever it is read: it is set aside, the log makes it anew."""

import json
import logging
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from consumers.errors import CheckpointDamaged
from consumers.log import Log
from consumers.open_log import OwnedLog
from consumers.records import NewRecord
from streamer.errors import StateUnreadable
from streamer.ops.audit import digest
from streamer.ops.checkpoint_inspection import verify
from streamer.runtime.signals import StopRequest
from streamer.runtime.supervisor import supervise
from streamer.runtime.topics import open_log_of, topic_specs
from streamer.settings import Settings
from streamer.state.stream_state import group_of
from streamer.worker.worker import Worker
from tests.worlds import checkerboard

PREFIX = b"s/freshet/"
Pages = dict[bytes, bytes]
DAMAGES: dict[str, Callable[[bytes], bytes | None]] = {
    "missing": lambda value: None,
    "flipped": lambda value: value[: len(value) // 2] + bytes([value[len(value) // 2] ^ 1]) + value[len(value) // 2 + 1 :],
    "cut short": lambda value: value[: 2 * len(value) // 3],
    "empty": lambda value: b"",
}  # fmt: skip


def records_of(settings: Settings, events: int = 240, first: int = 0) -> list[NewRecord]:
    rows = list(enumerate(checkerboard(events=events, users=8, items=10)))[first:]
    values: list[dict[str, Any]] = [
        {
            "user_id": u,
            "item_id": i,
            "event_type": "view",
            "timestamp": t,
            "event_id": f"e{n}",
            "context": {"device": u},
        }
        for n, (u, i, t) in rows
    ]
    return [NewRecord(settings.interactions_topic, v["user_id"].encode(), json.dumps(v).encode()) for v in values]


def undo_of(settings: Settings) -> list[NewRecord]:
    """What makes a worker read everybody's ledger: items that everybody had are deleted."""
    return [NewRecord(settings.items_topic, item, None) for item in (b"i0", b"i1", b"i2", b"i3")]


def fill(log: Log, settings: Settings) -> None:
    """Two checkpoints of a stream that has pages of every kind but trained vectors."""
    item = b'{"item_id": "i5", "title": "A film", "categories": ["drama"]}'
    log.append([NewRecord(settings.items_topic, b"i5", item)])
    for part in (records_of(settings, 120), records_of(settings, 240, 120)):
        log.append(part)
        run(log, settings)


def run(log: Log, settings: Settings) -> str:
    """As `freshet run` does, supervised; gives the digest of the state at the end."""
    found = []

    @contextmanager
    def opened() -> Iterator[Worker]:
        with closing(Worker.open(log, settings)) as worker:
            yield worker

    def work(worker: Worker) -> None:
        worker.run(exit_at_end=True)
        found.append(digest(worker.state))

    supervise(opened, work, StopRequest())
    return found[-1]


def some_of(keys: list[bytes], several: bool = False) -> list[bytes]:
    """A page of each group, or several."""
    groups: dict[str, list[bytes]] = defaultdict(list)
    for key in sorted(keys):
        groups[group_of(key)].append(key)
    groups.pop("written")
    if not several:
        return [group[len(group) // 2] for group in groups.values()]
    return [key for group in groups.values() for key in dict.fromkeys((group[0], group[-1]))]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str, list[bytes]]:
    """A log with a checkpoint, the digests of its state before and after the undo, and the keys of the pages."""
    folder = tmp_path_factory.mktemp("template")
    settings = Settings(log=folder / "log", state=folder / "state")
    log = OwnedLog(folder / "log")
    log.create(topic_specs(settings, partitions=1))
    fill(log, settings)
    before = run(log, settings)
    log.close()
    shutil.copytree(folder / "log", folder / "copy")
    copied = OwnedLog(folder / "copy")
    keys = [key for key, _ in copied.stored_state("freshet").pages()]
    copied.append(undo_of(settings))
    after = run(copied, settings.model_copy(update={"log": folder / "copy"}))
    copied.close()
    return folder / "log", before, after, keys


@contextmanager
def copied(template: tuple[Path, str, str, list[bytes]], settings: Settings) -> Iterator[OwnedLog]:
    assert settings.log
    shutil.rmtree(settings.log, ignore_errors=True)
    shutil.copytree(template[0], settings.log)
    log = OwnedLog(settings.log)
    yield log
    log.close()


def test_there_are_pages_of_every_kind(template: tuple[Path, str, str, list[bytes]]) -> None:
    groups = {group_of(key) for key in template[3]}
    assert groups == {
        "stream", "written", "events", "listed", "ledger", "catalogue", "model/model", "model/users", "model/items", "model/pairs",
        "model/user-ids", "model/item-ids", "model/embeddings", "model/content", "model/contexts",
        "model/user-memories", "model/item-memories",
    }  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_page_of_any_kind_leads_to_a_rebuild(
    template: tuple[Path, str, str, list[bytes]], damage: str, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """The ledger's pages are read late, in a running worker, all others at its start."""
    caplog.set_level(logging.WARNING)
    for key in some_of(template[3], damage == "missing"):
        with copied(template, settings) as log:
            spoil(log, key, DAMAGES[damage])
            assert verify(log, settings)[1], (damage, key)
            caplog.clear()
            log.append(undo_of(settings))
            assert run(log, settings) == template[2], (damage, key)
            assert caplog.text.count("it is set aside, and the state is rebuilt from the log") == 1, (damage, key)
            assert verify(log, settings)[1] == []


def spoil(log: OwnedLog, key: bytes, damage: Callable[[bytes], bytes | None]) -> None:
    value = damage(log._tables.db[PREFIX + key])
    if value is None:
        del log._tables.db[PREFIX + key]
    else:
        log._tables.db[PREFIX + key] = value


def test_two_pages_in_each_others_place(template: tuple[Path, str, str, list[bytes]], settings: Settings) -> None:
    groups: dict[str, list[bytes]] = defaultdict(list)
    for key in template[3]:
        groups[group_of(key)].append(key)
    for group in [group for group in groups.values() if len(group) > 1]:
        with copied(template, settings) as log:
            one, other = PREFIX + group[0], PREFIX + group[-1]
            log._tables.db[one], log._tables.db[other] = log._tables.db[other], log._tables.db[one]
            assert verify(log, settings)[1]
            log.append(undo_of(settings))
            assert run(log, settings) == template[2], group[0]


def test_a_page_that_is_written_short_or_empty_is_damaged_too(
    template: tuple[Path, str, str, list[bytes]], settings: Settings
) -> None:
    """Under a checksum that holds: what is read is looked at, not only how it was stored."""
    for n, key in enumerate(some_of(template[3])):
        with copied(template, settings) as log:
            stored = log.stored_state("freshet")
            stored.write({key: dict(stored.pages(key))[key][:-1] if n % 2 else b""})
            assert verify(log, settings)[1], key
            log.append(undo_of(settings))
            assert run(log, settings) == template[2], key


def test_pages_without_their_stream_are_no_fresh_state(
    template: tuple[Path, str, str, list[bytes]], settings: Settings
) -> None:
    """What is left of a checkpoint is not mixed into the one that is made anew."""
    with copied(template, settings) as log:
        spoil(log, b"stream", DAMAGES["missing"])
        assert run(log, settings) == template[1]
        log.append(undo_of(settings))
        assert run(log, settings) == template[2]


def test_a_worker_that_meets_damage_late_sets_it_aside_once(
    template: tuple[Path, str, str, list[bytes]], settings: Settings
) -> None:
    ledger = [key for key in template[3] if group_of(key) == "ledger"]
    for damage in DAMAGES.values():
        with copied(template, settings) as log:
            worker = Worker.open(log, settings)
            spoil(log, ledger[0], damage)
            log.append(undo_of(settings))
            with pytest.raises(CheckpointDamaged):
                worker.run(exit_at_end=True)
            worker.close()
            assert not list(log.stored_state("freshet").pages())
            assert run(log, settings) == template[2]


def test_damage_met_in_the_recovery_of_a_start(
    template: tuple[Path, str, str, list[bytes]], settings: Settings
) -> None:
    """The epochs after the checkpoint read the ledger before there is a worker."""
    rare = settings.model_copy(update={"checkpoint_interval_ms": 10**9})
    ledger = [key for key in template[3] if group_of(key) == "ledger"]
    with copied(template, settings) as log:
        log.append(undo_of(settings))
        worker = Worker.open(log, rare)
        while worker.step():
            pass
        worker.close()  # a crash: no checkpoint
        spoil(log, ledger[-1], DAMAGES["flipped"])
        assert run(log, settings) == template[2]


def test_a_damaged_checkpoint_stays_where_the_log_cannot_make_it_anew(
    template: tuple[Path, str, str, list[bytes]], settings: Settings
) -> None:
    with copied(template, settings) as log:
        spoil(log, b"model/model", DAMAGES["flipped"])
        for offset in range(10):
            del log._tables.db[b"r/interactions/" + bytes(4) + offset.to_bytes(8, "big")]
        for _ in range(2):
            with pytest.raises(StateUnreadable, match=r"interactions\[0\] begins at 10; import an exported checkpoint"):
                Worker.open(log, settings)
        assert len(list(log._tables.db.items(from_key=PREFIX))) > len(template[3]) // 2


@pytest.mark.kafka
def test_damage_in_the_folder_of_a_worker_on_kafka(on_kafka: Settings) -> None:
    """A page of each kind, one damage after the other; and files that are missing or not what was written."""
    assert on_kafka.state
    log = open_log_of(on_kafka)
    log.create(topic_specs(on_kafka, 1))
    fill(log, on_kafka)
    before = run(log, on_kafka)
    keys = [key for key, _ in log.stored_state(on_kafka.application).pages()]
    users = next(key for key in keys if group_of(key) == "model/users")
    for key, damage in zip((b"stream", b"model/model", users, b"stream"), DAMAGES.values(), strict=True):
        spoil_folder(log, on_kafka, key, damage)
        assert run(log, on_kafka) == before, (damage, key)
    keys = [key for key, _ in log.stored_state(on_kafka.application).pages()]
    spoil_folder(log, on_kafka, next(key for key in keys if group_of(key) == "ledger"), DAMAGES["flipped"])
    assert verify(log, on_kafka)[1]
    log.append(undo_of(on_kafka))
    after = run(log, on_kafka)
    assert verify(log, on_kafka)[1] == []
    for name in ("MANIFEST-*", "CURRENT", "*.sst"):
        for file in (on_kafka.state / "checkpoint").glob(name):
            file.unlink()
        assert run(log, on_kafka) == after, name
    log.close()


def spoil_folder(log: Log, settings: Settings, key: bytes, damage: Callable[[bytes], bytes | None]) -> None:
    with closing(log.committer(settings.application)) as committer:
        database = committer._store._db  # type: ignore[attr-defined]
        value = damage(database[b"s" + key])
        if value is None:
            del database[b"s" + key]
        else:
            database[b"s" + key] = value
