"""A checkpoint as an operator sees it: what is in it, whether it is whole, whether the log can go on from it."""

import time
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec
import numpy as np

from consumers.errors import CheckpointDamaged, UnknownTopic
from consumers.log import Log
from consumers.records import TopicPartition
from streamer.errors import StateUnreadable
from streamer.ledger import ENTRY
from streamer.settings import Settings
from streamer.state import FORMAT, StreamState
from tgn.context import ROWS

WRITTEN = b"written"
REMOVE = "`freshet checkpoint rm` removes it, and the next `freshet run` makes it again from the log"
Pages = Iterable[tuple[bytes, bytes]]


class Group(NamedTuple):
    """Pages of one kind."""

    name: str
    pages: int
    bytes: int


class Summary(NamedTuple):
    """What is in a checkpoint."""

    format: int
    epoch: int
    records: int  # of the interactions topic that it knows
    positions: dict[TopicPartition, int]
    manifest_position: int  # where in the epochs topic the epochs after it begin
    written_ms: int | None
    groups: list[Group]

    def age_s(self) -> float | None:
        """Seconds since it was written; None where nobody noted when."""
        return None if self.written_ms is None else time.time() - self.written_ms / 1000


def written_now() -> dict[bytes, bytes | None]:
    """The page that says when a checkpoint was written. Not part of the state: two equal states differ in it."""
    return {WRITTEN: msgspec.msgpack.encode(int(time.time() * 1000))}


def summarise(pages: Pages) -> Summary | None:
    """Reads every page; None where there is no checkpoint. Raises CheckpointDamaged."""
    return _Inspection(pages).summary()


def verify(log: Log, settings: Settings) -> tuple[Summary | None, list[str]]:
    """The checkpoint of the settings' application, and a line for each thing that is wrong with it, with its mend.

    Every page against its checksum, what must be there, the positions against the log; then all of it as a state.
    """
    try:
        inspection = _Inspection(log.stored_state(settings.application).pages())
        summary = inspection.summary()
    except CheckpointDamaged as error:
        return None, [f"{error}; {REMOVE}"]
    if summary is None:
        return None, []
    if summary.format != FORMAT:
        return summary, [f"it has format {summary.format}, this version reads {FORMAT}; {REMOVE}"]
    return summary, [*inspection.gaps(), *_misfits(log, settings, summary)] or _unusable(log, settings)


def check_whole(pages: Pages) -> Summary:
    """For a checkpoint that is to be taken in: raises StateUnreadable where it is of another format or not whole."""
    inspection = _Inspection(pages)
    summary = inspection.summary()
    if summary is None:
        raise StateUnreadable("there is no checkpoint in it")
    if summary.format != FORMAT:
        raise StateUnreadable(f"the checkpoint has format {summary.format}, this version reads {FORMAT}")
    if gaps := inspection.gaps():
        raise StateUnreadable(f"the checkpoint is not whole: {gaps[0]}")
    return summary


def check_fits(log: Log, settings: Settings, summary: Summary) -> None:
    """Raises StateUnreadable where the log cannot go on from a checkpoint."""
    if misfits := _misfits(log, settings, summary):
        raise StateUnreadable(f"the log does not fit the checkpoint: {misfits[0]}")


def _unusable(log: Log, settings: Settings) -> list[str]:
    """Why the checkpoint is no state of these settings."""
    state = StreamState(settings, log.stored_state(settings.application).pages)
    try:
        state.load()
    except (CheckpointDamaged, StateUnreadable) as error:
        return [str(error)]
    users = np.arange(len(state.engine.model.users), dtype=np.int32)
    observed = int(state.engine.model.graph.users.events.sum())
    if not len(state.amendments) and len(state.ledger.history(users).user) < observed:
        return [f"the ledger lacks interactions that the graph has; {REMOVE}"]
    return []


