"""The join of feedback with the lists that it quotes: records in, totals moved, and dead letters.

What it makes of a log is a function of the log: of each partition's order, and of nothing else. A list may come after
its feedback, partitions may be read in any order, and a record may be read twice.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from consumers.dead_letter import DeadLetter, Reason
from consumers.decode_feedback import FeedbackDecoder
from consumers.feedback.attribution import Attribution, credits
from consumers.feedback.join_state import JoinState
from consumers.feedback.kept_rows import (
    HISTORIES,
    IDS,
    LISTS,
    MARKS,
    MICRO,
    OF_A_USER,
    WAITING,
    Gain,
    ItemHistory,
    KeptList,
    KeptPlace,
    Kind,
    Marks,
    Touch,
    digest,
    of_user,
    packed,
)
from consumers.feedback.left_lists import left_list
from consumers.feedback.rules import JoinRules, what_is_missing
from consumers.feedback.user_counts import NOBODY_DIGEST, Move, UserCounts
from consumers.log import Positions
from consumers.records import Record
from consumers.schemas import Feedback

OF_OLD_LISTS = "of old lists"  # the counter of feedback that comes after its list's window


class JoinTopics(NamedTuple):
    """The topics that are joined."""

    lists: str
    feedback: str
    users: str


_kept_list, _marks = msgspec.msgpack.Decoder(KeptList), msgspec.msgpack.Decoder(Marks)
_history, _records = msgspec.msgpack.Decoder(ItemHistory), msgspec.msgpack.Decoder(list[Record])


class FeedbackJoin:
    """Takes records into a state, which `commit` of that makes durable.

    Args:
        state: what was joined before.
        rules: see `JoinRules`.
        topics: the topics whose records come.
        decoder: of feedback; the wall clock that it asks for is the record's time of append, the same every time.
    """

    def __init__(self, state: JoinState, rules: JoinRules, topics: JoinTopics, decoder: FeedbackDecoder) -> None:
        self.state, self._rules, self._topics, self._decoder = state, rules, topics, decoder
        self._counts = UserCounts(state, rules)

    def take(self, records: Iterable[Record]) -> list[DeadLetter]:
        """Takes records, each partition's in its order; what was taken before is passed over."""
        state, dead = self.state, list[DeadLetter]()
        watermark_ms = state.watermark_ms()
        for record in records:
            at = record.topic_partition
            if record.offset < state.positions.get(at, 0):
                continue
            if record.topic == self._topics.feedback:
                dead += self._take_feedback(record, watermark_ms)
            elif record.topic == self._topics.lists:
                dead += self._take_list(record, watermark_ms)
            elif record.value is None and record.key is not None:
                self._erase(record.key.decode("utf-8", "replace"))
            state.positions[at] = record.offset + 1
        for letter in dead:
            state.count(f"dead/{letter.reason}")
        return dead

    def expire(self, reached: Positions, ends: Positions, most: int = 5_000) -> list[DeadLetter]:
        """Moves the watermark, and forgets what can change nothing any more, once all lists up to their ends are taken.

        Args:
            reached: where the reader is, past gaps that transactions leave.
            ends: where partitions end. Of feedback asked after `reached`: one that has records which are not read yet
                holds the watermark back, whatever another has come to. Of lists asked before the records that were
                taken last were read: they come all the time.
            most: rows that are looked at.

        Returns: the feedback whose list has not come.
        """
        state, dead = self.state, list[DeadLetter]()
        behind = {at for at, end in ends.items() if reached.get(at, 0) < end}
        if any(at.topic == self._topics.lists for at in behind):
            return dead  # nor does the watermark move: a list that comes is to find what waits for it
        state.move_watermark([at for at in behind if at.topic == self._topics.feedback])
        watermark_ms = state.watermark_ms()
        if watermark_ms < 0:
            return dead
        for row in state.expired(watermark_ms, most):
            why = "its list_id is none of this user's lists"
            state.count("waiting", -len(_records.decode(row)))
            dead += [DeadLetter(record, Reason.UNKNOWN_LIST, why) for record in _records.decode(row)]
        if dead:
            state.count(f"dead/{Reason.UNKNOWN_LIST}", len(dead))
        state.totals.forget(watermark_ms - self._rules.kept_ms - self._rules.window_ms)
        return dead

    # lists

    def _take_list(self, record: Record, watermark_ms: int) -> Iterator[DeadLetter]:
        told = left_list(record)
        if told is None:
            self.state.count("no list")
            return
        self.state.count("lists")
        user, row = digest(told.user_id or _text(record.key)), told.row()
        key, due_ms = of_user(LISTS, user, told.list_id), row.at_ms + self._rules.kept_ms
        if due_ms <= watermark_ms or self.state.get(key) is not None:
            return
        self.state.put(key, packed(row), due_ms)
        self._counts.meet(user, row)
        key = of_user(WAITING, user, told.list_id)
        if (waiting := self.state.get(key)) is None:
            return
        self.state.delete(key)
        came = _records.decode(waiting)
        self.state.count("waiting", -len(came))
        for waited in sorted(came, key=lambda one: (one.partition, one.offset)):
            feedback = self._decoder.decode(waited, waited.timestamp_ms)
            assert isinstance(feedback, Feedback)
            yield from self._join(waited, user, feedback, row)

    # feedback

    def _take_feedback(self, record: Record, watermark_ms: int) -> Iterator[DeadLetter]:
        feedback = self._decoder.decode(record, record.timestamp_ms)
        if isinstance(feedback, DeadLetter):
            yield feedback
            return
        rules, state = self._rules, self.state
        state.saw(record.topic_partition, feedback.timestamp)
        if feedback.timestamp < watermark_ms - rules.lateness_ms:
            yield DeadLetter(record, Reason.TOO_LATE, "it is older than feedback_lateness_s allows")
            return
        if (wrong := what_is_missing(feedback, rules.kinds)) is not None:
            yield DeadLetter(record, *wrong)
            return
        user, due_ms = _user(record, feedback), feedback.timestamp + rules.lateness_ms
        once = of_user(IDS, user, identity(feedback))
        if state.get(once) is not None:
            state.count("repeated")
            return
        state.put(once, b"", due_ms)
        state.count("taken")
        if feedback.event not in rules.kinds:
            state.count("other events")
            return
        found = state.get(of_user(LISTS, user, feedback.list_id))
        if found is None:
            key = of_user(WAITING, user, feedback.list_id)
            waiting = state.get(key)
            state.count("waiting")
            state.put(key, packed([*(_records.decode(waiting) if waiting else []), record]), due_ms)
            return
        yield from self._join(record, user, feedback, _kept_list.decode(found))

    def _join(self, record: Record, user: bytes, feedback: Feedback, row: KeptList) -> Iterator[DeadLetter]:
        place = row.place_of(feedback.item_id)
        if place is None:
            yield DeadLetter(record, Reason.NOT_LISTED, "its item_id is not in the list that it quotes")
            return
        kind = self._rules.kinds[feedback.event]
        in_time = feedback.timestamp - row.at_ms <= self._rules.attribution.window_ms
        if not in_time:
            self.state.count(OF_OLD_LISTS)
        if kind in ("impression", "click"):
            if in_time:
                self._mark(user, feedback, row, place, kind)
        elif kind == "conversion":
            self._gain(user, feedback, row, place)
        elif in_time:
            value, at_ms = _millionths(feedback.value), feedback.timestamp
            of_return: list[Move] = [(place, "returns", MICRO, at_ms), (place, "revenue", -value, at_ms)]
            self._count(user, feedback, of_return if kind == "return" else [(place, "engagement", value, at_ms)])

    def _mark(self, user: bytes, feedback: Feedback, row: KeptList, place: KeptPlace, kind: Kind) -> None:
        """Counts what is shown and clicked, each place once; what is clicked was shown."""
        key = of_user(MARKS, user, feedback.list_id)
        stored = self.state.get(key)
        marks = Marks([], []) if stored is None else _marks.decode(stored)
        places = [place.place] if place.place else range(1, len(row.items) + 1)
        shown = [n for n in places if n not in marks.shown]
        clicked = [n for n in places if n not in marks.clicked] if kind == "click" else []
        moves = [(row.place(n), "impressions", MICRO, feedback.timestamp) for n in shown]
        self._count(user, feedback, moves + [(row.place(n), "clicks", MICRO, feedback.timestamp) for n in clicked])
        if shown or clicked:
            marks.shown += shown
            marks.clicked += clicked
            self.state.put(key, packed(marks), row.at_ms + self._rules.kept_ms)
        if kind == "click" and self._rules.attribution.how != "quoted":
            touch = Touch(feedback.timestamp, feedback.list_id, place)
            self._move(user, feedback, ItemHistory([touch], []))

    def _gain(self, user: bytes, feedback: Feedback, row: KeptList, place: KeptPlace) -> None:
        quoted = Touch(row.at_ms, feedback.list_id, place)
        gain = Gain(feedback.timestamp, _millionths(feedback.value), quoted)
        if feedback.item_id is None:  # of the list as a whole
            given = credits(gain, (), self._rules.attribution)
            moves = [(where, "conversions", share, feedback.timestamp) for where, share in given]
            self._count(
                user, feedback, moves + [(where, "revenue", gain.amount, feedback.timestamp) for where, _ in given]
            )
        else:
            self._move(user, feedback, ItemHistory([], [gain]))

    def _move(self, user: bytes, feedback: Feedback, more: ItemHistory) -> None:
        """Adds to what the user did with the item; who is credited with its conversions may be another then.

        A conversion stays until nothing before it can come any more, a click for as long as it counts.
        """
        rules, watermark_ms = self._rules, self.state.watermark_ms()
        key = of_user(HISTORIES, user, f"{_visit(user, feedback)}{feedback.item_id}")
        stored = self.state.get(key)
        old = ItemHistory([], []) if stored is None else _history.decode(stored)
        old.touches = [touch for touch in old.touches if touch.at_ms > watermark_ms - rules.kept_ms]
        old.gains = [gain for gain in old.gains if gain.at_ms > watermark_ms - rules.lateness_ms]
        new = ItemHistory(old.touches + more.touches, old.gains + more.gains)
        moved = _credited(new, rules.attribution)
        for what, amount in _credited(old, rules.attribution).items():
            moved[what] = moved.get(what, 0) - amount
        moves = [(place, count, amount, at_ms) for (at_ms, place, count), amount in moved.items() if amount]
        self._count(user, feedback, moves)
        latest_ms = max(*(touch.at_ms for touch in new.touches), *(gain.at_ms for gain in new.gains), 0)
        self.state.put(key, packed(new), latest_ms + rules.kept_ms)

    # results

    def _count(self, user: bytes, feedback: Feedback, moves: Sequence[Move]) -> None:
        self._counts.add(user, _visit(user, feedback), moves)

    def _erase(self, user_id: str) -> None:
        """Forgets what is kept of a user; totals stay."""
        for kind in OF_A_USER:
            for key in self.state.keys(kind + digest(user_id)):
                if kind == WAITING and (waiting := self.state.get(key)) is not None:
                    self.state.count("waiting", -len(_records.decode(waiting)))
                self.state.delete(key)


def _credited(history: ItemHistory, rule: Attribution) -> dict[tuple[int, KeptPlace, str], int]:
    found: dict[tuple[int, KeptPlace, str], int] = {}
    for gain in history.gains:
        for place, share in credits(gain, history.touches, rule):
            for count, amount in (("conversions", share), ("revenue", gain.amount * share // MICRO)):
                what = (gain.at_ms, place, count)
                found[what] = found.get(what, 0) + amount
    return found


def identity(feedback: Feedback) -> str:
    """Of two alike the second counts nothing."""
    if feedback.event_id is not None:
        return f"@{feedback.event_id}"
    parts = (feedback.list_id, feedback.item_id, feedback.event, feedback.timestamp, feedback.value)
    return json.dumps(parts)


def _millionths(value: float | None) -> int:
    return round((value or 0.0) * MICRO)


def _user(record: Record, feedback: Feedback) -> bytes:
    return digest(feedback.user_id or _text(record.key))


def _visit(user: bytes, feedback: Feedback) -> str:
    """Each of nobody's lists is a user of its own."""
    return f"{feedback.list_id}\n" if user == NOBODY_DIGEST else ""


def _text(key: bytes | None) -> str:
    return (key or b"").decode("utf-8", "replace")
