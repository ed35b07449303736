"""The embedded home of the log: topics in one RocksDB, in process, with nothing to install.

Keys of the database, every number big-endian so that byte order is offset order:

    t/<topic>                        the topic's settings
    i/<topic>                        its id, made with it: a topic of the same name in another log has another
    w/<topic>                        the application whose epochs write to it
    e/<topic>/<partition>            the next offset
    r/<topic>/<partition><offset>    a record
    g/<application>                  generation of the seat: a larger one fences the smaller, see `EmbeddedCommitter`
    p/<application>                  committed positions
    s/<application>/<key>            committed state
    c/<client>                       number and time of the last append of another process, which may ask again
    k/<application>                  secret of the seat

A commit is one WriteBatch: all of it is there after a crash, or none. The write-ahead log survives the death of the
process; with `sync` it survives a power failure too, at some milliseconds a commit. A file `ends` beside the database
says where each partition ends, see `consumers.embedded.written_ends`.
"""

import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
from rocksdict import WriteBatch, WriteOptions

from consumers.crash_points import happened
from consumers.embedded.sole_member import SoleMember
from consumers.embedded.written_ends import WrittenEnds, read_ends
from consumers.errors import (
    Fenced,
    LogBusy,
    LogUnavailable,
    PositionGone,
    RecordRefused,
    TopicConflict,
    UnknownTopic,
)
from consumers.log import APPEND_TIMEOUT_S, Closable, Committer, Positions, StateDelta
from consumers.partitioner import partition_of
from consumers.positions import pack, unpack
from consumers.records import NewRecord, Record, TopicPartition, TopicSpec, size_of
from consumers.storage.checkpoint_store import SECRET_BYTES, checked
from consumers.storage.private_files import private_folder
from consumers.storage.rocks import (
    Damaged,
    Locked,
    database_read_only,
    open_checked,
    open_database,
    scan,
    shut,
    stored,
    write_batch,
)
from consumers.storage.stored_state import EmbeddedState

COMPACTION_LAG_MS = 60_000
TOMBSTONE_RETENTION_MS = 24 * 3_600_000
RETENTION_CHECK_RECORDS = 10_000
MAX_RECORD_BYTES = 10_000_000  # as `size_of` counts; what our Kafka producers send at most, too
READ_BYTES = 8 << 20  # a read ends after the record with which it has as much
REMEMBER_APPENDS_MS = 24 * 3_600_000
ENDS_FILE = "ends"
_REFUSED = ("Permission denied", "No space left", "Read-only file system", "Too many open files")  # by the system
ACCEPT = "restore its folder from a copy, or go on without them: FRESHET_ON_LOG_DAMAGED=accept"
_logger = logging.getLogger(__name__)

_encode = msgspec.msgpack.Encoder().encode
_decode_record = msgspec.msgpack.Decoder(tuple[bytes | None, bytes | None, tuple[tuple[str, bytes], ...], int]).decode


