"""The last interactions of the log, who did them, and how long their lists took: what a view keeps in memory."""

from collections import OrderedDict, deque
from typing import Any, NamedTuple

from consumers.records import Record
from consumers.schemas import Interaction
from streamer.runtime.clock import Clock
from streamer.web.view.foreign_records import MAX_SHOWN_CHARACTERS, bound
from streamer.web.view.latency import Latencies, Rate

FEED, PENDING = 500, 50_000
"""How many interactions are kept, and how many that have no list yet."""


class FeedEntry(NamedTuple):
    """One thing that happened, numbered, so that a subscriber can ask for what came since."""

    number: int
    value: Any


class Seen(NamedTuple):
    """An interaction as the page shows it. `place`: partition and offset; `appended_ms`: when it came to the log."""

    user_id: str
    item_id: str
    event_type: str
    value: float | None
    appended_ms: int
    place: str


class Feed:
    """Interactions as they come.

    Args:
        clock: tells how long ago something was.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.entries: deque[FeedEntry] = deque(maxlen=FEED)
        self.users: OrderedDict[str, None] = OrderedDict()  # of late
        self.stream_ms = 0  # latest event time seen
        self._stream_moved_at = clock.monotonic()
        self._numbered = 0  # entries so far
        self._pending: OrderedDict[str, int] = OrderedDict()  # list_id → append time of its interaction, ms
        self.rate, self.latencies = Rate(), Latencies()

    def clear(self) -> None:
        """Forgets what was seen; numbers go on."""
        for kept in (self.entries, self.users, self._pending):
            kept.clear()

    def stream_now_ms(self) -> int:
        """The stream's clock, epoch ms: the latest event time, and the time that has passed since it last moved."""
        return self.stream_ms + int((self._clock.monotonic() - self._stream_moved_at) * 1000)

    def note_time(self, interaction: Interaction, live: bool) -> None:
        """Moves the stream's clock; live: it came now, and counts for the rate."""
        now = self._clock.monotonic()
        if interaction.timestamp > self.stream_ms:
            self.stream_ms, self._stream_moved_at = interaction.timestamp, now
        if live:
            self.rate.note(now)

    def note(self, interaction: Interaction, record: Record) -> None:
        """Shows an interaction, and waits for its list."""
        user, place = interaction.user_id, f"{record.partition}-{record.offset}"
        seen = Seen(
            user_id=user,
            item_id=interaction.item_id,
            event_type=interaction.event_type[:MAX_SHOWN_CHARACTERS],
            value=interaction.value,
            appended_ms=record.timestamp_ms,
            place=place,
        )
        self._numbered += 1
        self.entries.append(FeedEntry(self._numbered, seen))
        self.users[user] = None
        self.users.move_to_end(user)
        self._pending[place] = record.timestamp_ms
        bound(self.users, FEED)
        bound(self._pending, PENDING)

    def note_list(self, list_id: str, appended_ms: int) -> None:
        """Measures how long the list of an interaction took."""
        caused_ms = self._pending.pop(list_id, None)
        if caused_ms is not None:
            self.latencies.note(appended_ms - caused_ms)

    def erase(self, user: str, at_ms: int) -> None:
        """Takes out what a user did up to then."""
        kept = [
            entry for entry in self.entries if not (entry.value.user_id == user and entry.value.appended_ms <= at_ms)
        ]
        if len(kept) < len(self.entries):
            self.entries = deque(kept, maxlen=FEED)
        if not any(entry.value.user_id == user for entry in kept):
            self.users.pop(user, None)
