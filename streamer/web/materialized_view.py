"""What the page and the API show: a view of the topics, kept current by one thread that follows the log."""

import logging
import math
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import msgspec

from consumers.dead_letter import DeadLetter
from consumers.decode_nodes import decode_item
from consumers.errors import LogUnavailable, PositionGone, RegistryUnavailable, Transient, UnknownTopic
from consumers.log import Log
from consumers.records import Record, TopicPartition
from consumers.schemas import ListedItem, WorkerAddress
from streamer.errors import ListsDamaged, ListsUnavailable
from streamer.runtime.clock import SYSTEM_CLOCK, Clock
from streamer.runtime.decoders import interaction_decoder
from streamer.runtime.signals import StopRequest
from streamer.runtime.supervisor import Threads, supervise
from streamer.runtime.topic_reader import TopicReader
from streamer.runtime.topics import DEFAULT_LOG
from streamer.settings import Settings
from streamer.web.committed import CommittedPositions
from streamer.web.current_log import CurrentLog, OpenLog
from streamer.web.list_store import ListStore
from streamer.web.view.dead_letters import LETTERS, DeadLetters
from streamer.web.view.feed import FEED, Feed
from streamer.web.view.foreign_records import BadRecord, decode_as, id_in_key
from streamer.web.view.latency import LATE_MS
from streamer.web.view.progress import LogProgress
from streamer.web.view.quality_figures import QualityFigures
from streamer.web.view.watchers import Watchers
from streamer.web.workers.directory import WorkerDirectory

EPOCHS = 20  # of each partition of their topic, the last ones: they say how far the workers are
RECORDS_A_STEP, LONGEST_WAIT_S, KEPT_EVERY_S = 1_000, 4.0, 60.0
GATHER_S = 0.01  # before the next step: a worker commits up to a hundred times a second, and a step costs a millisecond
STALE_S = 4.0  # a view that is further behind the log is not ready
_RETRIED = (Transient, UnknownTopic, PositionGone)  # a topic that is gone may be made anew
ADDRESS = "/address"  # what the key of a worker's address ends with
_worker = msgspec.json.Decoder(WorkerAddress)
_logger = logging.getLogger(__name__)


class Status(NamedTuple):
    """Whether the view may be read as current, and a line that says why not."""

    ready: bool
    line: str


class _List(msgspec.Struct, frozen=True):
    """What must hold of a value on the recommendations topic for it to be shown."""

    list_id: str
    items: tuple[ListedItem, ...]
    user_id: str | None = None


_list = msgspec.json.Decoder(_List)


class _Epoch(msgspec.Struct, frozen=True):
    """What of an epoch's manifest is looked at."""

    ends: dict[str, dict[str, int]]


_epoch = msgspec.json.Decoder(_Epoch)


