"""Records that do not belong on the topic where they are: what a view passes over, and how it tells."""

from collections import OrderedDict
from typing import Any, TypeVar

import msgspec

from consumers.decode_fields import UNDECODABLE, why_undecodable

Decoded = TypeVar("Decoded")
MAX_SHOWN_CHARACTERS = 200  # of an error, an event type or a metric's name


class BadRecord(Exception):
    """A record of an output topic that is not what belongs there."""


def decode_as(decoder: "msgspec.json.Decoder[Decoded]", value: bytes, what: str) -> Decoded:
    """A record's value. Raises BadRecord, which says that it is no `what`."""
    try:
        return decoder.decode(value)
    except UNDECODABLE as error:
        raise BadRecord(f"this is no {what}: {why_undecodable(error)}") from None


def id_in_key(key: bytes | None) -> str:
    """The id that is a record's key. Raises BadRecord."""
    try:
        text = (key or b"").decode()
    except UnicodeDecodeError:
        raise BadRecord("the key is no UTF-8") from None
    if not text:
        raise BadRecord("there is no key")
    return text


def bound(kept: OrderedDict[Any, Any], size: int) -> None:
    """Drops the oldest of more than `size`."""
    while len(kept) > size:
        kept.popitem(last=False)