def _misfits(log: Log, settings: Settings, summary: Summary) -> list[str]:
    """Where positions and log do not go together."""
    found = []
    bounds: dict[str, tuple[dict[int, int], dict[int, int]]] = {}
    epochs = TopicPartition(settings.epochs_topic, 0)
    for tp, position in [*sorted(summary.positions.items()), (epochs, summary.manifest_position)]:
        try:
            starts, ends = bounds.setdefault(tp.topic, (log.starts(tp.topic), log.ends(tp.topic)))
        except UnknownTopic as error:
            found.append(str(error))
            continue
        start, end = starts.get(tp.partition, 0), ends.get(tp.partition, -1)
        if not start <= position <= end:
            found.append(
                f"it goes on at {tp.topic}[{tp.partition}] {position}, the log holds {start} to {end}; "
                "raise the topic's retention, and begin anew or with a later checkpoint"
            )
    return found


class _Inspection:
    """One pass over the pages: sizes by group, and what must be there for the rest to make sense."""

    def __init__(self, pages: Pages) -> None:
        self._sizes: dict[str, list[int]] = {}
        self._rows: dict[str, list[int]] = {}
        self._ids: dict[str, dict[int, int]] = {"model/user-ids": {}, "model/item-ids": {}}
        self._stream: dict[str, Any] | None = None
        self._model: dict[str, Any] | None = None
        self._written_ms: int | None = None
        self._pairs = 0
        self._wrong: list[str] = []
        for key, value in pages:
            self._look(_group(key), key, value)

    def _look(self, group: str, key: bytes, value: bytes) -> None:
        size = self._sizes.setdefault(group, [0, 0])
        size[0] += 1
        size[1] += len(value)
        if group in self._ids:
            self._ids[group][int.from_bytes(key[-8:], "big")] = len(msgspec.msgpack.decode(value))
        elif group == "stream":
            self._stream = msgspec.msgpack.decode(value)
        elif group == "model/model":
            self._model = msgspec.msgpack.decode(value)
        elif group == "written":
            self._written_ms = msgspec.msgpack.decode(value)
        elif group == "ledger" and len(value) % ENTRY.itemsize:
            self._wrong.append(f"a page of the ledger has {len(value)} bytes")
        elif group.startswith("model/"):
            self._rows.setdefault(group, []).append(int.from_bytes(key[-8:], "big"))
            if group == "model/pairs":
                self._pairs += int(np.count_nonzero(np.frombuffer(value, np.uint64)))

    def summary(self) -> Summary | None:
        stream = self._stream
        if stream is None:
            if self._sizes:
                raise CheckpointDamaged("the checkpoint is torn: its pages are there, its page `stream` is not")
            return None
        positions = {TopicPartition(topic, p): offset for topic, p, offset in stream["positions"]}
        groups = [Group(name, *size) for name, size in sorted(self._sizes.items())]
        return Summary(
            stream["format"], stream["epoch"], stream["records"], positions, stream["manifest_position"],
            self._written_ms, groups,
        )  # fmt: skip

    def gaps(self) -> list[str]:
        """What is missing, a line each."""
        if self._model is None:
            return [f"the page `model/model` is missing; {REMOVE}"]
        users, items = (self._count(name) for name in self._ids)
        expected = (
            ("model/users", users, True),
            ("model/items", items, True),
            ("model/embeddings", items, False),
            ("model/content", items, False),
            ("model/trained-users", users, False),
            ("model/trained-items", items, False),
            ("model/contexts", ROWS, False),
            ("model/user-memories", users, False),
            ("model/item-memories", items, False),
        )
        for group, size, every in expected:
            rows = self._rows.get(group, [])
            beyond = sum(row >= size for row in rows)
            if beyond or (every and len(rows) < size):
                self._wrong.append(f"{group} has {len(rows)} pages, {beyond} of them beyond the {size} ids")
        if self._pairs != self._model["pairs"]:
            self._wrong.append(f"model/pairs holds {self._pairs} pairs of {self._model['pairs']}")
        return [f"{line}; {REMOVE}" for line in self._wrong]

    def _count(self, group: str) -> int:
        """How many ids there are; a gap between two blocks is noted."""
        end = 0
        for first, count in sorted(self._ids[group].items()):
            if first != end:
                self._wrong.append(f"{group} lacks the ids from {end} to {first}")
            end = first + count
        return end


def _group(key: bytes) -> str:
    """`model/users` of `model/users/<n>`, `ledger` of `ledger/<n>`."""
    first, _, rest = key.partition(b"/")
    return f"model/{rest.partition(b'/')[0].decode()}" if first == b"model" else first.decode()
