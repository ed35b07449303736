"""The embedded home of the log: topics in one RocksDB, in process, with nothing to install.

Keys of the database, every number big-endian so that byte order is offset order:

    t/<topic>                        the topic's settings
    e/<topic>/<partition>            the next offset
    r/<topic>/<partition><offset>    a record
    g/<application>                  generation of the seat: a larger one fences the smaller
    p/<application>                  committed positions
    s/<application>/<key>            committed state
    k/<application>                  secret of the seat

A commit is one WriteBatch: all of it is there after a crash, or none. The write-ahead log survives the death of the
process; with `sync` it survives a power failure too, at some milliseconds a commit.
"""

import secrets
import threading
import time
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from rocksdict import WriteBatch, WriteOptions

from consumers.effects import happened
from consumers.errors import Fenced, LogBusy, LogUnavailable, PositionGone, TopicConflict, UnknownTopic
from consumers.log import Committer, Positions, StateDelta
from consumers.membership import SoleMember
from consumers.partitioner import partition_of
from consumers.records import NewRecord, Record, TopicPartition, TopicSpec
from consumers.rocks import Damaged, Locked, open_database, scan, shut
from consumers.state_store import SECRET_BYTES, checked
from consumers.stored_state import EmbeddedState

COMPACTION_LAG_MS = 60_000
TOMBSTONE_RETENTION_MS = 24 * 3_600_000
RETENTION_CHECK_RECORDS = 10_000

_encode = msgspec.msgpack.Encoder().encode
_decode_record = msgspec.msgpack.Decoder(tuple[bytes | None, bytes | None, tuple[tuple[str, bytes], ...], int]).decode


