"""Topics, records and ends in the database of an embedded log; what `EmbeddedLog`, its readers and committers share."""

import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import msgspec
from rocksdict import WriteBatch, WriteOptions

from consumers.counted import counted
from consumers.embedded.compaction import Compaction
from consumers.embedded.damage import mark_damaged, open_folder
from consumers.embedded.essentials import ESSENTIAL, ESSENTIALS_FILE, read_essentials, write_essentials
from consumers.embedded.keys import end_key, records_prefix
from consumers.embedded.written_ends import ENDS_FILE, WrittenEnds, lost_records, named_records, read_ends
from consumers.errors import DamageMet, LogUnavailable, PositionGone, RecordRefused, UnknownTopic, WireError
from consumers.partitioner import partition_of
from consumers.records import NewRecord, Record, TopicPartition, TopicSpec, size_of
from consumers.storage.rocks import Damaged, scan, shut, stored, told_apart, write_batch

RETENTION_CHECK_APPENDS = 10_000
MAX_RECORD_BYTES = 10_000_000  # as `size_of` counts; what our Kafka producers send at most, too
READ_BYTES = 8 << 20  # a read ends after the record with which it has as much
REMEMBER_APPENDS_MS = 24 * 3_600_000
_logger = logging.getLogger(__name__)

_encode = msgspec.msgpack.Encoder().encode
_decode_record = msgspec.msgpack.Decoder(tuple[bytes | None, bytes | None, tuple[tuple[str, bytes], ...], int]).decode


class Appended(NamedTuple):
    """What a batch appends, to be noted once it is written."""

    ends: dict[TopicPartition, int]
    records: list[tuple[TopicPartition, bytes | None, bool, int]]  # partition, key, whether it is a tombstone, offset
    now_ms: int


