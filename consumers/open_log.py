"""Which home a log has: a broker, a folder of this process, or a folder that another process serves."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from consumers.embedded.compaction import COMPACTION_LAG_MS
from consumers.embedded.folder_log import FolderLog
from consumers.embedded.log import EmbeddedLog
from consumers.embedded.mending import DATABASE
from consumers.embedded.owner import Owner
from consumers.embedded.remote_log import RemoteLog
from consumers.embedded.written_ends import ENDS_FILE
from consumers.errors import LogBusy
from consumers.log import Log


class OwnedLog(EmbeddedLog):
    """An embedded log that serves other processes while it is open."""

    def __init__(self, folder: Path, accept_damage: bool = False, compaction_lag_ms: int = COMPACTION_LAG_MS) -> None:
        super().__init__(folder, accept_damage=accept_damage, compaction_lag_ms=compaction_lag_ms)
        self._owner = Owner(self, folder)

    def close(self) -> None:
        """Stops serving, then closes."""
        self._owner.close()
        super().close()


def open_log(
    bootstrap: str | None,
    folder: Path,
    state: Path,
    config: Mapping[str, Any] | None = None,
    exactly_once: bool = True,
    group_protocol: str = "classic",
    workers_topic: str | None = None,
    accept_damage: bool = False,
) -> Log:
    """The log at `bootstrap`, or else in `folder`. Raises LogUnavailable, LogBusy.

    Args:
        bootstrap: HOST:PORT[,HOST:PORT] of brokers; None: the embedded log.
        folder: of the embedded log.
        state: the folder in which a Kafka committer keeps its checkpoint.
        config: librdkafka keys, passed through.
        exactly_once: see KafkaLog.
        group_protocol: see KafkaLog.
        workers_topic: see KafkaLog.
        accept_damage: see EmbeddedLog.

    >>> from consumers.records import NewRecord, TopicPartition, TopicSpec
    >>> log = open_log(None, folder=Path("log"), state=Path("state"))
    >>> log.create([TopicSpec("interactions", partitions=1)])
    ['interactions']
    >>> log.append([NewRecord("interactions", b"ann", b"{}"), NewRecord("interactions", b"bob", b"{}")])
    >>> log.ends("interactions")
    {0: 2}
    >>> reader = log.reader({TopicPartition("interactions", 0): 1})
    >>> [(record.offset, record.key) for record in reader.read(max_records=10, timeout_s=1)]
    [(1, b'bob')]
    >>> reader.close()
    >>> log.close()
    """
    if bootstrap:
        from consumers.kafka.log import WORKERS_TOPIC, KafkaLog

        return KafkaLog(bootstrap, state, config or {}, exactly_once, group_protocol, workers_topic or WORKERS_TOPIC)

    def opened() -> OwnedLog | RemoteLog:
        try:
            return OwnedLog(folder, accept_damage)
        except LogBusy:
            return RemoteLog(folder)

    try:
        return OwnedLog(folder, accept_damage)  # it lives as long as this process
    except LogBusy:
        return FolderLog(opened)


def has_log(folder: Path) -> bool:
    """Whether there is an embedded log in a folder, whole or not."""
    return (folder / DATABASE).is_dir() or (folder / ENDS_FILE).is_file()


def follow_log(folder: Path) -> Log:
    """The embedded log in `folder` through whoever has it open, now and later. Raises LogBusy where nobody has."""
    return FolderLog(lambda: RemoteLog(folder))
