"""Rankings of items that are the same for everybody: popular, trending, newest; in pages."""

import base64
import binascii
from collections.abc import Callable, Sequence
from functools import partial
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec
import numpy as np

from streamer.asking.answer_models import NewestItems, PopularItems, StateAnswer, TrendingItems
from streamer.asking.known import Known
from streamer.asking.questions import Answer, NewestQuestion, PopularQuestion, TrendingQuestion
from streamer.asking.refusals import QuestionRefused
from tgn.asking.item_order import Order, best, by_id, by_node, log_popularity
from tgn.config import DAY_MS, HOUR_MS
from tgn.graph import F64, I32, Items
from tgn.node_index import NodeIndex

Ranked = PopularQuestion | TrendingQuestion | NewestQuestion

SPANS_MS = {"1h": HOUR_MS, "1d": DAY_MS, "7d": 7 * DAY_MS, "30d": 30 * DAY_MS}
SHORT_MS, LONG_MS = 4 * HOUR_MS, 7 * DAY_MS
FORGOTTEN = 10
USUAL_FLOOR = 5.0
"""Interactions in SHORT_MS that count as usual for every item: few of them are no trend where there were none."""
SETTLED_AT = 1e13  # later than any time that is asked at, ms


class Cursor(NamedTuple):
    """Where a page ended."""

    asked: str  # the question, see `_asked`
    at_ms: int  # when the first page was made
    key: float
    item_id: str


class ItemRankings:
    """Ranks all items that may be listed by one number each."""

    def __init__(self, known: Known) -> None:
        self._known = known

    def popularity_of(self, node: int, now_ms: int) -> dict[str, float]:
        """The score that `popular` gives an item, by each of its scales."""
        tau, nodes, items = (
            self._known.model.config.popularity_scales_ms,
            np.array([node]),
            self._known.model.graph.items,
        )
        found = {}
        for name, span_ms in SPANS_MS.items():
            found[name] = _shown(log_popularity(items, nodes, now_ms, _nearest(tau, span_ms), tau)[0])
        return {**found, "all": int(items.events[node])}

    def popular(self, question: PopularQuestion) -> Answer:
        """By popularity, decayed with the model's time scale that is nearest to the one asked for, or by count."""
        if question.scale == "all":
            return self._answer(question, PopularItems, _by_count, int, {"scale": "all", "decay_ms": None})
        tau = self._known.model.config.popularity_scales_ms
        scale = _nearest(tau, SPANS_MS[question.scale])
        told = {"scale": question.scale, "decay_ms": tau[scale]}
        by = partial(log_popularity, scale=scale, tau=tau)
        return self._answer(question, PopularItems, by, _shown, told)

    def trending(self, question: TrendingQuestion) -> Answer:
        """By how much more popular an item is lately than it usually is.

        p(τ) is popularity decayed with τ, which is rate times τ where the rate is steady. The score is p(short) over
        what the long time would give, p(long) · short / long, plus USUAL_FLOOR. What nobody has taken for FORGOTTEN
        times the short time does not trend.
        """
        tau = self._known.model.config.popularity_scales_ms
        short, long = _nearest(tau, SHORT_MS), _nearest(tau, LONG_MS)

        def trend(items: Items, nodes: I32, at_ms: int) -> F64:
            found = np.full(len(nodes), -np.inf)
            recent = np.flatnonzero(at_ms - items.last_time[nodes] < FORGOTTEN * tau[short])
            nodes = nodes[recent]
            usual = np.exp(log_popularity(items, nodes, at_ms, long, tau)) * (tau[short] / tau[long])
            found[recent] = np.exp(log_popularity(items, nodes, at_ms, short, tau)) / (usual + USUAL_FLOOR)
            return found

        return self._answer(question, TrendingItems, trend, lambda key: round(key, 6), {})

    def newest(self, question: NewestQuestion) -> Answer:
        """By `available_from`, or when they became known; of one time, the one that became known last first."""

        def since(items: Items, nodes: I32, at_ms: int) -> F64:
            return self._known.state.catalogue.new_since(nodes, at_ms)

        return self._answer(question, NewestItems, since, lambda key: int(key) or None, {})

    def _answer(
        self,
        question: Ranked,
        kind: type[StateAnswer],
        score: Callable[[Items, I32, int], F64],
        shown: Callable[[float], float | None],
        told: dict[str, Any],
    ) -> Answer:
        known, model = self._known, self._known.model
        now_ms, after = known.clock.now_ms(), _read(question)
        at_ms = now_ms if after is None else after.at_ms
        nodes, items = known.listable(now_ms, question.filter), model.graph.items
        if question.kind != "newest":
            nodes = nodes[items.events[nodes] > 0]
        order = by_node if question.kind == "newest" else by_id
        keys = score(items, nodes, at_ms)
        ranked = keys > -np.inf
        nodes, keys = nodes[ranked], keys[ranked]
        if after is not None:
            nodes, keys = _after(nodes, keys, after, model.items, order)
        k = question.k or known.settings.k
        page = best(nodes, keys, k, model.items, order)
        named = "first_seen" if question.kind == "newest" else "score"
        places = [
            {"item_id": known.id_of(item), named: shown(key)} | known.shown(item, question.fields) for item, key in page
        ]
        cursor = None
        if len(nodes) > len(page) and page:
            item, key = page[-1]
            cursor = _write(Cursor(_asked(question), at_ms, key, known.id_of(item)))
        return known.told(now_ms, kind, items=places, cursor=cursor, **told)


def _after(nodes: I32, keys: F64, after: Cursor, index: NodeIndex, order: Order) -> tuple[I32, F64]:
    """What comes after a page."""
    rest = keys < after.key
    tied = np.flatnonzero(keys == after.key)
    node = index.get(after.item_id)
    if order is by_node:
        rest[tied] = nodes[tied] < (-1 if node is None else node)
    else:
        last = after.item_id.encode()
        rest[tied] = [index.ids[one].encode() > last for one in nodes[tied]]
    return nodes[rest], keys[rest]


def _by_count(items: Items, nodes: I32, at_ms: int) -> F64:
    """[N] how many interactions, and a little more where the last one is newer."""
    recent: F64 = np.minimum(items.last_time[nodes] / SETTLED_AT, 0.99)
    return items.events[nodes] + recent


def _shown(key: float) -> float:
    """What is shown of the logarithm of a popularity."""
    return round(float(np.exp(key)), 6)


def _nearest(tau: Sequence[int], wanted_ms: int) -> int:
    return int(np.argmin(np.abs(np.log(tau) - np.log(wanted_ms))))


def _asked(question: Ranked) -> str:
    """What has to be the same from page to page, in few characters."""
    scale = question.scale if isinstance(question, PopularQuestion) else ""
    return blake2b(f"{question.kind} {scale} {question.filter or ''}".encode(), digest_size=6).hexdigest()


def _write(cursor: Cursor) -> str:
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(cursor)).decode().rstrip("=")


def _read(question: Ranked) -> Cursor | None:
    if question.cursor is None:
        return None
    try:
        padded = question.cursor + "=" * (-len(question.cursor) % 4)
        found = msgspec.msgpack.decode(base64.b64decode(padded, b"-_", validate=True), type=Cursor)
    except (ValueError, binascii.Error, msgspec.MsgspecError):
        found = None
    if found is None or found.asked != _asked(question) or not np.isfinite(found.key):
        raise QuestionRefused(400, "bad-cursor", "the cursor is none of an answer to this question", "cursor")
    return found
