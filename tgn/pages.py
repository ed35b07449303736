"""The model as keys and bytes, and back: what a checkpoint writes, row by row, only what changed.

`users/<n>`, `items/<n>`, `embeddings/<n>`, `content/<n>`, `contexts/<n>`, `user-memories/<n>`, `item-memories/<n>`,
`trained-users/<n>`, `trained-items/<n>`, `pairs/<n>`: one row of every array of the group, little-endian;
`user-ids/<first>`, `item-ids/<first>`: ids in index order; `model`: weights, heads and counters.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import numpy as np

from tgn.context import new_contexts
from tgn.embedding import PopularityWeights, new_embeddings
from tgn.graph import PAIRS_A_PAGE, Heads, Newest, Pairs, grow
from tgn.memory import Memories, new_memory
from tgn.model import Model
from tgn.names import NodeIndex
from tgn.ranker import Ranker
from tgn.vectors import Trained, Waiting, new_vectors

Arrays = Sequence[Any]  # of NumPy arrays


def changed_pages(model: Model) -> dict[bytes, bytes | None]:
    """What changed since the last call, None for what is to be deleted; the flags are cleared."""
    pages: dict[bytes, bytes | None] = {}
    for group, arrays, dirty, size in _groups(model):
        rows = np.flatnonzero(dirty[:size])
        pages.update(zip(_keys(group, rows), _pack(arrays, rows), strict=True))
        dirty[:] = 0
    for group, index in _indices(model):
        if index.saved == 0:
            pages.update((_key(group, block), None) for block in index.blocks)
            index.blocks = []
        if len(index) > index.saved:
            pages[_key(group, index.saved)] = msgspec.msgpack.encode(index.ids[index.saved :])
            index.blocks.append(index.saved)
        index.saved = len(index)
    pages[b"model"] = msgspec.msgpack.encode(_scalars(model))
    return pages


def all_pages(model: Model) -> dict[bytes, bytes]:
    """The whole model, whatever a checkpoint holds of it; the same bytes for the same state."""
    pages: dict[bytes, bytes] = {}
    for group, arrays, _, size in _groups(model):
        rows = np.arange(size)
        pages.update(zip(_keys(group, rows), _pack(arrays, rows), strict=True))
    for group, index in _indices(model):
        pages[_key(group, 0)] = msgspec.msgpack.encode(index.ids)
    pages[b"model"] = msgspec.msgpack.encode(_scalars(model))
    return pages


def load_pages(model: Model, pages: Iterable[tuple[bytes, bytes]]) -> None:
    """Fills an empty model from the pages of a checkpoint."""
    groups: dict[bytes, list[tuple[bytes, bytes]]] = {}
    for key, value in pages:
        group, _, row = key.partition(b"/")
        groups.setdefault(group, []).append((row, value))
    model.users = _load_ids(groups.get(b"user-ids", []))
    model.items = _load_ids(groups.get(b"item-ids", []))
    scalars = msgspec.msgpack.decode(groups[b"model"][0][1])
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
    if b"trained-items" in groups:
        model.trained = Trained(new_vectors(len(model.graph.users.events)), new_vectors(room))
    model.contexts = new_contexts(model.config)
    model.memories = Memories(new_memory(model.config, len(model.graph.users.events)), new_memory(model.config, room))
    model.popularity = PopularityWeights(*_arrays(scalars["popularity"], model.popularity))
    item, touched, hand = _arrays(scalars["active"], model.active[:3])
    model.active = model.active._replace(item=item, touched=touched, hand=hand)
    model.ranker = Ranker(*_arrays(scalars["ranker"], model.ranker))
    model.events = scalars["events"]
    for group, arrays, dirty, _ in _groups(model):
        _unpack(arrays, groups.get(group.rstrip(b"/"), []))
        dirty[:] = 0
    for vectors in (model.content, *model.trained):
        vectors.known[0] = vectors.vector.any()
    model.refresh()


def _groups(model: Model) -> list[tuple[bytes, Arrays, np.ndarray, int]]:
    """(key prefix, arrays that have a row per node, dirty flags, rows in use) of each group."""
    g = model.graph
    pairs = g.pairs.key.reshape(-1, PAIRS_A_PAGE)
    trained = len(model.trained.item.dirty) > 0
    return [
        (b"users/", _clean(g.users), g.users.dirty, len(model.users)),
        (b"items/", [*_clean(g.items), *g.transitions, *g.co], g.items.dirty, len(model.items)),
        (b"embeddings/", _clean(model.embeddings), model.embeddings.dirty, len(model.items)),
        (b"content/", [model.content.vector], model.content.dirty, len(model.items)),
        (b"trained-users/", [model.trained.user.vector], model.trained.user.dirty, len(model.users) * trained),
        (b"trained-items/", [model.trained.item.vector], model.trained.item.dirty, len(model.items) * trained),
        (b"contexts/", _clean(model.contexts), model.contexts.dirty, len(model.contexts.adagrad)),
        (b"user-memories/", _clean(model.memories.user), model.memories.user.dirty, len(model.users)),
        (b"item-memories/", _clean(model.memories.item), model.memories.item.dirty, len(model.items)),
        (b"pairs/", [pairs], g.pairs.dirty, len(pairs)),
    ]


def _indices(model: Model) -> list[tuple[bytes, NodeIndex]]:
    return [(b"user-ids/", model.users), (b"item-ids/", model.items)]


def _key(group: bytes, n: int) -> bytes:
    return group + n.to_bytes(8, "big")


def _clean(group: Any) -> list[np.ndarray]:
    """The arrays of a group without its dirty flags."""
    return [array for name, array in zip(group._fields, group, strict=True) if name != "dirty"]


def _keys(group: bytes, rows: np.ndarray) -> list[bytes]:
    packed = rows.astype(">u8").tobytes()
    return [group + packed[n : n + 8] for n in range(0, len(packed), 8)]


def _pack(arrays: Arrays, rows: np.ndarray) -> list[bytes]:
    """One value a row: the row's bytes of each array, one after the other."""
    if not len(rows):
        return []
    parts = [np.ascontiguousarray(array[rows]).reshape(len(rows), -1).view(np.uint8) for array in arrays]
    whole = np.concatenate(parts, axis=1)
    return [row.tobytes() for row in whole]


def _unpack(arrays: Arrays, pages: list[tuple[bytes, bytes]]) -> None:
    if not pages:
        return
    rows = np.frombuffer(b"".join(key for key, _ in pages), ">u8").astype(np.int64)
    whole = np.frombuffer(b"".join(value for _, value in pages), np.uint8).reshape(len(pages), -1)
    start = 0
    for array in arrays:
        width = array[0].nbytes
        part = np.ascontiguousarray(whole[:, start : start + width])
        array[rows] = part.view(array.dtype).reshape(len(pages), *array.shape[1:])
        start += width


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


def _load_ids(pages: list[tuple[bytes, bytes]]) -> NodeIndex:
    ids: list[str] = []
    for first, value in sorted(pages):
        del ids[int.from_bytes(first, "big") :]
        ids += msgspec.msgpack.decode(value)
    index = NodeIndex(ids)
    index.saved = len(index)
    index.blocks = [int.from_bytes(first, "big") for first, _ in pages]
    return index
