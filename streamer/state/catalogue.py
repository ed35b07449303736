"""What the records of items and users said last: titles and attributes, and when an item may be listed."""

from collections.abc import Iterable, Iterator, Mapping
from heapq import heappop, heappush
from typing import Any, NamedTuple

import msgspec
import numpy as np

from consumers.schemas import Item, User
from streamer.features.item_columns import ItemColumns, item_bytes, item_of_bytes
from tgn.asking.item_order import known_since
from tgn.graph import F64, I32, LISTED, U8
from tgn.model import Model

ITEM, USER = b"i", b"u"  # begin the key of a page; the node follows
ALWAYS, NEVER = np.iinfo(np.int64).min, np.iinfo(np.int64).max
_user_of = msgspec.msgpack.Decoder(User).decode


class _Times(msgspec.Struct):
    """When an item may be listed: what is read of each record when a checkpoint is loaded."""

    hidden: bool = False
    available_from: int | None = None
    expires_at: int | None = None


_times_of = msgspec.msgpack.Decoder(_Times).decode


class Span(NamedTuple):
    """When an item may be listed, epoch ms: from the first time on and before the second."""

    from_ms: int
    until_ms: int


class Catalogue:
    """Records by node of a model.

    Whether an item is listed is the model's to know, and follows the stream's clock at `flips`; what is asked between
    two epochs asks `listable`.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self._records: dict[bytes, dict[int, bytes]] = {ITEM: {}, USER: {}}
        self._unsaved: set[tuple[bytes, int]] = set()
        self._from = np.zeros(0, np.int64)  # [room] items past the end are always listable
        self._until = np.zeros(0, np.int64)
        self._coming: list[tuple[int, int]] = []  # a heap of (time, item): when they may be listed from,
        self._going: list[tuple[int, int]] = []  # and until
        self.version = 0  # raised with every change
        items = self._records[ITEM]
        self.columns = ItemColumns(items, lambda: model.items.ids, lambda id_: model.items.get(id_), self.rows)

    def rows(self) -> int:
        """How many items the arrays of the model have room for."""
        return len(self._model.graph.items.alive)

    # records

    def take_item(self, node: int, item: Item) -> None:
        """What a record says of an item is all that is known of it now."""
        self._put(ITEM, node, item_bytes(item))
        self._note_times(node, _Times(item.hidden, item.available_from, item.expires_at))

    def drop_item(self, node: int) -> None:
        """Nothing is known of an item any more."""
        self._put(ITEM, node, None)
        self._note_times(node, _Times())

    def take_user(self, node: int, user: User) -> None:
        """The same of a user."""
        self._put(USER, node, msgspec.msgpack.encode(user))

    def drop_user(self, node: int) -> None:
        """Nothing is known of a user any more."""
        self._put(USER, node, None)

    def item(self, node: int) -> Item | None:
        """What the last record of an item said; None: there is none."""
        record = self._records[ITEM].get(node)
        return None if record is None else item_of_bytes(record)

    def user(self, node: int) -> User | None:
        """The same of a user."""
        record = self._records[USER].get(node)
        return None if record is None else _user_of(record)

    def attributes_of_user(self, node: int) -> Mapping[str, Any]:
        """What the last record of a user said, as filters read it."""
        user = self.user(node)
        return {} if user is None else user.attributes or {}

    def attributes_of(self, user_id: str) -> Mapping[str, Any]:
        """The same, by the user's id; nothing is known of who is unknown."""
        node = self._model.users.get(user_id)
        return {} if node is None else self.attributes_of_user(node)

    def title_of(self, node: int) -> str | None:
        """The title of an item."""
        item = self.item(node)
        return None if item is None else item.title

    def _put(self, kind: bytes, node: int, record: bytes | None) -> None:
        records = self._records[kind]
        if record is None and node not in records:
            return
        if record is None:
            del records[node]
        else:
            records[node] = record
        self._unsaved.add((kind, node))
        if kind == ITEM:
            self.version += 1
            self.columns.note(node)

    # when items may be listed

    def span(self, node: int) -> Span:
        """When an item may be listed; a hidden one never."""
        if node >= len(self._from):
            return Span(ALWAYS, NEVER)
        return Span(int(self._from[node]), int(self._until[node]))

    def listable(self, now_ms: int) -> U8:
        """[I] 1: the item is neither hidden nor expired, and is available at `now_ms`, as far as its record says."""
        mask = np.ones(self.rows(), np.uint8)
        known = min(len(mask), len(self._from))
        mask[:known] = (self._from[:known] <= now_ms) & (now_ms < self._until[:known])
        return mask

    def new_since(self, nodes: I32, now_ms: int) -> F64:
        """[N] since when each is new, epoch ms: `available_from` where its record says so, else when it became known.

        One that lies after `now_ms` says nothing yet; 0: the stream has no time yet.
        """
        since = known_since(self._model.graph.items, nodes)
        said = np.zeros(len(nodes), np.int64)
        known = nodes < len(self._from)
        said[known] = self._from[nodes[known]]
        return np.where((said > 0) & (said <= now_ms), said, since)

    def next_flip(self, now_ms: int) -> int:
        """The first time after `now_ms` at which `listable` may say something else, if nothing changes until then."""
        times = np.concatenate([self._from, self._until])
        return int(times[times > now_ms].min(initial=NEVER))

    def has_due(self, now_ms: int) -> bool:
        """Whether the time of an item has come: see `flips`."""
        return any(bool(times) and times[0][0] <= now_ms for times in (self._coming, self._going))

    def flips(self, start_ms: int, end_ms: int) -> list[int]:
        """The items that come into lists or leave them now, in order.

        Items become available by `start_ms` and expire by `end_ms`, the stream's clock at the first and the last of the
        interactions that are listed next: in none of their lists is an item that may not be there.
        """
        due = sorted({*_popped(self._coming, start_ms), *_popped(self._going, end_ms)} & self._records[ITEM].keys())
        alive = self._model.graph.items.alive
        return [
            node
            for node in due
            if (self.span(node).from_ms <= start_ms and end_ms < self.span(node).until_ms) != (alive[node] == LISTED)
        ]

    def _note_times(self, node: int, times: _Times) -> None:
        before = self.span(node)
        now = Span(
            NEVER if times.hidden else ALWAYS if times.available_from is None else times.available_from,
            NEVER if times.expires_at is None else times.expires_at,
        )
        if now == before:
            return
        if node >= len(self._from):
            more = max(node + 1, 2 * len(self._from)) - len(self._from)
            self._from = np.concatenate([self._from, np.full(more, ALWAYS)])
            self._until = np.concatenate([self._until, np.full(more, NEVER)])
        self._from[node], self._until[node] = now
        if ALWAYS < now.from_ms < NEVER:
            heappush(self._coming, (now.from_ms, node))
        if now.until_ms < NEVER:
            heappush(self._going, (now.until_ms, node))

    # checkpoints

    def saved(self) -> int:
        """How many pages all the calls of `delta` have written, the last one up to now."""
        return sum(map(len, self._records.values()))

    def delta(self) -> dict[bytes, bytes | None]:
        """What changed since the last call: a page a record, None for one that is gone."""
        unsaved, self._unsaved = sorted(self._unsaved), set()
        return {kind + node.to_bytes(4, "big"): self._records[kind].get(node) for kind, node in unsaved}

    def load(self, pages: Iterable[tuple[bytes, bytes]]) -> None:
        """Takes back what `delta` gave."""
        for key, value in pages:
            kind, node = key[:1], int.from_bytes(key[1:], "big")
            self._records[kind][node] = value
            if kind == ITEM:
                self._note_times(node, _times_of(value))
            else:
                _user_of(value)  # so that a page that is none is noticed now

    def records(self) -> list[tuple[bytes, int, bytes]]:
        """All of it, in one order."""
        return [(kind, *entry) for kind, records in self._records.items() for entry in sorted(records.items())]


def _popped(heap: list[tuple[int, int]], until_ms: int) -> Iterator[int]:
    """The nodes whose times have come."""
    while heap and heap[0][0] <= until_ms:
        yield heappop(heap)[1]
