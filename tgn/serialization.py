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

from tgn.capacity import grow
from tgn.context_embedding import new_contexts
from tgn.graph import PAIRS_A_PAGE, U8, Heads, Newest, Pairs
from tgn.item_embedding import PopularityWeights, new_embeddings
from tgn.memory import Memories, new_memory
from tgn.model import Model
from tgn.node_index import NodeIndex
from tgn.outside_vectors import Trained, Waiting, new_vectors
from tgn.ranker import Ranker

Arrays = Sequence[Any]  # of NumPy arrays
SCALARS = b"model"  # the page of what has no rows


class PagesDamaged(Exception):
    """Pages are missing, or are none that `changed_pages` made."""


class Group(NamedTuple):
    """Pages of one row each, of arrays that have a row per node."""

    name: bytes
    arrays: Callable[[Model], Arrays]
    dirty: Callable[[Model], U8]
    rows: Callable[[Model], int]  # in use


GROUPS = (
    Group(b"users", lambda m: _clean(m.graph.users), lambda m: m.graph.users.dirty, lambda m: len(m.users)),
    Group(
        b"items",
        lambda m: [*_clean(m.graph.items), *m.graph.transitions, *m.graph.co],
        lambda m: m.graph.items.dirty,
        lambda m: len(m.items),
    ),
    Group(b"embeddings", lambda m: _clean(m.embeddings), lambda m: m.embeddings.dirty, lambda m: len(m.items)),
    Group(b"content", lambda m: [m.content.vector], lambda m: m.content.dirty, lambda m: len(m.items)),
    Group(
        b"trained-users",
        lambda m: [m.trained.user.vector],
        lambda m: m.trained.user.dirty,
        lambda m: len(m.users) * bool(len(m.trained.user.dirty)),
    ),
    Group(
        b"trained-items",
        lambda m: [m.trained.item.vector],
        lambda m: m.trained.item.dirty,
        lambda m: len(m.items) * bool(len(m.trained.item.dirty)),
    ),
    Group(b"contexts", lambda m: _clean(m.contexts), lambda m: m.contexts.dirty, lambda m: len(m.contexts.adagrad)),
    Group(b"user-memories", lambda m: _clean(m.memories.user), lambda m: m.memories.user.dirty, lambda m: len(m.users)),
    Group(b"item-memories", lambda m: _clean(m.memories.item), lambda m: m.memories.item.dirty, lambda m: len(m.items)),
    Group(
        b"pairs",
        lambda m: [m.graph.pairs.key.reshape(-1, PAIRS_A_PAGE)],
        lambda m: m.graph.pairs.dirty,
        lambda m: len(m.graph.pairs.dirty),
    ),
)
INDICES: tuple[tuple[bytes, Callable[[Model], NodeIndex]], ...] = (
    (b"user-ids", lambda m: m.users),
    (b"item-ids", lambda m: m.items),
)
NAMES = (*(group.name for group in GROUPS), *(name for name, _ in INDICES), SCALARS)


def changed_pages(model: Model) -> dict[bytes, bytes | None]:
    """What changed since the last call, None for what is to be deleted; the flags are cleared."""
    pages: dict[bytes, bytes | None] = {}
    for group in GROUPS:
        dirty = group.dirty(model)
        rows = np.flatnonzero(dirty[: group.rows(model)])
        pages.update(zip(_keys(group.name, rows), _pack(group.arrays(model), rows), strict=True))
        dirty[:] = 0
        _note_saved(model, group.name, rows)
    for name, index_of in INDICES:
        index = index_of(model)
        if index.saved == 0:
            pages.update((_key(name, block), None) for block in index.blocks)
            index.blocks = []
        if len(index) > index.saved:
            pages[_key(name, index.saved)] = msgspec.msgpack.encode(index.ids[index.saved :])
            index.blocks.append(index.saved)
        index.saved = len(index)
    pages[SCALARS] = msgspec.msgpack.encode(_scalars(model))
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
    graph = grow(model.graph, model.config, len(model.users), len(model.items), 0)
    slots = scalars["slots"]
    pairs = Pairs(
        np.zeros(slots, np.uint64),
        np.array([scalars["pairs"]], np.int64),
        np.zeros(slots // PAIRS_A_PAGE, np.uint8),
    )
    heads = Heads(*_arrays(scalars["heads"], graph.heads))
    newest = Newest(*_arrays(scalars["newest"], graph.newest))
    model.graph = graph._replace(pairs=pairs, heads=heads, newest=newest)
    room = len(model.graph.items.events)
    model.embeddings = new_embeddings(model.config, room)
    model.content = new_vectors(room)
    model.waiting = Waiting(*_arrays(scalars["waiting"], model.waiting))
    model.trained_version = scalars["trained"]
    if groups[b"trained-users"] or groups[b"trained-items"]:
        model.trained = Trained(new_vectors(len(model.graph.users.events)), new_vectors(room))
    model.contexts = new_contexts(model.config)
    model.memories = Memories(new_memory(model.config, len(model.graph.users.events)), new_memory(model.config, room))
    model.popularity = PopularityWeights(*_arrays(scalars["popularity"], model.popularity))
    item, touched, hand = _arrays(scalars["active"], model.active[:3])
    model.active = model.active._replace(item=item, touched=touched, hand=hand)
    model.ranker = Ranker(*_arrays(scalars["ranker"], model.ranker))
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


def _clean(group: Any) -> list[np.ndarray]:
    """The arrays of a group without its dirty flags."""
    return [array for name, array in zip(group._fields, group, strict=True) if name != "dirty"]


def _keys(group: bytes, rows: np.ndarray) -> list[bytes]:
    packed = rows.astype(">u8").tobytes()
    return [group + b"/" + packed[n : n + 8] for n in range(0, len(packed), 8)]


def _pack(arrays: Arrays, rows: np.ndarray) -> list[bytes]:
    """One value a row: the row's bytes of each array, one after the other."""
    if not len(rows):
        return []
    parts = [np.ascontiguousarray(array[rows]).reshape(len(rows), -1).view(np.uint8) for array in arrays]
    whole = np.concatenate(parts, axis=1)
    return [row.tobytes() for row in whole]


def _unpack(group: Group, model: Model, pages: list[tuple[bytes, bytes]]) -> np.ndarray:
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
    g = model.graph
    return {
        "events": model.events,
        "trained": model.trained_version,
        "slots": len(g.pairs.key),
        "pairs": int(g.pairs.size[0]),
        "heads": [array.tobytes() for array in g.heads],
        "waiting": [array.tobytes() for array in model.waiting],
        "newest": [array.tobytes() for array in g.newest],
        "ranker": [array.tobytes() for array in model.ranker],
        "popularity": [array.tobytes() for array in model.popularity],
        "active": [array.tobytes() for array in model.active[:3]],
    }


def _arrays(values: list[bytes], like: Arrays) -> list[np.ndarray]:
    return [np.frombuffer(v, a.dtype).reshape(a.shape).copy() for v, a in zip(values, like, strict=True)]


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
