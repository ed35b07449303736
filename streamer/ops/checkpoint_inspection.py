"""A checkpoint as an operator sees it: what is in it, whether it is whole, whether the log can go on from it."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any, NamedTuple

import msgspec
import numpy as np

from consumers.errors import CheckpointDamaged, UnknownTopic
from consumers.log import Log
from consumers.positions import from_rows
from consumers.records import TopicPartition
from streamer.errors import StateUnreadable
from streamer.runtime.clock import SYSTEM_CLOCK, Clock
from streamer.settings import Settings
from streamer.state.challengers import CHALLENGER
from streamer.state.ledger import ENTRY
from streamer.state.stream_state import (
    FORMAT,
    GROUPS,
    LISTED_BESIDE,
    OF_NO_PAGE,
    READS,
    STREAM_GROUP,
    WRITTEN_GROUP,
    StreamState,
    group_of,
    wrong_counts,
)
from tgn.config import ModelConfig
from tgn.context_embedding import ROWS
from tgn.model import Model
from tgn.serialization import page_sizes

REMOVE = "`freshet checkpoint rm` removes it, and the next `freshet run` makes it again from the log"
StoredPages = Iterable[tuple[bytes, bytes]]


class PageTotals(NamedTuple):
    """Pages of one kind: how many, and their bytes."""

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
    groups: list[PageTotals]

    def age_s(self, clock: Clock = SYSTEM_CLOCK) -> float | None:
        """Seconds since it was written; None where nobody noted when."""
        return None if self.written_ms is None else (clock.now_ms() - self.written_ms) / 1000


def summarise(pages: StoredPages) -> Summary | None:
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
    if summary.format not in READS:
        return summary, [f"it has format {summary.format}, this version reads {FORMAT}; {REMOVE}"]
    wrong = [f"{gap}; {REMOVE}" for gap in inspection.gaps()]
    return summary, [*wrong, *_misfits(log, settings, summary)] or _unusable(log, settings)


class Passage:
    """A checkpoint on its way out into a file or in from one: both ways are through the same check.

    Whole, of a format that can be read, and the log can go on from it.
    """

    def __init__(self, log: Log, settings: Settings) -> None:
        self._log, self._settings = log, settings
        self.summary: Summary | None = None
        self.stream: dict[str, Any] = {}

    def through(self, pages: StoredPages) -> Iterator[tuple[bytes, bytes]]:
        """The same pages. Raises StateUnreadable, or CheckpointDamaged, at the last of them at the latest."""
        inspection = _Inspection()
        for key, value in pages:
            inspection.look(key, value)
            yield key, value
        self.summary = summary = inspection.summary()
        if summary is None:
            raise StateUnreadable("there is no checkpoint in it")
        if summary.format not in READS:
            raise StateUnreadable(f"the checkpoint has format {summary.format}, this version reads {FORMAT}")
        if gaps := inspection.gaps():
            raise StateUnreadable(f"the checkpoint is not whole: {gaps[0]}; {REMOVE}")
        if misfits := _misfits(self._log, self._settings, summary):
            raise StateUnreadable(f"the log does not fit the checkpoint: {misfits[0]}")
        self.stream = inspection.stream


def _unusable(log: Log, settings: Settings) -> list[str]:
    """Why the checkpoint is no state of these settings."""
    state = StreamState(settings, log.stored_state(settings.application).pages)
    try:
        if state.load():
            state.check_ledger()
    except CheckpointDamaged as error:
        return [f"{error}; {REMOVE}"]
    except StateUnreadable as error:
        return [str(error)]
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

    def __init__(self, pages: StoredPages = ()) -> None:
        self.stream: dict[str, Any] = {}
        self._bytes: Counter[str] = Counter()
        self._pages: Counter[str] = Counter()
        self._last: dict[str, int] = {}  # group → highest row
        self._sizes: dict[str, set[int]] = {}  # group → what sizes its pages have
        self._ids: dict[str, dict[int, int]] = {"model/user-ids": {}, "model/item-ids": {}}
        self._model: dict[str, Any] = {}
        self._written_ms: int | None = None
        self._pairs = 0
        self._wrong: list[str] = []
        for key, value in pages:
            self.look(key, value)

    def look(self, key: bytes, value: bytes) -> None:
        """Takes one page in."""
        group = group_of(key)
        self._pages[group] += 1
        self._bytes[group] += len(value)
        if group not in GROUPS and not group.startswith((LISTED_BESIDE, CHALLENGER)):
            self._wrong.append(f"there are no pages {group}")
            return
        try:
            self._look(group, key, value)
        except OF_NO_PAGE as error:
            self._wrong.append(f"a page of {group} cannot be read ({error!r})")

    def _look(self, group: str, key: bytes, value: bytes) -> None:
        if group in self._ids:
            self._ids[group][int.from_bytes(key[-8:], "big")] = len(msgspec.msgpack.decode(value, type=list[str]))
        elif group == STREAM_GROUP:
            self.stream = msgspec.msgpack.decode(value, type=dict[str, Any])
        elif group == "model/model":
            self._model = msgspec.msgpack.decode(value, type=dict[str, Any])
        elif group == WRITTEN_GROUP:
            self._written_ms = msgspec.msgpack.decode(value, type=int)
        elif group == "events":
            msgspec.msgpack.decode(value, type=list[bytes])
        elif group == "ledger" and (not value or len(value) % ENTRY.itemsize):
            self._wrong.append(f"a page of the ledger has {len(value)} bytes")
        elif (group == "listed" or group.startswith(LISTED_BESIDE)) and (not value or len(value) % 4):
            self._wrong.append(f"a page of the lists has {len(value)} bytes")
        elif group == "merged":
            msgspec.msgpack.decode(value, type=tuple[int, int])
        elif group == "catalogue":
            msgspec.msgpack.decode(value, type=dict[str, Any])
        elif group.startswith("model/"):
            self._last[group] = max(self._last.get(group, -1), int.from_bytes(key[-8:], "big"))
            self._sizes.setdefault(group, set()).add(len(value))
            if group == "model/pairs":
                self._pairs += int(np.count_nonzero(np.frombuffer(value, np.uint64)))

    def summary(self) -> Summary | None:
        """None where there is no checkpoint. Raises CheckpointDamaged."""
        stream = self.stream
        if not stream:
            if self._pages:
                raise CheckpointDamaged("the checkpoint is torn: its pages are there, its page `stream` is not")
            return None
        try:
            positions = from_rows(stream["positions"])
            groups = [PageTotals(name, count, self._bytes[name]) for name, count in sorted(self._pages.items())]
            return Summary(
                format=stream["format"],
                epoch=stream["epoch"],
                records=stream["records"],
                positions=positions,
                manifest_position=stream["manifest_position"],
                written_ms=self._written_ms,
                groups=groups,
            )
        except OF_NO_PAGE as error:
            raise CheckpointDamaged(f"the page `stream` of the checkpoint cannot be read ({error!r})") from error

    def gaps(self) -> list[str]:
        """What is missing, or is too much, a line each."""
        if not self._model:
            return [*self._wrong, "the page `model/model` is missing"]
        users, items = (self._count(name) for name in self._ids)
        ids = {
            "model/users": users, "model/trained-users": users, "model/user-memories": users,
            "model/items": items, "model/trained-items": items, "model/item-memories": items,
            "model/embeddings": items, "model/content": items, "model/contexts": ROWS,
        }  # fmt: skip
        for group, size in ids.items():
            if self._last.get(group, -1) >= size:
                self._wrong.append(f"{group} has {self._pages[group]} pages, some of them beyond the {size} ids")
        if self._pairs != self._model["pairs"]:
            self._wrong.append(f"model/pairs holds {self._pairs} pairs of {self._model['pairs']}")
        for group, wanted in self._page_sizes().items():
            if others := self._sizes.get(group, set()) - {wanted}:
                self._wrong.append(f"a page of {group} has {others.pop()} bytes, not {wanted}")
        return self._wrong + wrong_counts(self._pages, self.stream)

    def _page_sizes(self) -> dict[str, int]:
        """What a model of the checkpoint's own configuration writes."""
        config: dict[str, Any] = {
            name: tuple(v) if isinstance(v, list) else v for name, v in self.stream["config"].items()
        }
        if config.keys() != asdict(ModelConfig()).keys():  # another version's: whether it can be read is for `load`
            return {}
        return {f"model/{name}": size for name, size in page_sizes(Model(ModelConfig(**config))).items()}

    def _count(self, group: str) -> int:
        """How many ids there are; a gap between two blocks is noted."""
        end = 0
        for first, count in sorted(self._ids[group].items()):
            if first != end:
                self._wrong.append(f"{group} lacks the ids from {end} to {first}")
            end = first + count
        return end
