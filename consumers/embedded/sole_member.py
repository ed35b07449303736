"""Who reads which partitions: the one process of an embedded log has all of them, always."""

from collections.abc import Collection, Iterable

from consumers.log import Closable, Reader
from consumers.records import Record, TopicPartition


class SoleMember(Closable):
    """A `consumers.log.Member` of a group of one."""

    def __init__(self, reader: Reader, partitions: Iterable[TopicPartition]) -> None:
        self._reader = reader
        self._gained = dict.fromkeys(partitions, -1)

    def join(self) -> None:
        """See `Member.join`: it has them already."""

    def changes(self) -> tuple[dict[TopicPartition, int], frozenset[TopicPartition]]:
        """See `Member.changes`: everything at first, then nothing."""
        gained, self._gained = self._gained, {}
        return gained, frozenset()

    def expected(self) -> frozenset[TopicPartition]:
        """See `Member.expected`: none."""
        return frozenset()

    def has_assignment(self) -> bool:
        """See `Member.has_assignment`: all of them, from the beginning."""
        return True

    def begin(self, partition: TopicPartition, position: int) -> None:
        """Nothing to do: its reader was opened there."""

    def read(self, max_records: int, timeout_s: float) -> list[Record]:
        """See `Reader.read`."""
        return self._reader.read(max_records, timeout_s)

    def pause(self, partitions: Collection[TopicPartition]) -> None:
        """See `Reader.pause`."""
        self._reader.pause(partitions)

    def at_end(self) -> frozenset[TopicPartition]:
        """See `Reader.at_end`."""
        return self._reader.at_end()

    def positions(self) -> dict[TopicPartition, int]:
        """See `Reader.positions`."""
        return self._reader.positions()

    def close(self) -> None:
        """See `Reader.close`."""
        self._reader.close()