class View:
    """The newest list of each user and titles, on disk; recent interactions, quality, rate and latency, in memory,
    and how far the workers are, and where they answer.

    One thread follows the topics. Where the log goes away, a position is gone or the store fails, it opens them again
    and goes on; `status` is not ready meanwhile. Bad records of the topics that Freshet writes are passed over.

    Args:
        log: one that is open, or that this view's thread opens.
        threads: those of the process, which ends where this view's thread fails.
        clock: tells how long ago something was, and what lies in the future.
    """

    def __init__(
        self,
        log: Log | CurrentLog,
        settings: Settings,
        threads: Threads | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._clock = clock
        self._log = log if isinstance(log, CurrentLog) else OpenLog(log)
        self._settings, self._threads = settings, threads or Threads()
        self.surface = settings.surface  # whose lists these are
        self._decoder, self._registry_away = interaction_decoder(settings), False
        self._store: ListStore | None = None
        self._reader: TopicReader | None = None
        self._away = "starting"
        self.ready = threading.Event()  # set once it has caught up; whether it is current now says `status`
        self.skipped: Counter[str] = Counter()  # topic → bad records
        self.quality = QualityFigures()
        self.dead_letters = DeadLetters()
        self.feed = Feed(clock)
        self.progress = LogProgress()
        self.committed = CommittedPositions()
        self.workers = WorkerDirectory()
        self._lists: dict[str, bytes | None] = {}  # of the records being taken
        self._titles: dict[str, str | None] = {}
        self._erased: dict[str, int] = {}  # when a user's tombstone came, ms
        self._fed: dict[TopicPartition, int] = {}  # positions of the topics of which only the end matters
        self._kept_at = -math.inf
        self._stop = StopRequest(on_signals=False)
        self._started = threading.Event()
        self._thread: threading.Thread | None = None
        self.watchers = Watchers()
        self._handlers = {
            settings.recommendations_topic: self._on_list,
            settings.items_topic: self._on_item,
            settings.users_topic: self._on_user,
            settings.interactions_topic: self._on_interaction,
            settings.quality_topic: self.quality.note,
            settings.epochs_topic: self._on_epoch,
            settings.workers_topic: self._on_worker,
            settings.dead_topic: self._on_dead_letter,
        }
        self._fed_topics = {
            settings.interactions_topic, settings.quality_topic, settings.epochs_topic, settings.workers_topic,
            settings.dead_topic,
        }  # fmt: skip

    # its life

    def start(self) -> None:
        """Begins to follow the log. Raises UnknownTopic where a topic is missing, LogUnavailable, ListsUnavailable."""
        folder = self._settings.state / "view" if self._settings.state else None
        self._store = ListStore(folder, self._source(), self._clock)
        self._thread = self._threads.start("view", self._run)
        while not self._started.wait(0.05) and self._thread.is_alive():
            pass
        self._threads.check()

    @property
    def topics(self) -> tuple[str, ...]:
        """Names of the topics that it follows."""
        return tuple(self._handlers)

    @property
    def closed(self) -> bool:
        """True once `stop` was called: open streams end."""
        return bool(self._stop)

    def stop(self) -> None:
        """Stops following; streams that read this view end."""
        self._stop.set()
        self.watchers.wake()
        if self._thread is not None:
            self._thread.join(5)  # what it waits for may take longer; it closes what it has open

    # what readers ask

    def list_of(self, user: str) -> bytes | None:
        """JSON of a user's newest list; None where there is none. Raises LogUnavailable where it cannot be read."""
        try:
            return self._store.list_of(user) if self._store else None
        except (ListsDamaged, ListsUnavailable) as error:
            raise LogUnavailable(f"{error}; it is opened again") from error

    def may_know(self, user: str) -> bool:
        """Whether there is a list of a user, or something done lately; yes too while that cannot be told."""
        if not self.status().ready:
            return True
        try:
            return user in self.feed.users or self.list_of(user) is not None
        except LogUnavailable:
            return True

    def title_of(self, item: str) -> str | None:
        """An item's title, where one is known and can be read."""
        try:
            return self._store.title_of(item) if self._store else None
        except (ListsDamaged, ListsUnavailable):
            return None

    def status(self) -> Status:
        """Ready: everything that was in the topics a few seconds ago has been taken."""
        reader = self._reader
        if reader is None:
            return Status(False, f"waiting: {self._away}")
        age_s = reader.age_s()
        if age_s is not None and age_s < STALE_S:
            return Status(True, "ready")
        if self.ready.is_set() and age_s is not None:
            return Status(False, f"{age_s:.0f} s behind the log")
        return Status(False, "catching up with the log")

    @property
    def events(self) -> int:
        """Interactions on the log."""
        return self.progress.records()

    def titles(self, text: str, most: int) -> list[tuple[str, str]]:
        """Items whose title has `text` in it, upper and lower case alike, with their titles; up to `most`.

        Raises LogUnavailable where titles cannot be read.
        """
        try:
            return self._store.find_titles(text, most) if self._store else []
        except (ListsDamaged, ListsUnavailable) as error:
            raise LogUnavailable(f"{error}; it is opened again") from error

    def stats(self) -> dict[str, Any]:
        """Interactions on the log, how many come a second, latency from interaction to list (ms, append time to append
        time), the share of lists that were late, and what waits for the workers."""
        lag = self.progress.lag(self._clock.now_ms())
        return {
            "events": self.events,
            "lists": self._store.count() if self._store else 0,
            "events_per_second": self.feed.rate.per_second(self._clock.monotonic()),
            **self.feed.latencies.figures(),
            "lag": None if lag is None else lag._asdict(),
            "catching_up": lag is not None and lag.ms > LATE_MS,
        }

    # the thread

    def _run(self) -> None:
        assert self._store
        try:
            supervise(self._opened, self._follow, self._stop, retried=_RETRIED, longest_wait_s=LONGEST_WAIT_S)
        finally:
            self._store.close()

    @contextmanager
    def _opened(self) -> Iterator[TopicReader]:
        assert self._store
        try:
            self._store.open()
            if self._store.is_too_old():
                self._begin_anew("too much time has passed for them to have followed every withdrawal")
            if not self._store.positions():
                self.ready.clear()
            with self._log.opened() as log, self._open_reader(log) as reader:
                self._reader = reader
                self._started.set()
                yield reader
        except Exception as error:
            self._reader = None
            self._away = str(error)
            lost = self._started.is_set() and isinstance(error, PositionGone | UnknownTopic)
            if lost and self._store.positions():
                self._begin_anew(str(error))
            raise
        finally:
            self._reader = None

    def _open_reader(self, log: Log) -> TopicReader:
        assert self._store
        try:
            return TopicReader(log, self._handlers, self._first_position, self._store.topic_ids(), clock=self._clock)
        except PositionGone as error:
            self._begin_anew(str(error))
            return TopicReader(log, self._handlers, self._first_position, clock=self._clock)

    def _first_position(self, tp: TopicPartition, start: int, end: int) -> int:
        """Of interactions, epochs and dead letters a little before the end; of the others from the start, or where it
        was."""
        assert self._store
        if tp.topic == self._settings.interactions_topic:
            in_feed = self._fed.get(tp, -1)
            place = in_feed if start <= in_feed <= end else max(start, end - FEED)
            self.progress.placed(tp.partition, start, place)
            return place
        if tp.topic == self._settings.epochs_topic:
            return max(start, end - EPOCHS)
        if tp.topic == self._settings.dead_topic and tp not in self._fed:
            return max(start, end - LETTERS)
        known = self._fed.get(tp) if tp.topic in self._fed_topics else self._store.positions().get(tp)
        if known is not None and known > end:
            raise PositionGone(f"{tp.topic}[{tp.partition}] ends at {end}, before {known}: the topic was made anew")
        return start if known is None else known

    def _follow(self, reader: TopicReader) -> None:
        assert self._store
        while not self._stop:
            self._store.check()
            records = reader.read(RECORDS_A_STEP, 0.1)
            if records or self._clock.monotonic() - self._kept_at > KEPT_EVERY_S:
                self._take(records, reader)
            if 0 < len(records) < RECORDS_A_STEP:
                self._stop.wait(GATHER_S)
            if not records:
                self._store.purge_one()
            if not self.ready.is_set() and reader.age_s() is not None:
                self.ready.set()
                self.watchers.wake()

    def _take(self, records: list[Record], reader: TopicReader) -> None:
        """(1) Takes each record; (2) writes lists, titles and positions; (3) tells who watches them."""
        assert self._store
        self._lists, self._titles, self._erased = {}, {}, {}
        positions = self._store.positions()
        for record in records:  # (1)
            try:
                self._handlers[record.topic](record)
            except BadRecord as error:
                self._skip(record, error)
            (self._fed if record.topic in self._fed_topics else positions)[record.topic_partition] = record.offset + 1
        now, age_s = self._clock.monotonic(), reader.age_s()
        if positions != self._store.positions() or now - self._kept_at > KEPT_EVERY_S:
            current_ms = None if age_s is None else self._clock.now_ms() - int(age_s * 1000)
            ids = {topic: reader.ids[topic] for topic in {tp.topic for tp in positions} & reader.ids.keys()}
            self._store.write(self._lists, self._titles, self._erased, positions, current_ms, ids)  # (2)
            self._kept_at = now
        self.watchers.wake(self._lists)  # (3)

    def _skip(self, record: Record, why: BadRecord) -> None:
        """Passes over a bad record: counted, and the first of a topic is said."""
        self.skipped[record.topic] += 1
        if self.skipped[record.topic] == 1:
            _logger.warning(
                "%s[%d] at %d is passed over: %s; more of them on this topic are counted, not said",
                record.topic, record.partition, record.offset, why,
            )  # fmt: skip

    def _begin_anew(self, why: str) -> None:
        assert self._store
        _logger.warning("the lists are read from the start again: %s", why)
        self._fed = {}
        self.ready.clear()
        self._store.clear()
        for kept in (self.quality, self.feed, self.progress, self.committed, self.dead_letters):
            kept.clear()

    def _source(self) -> str:
        """Names the log and the topics that lists are kept of."""
        settings = self._settings
        home = settings.bootstrap or str((settings.log or DEFAULT_LOG).resolve())
        return "\n".join((home, settings.recommendations_topic, settings.items_topic, settings.users_topic))

    # the topics

    def _on_list(self, record: Record) -> None:
        user = id_in_key(record.key)
        if record.value is None:
            self._lists[user] = None
            return
        listed = decode_as(_list, record.value, "list")
        if listed.user_id not in (None, user):
            raise BadRecord("the list is another user's than its key says")
        self._lists[user] = record.value
        self.feed.note_list(listed.list_id, record.timestamp_ms)

    def _on_item(self, record: Record) -> None:
        if record.value is None:
            self._titles[id_in_key(record.key)] = None
            return
        item = decode_item(record.value)
        if item is None:
            raise BadRecord("this is no item")
        self._titles[item.item_id] = item.title or None

    def _on_user(self, record: Record) -> None:
        """Takes an erased user out of what came before; lists are withdrawn on their own topic."""
        if record.value is not None or record.key is None:
            return
        user, at_ms = record.key.decode("utf-8", "replace"), record.timestamp_ms
        self._erased[user] = at_ms
        self.feed.erase(user, at_ms)

    def _on_interaction(self, record: Record) -> None:
        self.progress.appended(record.partition, record.offset, record.timestamp_ms)
        try:
            interaction = self._decoder.decode(record, self._clock.now_ms())
        except RegistryUnavailable as error:  # lists go on, without what is shown of the event
            if not self._registry_away:
                _logger.warning("%s; events in schemas that are not known yet are not shown", error)
            self._registry_away = True
            return
        self._registry_away = False
        if isinstance(interaction, DeadLetter) or interaction.retract:
            return  # the worker keeps the one as a dead letter; the other is nothing that somebody did
        live = self._reader is not None and self._reader.age_s() is not None  # what was there before is no rate
        self.feed.note_time(interaction, live)
        if record.timestamp_ms > self._erased_ms(interaction.user_id):
            self.feed.note(interaction, record)

    def _on_epoch(self, record: Record) -> None:
        ends = decode_as(_epoch, record.value or b"", "manifest").ends.get(self._settings.interactions_topic, {})
        try:
            positions = {int(partition): position for partition, position in ends.items()}
        except ValueError as error:
            raise BadRecord(f"this is no manifest: {error}") from None
        self.committed.note(positions)
        for partition, position in positions.items():
            self.progress.committed(partition, position)

    def _on_dead_letter(self, record: Record) -> None:
        if not self.dead_letters.note(dict(record.headers), record.timestamp_ms, (record.partition, record.offset)):
            raise BadRecord("this is no dead letter: it has no reason")

    def _on_worker(self, record: Record) -> None:
        """Takes where a worker of this application answers; claims of seats are of no matter here."""
        key = id_in_key(record.key)
        if not (key.startswith(f"{self._settings.application}-") and key.endswith(ADDRESS)):
            return
        address = None if record.value is None else decode_as(_worker, record.value, "address of a worker")
        self.workers.note(key, address)

    def _erased_ms(self, user: str) -> int:
        """When the user was erased, epoch ms; −1: never."""
        at_ms = self._erased.get(user)
        if at_ms is None and self._store is not None:
            at_ms = self._store.erased_ms(user)
        return -1 if at_ms is None else at_ms