class LogTables:
    """The tables of one database, see `consumers.embedded.keys`. Who writes holds `changed`, which wakes readers.

    Args:
        folder: of the log.
        sync: whether a write waits for the disk.
        compaction: deletes superseded records.
        accept_damage: goes on without what a damaged database has lost.

    failed: says what damage was met since it was opened; it is to be opened again, which mends it.

    Raises LogBusy, LogUnavailable; DamageMet where a file is damaged that opening does not look at.
    """

    def __init__(self, folder: Path, sync: bool, compaction: Compaction, accept_damage: bool) -> None:
        self.db = open_folder(folder, accept_damage)
        self._folder = folder
        self.failed = ""
        self._essentials: dict[bytes, bytes] = {}
        self.changed = threading.Condition()
        self.closed = False
        self.specs: dict[str, TopicSpec] = {}
        self.ids: dict[str, str] = {}
        self.ends: dict[TopicPartition, int] = {}
        self._write_options = WriteOptions()
        self._write_options.sync = self.syncs = sync
        self._compaction = compaction
        self._round_robin = 0
        self._appends = 0
        try:
            self._load()
            self._go_on_after(folder)
            self._keep_essentials(dict(pair for kind in ESSENTIAL for pair in self.scan(kind)))
        except BaseException:
            shut(self.db)
            raise

    def check_open(self) -> None:
        """Raises LogUnavailable after `close`, DamageMet after damage was met."""
        if self.closed:
            raise LogUnavailable("the embedded log was closed")
        if self.failed:
            raise DamageMet(self.failed)

    def close(self) -> None:
        """Closes the database; who waits for `changed` is woken."""
        with self.changed:
            if not self.closed:
                self.closed = True
                self._written.close()
                shut(self.db)
            self.changed.notify_all()

    def note_damage(self, error: Damaged) -> WireError:
        """Has the log looked through and mended when it is opened next. Gives the error for whoever met the damage."""
        return mark_damaged(self._folder, str(error))

    def _failure(self, error: Exception, failed: str) -> WireError:
        """The error of a read or a write: LogUnavailable; DamageMet, from now on."""
        told = told_apart(error, failed)
        if not isinstance(told, Damaged):
            return told
        met = self.note_damage(told)
        with self.changed:
            self.failed = str(met)  # the error itself would keep iterators, and so the database, open
            self.changed.notify_all()
        return met

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Around writes. Raises LogUnavailable, DamageMet."""
        try:
            yield
        except Exception as error:  # rocksdict raises bare Exception
            raise self._failure(error, "the log cannot be written") from error

    def get(self, key: bytes) -> bytes | None:
        """A value. Raises LogUnavailable, DamageMet."""
        try:
            return stored(self.db, key)
        except (Damaged, LogUnavailable) as error:
            raise self._failure(error, "") from error

    def put(self, key: bytes, value: bytes) -> None:
        """Writes a value. Raises LogUnavailable, DamageMet."""
        with self._writing():
            self.db[key] = value
        if key.startswith(ESSENTIAL):
            self._keep_essentials(self._essentials | {key: value})

    def write_batch(self, batch: Any) -> None:
        """Writes a batch that appends nothing, without waiting for the disk. Raises LogUnavailable, DamageMet."""
        with self._writing():
            self.db.write(batch)

    def change(self, changes: Mapping[bytes, bytes | None]) -> None:
        """Puts the keys, or deletes them where the value is None: all or nothing. Raises LogUnavailable, DamageMet."""
        with self._writing():
            write_batch(self.db, changes)

    def delete(self, key: bytes) -> None:
        """Deletes a value. Raises LogUnavailable, DamageMet."""
        with self._writing():
            self.db.delete(key)

    def delete_all(self, prefix: bytes) -> None:
        """Deletes the keys that begin with a prefix, which ends with "/". Raises LogUnavailable, DamageMet."""
        with self._writing():
            self.db.delete_range(prefix, prefix[:-1] + b"0")  # "0" follows "/"

    def purge(self, prefix: bytes) -> None:
        """Takes what was deleted or written over of these keys off the disk. Raises LogUnavailable, DamageMet."""
        with self._writing():
            self.db.flush()
            self.db.compact_range(prefix, prefix[:-1] + b"0")

    def scan(self, prefix: bytes, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Keys and values under a prefix, in order, from prefix + start on. Raises LogUnavailable, DamageMet."""
        try:
            yield from scan(self.db, prefix, start)
        except (Damaged, LogUnavailable) as error:
            raise self._failure(error, "") from error

    def _keep_essentials(self, essentials: dict[bytes, bytes]) -> None:
        """Writes them beside the database, where they are others than there."""
        file = self._folder / ESSENTIALS_FILE
        if essentials != (self._essentials or read_essentials(file)):
            write_essentials(file, essentials)
        self._essentials = essentials

    # topics

    def create(self, spec: TopicSpec) -> None:
        """Makes a topic that is not there. Raises LogUnavailable."""
        self.put(b"t/" + spec.name.encode(), _encode(spec))
        self._add_topic(spec)
        self._written.note({tp: self.ends[tp] for tp in self.partitions(spec.name)})

    def partitions(self, topic: str) -> list[TopicPartition]:
        """Those of a topic. Raises UnknownTopic."""
        if topic not in self.specs:
            raise _unknown(topic)
        return [TopicPartition(topic, partition) for partition in range(self.specs[topic].partitions)]

    def start(self, tp: TopicPartition) -> int:
        """The first offset held; the end where nothing is."""
        for key, _ in self.scan(records_prefix(tp)):
            return int.from_bytes(key[-8:], "big")
        return self.ends[tp]

    # records

    def fetch(self, tp: TopicPartition, offset: int, limit: int) -> list[Record]:
        """Up to `limit` records from an offset on. Raises PositionGone where it is not held."""
        if not 0 <= offset <= self.ends[tp] or offset < self._first_kept(tp):
            raise PositionGone(
                f"{tp.topic}[{tp.partition}] holds offsets {self.start(tp)} to {self.ends[tp]}, not {offset}"
            )
        if offset == self.ends[tp]:
            return []
        found: list[Record] = []
        size = 0
        for key, value in self.scan(records_prefix(tp), offset.to_bytes(8, "big")):
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

    def put_records(self, batch: Any, records: Sequence[NewRecord]) -> Appended:
        """Puts records into a batch, which `write` ends. Raises RecordRefused, UnknownTopic."""
        now_ms = int(time.time() * 1000)
        ends: dict[TopicPartition, int] = {}
        put = list[tuple[TopicPartition, bytes | None, bool, int]]()
        for record in records:
            if size_of(record) > MAX_RECORD_BYTES:
                raise RecordRefused(f"{record.topic}: a record of {size_of(record)} bytes; it takes {MAX_RECORD_BYTES}")
            tp = self._partition_for(record)
            offset = ends.get(tp, self.ends[tp])
            ends[tp] = offset + 1
            key = records_prefix(tp) + offset.to_bytes(8, "big")
            batch.put(key, _encode((record.key, record.value, record.headers, now_ms)))
            put.append((tp, record.key, record.value is None, offset))
        for tp, end in ends.items():
            batch.put(end_key(tp), end.to_bytes(8, "big"))
        return Appended(ends, put, now_ms)

    def append(self, records: Sequence[NewRecord], once: tuple[str, int] | None) -> None:
        """Writes records; those of a numbered append that is there already are not repeated."""
        key = b"c/" + once[0].encode() if once else b""
        if once and (last := self.get(key)) is not None and msgspec.msgpack.decode(last)[0] >= once[1]:
            return
        batch = WriteBatch(raw_mode=True)
        appended = self.put_records(batch, records)
        if once:
            batch.put(key, _encode((once[1], appended.now_ms)))
        self.write(batch, appended)

    def write(self, batch: Any, appended: Appended) -> None:
        """Writes a batch, and what compaction deletes with it. Where that fails, nothing is noted: the offsets are
        used again. Raises LogUnavailable.
        """
        due = self._compaction.due()
        for key in due:
            batch.delete(key)
        with self._writing():
            self.db.write(batch, self._write_options)
        self._compaction.drop(due)
        for record in appended.records:
            self._compaction.note(*record, appended.now_ms)
        self._written.note(appended.ends)
        self.ends.update(appended.ends)
        self.changed.notify_all()
        self._appends += 1
        if self._appends % RETENTION_CHECK_APPENDS == 0:
            self._enforce_retention()

    def _partition_for(self, record: NewRecord) -> TopicPartition:
        spec = self.specs.get(record.topic)
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
        if tp not in self.ends:
            raise UnknownTopic(
                f"topic {record.topic} has {counted(spec.partitions, 'partition')}, none numbered {partition}"
            )
        return tp

    def _first_kept(self, tp: TopicPartition) -> int:
        """The lowest position that has lost nothing: compaction leaves gaps, retention cuts the start off."""
        spec = self.specs[tp.topic]
        return self.start(tp) if "delete" in spec.cleanup and spec.retention_ms >= 0 else 0

    def _enforce_retention(self) -> None:
        now_ms = int(time.time() * 1000)
        for tp in self.ends:
            spec = self.specs[tp.topic]
            if "delete" not in spec.cleanup or spec.retention_ms < 0:
                continue
            for key, value in self.scan(records_prefix(tp)):
                if _decode_record(value)[3] >= now_ms - spec.retention_ms:
                    break
                self.delete(key)

    # opening

    def _load(self) -> None:
        for _, value in self.scan(b"t/"):
            self._add_topic(msgspec.msgpack.decode(value, type=TopicSpec))
        for tp in self._compaction.partitions():
            for key, value in self.scan(records_prefix(tp)):
                k, v, _, timestamp_ms = _decode_record(value)
                self._compaction.note(tp, k, v is None, int.from_bytes(key[-8:], "big"), timestamp_ms)
        self._enforce_retention()
        long_ago = int(time.time() * 1000) - REMEMBER_APPENDS_MS
        old = [key for key, value in self.scan(b"c/") if msgspec.msgpack.decode(value)[1] < long_ago]
        self.change(dict.fromkeys(old))

    def _go_on_after(self, folder: Path) -> None:
        """Says what an end that was torn off has taken along, and goes on after it: its offsets are not used again."""
        lost = lost_records(read_ends(folder / ENDS_FILE), self.ends)
        if lost:
            _logger.warning(
                "the log in %s lost its newest records, as by a power failure: %s", folder, named_records(lost)
            )
            self.ends.update({tp: end for tp, (_, end) in lost.items()})
            self.change({end_key(tp): self.ends[tp].to_bytes(8, "big") for tp in lost})
        self._written = WrittenEnds(folder / ENDS_FILE, self.ends)

    def _add_topic(self, spec: TopicSpec) -> None:
        self.specs[spec.name] = spec
        key = b"i/" + spec.name.encode()
        known = self.get(key)
        if known is None:
            known = uuid4().hex.encode()
            self.put(key, known)
        self.ids[spec.name] = known.decode()
        for partition in range(spec.partitions):
            tp = TopicPartition(spec.name, partition)
            self.ends[tp] = int.from_bytes(self.get(end_key(tp)) or b"", "big")
            if "compact" in spec.cleanup:
                self._compaction.add(tp)


def _unknown(topic: str) -> UnknownTopic:
    return UnknownTopic(f"there is no topic {topic}; create it with `freshet topics create`")
