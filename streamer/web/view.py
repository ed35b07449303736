"""What the page and the API show: a view of the topics, kept current by one thread that follows the log."""

import threading
import time
from collections import OrderedDict, deque
from statistics import quantiles
from typing import Any, NamedTuple

import msgspec

from consumers.dead_letter import DeadLetter
from consumers.decode import InteractionDecoder, decode_item
from consumers.errors import WireError
from consumers.log import Log
from consumers.records import Record, TopicPartition
from consumers.schemas import DRIFT_KEY, Quality
from streamer.settings import Settings

FEED, CHANGES, PENDING = (
    500,
    10_000,
    50_000,
)  # what is kept: interactions, changed lists, interactions without a list
RATE_WINDOW_S, LATENCIES = 5.0, 1_000
_quality = msgspec.json.Decoder(Quality)


class Change(NamedTuple):
    """One thing that happened, numbered, so that a subscriber can ask for what came since."""

    number: int
    value: Any


class View:
    """The newest list of each user, titles, recent interactions, quality, rate and latency.

    Readers never wait for it and it never waits for readers: each asks for what came after the number it has seen.
    """

    def __init__(self, log: Log, settings: Settings) -> None:
        self._log, self._settings = log, settings
        self._decoder = InteractionDecoder(settings.field_map, settings.clock_skew_ms, settings.max_record_bytes)
        self.lists: dict[str, bytes] = {}  # user → JSON of the newest list
        self.titles: dict[str, str] = {}
        self.quality: dict[str, Quality] = {}
        self.quality_history: deque[tuple[int, float, float]] = deque(maxlen=2_000)  # events, ours, popularity's HR@10
        self.interactions: deque[Change] = deque(maxlen=FEED)
        self.changes: deque[Change] = deque(maxlen=CHANGES)  # (number, user) of each new list
        self.recent_users: OrderedDict[str, None] = OrderedDict()
        self.events = 0
        self.clock_ms = 0  # latest event time seen
        self.ready = threading.Event()
        self._arrived: deque[tuple[float, int]] = deque()
        self._pending: OrderedDict[str, int] = OrderedDict()  # list_id → append time of its interaction, ms
        self._latencies_ms: deque[int] = deque(maxlen=LATENCIES)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="view", daemon=True)
        self._handlers = {
            settings.recommendations_topic: self._on_list,
            settings.items_topic: self._on_item,
            settings.interactions_topic: self._on_interaction,
            settings.quality_topic: self._on_quality,
        }

    def start(self) -> None:
        """Begins to follow the log. Raises UnknownTopic where a topic is missing."""
        self._reader = self._log.reader(self._positions())
        self._thread.start()

    @property
    def closed(self) -> bool:
        """True once `stop` was called: open streams end."""
        return self._stop.is_set()

    def stop(self) -> None:
        """Stops following; streams that read this view end."""
        self._stop.set()
        self._thread.join(5)

    def list_of(self, user: str) -> bytes | None:
        """JSON of the newest list of a user; None where there is none."""
        return self.lists.get(user)

    def stats(self) -> dict[str, Any]:
        """Events so far, events a second, and latency from interaction to list (ms, append time to append time)."""
        now = time.monotonic()
        while self._arrived and self._arrived[0][0] < now - RATE_WINDOW_S:
            self._arrived.popleft()
        latencies = list(self._latencies_ms)
        cuts = quantiles(latencies, n=100) if len(latencies) > 1 else []
        return {
            "events": self.events,
            "lists": len(self.lists),
            "events_per_second": round(sum(n for _, n in list(self._arrived)) / RATE_WINDOW_S),
            "latency_ms": {"p50": round(cuts[49]), "p99": round(cuts[98])} if cuts else None,
        }

    def _positions(self) -> dict[TopicPartition, int]:
        """Compacted topics from their start; interactions from a little before their end, for the feed."""
        positions = {}
        for topic in self._handlers:
            ends = self._log.ends(topic)
            for partition, start in self._log.starts(topic).items():
                from_end = max(start, ends[partition] - FEED)
                at = from_end if topic == self._settings.interactions_topic else start
                positions[TopicPartition(topic, partition)] = at
        return positions

    def _follow(self) -> None:
        wanted = frozenset(self._reader_positions())
        while not self._stop.is_set():
            try:
                records = self._reader.read(2_000, 0.1)
            except WireError:
                if self._stop.is_set():
                    return
                raise
            for record in records:
                self._handlers[record.topic](record)
            if not records and self._reader.at_end() >= wanted:
                self.ready.set()
        self._reader.close()

    def _reader_positions(self) -> list[TopicPartition]:
        return [TopicPartition(topic, p) for topic in self._handlers for p in self._log.ends(topic)]

    def _on_list(self, record: Record) -> None:
        user = (record.key or b"").decode("utf-8", "replace")
        if record.value is None:
            self.lists.pop(user, None)
            return
        self.lists[user] = record.value
        self.changes.append(Change(self.changes[-1].number + 1 if self.changes else 1, user))
        appended_ms = self._pending.pop(_list_id(record.value), None)
        if appended_ms is not None:
            self._latencies_ms.append(record.timestamp_ms - appended_ms)

    def _on_item(self, record: Record) -> None:
        item = decode_item(record.value) if record.value is not None else None
        if item and item.title:
            self.titles[item.item_id] = item.title

    def _on_interaction(self, record: Record) -> None:
        interaction = self._decoder.decode(record, int(time.time() * 1000))
        if isinstance(interaction, DeadLetter):
            return  # the worker keeps it as a dead letter
        self.events += 1
        self.clock_ms = max(self.clock_ms, interaction.timestamp)
        now = time.monotonic()
        if self._arrived and now - self._arrived[-1][0] < 0.1:
            self._arrived[-1] = (self._arrived[-1][0], self._arrived[-1][1] + 1)
        else:
            self._arrived.append((now, 1))
        self.interactions.append(Change(self.events, interaction))
        self.recent_users[interaction.user_id] = None
        self.recent_users.move_to_end(interaction.user_id)
        self._pending[f"{record.partition}-{record.offset}"] = record.timestamp_ms
        for bounded, size in ((self.recent_users, FEED), (self._pending, PENDING)):
            if len(bounded) > size:
                bounded.popitem(last=False)

    def _on_quality(self, record: Record) -> None:
        if record.value is None or record.key == DRIFT_KEY:
            return
        figure = _quality.decode(record.value)
        self.quality[figure.metric] = figure
        if figure.metric == "hr@10":
            self.quality_history.append((figure.events, figure.value, figure.popularity))


def _list_id(value: bytes) -> str:
    """The id of a list, without decoding all of it: it is the first field."""
    return value[12 : value.index(b'"', 12)].decode() if value.startswith(b'{"list_id":"') else ""
