"""The model as keys and bytes, and back: what a checkpoint writes, row by row, only what changed.

GROUPS says which pages there are; `page_counts` how many of each a checkpoint holds, so that a missing one is noticed.

`users/<n>`, `items/<n>`, `embeddings/<n>`, `content/<n>`, `contexts/<n>`, `user-memories/<n>`, `item-memories/<n>`,
`trained-users/<n>`, `trained-items/<n>`, `pairs/<n>`: one row of every array of the group, little-endian;
`user-ids/<first>`, `item-ids/<first>`: ids in index order; `model`: weights, heads and counters.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from tgn.graph import PAIRS_A_PAGE, U8, U64, Pairs
from tgn.model import Model
from tgn.node_index import NodeIndex
from tgn.outside_vectors import Trained, new_vectors

Arrays = Sequence[Any]  # of NumPy arrays
ROWS_AT_ONCE = 128  # pages that are made without a pause: under 1 ms
SCALARS = b"model"  # the page of what has no rows


class PagesDamaged(Exception):
    """Pages are missing, or are none that `changed_pages` made."""


class PageGroup(NamedTuple):
    """Pages of one row each, of arrays that have a row per node. `dirty` of the first value says which rows changed."""

    name: bytes
    values: Callable[[Model], Sequence[Any]]  # NamedTuples of arrays: every field but UNWRITTEN is in the page
    rows: Callable[[Model], int]  # in use

    def arrays(self, model: Model) -> list[np.ndarray]:
        """The arrays of a page, in its order."""
        return [
            array
            for value in self.values(model)
            for field, array in zip(value._fields, value, strict=True)
            if field not in UNWRITTEN
        ]

    def dirty(self, model: Model) -> U8:
        """[rows] 1: changed since the last checkpoint."""
        return self.values(model)[0].dirty  # type: ignore[no-any-return]


class PairPages(NamedTuple):
    """The set of pairs in pages."""

    key: U64  # [slots / PAIRS_A_PAGE, PAIRS_A_PAGE]
    dirty: U8


def _pair_pages(pairs: Pairs) -> PairPages:
    return PairPages(pairs.key.reshape(-1, PAIRS_A_PAGE), pairs.dirty)


UNWRITTEN = ("dirty", "known", "moved")  # `Vectors.known` follows from the vectors, `moved` from `Unshared`
GROUPS = (
    PageGroup(b"users", lambda m: [m.graph.users], lambda m: len(m.users)),
    PageGroup(b"items", lambda m: [m.graph.items, m.graph.transitions, m.graph.co], lambda m: len(m.items)),
    PageGroup(b"embeddings", lambda m: [m.embeddings], lambda m: len(m.items)),
    PageGroup(b"content", lambda m: [m.content], lambda m: len(m.items)),
    PageGroup(b"trained-users", lambda m: [m.trained.user], lambda m: min(len(m.users), len(m.trained.user.dirty))),
    PageGroup(b"trained-items", lambda m: [m.trained.item], lambda m: min(len(m.items), len(m.trained.item.dirty))),
    PageGroup(b"contexts", lambda m: [m.contexts], lambda m: len(m.contexts.dirty)),
    PageGroup(b"user-memories", lambda m: [m.memories.user], lambda m: len(m.users)),
    PageGroup(b"item-memories", lambda m: [m.memories.item], lambda m: len(m.items)),
    PageGroup(b"pairs", lambda m: [_pair_pages(m.graph.pairs)], lambda m: len(m.graph.pairs.dirty)),
)
WHOLE: dict[str, Callable[[Model], Arrays]] = {
    "heads": lambda m: m.graph.heads,
    "waiting": lambda m: m.waiting,
    "newest": lambda m: m.graph.newest,
    "ranker": lambda m: m.ranker,
    "popularity": lambda m: m.popularity,
    "active": lambda m: m.active[:3],  # the rest follows
}
"""Arrays whose sizes the configuration says: all of them stand in the page SCALARS."""
INDICES: tuple[tuple[bytes, Callable[[Model], NodeIndex]], ...] = (
    (b"user-ids", lambda m: m.users),
    (b"item-ids", lambda m: m.items),
)
NAMES = (*(group.name for group in GROUPS), *(name for name, _ in INDICES), SCALARS)


def changed_pages(
    model: Model, between: Callable[[], None] = lambda: None, prefix: bytes = b""
) -> dict[bytes, bytes | None]:
    """What changed since the last call, None for what is to be deleted; the flags are cleared.

    Args:
        between: called after every ROWS_AT_ONCE pages; it may read the model.
        prefix: what all keys begin with.
    """
    pages: dict[bytes, bytes | None] = {}
    for group in GROUPS:
        dirty = group.dirty(model)
        rows = np.flatnonzero(dirty[: group.rows(model)])
        for first in range(0, len(rows), ROWS_AT_ONCE):
            some = rows[first : first + ROWS_AT_ONCE]
            pages.update(zip(_keys(prefix + group.name, some), _pack(group.arrays(model), some), strict=True))
            between()
        dirty[:] = 0
        _note_saved(model, group.name, rows)
    for name, index_of in INDICES:
        index = index_of(model)
        if index.saved == 0:
            pages.update((_key(prefix + name, block), None) for block in index.blocks)
            index.blocks = []
        if len(index) > index.saved:
            pages[_key(prefix + name, index.saved)] = msgspec.msgpack.encode(index.ids[index.saved :])
            index.blocks.append(index.saved)
        index.saved = len(index)
    pages[prefix + SCALARS] = msgspec.msgpack.encode(_scalars(model))
    return pages


def page_counts(model: Model) -> dict[str, int]:
    """How many pages of each group all the calls of `changed_pages` have written, what was loaded among them."""
    counts = {name.decode(): int(saved.sum()) for name, saved in model.saved_rows.items()}
    blocks = {name.decode(): len(index_of(model).blocks) for name, index_of in INDICES}
    return counts | blocks | {SCALARS.decode(): 1}


def page_sizes(model: Model) -> dict[str, int]:
    """Bytes of every page of each group that has rows."""
    return {group.name.decode(): sum(_width(array) for array in group.arrays(model)) for group in GROUPS}


def all_pages(model: Model) -> dict[bytes, bytes]:
    """The whole model, whatever a checkpoint holds of it; the same bytes for the same state."""
    pages: dict[bytes, bytes] = {}
    for group in GROUPS:
        rows = np.arange(group.rows(model))
        pages.update(zip(_keys(group.name, rows), _pack(group.arrays(model), rows), strict=True))
    for name, index_of in INDICES:
        pages[_key(name, 0)] = msgspec.msgpack.encode(index_of(model).ids)
    pages[SCALARS] = msgspec.msgpack.encode(_scalars(model))
    return pages


def load_pages(model: Model, pages: Iterable[tuple[bytes, bytes]]) -> None:
    """Fills an empty model from the pages of a checkpoint. Raises PagesDamaged.

    Whether all are there is for the caller to see, by `page_counts`.
    """
    groups: dict[bytes, list[tuple[bytes, bytes]]] = {name: [] for name in NAMES}
    for key, value in pages:
        name, _, row = key.partition(b"/")
        if name not in groups:
            raise PagesDamaged(f"there is no group of pages {name!r}")
        groups[name].append((row, value))
    if not groups[SCALARS]:
        raise PagesDamaged(f"the page {SCALARS.decode()} is missing")
    try:
        _fill(model, groups)
    except (msgspec.MsgspecError, ValueError, KeyError, IndexError, TypeError) as error:  # of pages cut short
        raise PagesDamaged(f"pages do not go together: {error}") from error


def _fill(model: Model, groups: dict[bytes, list[tuple[bytes, bytes]]]) -> None:
    model.users = _load_ids(b"user-ids", groups[b"user-ids"])
    model.items = _load_ids(b"item-ids", groups[b"item-ids"])
    scalars = msgspec.msgpack.decode(groups[SCALARS][0][1])
    slots, size = scalars["slots"], np.array([scalars["pairs"]], np.int64)
    pairs = Pairs(np.zeros(slots, np.uint64), size, np.zeros(slots // PAIRS_A_PAGE, np.uint8))
    model.graph = model.graph._replace(pairs=pairs)
    model.make_room(0)
    model.trained_version = scalars["trained"]
    if groups[b"trained-users"] or groups[b"trained-items"]:
        count = len(model.graph.users.events), len(model.graph.items.events)
        model.trained = Trained(*(new_vectors(nodes) for nodes in count))
    for name, arrays_of in WHOLE.items():
        for array, value in zip(arrays_of(model), scalars[name], strict=True):
            array[...] = np.frombuffer(value, array.dtype).reshape(array.shape)
    model.events = scalars["events"]
    for group in GROUPS:
        rows = _unpack(group, model, groups[group.name])
        group.dirty(model)[:] = 0
        _note_saved(model, group.name, rows)
    held = int(np.count_nonzero(pairs.key))
    if held != int(pairs.size[0]):
        raise PagesDamaged(f"pairs holds {held} of {int(pairs.size[0])}")
    for vectors in (model.content, *model.trained):
        vectors.known[0] = vectors.vector.any()
    model.refresh()


def _note_saved(model: Model, name: bytes, rows: np.ndarray) -> None:
    saved = model.saved_rows.get(name, np.zeros(0, bool))
    room = int(rows.max(initial=-1)) + 1
    if room > len(saved):
        saved = np.concatenate([saved, np.zeros(max(room, 2 * len(saved)) - len(saved), bool)])
    saved[rows] = True
    model.saved_rows[name] = saved


def _width(array: np.ndarray) -> int:
    """Bytes of one row."""
    return array.dtype.itemsize * int(np.prod(array.shape[1:], dtype=np.int64))


def _key(group: bytes, n: int) -> bytes:
    return group + b"/" + n.to_bytes(8, "big")


def _keys(group: bytes, rows: np.ndarray) -> list[bytes]:
    packed = rows.astype(">u8").tobytes()
    return [group + b"/" + packed[n : n + 8] for n in range(0, len(packed), 8)]


def _pack(arrays: Arrays, rows: np.ndarray) -> list[bytes]:
    """One value a row: the row's bytes of each array, one after the other."""
    if not len(rows):
        return []
    parts = [np.ascontiguousarray(array[rows]).reshape(len(rows), -1).view(np.uint8) for array in arrays]
    whole = np.concatenate(parts, axis=1)
    packed, width = whole.tobytes(), whole.shape[1]
    return [packed[n : n + width] for n in range(0, len(packed), width)]


