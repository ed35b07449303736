"""Reads partitions of an embedded log in the process that has it open."""

import time
from collections.abc import Collection

from consumers.embedded.tables import LogTables
from consumers.log import Closable, Positions
from consumers.records import Record, TopicPartition


class EmbeddedReader(Closable):
    """See `consumers.log.Reader`."""

    def __init__(self, tables: LogTables, positions: Positions) -> None:
        self._tables = tables
        self._positions = dict(positions)
        self._paused: frozenset[TopicPartition] = frozenset()

    def pause(self, partitions: Collection[TopicPartition]) -> None:
        """See `Reader.pause`."""
        self._paused = frozenset(partitions)

    def read(self, max_records: int, timeout_s: float) -> list[Record]:
        """See `Reader.read`."""
        deadline = time.monotonic() + timeout_s
        with self._tables.changed:
            while True:
                self._tables.check_open()
                records = self._take(max_records)
                left_s = deadline - time.monotonic()
                if records or left_s <= 0:
                    return records
                self._tables.changed.wait(left_s)

    def _take(self, max_records: int) -> list[Record]:
        taken: list[Record] = []
        for tp, position in self._positions.items():
            if len(taken) >= max_records:
                break
            if tp in self._paused or position == self._tables.ends[tp]:
                continue
            records = self._tables.fetch(tp, position, max_records - len(taken))
            if records:
                self._positions[tp] = records[-1].offset + 1
                taken += records
            elif position < self._tables.ends[tp]:  # the rest of the partition was compacted away
                self._positions[tp] = self._tables.ends[tp]
        return taken

    def at_end(self) -> frozenset[TopicPartition]:
        """See `Reader.at_end`."""
        return frozenset(tp for tp, position in self._positions.items() if position >= self._tables.ends[tp])

    def positions(self) -> dict[TopicPartition, int]:
        """See `Reader.positions`."""
        return dict(self._positions)

    def close(self) -> None:
        """Nothing to free."""
