"""The embedded home of the log: topics in one RocksDB, in process, with nothing to install.

A commit is one WriteBatch: all of it is there after a crash, or none. The write-ahead log survives the death of the
process; with `sync` it survives a power failure too, at some milliseconds a commit. A file `ends` beside the database
says where each partition ends, see `consumers.embedded.written_ends`.
"""

import logging
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from consumers.embedded.committer import EmbeddedCommitter, held_generation, hold_generation
from consumers.embedded.compaction import COMPACTION_LAG_MS, TOMBSTONE_RETENTION_MS, Compaction
from consumers.embedded.keys import state_prefix
from consumers.embedded.reader import EmbeddedReader
from consumers.embedded.sole_member import SoleMember
from consumers.embedded.stored_state import EmbeddedState
from consumers.embedded.tables import MAX_RECORD_BYTES, LogTables
from consumers.errors import DamageMet, TopicConflict
from consumers.log import APPEND_TIMEOUT_S, Closable, Committer, Positions
from consumers.records import NewRecord, TopicSpec

_logger = logging.getLogger(__name__)


class EmbeddedLog(Closable):
    """A `consumers.log.Log` in a folder. One process has it open; others go through `consumers.embedded.remote_log`.

    Args:
        folder: of the log.
        sync: whether a commit waits for the disk, so that it survives a power failure.
        compaction_lag_ms: how long a superseded record of a compacted topic may still be read.
        tombstone_retention_ms: how long a tombstone may still be read.
        accept_damage: goes on without what a damaged database has lost.

    Raises LogBusy when another process has the folder open, LogUnavailable when it cannot be opened, LogDamaged when it
    has lost what cannot be made anew. Where damage is met later, DamageMet: opening it again mends it, or says more.
    An end that was torn off, as by a power failure, is said and no reason to stop; its offsets are not used again.
    """

    def __init__(
        self,
        folder: Path,
        *,
        sync: bool = False,
        compaction_lag_ms: int = COMPACTION_LAG_MS,
        tombstone_retention_ms: int = TOMBSTONE_RETENTION_MS,
        accept_damage: bool = False,
    ) -> None:
        self.folder = folder

        def opened() -> LogTables:
            return LogTables(folder, sync, Compaction(compaction_lag_ms, tombstone_retention_ms), accept_damage)

        try:
            self._tables = opened()
            return
        except DamageMet as error:  # by what it read first
            _logger.debug("%s", error)
        self._tables = opened()  # now that the error is gone, whose frames keep the database open

    # topics

    def create(self, specs: Iterable[TopicSpec]) -> list[str]:
        """See `Log.create`."""
        created = []
        with self._tables.changed:
            for spec in specs:
                old = self._tables.specs.get(spec.name)
                if old is None:
                    self._tables.create(spec)
                    created.append(spec.name)
                else:
                    old.check_same(spec)
        return created

    def topic_names(self) -> set[str]:
        """See `Log.topic_names`."""
        return set(self._tables.specs)

    def topics(self, names: Collection[str] | None = None) -> dict[str, TopicSpec]:
        """See `Log.topics`."""
        return {name: spec for name, spec in self._tables.specs.items() if names is None or name in names}

    def starts(self, topic: str) -> dict[int, int]:
        """See `Log.starts`."""
        return {tp.partition: self._tables.start(tp) for tp in self._tables.partitions(topic)}

    def ends(self, topic: str) -> dict[int, int]:
        """See `Log.ends`."""
        return {tp.partition: self._tables.ends[tp] for tp in self._tables.partitions(topic)}

    def topic_ids(self, topics: Iterable[str]) -> dict[str, str]:
        """See `Log.topic_ids`."""
        return {topic: self._tables.ids[topic] for topic in topics if topic in self._tables.ids}

    def claim(self, application: str, topics: Collection[str]) -> None:
        """See `Log.claim`: one that stopped keeps its topics until its state is removed."""
        with self._tables.changed:
            topics = [topic for topic in topics if topic in self._tables.specs]
            writers = {topic: self._writer(topic, application) for topic in topics}
            taken = {topic: writer for topic, writer in writers.items() if writer not in (None, application)}
            if taken:
                raise TopicConflict(
                    f"the application {next(iter(taken.values()))} writes to {', '.join(sorted(taken))} of this log, "
                    f"and {application} would repeat all of it: give this one topics of its own, or its own --log"
                )
            self._tables.change({b"w/" + topic.encode(): application.encode() for topic in topics})

    def _writer(self, topic: str, application: str) -> str | None:
        """The application that writes to a topic. A log of before nobody noted it: then another one that has a state,
        where the one that asks has none.
        """
        noted = self._tables.get(b"w/" + topic.encode())
        if noted is not None:
            return noted.decode()
        if not any(self._tables.ends[tp] for tp in self._tables.partitions(topic)):
            return None
        names = [key[2:].decode() for key, _ in self._tables.scan(b"p/")]
        with_state = [name for name in names if self._tables.get(state_prefix(name) + b"stream") is not None]
        return with_state[0] if with_state and application not in with_state else None

    # records

    def append(
        self, records: Sequence[NewRecord], timeout_s: float = APPEND_TIMEOUT_S, once: tuple[str, int] | None = None
    ) -> None:
        """See `Log.append`; nothing is waited for.

        Args:
            once: who appends, and which of its appends it is: one that is there is not repeated.
        """
        with self._tables.changed:
            self._tables.check_open()
            self._tables.append(records, once)

    def record_limits(self, topics: Iterable[str]) -> dict[str, int]:
        """See `Log.record_limits`."""
        return dict.fromkeys(topics, MAX_RECORD_BYTES)

    def forget(self, client: str) -> None:
        """Nothing that this client appended will be asked again."""
        with self._tables.changed:
            self._tables.check_open()
            self._tables.delete(b"c/" + client.encode())

    def reader(self, positions: Positions) -> EmbeddedReader:
        """See `Log.reader`."""
        for tp in positions:
            self._tables.partitions(tp.topic)
        return EmbeddedReader(self._tables, positions)

    def subscribe(self, committer: Committer, positions: Positions) -> SoleMember:
        """See `Log.subscribe`: this process has them all."""
        return SoleMember(self.reader(positions), positions)

    def committer(self, application: str) -> EmbeddedCommitter:
        """See `Log.committer`."""
        committer = EmbeddedCommitter(self._tables, application, held_generation(self.folder, application))
        hold_generation(self.folder, application, committer.generation)
        return committer

    def committer_for(self, application: str, held: int) -> EmbeddedCommitter:
        """The committer of another process, which had the generation `held` before; 0: it has just started."""
        return EmbeddedCommitter(self._tables, application, held)

    def stored_state(self, application: str) -> EmbeddedState:
        """See `Log.stored_state`."""
        return EmbeddedState(self._tables, application)

    def close(self) -> None:
        """Closes the database; readers that wait are woken."""
        self._tables.close()

    @property
    def closed(self) -> bool:
        """Whether it was closed, or met damage and is to be opened again."""
        return self._tables.closed or bool(self._tables.failed)
