"""Lists that were shown, with what came of them, out of the topics of lists and feedback alone."""

from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

import msgspec
import numpy as np

from consumers.dead_letter import DeadLetter
from consumers.decode_fields import UNDECODABLE, ListTime
from consumers.feedback.join import identity
from consumers.log import Log
from consumers.records import Record
from consumers.schemas import Feedback
from streamer.evaluation.off_policy import NOTHING, ShownLists
from streamer.runtime.decoders import feedback_decoder
from streamer.runtime.topics import read_records, whole
from streamer.settings import Settings

Outcome = Literal["click", "conversion", "value"]
ListKey = tuple[str, str]
"""User and list_id."""


class _LoggedPlace(msgspec.Struct, gc=False):
    item_id: str
    propensity: float | None = None


class _LoggedTime(msgspec.Struct, gc=False):
    timestamp: ListTime


class LoggedList(msgspec.Struct):
    """What is read of a list."""

    list_id: str
    items: list[_LoggedPlace]
    as_of: _LoggedTime
    surface: str = "default"
    user_id: str | None = None


class FeedbackLog(NamedTuple):
    """Lists with an impression, in the order of the log.

    `items`: codes by id; `beside`: the items of another surface's list, None: there was none; `without_impression`:
    lists of which something was clicked or bought, and no impression came: then one not clicked may be missing too.
    """

    keys: list[ListKey]
    shown: ShownLists
    items: dict[str, int]  # codes
    beside: list[list[str] | None]
    without_impression: int


def read_feedback(log: Log, settings: Settings, surface: str, outcome: Outcome, beside: str | None) -> FeedbackLog:
    """What was shown on a surface, and what came of it.

    Args:
        outcome: what is summed a place: clicks, conversions, or their value less that of returns.
        beside: a surface whose lists are those that would have been shown.

    Raises UnknownTopic, LogUnavailable.
    """
    lists, others = _lists(log, settings, surface, beside)
    impressions, came = _outcomes(log, settings, lists, outcome)
    keys = [key for key in lists if key in impressions]
    codes: dict[str, int] = {}
    rows = [[(codes.setdefault(one.item_id, len(codes)), one.propensity) for one in lists[key].items] for key in keys]
    width = max(map(len, rows), default=0)
    item, propensity = np.full((len(keys), width), NOTHING), np.full((len(keys), width), np.nan)
    gained, users = np.zeros((len(keys), width)), dict[str, int]()
    for n, (key, row) in enumerate(zip(keys, rows, strict=True)):
        item[n, : len(row)] = [code for code, _ in row]
        propensity[n, : len(row)] = [np.nan if p is None else p for _, p in row]
        for place, amount in came.get(key, {}).items():
            gained[n, place] = amount
    user = np.array([users.setdefault(who or list_id, len(users)) for who, list_id in keys], np.int64)
    return FeedbackLog(
        keys,
        ShownLists(user, item, propensity, gained),
        codes,
        [others.get(key) for key in keys],
        len(came.keys() - impressions),
    )


def rows_of(log: FeedbackLog, other: Mapping[int, list[str]]) -> tuple[ShownLists, np.ndarray]:
    """The shown lists whose row is in `other`, and its item ids as codes [N, K]."""
    chosen, width = sorted(other), log.shown.item.shape[1]
    codes = np.full((len(chosen), width), NOTHING)
    for n, row in enumerate(chosen):
        ids = other[row][:width]
        codes[n, : len(ids)] = [log.items.setdefault(item, len(log.items)) for item in ids]
    return ShownLists(*(column[chosen] for column in log.shown)), codes


def _lists(
    log: Log, settings: Settings, surface: str, beside: str | None
) -> tuple[dict[ListKey, LoggedList], dict[ListKey, list[str]]]:
    """The lists of a surface, and of each the user's newest one of the other surface that was not made later."""
    decode = msgspec.json.Decoder(LoggedList).decode
    lists, others = dict[ListKey, LoggedList](), dict[str, list[LoggedList]]()
    for record in read_records(log, whole(log, settings.lists_topic)):
        try:
            one = decode(record.value or b"")
        except UNDECODABLE:
            continue
        user = one.user_id or (record.key or b"").decode("utf-8", "replace")
        if one.surface == surface:
            lists.setdefault((user, one.list_id), one)
        elif one.surface == beside:
            others.setdefault(user, []).append(one)
    found = {}
    for (user, list_id), one in lists.items():
        earlier = [other for other in others.get(user, ()) if other.as_of.timestamp <= one.as_of.timestamp]
        if earlier:
            found[user, list_id] = [place.item_id for place in earlier[-1].items]
    return lists, found


def _outcomes(
    log: Log, settings: Settings, lists: Mapping[ListKey, LoggedList], outcome: Outcome
) -> tuple[set[ListKey], dict[ListKey, dict[int, float]]]:
    """The lists that were shown, and list → place from 0 → what came of it. Each piece of feedback counts once."""
    shown, once, window_ms = set[ListKey](), set[tuple[str, str]](), settings.attribution_window_s * 1000
    came: dict[ListKey, dict[int, float]] = {}
    for user, feedback in _feedback(log, settings):
        key, kind = (user, feedback.list_id), settings.feedback_events.get(feedback.event)
        listed = lists.get(key)
        if listed is None or kind is None or feedback.timestamp - listed.as_of.timestamp > window_ms:
            continue
        if (user, identity(feedback)) in once:
            continue
        once.add((user, identity(feedback)))
        if kind == "impression":
            shown.add(key)
        places = [n for n, place in enumerate(listed.items) if place.item_id == feedback.item_id]
        if not places:
            continue
        amounts, value = came.setdefault(key, {}), feedback.value or 0.0
        if kind == "click" and outcome == "click":
            amounts[places[0]] = 1.0  # a place counts once
        elif kind == "conversion" and outcome != "click":
            amounts[places[0]] = amounts.get(places[0], 0.0) + (value if outcome == "value" else 1.0)
        elif kind == "return" and outcome == "value":
            amounts[places[0]] = amounts.get(places[0], 0.0) - value
    return shown, came


def _feedback(log: Log, settings: Settings) -> Iterator[tuple[str, Feedback]]:
    decoder = feedback_decoder(settings)
    for record in read_records(log, whole(log, settings.feedback_topic)):
        feedback = decoder.decode(record, record.timestamp_ms)
        if not isinstance(feedback, DeadLetter):
            yield _user(record, feedback), feedback


def _user(record: Record, feedback: Feedback) -> str:
    return feedback.user_id or (record.key or b"").decode("utf-8", "replace")
