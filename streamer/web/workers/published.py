"""The last published list of a user, as the answer to a question while no worker can make one."""

from collections.abc import Iterator
from uuid import uuid4

import msgspec
from msgspec import UNSET

from consumers.decode_fields import UNDECODABLE
from consumers.schemas import AsOf
from streamer.asking.answer_models import AskedItem, AskedList, AskedWarning
from streamer.asking.questions import ListQuestion
from streamer.web.materialized_view import View

_NEED_A_WORKER = {"filter", "session", "items", "explain", "boost", "diversity", "explore", "shown", "fatigue"}
"""What of a question only a worker can do: a list without it would be another one than what is asked for."""


class _PublishedItem(msgspec.Struct):
    item_id: str
    score: float = 0.0
    source: str = ""
    reason: str = ""
    propensity: float = 1.0


class _PublishedList(msgspec.Struct):
    """A list as the topic has it, from whatever version wrote it: see `RecommendationList`."""

    list_id: str
    items: list[_PublishedItem] = []
    surface: str = ""
    as_of: AsOf = AsOf(0, {})
    model_version: str = ""
    fallback: str | None = None
    cut: int = 0
    rules: str | None = None
    experiment: dict[str, str] | None = None


_decode = msgspec.json.Decoder(_PublishedList).decode


def _decoded(value: bytes) -> _PublishedList | None:
    try:
        return _decode(value)
    except UNDECODABLE:  # anybody may write to the topic
        return None


def published_may_answer(question: ListQuestion, surface: str) -> bool:
    """Whether the last published list of a surface can be the answer."""
    if question.user_id is None or not question.personalize or question.surface not in ("default", surface):
        return False
    said = {name for name in _NEED_A_WORKER if getattr(question, name)}
    return not said and "attributes" not in question.fields


def published_list(view: View, question: ListQuestion) -> AskedList | None:
    """The last published list of a user, marked, without the items that the question does not want.

    None where there is none. Warnings say what of the question it does not do.
    """
    value = None if question.user_id is None else view.list_of(question.user_id)
    listed = None if value is None else _decoded(value)
    if listed is None:
        return None
    items = [_item(one, view, question) for one in listed.items]
    excluded = set(question.exclude)
    candidates = None if question.candidates is None else set(question.candidates)
    left = [
        item for item in items if item.item_id not in excluded and (candidates is None or item.item_id in candidates)
    ]
    return AskedList(
        list_id=listed.list_id,
        user_id=question.user_id,
        surface=listed.surface or view.surface,
        items=left[: question.k],
        as_of=listed.as_of,
        model_version=listed.model_version,
        fallback=listed.fallback,
        request_id=str(uuid4()),
        age_ms=max(0, view.feed.stream_now_ms() - listed.as_of.timestamp),
        cut=listed.cut or UNSET,
        rules=listed.rules or UNSET,
        experiment=listed.experiment or UNSET,
        warnings=list(_warnings(question, len(left))) or UNSET,
        stale=True,
    )


def _item(listed: _PublishedItem, view: View, question: ListQuestion) -> AskedItem:
    title = view.title_of(listed.item_id) if "title" in question.fields else UNSET
    return AskedItem(listed.item_id, listed.score, listed.source, listed.reason, listed.propensity, title)


def _warnings(question: ListQuestion, left: int) -> Iterator[AskedWarning]:
    if question.k is not None and left < question.k:
        message = f"the list that was published last has {left} of these {question.k} places, and no worker makes more"
        yield AskedWarning("stale", message, "k")
    if question.candidates is not None:
        message = "those of them that the list which was published last has, in its order"
        yield AskedWarning("stale", message, "candidates")
    for name in sorted(question.context):
        message = f"context.{name}: the list was published without it"
        yield AskedWarning("stale", message, f"context.{name}")
