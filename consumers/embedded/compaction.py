"""What compaction deletes of an embedded log: superseded records of compacted topics, and tombstones."""

import time
from collections import deque
from collections.abc import Collection

from consumers.embedded.keys import records_prefix
from consumers.records import TopicPartition

COMPACTION_LAG_MS = 60_000
TOMBSTONE_RETENTION_MS = 24 * 3_600_000


class Compaction:
    """The newest offset of each key of the compacted topics, and the records that are to be deleted.

    Args:
        lag_ms: how long a superseded record may still be read.
        tombstone_retention_ms: how long a tombstone may still be read.
    """

    def __init__(self, lag_ms: int = COMPACTION_LAG_MS, tombstone_retention_ms: int = TOMBSTONE_RETENTION_MS) -> None:
        self._lag_ms, self._tombstone_retention_ms = lag_ms, tombstone_retention_ms
        self._newest: dict[TopicPartition, dict[bytes, int]] = {}
        self._superseded: deque[tuple[int, bytes]] = deque()  # (since when, database key), oldest first
        self._tombstones: deque[tuple[int, bytes]] = deque()

    def add(self, tp: TopicPartition) -> None:
        """Begins with a partition of a compacted topic."""
        self._newest[tp] = {}

    def partitions(self) -> list[TopicPartition]:
        """Those of compacted topics."""
        return list(self._newest)

    def note(self, tp: TopicPartition, key: bytes | None, tombstone: bool, offset: int, now_ms: int) -> None:
        """Takes a record that was appended, the newest of its key."""
        if key is None or tp not in self._newest:
            return
        old = self._newest[tp].get(key)
        self._newest[tp][key] = offset
        if old is not None:
            self._superseded.append((now_ms, records_prefix(tp) + old.to_bytes(8, "big")))
        if tombstone:
            self._tombstones.append((now_ms, records_prefix(tp) + offset.to_bytes(8, "big")))

    def due(self) -> list[bytes]:
        """Database keys of what has been superseded for long enough: a few with every write, never a long pause."""
        now_ms, due = int(time.time() * 1000), list[bytes]()
        for queue, lag_ms in self._queues():
            for since_ms, key in queue:
                if since_ms > now_ms - lag_ms:
                    break
                due.append(key)
        return due

    def drop(self, deleted: Collection[bytes]) -> None:
        """Forgets what has been deleted."""
        gone = frozenset(deleted)
        for queue, _ in self._queues():
            while queue and queue[0][1] in gone:
                queue.popleft()

    def _queues(self) -> tuple[tuple[deque[tuple[int, bytes]], int], ...]:
        return (self._superseded, self._lag_ms), (self._tombstones, self._tombstone_retention_ms)