class EmbeddedLog:
    """A `consumers.log.Log` in a folder. One process has it open; others go through `consumers.owner`.

    Args: compaction_lag_ms: how long a superseded record of a compacted topic may still be read.
    Raises LogBusy when another process has the folder open, LogUnavailable when it cannot be opened.
    """

    def __init__(
        self,
        folder: Path,
        *,
        sync: bool = False,
        compaction_lag_ms: int = COMPACTION_LAG_MS,
        tombstone_retention_ms: int = TOMBSTONE_RETENTION_MS,
    ) -> None:
        self._db = _open(folder)
        self._write_options = WriteOptions()
        self._write_options.sync = sync
        self._compaction_lag_ms = compaction_lag_ms
        self._tombstone_retention_ms = tombstone_retention_ms
        self._specs: dict[str, TopicSpec] = {}
        self._ends: dict[TopicPartition, int] = {}
        self._newest: dict[TopicPartition, dict[bytes, int]] = {}
        self._superseded: deque[tuple[int, bytes]] = deque()  # (since when, database key), oldest first
        self._tombstones: deque[tuple[int, bytes]] = deque()
        self._round_robin = 0
        self._appends = 0
        self.changed = threading.Condition()
        self._closed = False
        self._load()

    # topics

    def create(self, specs: Iterable[TopicSpec]) -> list[str]:
        """See `Log.create`."""
        created = []
        with self.changed:
            for spec in specs:
                old = self._specs.get(spec.name)
                if old is None:
                    self._db[b"t/" + spec.name.encode()] = _encode(spec)
                    self._add_topic(spec)
                    created.append(spec.name)
                elif (old.partitions, set(old.cleanup.split(","))) != (
                    spec.partitions,
                    set(spec.cleanup.split(",")),
                ):
                    raise TopicConflict(
                        f"topic {spec.name} exists with {old.partitions} partitions and cleanup {old.cleanup}, "
                        f"not {spec.partitions} and {spec.cleanup}"
                    )
        return created

    def topics(self) -> dict[str, TopicSpec]:
        """See `Log.topics`."""
        return dict(self._specs)

    def starts(self, topic: str) -> dict[int, int]:
        """See `Log.starts`."""
        return {tp.partition: self._start(tp) for tp in self._partitions(topic)}

    def ends(self, topic: str) -> dict[int, int]:
        """See `Log.ends`."""
        return {tp.partition: self._ends[tp] for tp in self._partitions(topic)}

    # records

    def append(self, records: Sequence[NewRecord]) -> None:
        """See `Log.append`."""
        with self.changed:
            batch = WriteBatch(raw_mode=True)
            ends = self._put_records(batch, records)
            self._write(batch, ends)

    def reader(self, positions: Positions) -> "EmbeddedReader":
        """See `Log.reader`."""
        for tp in positions:
            self._partitions(tp.topic)
        return EmbeddedReader(self, positions)

    def subscribe(self, committer: Committer, positions: Positions) -> SoleMember:
        """See `Log.subscribe`: this process has them all."""
        return SoleMember(self.reader(positions), positions)

    def committer(self, application: str) -> "EmbeddedCommitter":
        """See `Log.committer`."""
        return EmbeddedCommitter(self, application)

    def stored_state(self, application: str) -> EmbeddedState:
        """See `Log.stored_state`."""
        return EmbeddedState(self._db, application)

    def close(self) -> None:
        """Closes the database; readers that wait are woken."""
        with self.changed:
            if not self._closed:
                self._closed = True
                shut(self._db)
            self.changed.notify_all()

    # what readers and committers of this module use

    def _fetch(self, tp: TopicPartition, offset: int, limit: int) -> list[Record]:
        if not 0 <= offset <= self._ends[tp] or offset < self._first_kept(tp):
            raise PositionGone(
                f"{tp.topic}[{tp.partition}] holds offsets {self._start(tp)} to {self._ends[tp]}, not {offset}"
            )
        if offset == self._ends[tp]:
            return []
        prefix = _prefix(tp)
        found: list[Record] = []
        for key, value in self._scan(prefix, offset.to_bytes(8, "big")):
            if len(found) >= limit:
                break
            k, v, headers, timestamp_ms = _decode_record(value)
            found.append(Record(tp.topic, tp.partition, int.from_bytes(key[-8:], "big"), k, v, headers, timestamp_ms))
        return found

    def _write(self, batch: Any, ends: Mapping[TopicPartition, int]) -> None:
        """Ends a batch begun by `_put_records`; the caller holds `changed`."""
        self._drop_superseded(batch)
        try:
            self._db.write(batch, self._write_options)
        except Exception as error:  # rocksdict raises bare Exception
            raise LogUnavailable(f"the log cannot be written: {error}; free space on its disk") from error
        self._ends.update(ends)
        self.changed.notify_all()
        self._appends += 1
        if self._appends % RETENTION_CHECK_RECORDS == 0:
            self._enforce_retention()

    def _put_records(self, batch: Any, records: Sequence[NewRecord]) -> dict[TopicPartition, int]:
        """Puts records into a batch; gives the partitions' new ends."""
        now_ms = int(time.time() * 1000)
        ends: dict[TopicPartition, int] = {}
        for record in records:
            tp = self._partition_for(record)
            offset = ends.get(tp, self._ends[tp])
            ends[tp] = offset + 1
            database_key = _prefix(tp) + offset.to_bytes(8, "big")
            batch.put(database_key, _encode((record.key, record.value, record.headers, now_ms)))
            if record.key is not None and tp in self._newest:
                self._supersede(tp, record.key, offset, now_ms, record.value is None)
        for tp, end in ends.items():
            batch.put(_end_key(tp), end.to_bytes(8, "big"))
        return ends

    def _partition_for(self, record: NewRecord) -> TopicPartition:
        spec = self._specs.get(record.topic)
        if spec is None:
            raise _unknown(record.topic)
        if record.partition is not None:
            partition = record.partition
        elif record.key is not None:
            partition = partition_of(record.key, spec.partitions)
        else:
            self._round_robin += 1
            partition = self._round_robin % spec.partitions
        tp = TopicPartition(record.topic, partition)
        if tp not in self._ends:
            raise UnknownTopic(f"topic {record.topic} has {spec.partitions} partitions, none numbered {partition}")
        return tp

    # compaction and retention

    def _supersede(self, tp: TopicPartition, key: bytes, offset: int, now_ms: int, tombstone: bool) -> None:
        old = self._newest[tp].get(key)
        self._newest[tp][key] = offset
        if old is not None:
            self._superseded.append((now_ms, _prefix(tp) + old.to_bytes(8, "big")))
        if tombstone:
            self._tombstones.append((now_ms, _prefix(tp) + offset.to_bytes(8, "big")))

    def _drop_superseded(self, batch: Any) -> None:
        """Deletes what has been superseded for long enough: a few keys with every write, never a long pause."""
        now_ms = int(time.time() * 1000)
        for queue, lag_ms in (
            (self._superseded, self._compaction_lag_ms),
            (self._tombstones, self._tombstone_retention_ms),
        ):
            while queue and queue[0][0] <= now_ms - lag_ms:
                batch.delete(queue.popleft()[1])

    def _enforce_retention(self) -> None:
        now_ms = int(time.time() * 1000)
        for tp in self._ends:
            spec = self._specs[tp.topic]
            if "delete" not in spec.cleanup or spec.retention_ms < 0:
                continue
            for key, value in self._scan(_prefix(tp)):
                if _decode_record(value)[3] >= now_ms - spec.retention_ms:
                    break
                del self._db[key]

    # loading

    def _load(self) -> None:
        for key, value in self._scan(b"t/"):
            self._add_topic(msgspec.msgpack.decode(value, type=TopicSpec))
            del key
        for tp in self._newest:
            for key, value in self._scan(_prefix(tp)):
                k, v, _, timestamp_ms = _decode_record(value)
                if k is not None:
                    self._supersede(tp, k, int.from_bytes(key[-8:], "big"), timestamp_ms, v is None)
        self._enforce_retention()

    def _add_topic(self, spec: TopicSpec) -> None:
        self._specs[spec.name] = spec
        for partition in range(spec.partitions):
            tp = TopicPartition(spec.name, partition)
            self._ends[tp] = int.from_bytes(self._db.get(_end_key(tp)) or b"", "big")
            if "compact" in spec.cleanup:
                self._newest[tp] = {}

    def _partitions(self, topic: str) -> list[TopicPartition]:
        if topic not in self._specs:
            raise _unknown(topic)
        return [TopicPartition(topic, partition) for partition in range(self._specs[topic].partitions)]

    def _start(self, tp: TopicPartition) -> int:
        """The first offset held; the end where nothing is."""
        for key, _ in self._scan(_prefix(tp)):
            return int.from_bytes(key[-8:], "big")
        return self._ends[tp]

    def _first_kept(self, tp: TopicPartition) -> int:
        """The lowest position that has lost nothing: compaction leaves gaps, retention cuts the start off."""
        spec = self._specs[tp.topic]
        return self._start(tp) if "delete" in spec.cleanup and spec.retention_ms >= 0 else 0

    def _scan(self, prefix: bytes, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        try:
            yield from scan(self._db, prefix, start)
        except Damaged as error:
            raise LogUnavailable(f"the log is damaged: {error}; restore its folder, or begin anew") from error


class EmbeddedReader:
    """See `consumers.log.Reader`."""

    def __init__(self, log: EmbeddedLog, positions: Positions) -> None:
        self._log = log
        self._positions = dict(positions)
        self._paused: frozenset[TopicPartition] = frozenset()

    def pause(self, partitions: Collection[TopicPartition]) -> None:
        """See `Reader.pause`."""
        self._paused = frozenset(partitions)

    def read(self, max_records: int, timeout_s: float) -> list[Record]:
        """See `Reader.read`."""
        deadline = time.monotonic() + timeout_s
        with self._log.changed:
            while True:
                if self._log._closed:
                    raise LogUnavailable("the embedded log was closed")
                records = self._take(max_records)
                left_s = deadline - time.monotonic()
                if records or left_s <= 0:
                    return records
                self._log.changed.wait(left_s)

    def _take(self, max_records: int) -> list[Record]:
        taken: list[Record] = []
        for tp, position in self._positions.items():
            if len(taken) >= max_records:
                break
            if tp in self._paused:
                continue
            records = self._log._fetch(tp, position, max_records - len(taken))
            if records:
                self._positions[tp] = records[-1].offset + 1
                taken += records
            elif position < self._log._ends[tp]:  # the rest of the partition was compacted away
                self._positions[tp] = self._log._ends[tp]
        return taken

    def at_end(self) -> frozenset[TopicPartition]:
        """See `Reader.at_end`."""
        return frozenset(tp for tp, position in self._positions.items() if position >= self._log._ends[tp])

    def close(self) -> None:
        """Nothing to free."""


class EmbeddedCommitter:
    """See `consumers.log.Committer`."""

    seat = ""

    def __init__(self, log: EmbeddedLog, application: str) -> None:
        self._log, self._application = log, application
        name = application.encode()
        self._generation_key, self._positions_key = b"g/" + name, b"p/" + name
        self._state_prefix = _state_prefix(application)
        with log.changed:
            self._generation = int.from_bytes(log._db.get(self._generation_key) or b"", "big") + 1
            log._db[self._generation_key] = self._generation.to_bytes(8, "big")

    def positions(self) -> dict[TopicPartition, int]:
        """See `Committer.positions`."""
        stored = self._log._db.get(self._positions_key)
        return {TopicPartition(t, p): offset for t, p, offset in msgspec.msgpack.decode(stored)} if stored else {}

    def commit(self, outputs: Sequence[NewRecord], positions: Positions, state: StateDelta | None = None) -> None:
        """See `Committer.commit`. One effect: (1) a WriteBatch of outputs, positions and state is written."""
        log = self._log
        with log.changed:
            if log._db.get(self._generation_key) != self._generation.to_bytes(8, "big"):
                raise Fenced("another process took over this application; this one stops")
            batch = WriteBatch(raw_mode=True)
            ends = log._put_records(batch, outputs)
            merged = self.positions() | dict(positions)
            batch.put(self._positions_key, _encode([(*tp, offset) for tp, offset in merged.items()]))
            for key, value in (state or {}).items():
                if value is None:
                    batch.delete(self._state_prefix + key)
                else:
                    batch.put(self._state_prefix + key, checked(key, value))
            happened("batched")
            log._write(batch, ends)  # (1)
        happened("written")

    def load_state(self, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """See `Committer.load_state`."""
        return self._log.stored_state(self._application).pages(prefix)

    def discard_state(self) -> None:
        """See `Committer.discard_state`."""
        end = self._state_prefix[:-1] + b"0"  # "0" follows "/"
        self._log._db.delete_range(self._state_prefix, end)

    def purge_state(self) -> None:
        """See `Committer.purge_state`."""
        self._log._db.flush()
        self._log._db.compact_range(self._state_prefix, self._state_prefix[:-1] + b"0")  # "0" follows "/"

    def secret(self, held: bytes = b"") -> bytes:
        """See `Committer.secret`: beside the checkpoint in the database."""
        stored = self._log.stored_state(self._application)
        kept = stored.secret()
        secret = held or kept or secrets.token_bytes(SECRET_BYTES)
        if secret != kept:
            stored.take_secret(secret)
        return secret

    def close(self) -> None:
        """Nothing to free: the seat is kept."""


def _open(folder: Path) -> Any:
    try:
        return open_database(folder / "rocksdb")
    except Locked as error:
        raise LogBusy(f"another process has the log in {folder} open; end it or choose another --log") from error
    except Damaged as error:
        raise LogUnavailable(f"the log in {folder} cannot be opened: {error}") from error


def _state_prefix(application: str) -> bytes:
    return b"s/" + application.encode() + b"/"


def _prefix(tp: TopicPartition) -> bytes:
    return b"r/" + tp.topic.encode() + b"/" + tp.partition.to_bytes(4, "big")


def _end_key(tp: TopicPartition) -> bytes:
    return b"e/" + tp.topic.encode() + b"/" + tp.partition.to_bytes(4, "big")


def _unknown(topic: str) -> UnknownTopic:
    return UnknownTopic(f"there is no topic {topic}; create it with `freshet topics create`")
