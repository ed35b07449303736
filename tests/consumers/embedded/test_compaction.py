"""Compaction of the embedded log: whatever fails to be written, the newest record of each key is kept, and only older ones go."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from consumers.embedded.log import EmbeddedLog
from consumers.embedded.tables import MAX_RECORD_BYTES
from consumers.errors import LogUnavailable, RecordRefused, UnknownTopic
from consumers.records import NewRecord, TopicPartition, TopicSpec

TP = TopicPartition("lists", 0)
KEYS = (b"a", b"b", b"c")


class _FullDisk:
    """A database that takes nothing."""

    def __init__(self, db: Any) -> None:
        self._db = db

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)

    def write(self, *_: Any) -> None:
        raise Exception("No space left on device")

    __setitem__ = delete = write


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EmbeddedLog]:
    with EmbeddedLog(tmp_path, compaction_lag_ms=0, tombstone_retention_ms=0) as log:
        log.create([TopicSpec(TP.topic, 1, "compact")])
        yield log


def written(log: EmbeddedLog, value: bytes) -> list[NewRecord]:
    return [NewRecord(TP.topic, key, value) for key in KEYS]


def held(log: EmbeddedLog) -> dict[bytes | None, bytes | None]:
    with log.reader({TP: 0}) as reader:
        return {record.key: record.value for record in reader.read(1_000, 0)}


def refused(log: EmbeddedLog, value: bytes) -> None:
    with pytest.raises(RecordRefused):
        log.append([*written(log, value), NewRecord(TP.topic, b"large", bytes(MAX_RECORD_BYTES + 1))])


def unknown(log: EmbeddedLog, value: bytes) -> None:
    with pytest.raises(UnknownTopic):
        log.append([*written(log, value), NewRecord("nowhere", b"k", b"v")])


def full(log: EmbeddedLog, value: bytes) -> None:
    tables, db = log._tables, log._tables.db
    tables.db = _FullDisk(db)
    with pytest.raises(LogUnavailable, match="No space left on device; free space"):
        log.append(written(log, value))
    tables.db = db


def full_at_commit(log: EmbeddedLog, value: bytes) -> None:
    tables, db = log._tables, log._tables.db
    committer = log.committer("worker")
    tables.db = _FullDisk(db)
    with pytest.raises(LogUnavailable, match="No space left on device; free space"):
        committer.commit(written(log, value), {})
    tables.db = db


@pytest.mark.parametrize(
    "fails", [refused, unknown, full, full_at_commit], ids=["refused", "unknown", "full", "full-at-commit"]
)
@pytest.mark.parametrize("times", [1, 3])
def test_what_was_not_written_supersedes_nothing(log: EmbeddedLog, fails: Any, times: int) -> None:
    log.append(written(log, b"old"))
    for _ in range(times):
        fails(log, b"new")
    assert held(log) == dict.fromkeys(KEYS, b"old")
    log.append(written(log, b"new"))
    for _ in range(3):  # each write deletes what has been superseded
        log.append([NewRecord(TP.topic, b"tick", b"")])
    assert held(log) == {**dict.fromkeys(KEYS, b"new"), b"tick": b""}


def test_what_a_failed_write_would_have_deleted_goes_with_the_next(log: EmbeddedLog) -> None:
    log.append(written(log, b"old"))
    log.append(written(log, b"new"))
    full(log, b"newer")
    log.append([NewRecord(TP.topic, b"tick", b"")])
    with log.reader({TP: 0}) as reader:
        assert [record.offset for record in reader.read(1_000, 0)] == [3, 4, 5, 6]


def test_a_topic_that_cannot_be_made_says_why(log: EmbeddedLog) -> None:
    tables, db = log._tables, log._tables.db
    tables.db = _FullDisk(db)
    with pytest.raises(LogUnavailable, match="No space left on device; free space"):
        log.create([TopicSpec("another", 1)])
    tables.db = db
    assert set(log.topics()) == {TP.topic}
