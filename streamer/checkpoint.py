"""Checkpoints as an operator sees them: what one holds, whether it is whole, and as one file elsewhere."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from consumers.errors import DataRefused
from consumers.log import Log
from consumers.records import TopicPartition
from streamer.errors import StateUnreadable
from streamer.settings import Settings
from streamer.state import FORMAT, StreamState

MAGIC = b"freshet checkpoint 1\n"
_pack = msgspec.msgpack.encode


class Summary(msgspec.Struct):
    """What a checkpoint holds."""

    format: int
    epoch: int
    clock_ms: int  # latest event time taken
    records: int  # interactions records taken, bad ones too
    positions: dict[str, dict[str, int]]
    pages: dict[str, int]  # by group
    bytes: dict[str, int]  # by group, before compression
    erased_users: int
    pending_repairs: int


def summary(log: Log, settings: Settings) -> Summary:
    """Reads every page of the checkpoint. Raises StateUnreadable where there is none, CheckpointDamaged."""
    pages, size, stream = Counter[str](), Counter[str](), b""
    for key, value in log.stored_state(settings.application):
        group = _group(key)
        pages[group] += 1
        size[group] += len(key) + len(value)
        stream = value if key == b"stream" else stream
    if not stream:
        raise StateUnreadable("there is no checkpoint; `freshet run` makes the first one")
    held = msgspec.msgpack.decode(stream)
    positions: dict[str, dict[str, int]] = {}
    for topic, partition, offset in held["positions"]:
        positions.setdefault(topic, {})[str(partition)] = offset
    return Summary(
        held["format"], held["epoch"], held["clock_ms"], held["records"], positions, dict(pages), dict(size),
        len(held.get("erased", ())), len(held.get("amendments", ((),))[0]),
    )  # fmt: skip


def verify(log: Log, settings: Settings) -> list[str]:
    """What is wrong with the checkpoint, one line each; nothing where it is whole.

    Every page against its checksum, all of them as a state of the present settings, and its positions against the log.
    """
    state = StreamState(settings, lambda prefix: log.stored_state(settings.application, prefix))
    if not state.load():
        raise StateUnreadable("there is no checkpoint; `freshet run` makes the first one")
    wrong = []
    model = state.engine.model
    if not len(state.amendments) and len(state.ledger.history(_all_users(state)).user) < int(
        model.graph.users.events.sum()
    ):
        wrong.append("the ledger lacks interactions that the graph has")
    for tp, position in state.positions.items():
        wrong += _out_of_reach(log, tp, position)
    return wrong


def _all_users(state: StreamState) -> Any:
    import numpy as np

    return np.arange(len(state.engine.model.users), dtype=np.int32)


def _out_of_reach(log: Log, tp: TopicPartition, position: int) -> Iterator[str]:
    end, start = log.ends(tp.topic).get(tp.partition, 0), log.starts(tp.topic).get(tp.partition, 0)
    if position > end:
        yield f"{tp.topic}[{tp.partition}] ends at {end}, the checkpoint goes on at {position}"
    elif position < start and "compact" not in log.topics()[tp.topic].cleanup:
        yield f"{tp.topic}[{tp.partition}] begins at {start}, the checkpoint goes on at {position}"


def export(log: Log, settings: Settings, file: Path) -> int:
    """Writes every page into one file, with a digest of all at its end; gives the number of pages."""
    hashed, count = hashlib.blake2b(digest_size=16), 0
    with file.open("wb") as out:
        out.write(MAGIC)
        for page in log.stored_state(settings.application):
            data = _pack(page)
            hashed.update(data)
            out.write(len(data).to_bytes(4, "big") + data)
            count += 1
        out.write(bytes(4) + hashed.digest())
    if not count:
        file.unlink()
        raise StateUnreadable("there is no checkpoint; `freshet run` makes the first one")
    return count


def import_(log: Log, settings: Settings, file: Path, replace: bool) -> int:
    """Makes an exported checkpoint this application's; gives the number of pages.

    The whole file is checked before anything is written. Raises DataRefused, and StateUnreadable where there is a
    checkpoint already and `replace` is not set.
    """
    pages = dict(_read(file))
    stream = msgspec.msgpack.decode(pages.get(b"stream", b"\x80"))
    if stream.get("format") != FORMAT:
        raise DataRefused(f"{file} has format {stream.get('format')}, this version reads {FORMAT}")
    old = [key for key, _ in log.stored_state(settings.application)]
    if old and not replace:
        raise StateUnreadable("there is a checkpoint already; say --replace to put this one in its place")
    committer = log.committer(settings.application)
    committer.commit([], {}, dict.fromkeys(old) | pages)
    committer.close()
    return len(pages)


def _read(file: Path) -> Iterator[tuple[bytes, bytes]]:
    hashed = hashlib.blake2b(digest_size=16)
    with file.open("rb") as source:
        if source.read(len(MAGIC)) != MAGIC:
            raise DataRefused(f"{file} is no exported checkpoint")
        while size := int.from_bytes(_exactly(source, 4, file), "big"):
            data = _exactly(source, size, file)
            hashed.update(data)
            yield msgspec.msgpack.decode(data, type=tuple[bytes, bytes])
        if _exactly(source, 16, file) != hashed.digest():
            raise DataRefused(f"{file} is damaged: its digest does not hold")


def _exactly(source: BinaryIO, size: int, file: Path) -> bytes:
    data = source.read(size)
    if len(data) < size:
        raise DataRefused(f"{file} is cut off")
    return data


def _group(key: bytes) -> str:
    """The part of the state that a page is of: `model/users`, `ledger`, …"""
    parts = key.split(b"/", 2)
    return "/".join(part.decode() for part in parts[: 2 if parts[0] == b"model" else 1])
