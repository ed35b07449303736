"""Ageing: lists change as time goes by, though nothing happens to their users; each is made anew when it is due.

A list is scored again at a few later times. The first at which it would be another, by `streamer.lists.distance`, is
when it is due. What other users do in between moves it too, and is not foreseen: a list that is not due is looked at
now and then, and the share of those that have changed all the same is measured.

What is decided here depends on the speed of the machine. So the manifest of an epoch names the users whose lists it
made anew, and the time; recovery and audit do the same again.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from streamer.asking.asked_clock import AskedClock
from streamer.engine.engine import Selection
from streamer.lists.distance import distance
from streamer.pipeline.surfaces import build_surfaces
from streamer.runtime.clock import Clock
from streamer.settings import Settings
from streamer.state.stream_state import StreamState
from streamer.worker.repair_pace import RepairPace
from tgn.asking.asked_lists import AskedLists
from tgn.compiling.growing import enough, lengthened
from tgn.graph import F64, I32, I64
from tgn.prequential import Outcome

NOT_LISTED, UNKNOWN = 0, 1  # in the place of a time: the user has no list; nobody has looked when it is due
LISTS_AT_ONCE = 16  # of an epoch
LOOKED_AT_ONCE = 1  # user, at each of the later times: some .4 ms each, in which no question is answered
LOOK_EVERY_S = 0.5
SETTLED_S = 10.0  # a list that is younger will soon be replaced by the user's next interaction, or not


class Aged(NamedTuple):
    """What an epoch is to do because time has passed."""

    now_ms: int  # the stream's clock
    users: tuple[int, ...]  # whose lists are to be made anew, by index; none where only items have expired


class Ageing:
    """Says which lists are due.

    Args:
        settings: `age_after_s`, `age_distance`, `ageing_share`.
        between: called before each list that is looked at; it may read the state.
    """

    def __init__(
        self, state: StreamState, settings: Settings, clock: Clock, between: Callable[[], None] = lambda: None
    ) -> None:
        self._state, self._clock, self._now = state, clock, AskedClock(state, clock)
        self._after_ms = [int(after_s * 1000) for after_s in (0.0, *settings.age_after_s)]
        self._threshold = settings.age_distance
        self._asked, self._surfaces = AskedLists(state.engine.model), build_surfaces(state)
        self._between = between
        self._pace = RepairPace(clock, 1 / settings.ageing_share - 1, 0.0)
        self._due_ms = np.zeros(0, np.int64)  # [U]
        self._listed_s = np.zeros(0, np.float32)  # [U] by the clock here
        self._look_at, self._cursor = clock.monotonic(), 0
        self._waiting: list[int] = []  # users whose lists are due, the longest due first
        self._oldest_ms = 0
        self.aged = self.sampled = self.early = 0  # lists, since the start: made anew; looked at; of those, changed
        self.note_lists(np.array(sorted(state.listed.lists()), np.int32), settled=True)

    def note_lists(self, users: I32, settled: bool = False) -> None:
        """Says that the lists of users [N] have just been made, or, `settled`, some time ago."""
        if len(users):
            self._make_room(int(users.max()) + 1)
            self._due_ms[users] = UNKNOWN
            self._listed_s[users] = -SETTLED_S if settled else self._clock.monotonic()

    def next(self) -> Aged | None:
        """What is due; None: nothing."""
        now_ms = self._now.now_ms()
        if not self._waiting and self._clock.monotonic() >= self._look_at:
            self._look_at = self._clock.monotonic() + LOOK_EVERY_S
            due = np.flatnonzero((self._due_ms > UNKNOWN) & (self._due_ms <= now_ms))
            self._waiting = due[np.argsort(self._due_ms[due], kind="stable")].tolist()
        users, self._waiting = self._waiting[:LISTS_AT_ONCE], self._waiting[LISTS_AT_ONCE:]
        self._oldest_ms = now_ms - int(self._due_ms[self._waiting[0]]) if self._waiting else 0
        users = [user for user in users if UNKNOWN < self._due_ms[user] <= now_ms]  # not listed since
        self._due_ms[users] = UNKNOWN
        self.aged += len(users)
        if not users and not self._state.catalogue.has_due(now_ms):
            return None
        return Aged(now_ms, tuple(users))

    def look_ahead(self) -> None:
        """Finds out when some lists are due, within its share of the time."""
        if not self._pace.due():
            return
        started = self._clock.monotonic()
        settled = (self._due_ms == UNKNOWN) & (self._listed_s <= started - SETTLED_S)
        users = self._after_cursor(np.flatnonzero(settled), LOOKED_AT_ONCE)
        if len(users):
            self._due_ms[users] = self._find_due(users)
            self._cursor = int(users[-1]) + 1
        now_ms = self._now.now_ms()
        sample = self._after_cursor(np.flatnonzero(self._due_ms > now_ms), 1)
        if len(sample):
            early = self._distance(sample, now_ms) > self._threshold
            self.sampled += 1
            self.early += int(early[0])
            self._due_ms[sample[early]] = now_ms
        self._pace.took(max(self._clock.monotonic() - started, 0.001))

    def waiting(self) -> tuple[int, int]:
        """How many lists are due, and since when the first of them, ms."""
        return len(self._waiting), self._oldest_ms

    def _after_cursor(self, users: np.ndarray, most: int) -> I32:
        """The next of the users after those that were looked at last, in a circle."""
        first = np.searchsorted(users, self._cursor)
        return np.concatenate([users[first:], users[:first]])[:most].astype(np.int32)

    def _find_due(self, users: I32) -> I64:
        """When each list is to be made anew; the last of the later times at the latest."""
        now_ms = self._now.now_ms()
        due_ms = np.full(len(users), now_ms + self._after_ms[-1])
        for after_ms in reversed(self._after_ms):
            due_ms[self._distance(users, now_ms + after_ms) > self._threshold] = now_ms + after_ms
        due_ms[~self._state.listed.has_list(users)] = NOT_LISTED
        return due_ms

    def _distance(self, users: I32, at_ms: int) -> F64:
        """[N] how far each user's list at a time would be from the one that is published."""
        self._between()
        then = self._surfaces.main().relist(users, at_ms, by=self._ranked).outcome.published.item
        return distance(self._state.listed.rows(users), then)

    def _ranked(self, users: I32, at_ms: int, under: Selection) -> Outcome:
        """Rankings of users [N], with nothing written."""
        return self._asked.of_users([(user, None) for user in users.tolist()], at_ms, *under)

    def _make_room(self, users: int) -> None:
        if users > len(self._due_ms):
            room = enough(self._due_ms, users)
            self._due_ms, self._listed_s = lengthened(self._due_ms, room), lengthened(self._listed_s, room)