class EmbeddedLog(Closable):
    """A `consumers.log.Log` in a folder. One process has it open; others go through `consumers.embedded.loopback`.

    Args:
        folder: of the log.
        sync: whether a commit waits for the disk, so that it survives a power failure.
        compaction_lag_ms: how long a superseded record of a compacted topic may still be read.
        tombstone_retention_ms: how long a tombstone may still be read.
        accept_damage: goes on without what a damaged database has lost.

    Raises LogBusy when another process has the folder open, LogUnavailable when it cannot be opened or is damaged.
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
        self.folder, self._db = folder, _open(folder, accept_damage)
        self._write_options = WriteOptions()
        self._write_options.sync = self.syncs = sync
        self._compaction_lag_ms = compaction_lag_ms
        self._tombstone_retention_ms = tombstone_retention_ms
        self._specs: dict[str, TopicSpec] = {}
        self._ids: dict[str, str] = {}
        self._ends: dict[TopicPartition, int] = {}
        self._newest: dict[TopicPartition, dict[bytes, int]] = {}
        self._superseded: deque[tuple[int, bytes]] = deque()  # (since when, database key), oldest first
        self._tombstones: deque[tuple[int, bytes]] = deque()
        self._round_robin = 0
        self._appends = 0
        self.changed = threading.Condition()
        self._closed = False
        try:
            self._load()
            self._go_on_after(folder)
        except BaseException:
            shut(self._db)
            raise

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
                    self._written.note({tp: self._ends[tp] for tp in self._partitions(spec.name)})
                    created.append(spec.name)
                else:
                    old.check_same(spec)
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

    def topic_ids(self, topics: Iterable[str]) -> dict[str, str]:
        """See `Log.topic_ids`."""
        return {topic: self._ids[topic] for topic in topics if topic in self._ids}

    def claim(self, application: str, topics: Collection[str]) -> None:
        """See `Log.claim`: one that stopped keeps its topics until its state is removed."""
        with self.changed:
            topics = [topic for topic in topics if topic in self._specs]
            writers = {topic: self._writer(topic, application) for topic in topics}
            taken = {topic: writer for topic, writer in writers.items() if writer not in (None, application)}
            if taken:
                raise TopicConflict(
                    f"the application {next(iter(taken.values()))} writes to {', '.join(sorted(taken))} of this log, "
                    f"and {application} would repeat all of it: give this one topics of its own, or its own --log"
                )
            write_batch(self._db, {b"w/" + topic.encode(): application.encode() for topic in topics})

    def _writer(self, topic: str, application: str) -> str | None:
        """The application that writes to a topic. A log of before nobody noted it: then another one that has a state,
        where the one that asks has none.
        """
        noted = self._get(b"w/" + topic.encode())
        if noted is not None:
            return noted.decode()
        if not any(self._ends[tp] for tp in self._partitions(topic)):
            return None
        names = [key[2:].decode() for key, _ in self._scan(b"p/")]
        with_state = [name for name in names if self._get(_state_prefix(name) + b"stream") is not None]
        return with_state[0] if with_state and application not in with_state else None

    # records

    def append(
        self, records: Sequence[NewRecord], timeout_s: float = APPEND_TIMEOUT_S, once: tuple[str, int] | None = None
    ) -> None:
        """See `Log.append`; nothing is waited for.

        Args:
            once: who appends, and which of its appends it is: one that is there is not repeated.
        """
        with self.changed:
            self._check_open()
            key = b"c/" + once[0].encode() if once else b""
            if once and (last := self._get(key)) is not None and msgspec.msgpack.decode(last)[0] >= once[1]:
                return
            batch = WriteBatch(raw_mode=True)
            ends = self._put_records(batch, records)
            if once:
                batch.put(key, _encode((once[1], int(time.time() * 1000))))
            self._write(batch, ends)

    def record_limits(self, topics: Iterable[str]) -> dict[str, int]:
        """See `Log.record_limits`."""
        return dict.fromkeys(topics, MAX_RECORD_BYTES)

    def forget(self, client: str) -> None:
        """Nothing that this client appended will be asked again."""
        with self.changed:
            self._check_open()
            self._db.delete(b"c/" + client.encode())

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
        committer = EmbeddedCommitter(self, application, held_generation(self.folder, application))
        hold_generation(self.folder, application, committer.generation)
        return committer

    def stored_state(self, application: str) -> EmbeddedState:
        """See `Log.stored_state`."""
        return EmbeddedState(self._db, application)

    def close(self) -> None:
        """Closes the database; readers that wait are woken."""
        with self.changed:
            if not self._closed:
                self._closed = True
                self._written.close()
                shut(self._db)
            self.changed.notify_all()

    # what readers and committers of this module use

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    def _check_open(self) -> None:
        if self._closed:
            raise LogUnavailable("the embedded log was closed")

    def _get(self, key: bytes) -> bytes | None:
        try:
            return stored(self._db, key)
        except Damaged as error:
            raise _damaged(error) from error

    def _fetch(self, tp: TopicPartition, offset: int, limit: int) -> list[Record]:
        if not 0 <= offset <= self._ends[tp] or offset < self._first_kept(tp):
            raise PositionGone(
                f"{tp.topic}[{tp.partition}] holds offsets {self._start(tp)} to {self._ends[tp]}, not {offset}"
            )
        if offset == self._ends[tp]:
            return []
        prefix = _prefix(tp)
        found: list[Record] = []
        size = 0
        for key, value in self._scan(prefix, offset.to_bytes(8, "big")):
            if len(found) >= limit or size >= READ_BYTES:
                break
            size += len(value)
            k, v, headers, timestamp_ms = _decode_record(value)
            found.append(
                Record(
                    topic=tp.topic,
                    partition=tp.partition,
                    offset=int.from_bytes(key[-8:], "big"),
                    key=k,
                    value=v,
                    headers=headers,
                    timestamp_ms=timestamp_ms,
                )
            )
        return found

    def _write(self, batch: Any, ends: Mapping[TopicPartition, int]) -> None:
        """Ends a batch begun by `_put_records`; the caller holds `changed`."""
        self._drop_superseded(batch)
        try:
            self._db.write(batch, self._write_options)
        except Exception as error:  # rocksdict raises bare Exception
            raise LogUnavailable(f"the log cannot be written: {error}; free space on its disk") from error
        self._written.note(ends)
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
            if size_of(record) > MAX_RECORD_BYTES:
                raise RecordRefused(f"{record.topic}: a record of {size_of(record)} bytes; it takes {MAX_RECORD_BYTES}")
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
        for _, value in self._scan(b"t/"):
            self._add_topic(msgspec.msgpack.decode(value, type=TopicSpec))
        for tp in self._newest:
            for key, value in self._scan(_prefix(tp)):
                k, v, _, timestamp_ms = _decode_record(value)
                if k is not None:
                    self._supersede(tp, k, int.from_bytes(key[-8:], "big"), timestamp_ms, v is None)
        self._enforce_retention()
        long_ago = int(time.time() * 1000) - REMEMBER_APPENDS_MS
        old = [key for key, value in self._scan(b"c/") if msgspec.msgpack.decode(value)[1] < long_ago]
        write_batch(self._db, dict.fromkeys(old))

    def _go_on_after(self, folder: Path) -> None:
        """Says what an end that was torn off has taken along, and goes on after it: its offsets are not used again."""
        lost = _lost(read_ends(folder / ENDS_FILE), self._ends)
        if lost:
            _logger.warning("the log in %s lost its newest records, as by a power failure: %s", folder, _named(lost))
            self._ends.update({tp: end for tp, (_, end) in lost.items()})
            write_batch(self._db, {_end_key(tp): self._ends[tp].to_bytes(8, "big") for tp in lost})
        self._written = WrittenEnds(folder / ENDS_FILE, self._ends)

    def _add_topic(self, spec: TopicSpec) -> None:
        self._specs[spec.name] = spec
        key = b"i/" + spec.name.encode()
        known = self._get(key)
        if known is None:
            known = self._db[key] = uuid4().hex.encode()
        self._ids[spec.name] = known.decode()
        for partition in range(spec.partitions):
            tp = TopicPartition(spec.name, partition)
            self._ends[tp] = int.from_bytes(self._get(_end_key(tp)) or b"", "big")
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
            raise _damaged(error) from error


class EmbeddedReader(Closable):
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
                self._log._check_open()
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
            if tp in self._paused or position == self._log._ends[tp]:
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

    def positions(self) -> dict[TopicPartition, int]:
        """See `Reader.positions`."""
        return dict(self._positions)

    def close(self) -> None:
        """Nothing to free."""


_held: dict[tuple[Path, str], int] = {}


def held_generation(folder: Path, application: str) -> int:
    """The newest generation of a seat that this process had; 0: it has just started."""
    return _held.get((folder.resolve(), application), 0)


def hold_generation(folder: Path, application: str, generation: int) -> None:
    """Notes the generation that this process has."""
    _held[folder.resolve(), application] = generation


class EmbeddedCommitter(Closable):
    """See `consumers.log.Committer`.

    Args:
        held: the generation that the process had before. A process that starts gets the seat; one that opens the log
            again must still have it.

    Raises Fenced where a later process has taken the seat since.
    """

    seat = ""

    def __init__(self, log: EmbeddedLog, application: str, held: int = 0) -> None:
        self._log, self._application, self.waits = log, application, log.syncs
        name = application.encode()
        self._generation_key, self._positions_key = b"g/" + name, b"p/" + name
        self._state_prefix = _state_prefix(application)
        with log.changed:
            newest = int.from_bytes(log._get(self._generation_key) or b"", "big")
            if 0 < held < newest:
                raise _fenced()
            self.generation = max(newest, held) + 1
            log._db[self._generation_key] = self.generation.to_bytes(8, "big")

    def positions(self) -> dict[TopicPartition, int]:
        """See `Committer.positions`."""
        return unpack(self._log._get(self._positions_key))

    def commit(self, outputs: Sequence[NewRecord], positions: Positions, state: StateDelta | None = None) -> None:
        """See `Committer.commit`. One effect: (1) a WriteBatch of outputs, positions and state is written."""
        log = self._log
        with log.changed:
            log._check_open()
            if log._get(self._generation_key) != self.generation.to_bytes(8, "big"):
                raise _fenced()
            batch = WriteBatch(raw_mode=True)
            ends = log._put_records(batch, outputs)
            batch.put(self._positions_key, pack(self.positions() | dict(positions)))
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


def _open(folder: Path, accept_damage: bool) -> Any:
    database, busy = folder / "rocksdb", f"another process has the log in {folder} open; end it or choose another --log"
    if folder.exists() and not folder.is_dir():
        raise LogUnavailable(f"{folder} is a file, and a log is a folder; name another with --log")
    try:
        private_folder(folder)
        expected = read_ends(folder / ENDS_FILE)
        if any(expected.values()) and not any(database.glob("*")):
            raise Damaged("its database is gone")
        return open_checked(database)
    except Locked as error:
        raise LogBusy(busy) from error
    except OSError as error:
        raise LogUnavailable(f"the log in {folder} cannot be opened: {error.strerror}") from error
    except Damaged as error:
        if any(words in str(error) for words in _REFUSED):
            raise LogUnavailable(f"the log in {folder} cannot be opened: {error}") from error
        lost = f"the log in {folder} is damaged ({error}); {_missing(database, expected)}"
        if not accept_damage:
            raise LogUnavailable(f"{lost}; {ACCEPT}") from error
        _logger.warning("%s; going on without", lost)
    try:
        return open_database(database)
    except (Locked, Damaged) as error:
        raise LogUnavailable(
            f"nothing of the log in {folder} can be read: {error}; restore it from a copy, or remove it to begin anew"
        ) from error


def _missing(database: Path, expected: Mapping[TopicPartition, int]) -> str:
    """What a damaged database has lost, as far as it can be read."""
    if not (database / "CURRENT").is_file():
        return f"lost: {_named(_lost(expected, {}, every=True))}"
    try:
        with database_read_only(database) as db:
            found = {_decode_end_key(key): int.from_bytes(end, "big") for key, end in scan(db, b"e/")}
    except Damaged:
        return "nothing of it can be read"
    lost = _lost(expected, found, every=True)
    return f"lost: {_named(lost)}" if lost else "no record is known to be lost"


def _lost(
    expected: Mapping[TopicPartition, int], found: Mapping[TopicPartition, int], every: bool = False
) -> dict[TopicPartition, tuple[int, int]]:
    """Partition → (the end found, the end that was written), where they differ; for topics not found too: `every`."""
    return {
        tp: (found.get(tp, 0), end)
        for tp, end in sorted(expected.items())
        if (every or tp in found) and end > found.get(tp, 0)
    }


def _named(lost: Mapping[TopicPartition, tuple[int, int]]) -> str:
    """The records that are missing, by partition."""
    parts = [f"{tp.topic}[{tp.partition}] from offset {first} on, {end - first} records"
             for tp, (first, end) in lost.items()]  # fmt: skip
    return ", ".join(parts)


def _damaged(error: Exception) -> LogUnavailable:
    return LogUnavailable(f"the log is damaged: {error}; restore its folder from a copy, or begin anew")


def _fenced() -> Fenced:
    return Fenced("another process took over this application; this one stops")


def _state_prefix(application: str) -> bytes:
    return b"s/" + application.encode() + b"/"


def _prefix(tp: TopicPartition) -> bytes:
    return b"r/" + tp.topic.encode() + b"/" + tp.partition.to_bytes(4, "big")


def _end_key(tp: TopicPartition) -> bytes:
    return b"e/" + tp.topic.encode() + b"/" + tp.partition.to_bytes(4, "big")


def _decode_end_key(end_key: bytes) -> TopicPartition:
    return TopicPartition(end_key[2:-5].decode(), int.from_bytes(end_key[-4:], "big"))


def _unknown(topic: str) -> UnknownTopic:
    return UnknownTopic(f"there is no topic {topic}; create it with `freshet topics create`")