def _unpack(group: PageGroup, model: Model, pages: list[tuple[bytes, bytes]]) -> np.ndarray:
    """Writes pages into their rows; returns these."""
    if not pages:
        return np.zeros(0, np.int64)
    arrays, size, name = group.arrays(model), group.rows(model), group.name.decode()
    width = sum(_width(array) for array in arrays)
    if any(len(row) != 8 or len(value) != width for row, value in pages):
        raise PagesDamaged(f"a page of {name} has not the {width} bytes of one")
    rows = np.frombuffer(b"".join(key for key, _ in pages), ">u8").astype(np.int64)
    if rows.max() >= size:
        raise PagesDamaged(f"{name} has pages beyond the {size} of them that there can be")
    whole = np.frombuffer(b"".join(value for _, value in pages), np.uint8).reshape(len(pages), -1)
    start = 0
    for array in arrays:
        part = np.ascontiguousarray(whole[:, start : start + _width(array)])
        array[rows] = part.view(array.dtype).reshape(len(pages), *array.shape[1:])
        start += _width(array)
    return rows


def _scalars(model: Model) -> dict[str, Any]:
    pairs = model.graph.pairs
    return {
        "events": model.events,
        "trained": model.trained_version,
        "slots": len(pairs.key),
        "pairs": int(pairs.size[0]),
        **{name: [array.tobytes() for array in arrays_of(model)] for name, arrays_of in WHOLE.items()},
    }


def _load_ids(name: bytes, pages: list[tuple[bytes, bytes]]) -> NodeIndex:
    ids: list[str] = []
    for first, value in sorted(pages):
        start = int.from_bytes(first, "big")
        if start > len(ids):
            raise PagesDamaged(f"{name.decode()} lacks the ids from {len(ids)} to {start}")
        del ids[start:]
        ids += msgspec.msgpack.decode(value, type=list[str])
    index = NodeIndex(ids)
    index.saved = len(index)
    index.blocks = [int.from_bytes(first, "big") for first, _ in pages]
    return index
